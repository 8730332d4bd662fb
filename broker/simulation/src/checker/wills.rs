//! Wills: published when their connection ended otherwise than in order and nobody came back in time, and only then.

use std::collections::HashSet;

use super::{Connection, View, delivery};
use crate::history::{End, Message, MessageIndex};
use crate::scenario::Lives;

/// Who sees Wills: the first Client of every plan.
const WITNESS: usize = 0;
/// From CONNACK or DISCONNECT to what they say being in the bucket, in fair weather: nobody waits for it.
const WRITTEN_MS: u64 = 5_000;
/// A delay is rounded to seconds.
const SLACK_MS: u64 = 1_300;

pub(super) fn check(view: &View<'_>) -> Vec<String> {
    let fired = delivery::all_received(view, WITNESS);
    let mut broken = Vec::new();
    for (client, connections) in &view.connections {
        for (place, connection) in connections.iter().enumerate() {
            let (Some(will), Some((accepted, ..))) = (connection.will, connection.accepted) else { continue };
            let next = connections.get(place + 1..).unwrap_or_default();
            if let Some(what) = judge(view, *client, connection, next, will, accepted, &fired) {
                broken.push(format!("client {client}, connected at {accepted}: Will {will} {what}"));
            }
        }
    }
    broken
}

fn judge(
    view: &View<'_>,
    client: usize,
    connection: &Connection,
    next: &[Connection],
    will: MessageIndex,
    accepted: u64,
    fired: &HashSet<MessageIndex>,
) -> Option<String> {
    let was_fired = fired.contains(&will);
    let Some((ended, how)) = connection.ended else {
        return was_fired.then(|| "was published while its Client is connected".to_owned());
    };
    if how == End::Goodbye {
        // A crash before DISCONNECT is in the bucket may fire it, as the documentation says; a connection that is taken over before the broker has
        // read DISCONNECT was not ended by it.
        let taken_over = next.first().is_some_and(|next| next.asked < ended + WRITTEN_MS);
        // Nor by one that nobody read: its broker had died in silence.
        let heard = connection.broker_lost(view, ended) > ended;
        // Nor by one that a broker had not come to: it reads no further while too much of what its Client has sent waits to be acknowledged.
        let read = !view.history.messages.iter().any(|message| message.publisher == client && is_open(message, ended));
        let told = heard && read && !taken_over && view.is_steady(ended.saturating_sub(100), ended + WRITTEN_MS);
        return (was_fired && told && in_fair_weather(view, ended)).then(|| format!("was published although DISCONNECT came at {ended}"));
    }
    let profile = &view.profiles[client];
    let expiry = match profile.lives {
        Lives::Forever => u64::MAX,
        Lives::Seconds(seconds) => u64::from(seconds) * 1_000,
        Lives::Connection => 0,
    };
    let message = &view.history.messages[will];
    let delay = (u64::from(message.will_delay.unwrap_or(0)) * 1_000).min(expiry);
    let back = next.iter().find_map(|connection| connection.accepted);
    let ended = ended.min(connection.broker_lost(view, view.end));
    let resumed_in_time = delay > 0 && back.is_some_and(|(at, present, _)| present && at + SLACK_MS < ended + delay);
    if resumed_in_time && was_fired && !view.had_rivals(accepted, ended + delay) {
        return Some(format!("was published although its Client, gone at {ended}, was back at {back:?}, within {delay} ms"));
    }
    // Whoever is back has cancelled a delayed Will, unless it was late, which the broker's restarts and Keep Alive make hard to say.
    let surely_due = delay == 0 || back.is_none();
    let sure = view.is_steady(accepted, accepted + WRITTEN_MS) && in_fair_weather(view, accepted);
    let watched = message.qos > 0
        && view
            .subscriptions
            .get(&WITNESS)
            .is_some_and(|all| all.iter().any(|known| known.filter == "w/#" && known.acknowledged < accepted));
    // A rival may have taken the shards without knowing that the connection was there.
    (surely_due && sure && watched && !was_fired && !view.had_rivals(accepted, view.end))
        .then(|| format!("was never published, its connection ended at {ended}: {how:?}"))
}

/// At `at` it was sent and not acknowledged.
fn is_open(message: &Message, at: u64) -> bool {
    message.qos > 0
        && message.will_delay.is_none()
        && message.sent <= at
        && message.acknowledged.is_none_or(|(acknowledged, _)| acknowledged > at)
}

/// True when what was written at `at` is in the bucket soon: said by the plan of outages, which the history does not have, so by the acknowledgements
/// that came meanwhile.
fn in_fair_weather(view: &View<'_>, at: u64) -> bool {
    let messages = view.history.messages.iter();
    let mut acknowledged = messages.filter_map(|message| Some((message.sent, message.acknowledged?.0)));
    acknowledged.any(|(sent, acknowledged)| sent >= at && acknowledged <= at + WRITTEN_MS) && at + WRITTEN_MS <= view.end
}
