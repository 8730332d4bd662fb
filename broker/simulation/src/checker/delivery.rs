//! No acknowledged message lost, QoS 2 never twice, order kept, nothing after its expiry.

use std::collections::{HashMap, HashSet};

use super::{Subscription, View, matches, share};
use crate::history::{ClientIndex, Event, Message, MessageIndex};
use crate::scenario::Lives;

/// A message that waits is looked at again so much later than its time at most: a second is the unit, and there is the network.
const EXPIRY_SLACK_MS: u64 = 2_500;

/// What came to a Client in one of its Sessions.
#[derive(Debug, Default)]
struct Came {
    times: HashMap<MessageIndex, u32>,
    /// The newest of each topic at QoS 1, and at QoS 2.
    newest: HashMap<(ClientIndex, String), [Option<MessageIndex>; 2]>,
}

pub(super) fn check(view: &View<'_>) -> Vec<String> {
    let mut broken = Vec::new();
    let mut came: HashMap<(ClientIndex, u32), Came> = HashMap::new();
    let mut sessions: HashMap<ClientIndex, u32> = HashMap::new();
    let mut asked: HashMap<(ClientIndex, u32), Vec<&str>> = HashMap::new();
    for (at, event) in &view.history.events {
        match event {
            Event::Connected { client, present: false, .. } => *sessions.entry(*client).or_default() += 1,
            Event::Subscribing { client, filter } => {
                asked.entry((*client, sessions.get(client).copied().unwrap_or(0))).or_default().push(filter);
            }
            Event::Received { client, message, qos, dup, retain: false, expiry, fresh: true, .. } => {
                let session = sessions.get(client).copied().unwrap_or(0);
                let filters = asked.get(&(*client, session)).into_iter().flatten();
                if !filters.clone().any(|filter| matches(filter, &view.history.messages[*message].topic)) {
                    broken.push(format!("at {at} client {client} got {message}, which it did not subscribe to in this Session"));
                }
                let sent = &view.history.messages[*message];
                let of = came.entry((*client, session)).or_default();
                let granted = view.subscriptions.get(client).into_iter().flatten().rfind(|known| matches(&known.filter, &sent.topic));
                // What was sent before can come first when it is sent again.
                let counts = granted
                    .is_some_and(|known| known.session == session && known.acknowledged <= sent.sent && share(&known.filter).is_none());
                // What expired before it was sent comes late when its publisher sends it again, or when the broker dies before the bucket knows that it
                // was passed over: then it may have been sent.
                arrived(*at, *client, *message, sent, counts && sent.expiry.is_none(), of, &mut broken);
                expired(*at, *client, *message, sent, *dup, *expiry, &mut broken);
                if let Some(granted) = granted
                    && *qos != sent.qos.min(granted.qos)
                {
                    broken.push(format!("at {at} client {client} got {message} at QoS {qos}, sent at {} to {}", sent.qos, granted.qos));
                }
            }
            _ => {}
        }
    }
    for (index, message) in view.history.messages.iter().enumerate() {
        lost(view, index, message, &came, &mut broken);
        lost_by_group(view, index, message, &came, &mut broken);
    }
    broken
}

fn arrived(at: u64, client: ClientIndex, index: MessageIndex, message: &Message, in_order: bool, of: &mut Came, broken: &mut Vec<String>) {
    let times = of.times.entry(index).or_default();
    *times += 1;
    if *times > 1 {
        return;
    }
    if message.qos == 0 || message.will_delay.is_some() || !in_order {
        return;
    }
    let newest = of.newest.entry((message.publisher, message.topic.clone())).or_default();
    // [MQTT-4.6.0-6] A QoS 1 message that was not acknowledged when its broker died comes again, behind QoS 2 that its outbox still had.
    let [once, twice] = *newest;
    let before = if message.qos == 2 { once.max(twice) } else { once };
    if before > Some(index) {
        broken.push(format!("at {at} client {client} got {index} of {} behind {before:?}", message.topic));
    }
    let of_quality = &mut newest[usize::from(message.qos - 1)];
    *of_quality = (*of_quality).max(Some(index));
}

fn expired(at: u64, client: ClientIndex, index: MessageIndex, message: &Message, dup: bool, left: Option<u32>, broken: &mut Vec<String>) {
    let Some(seconds) = message.expiry else { return };
    // Before the acknowledgement nobody knows when the broker got it; with DUP it may have been sent in time before.
    if let Some((since, _)) = message.acknowledged
        && !dup
        && at > since + u64::from(seconds) * 1_000 + EXPIRY_SLACK_MS
    {
        broken.push(format!("at {at} client {client} got {index}, which expired {seconds} s after {since}"));
    }
    if left.is_some_and(|left| left > seconds) {
        broken.push(format!("at {at} client {client} got {index} with {left:?} s left of {seconds}"));
    }
}

fn lost(view: &View<'_>, index: MessageIndex, message: &Message, came: &HashMap<(ClientIndex, u32), Came>, broken: &mut Vec<String>) {
    for (client, subscriptions) in &view.subscriptions {
        let session = view.last_session(*client);
        let times = |session| came.get(&(*client, session)).and_then(|of| of.times.get(&index)).copied().unwrap_or(0);
        let granted: Vec<&Subscription> = subscriptions.iter().filter(|known| matches(&known.filter, &message.topic)).collect();
        for known in &granted {
            if message.qos == 2 && known.qos == 2 && times(known.session) > 1 && share(&known.filter).is_none() {
                broken.push(format!("client {client} got {index} of {} {} times at QoS 2", message.topic, times(known.session)));
            }
        }
        let Some(known) = granted.iter().rfind(|known| known.session == session && share(&known.filter).is_none()) else { continue };
        if let Some((at, host)) = message.acknowledged
            && message.qos > 0
            && known.qos > 0
            && !message.empty
            && message.expiry.is_none()
            && known.acknowledged <= message.sent
            && times(session) == 0
            && is_known(view, *client, known, at, host)
        {
            broken.push(format!(
                "client {client} never got {index} of {} at QoS {}, sent at {} and acknowledged at {at}, subscribed since {}",
                message.topic, message.qos, message.sent, known.acknowledged
            ));
        }
    }
}

/// A message of a Shared Subscription comes to one of its members; after a crash perhaps to several (decision 16).
fn lost_by_group(
    view: &View<'_>,
    index: MessageIndex,
    message: &Message,
    came: &HashMap<(ClientIndex, u32), Came>,
    broken: &mut Vec<String>,
) {
    let Some((at, host)) = message.acknowledged.filter(|_| message.qos > 0 && !message.empty && message.expiry.is_none()) else { return };
    let all = view.subscriptions.iter().flat_map(|(client, all)| all.iter().map(move |known| (*client, known)));
    let members: Vec<_> = all.filter(|(_, known)| share(&known.filter).is_some() && matches(&known.filter, &message.topic)).collect();
    // One that stays is enough: what others leave goes to it.
    let is_owed = members.iter().any(|(client, known)| {
        view.profiles[*client].lives == Lives::Forever && known.acknowledged <= message.sent && is_known(view, *client, known, at, host)
    });
    let asks = |client: ClientIndex| {
        let subscribes = &view.profiles[client].subscribes;
        subscribes.iter().any(|(filter, _)| share(filter).is_some() && matches(filter, &message.topic))
    };
    let came_to_one = came.iter().any(|((client, _), of)| of.times.contains_key(&index) && asks(*client));
    if is_owed && !came_to_one {
        broken.push(format!("no member of the share got {index} of {} at QoS {}, acknowledged at {at}", message.topic, message.qos));
    }
}

/// Whether the broker that acknowledged at `at` had to know the Subscription: one whose bucket another broker has taken does not know what that
/// one was told. One that asks who owns the bucket (`own/00`) before it acknowledges has to.
fn is_known(view: &View<'_>, client: ClientIndex, known: &Subscription, at: u64, host: usize) -> bool {
    if view.history.brokers_ask {
        return true;
    }
    let transient = view.profiles[client].lives == Lives::Connection;
    let started = view.brokers.get(&host).map_or(0, |broker| broker.started);
    match view.rival_of(host, at) {
        None => true,
        Some(_) if transient => false,
        Some(rival) => known.acknowledged < started || known.acknowledged < rival,
    }
}

/// Messages that came, for whoever wants to know only that.
pub(super) fn all_received(view: &View<'_>, client: ClientIndex) -> HashSet<MessageIndex> {
    let received = view.history.events.iter().filter_map(|(_, event)| match event {
        Event::Received { client: who, message, fresh: true, .. } if *who == client => Some(*message),
        _ => None,
    });
    received.collect()
}
