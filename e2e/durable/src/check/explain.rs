//! The part of a history that explains a broken promise.

use std::time::Duration;

use crate::history::{BROKER, ClientNumber, Event, History, Message, What};

/// What happened to others is shown from so long before to so long after.
const AROUND: Duration = Duration::from_secs(3);
/// Lines per broken promise.
const LINES_MAX: usize = 40;

/// The life of `messages`, all of one stream, with the connections of its publisher and of `client` and what was done to the broker meanwhile.
pub(super) fn of(history: &History, messages: &[Message], client: ClientNumber) -> Vec<String> {
    let publisher = messages.first().map_or(client, |message| history.streams[message.stream as usize].publisher);
    let is_of = |event: &Event| event.what.message().is_some_and(|message| messages.contains(&message));
    let about = |event: &Event| is_of(event) && (event.client == client || event.client == publisher);
    let times = || history.events.iter().filter(|event| about(event)).map(|event| event.at);
    let from = times().min().unwrap_or_default().saturating_sub(AROUND);
    let to = times().max().unwrap_or_default() + AROUND;
    lines(history, |event| about(event) || ((from..to).contains(&event.at) && is_frame(event, &[client, publisher])))
}

/// What happened to `client` and to the broker around `at`, and to `message`.
pub(super) fn around(history: &History, at: Duration, client: ClientNumber, message: Option<Message>) -> Vec<String> {
    let near = at.saturating_sub(AROUND)..at + AROUND;
    let about = |event: &Event| message.is_some() && event.what.message() == message;
    lines(history, |event| about(event) || event.at == at || (near.contains(&event.at) && is_frame(event, &[client])))
}

/// Connections of these Clients, and what was done to brokers.
fn is_frame(event: &Event, clients: &[ClientNumber]) -> bool {
    event.client == BROKER
        || clients.contains(&event.client) && matches!(event.what, What::Connected { .. } | What::Gone(_) | What::Subscribed { .. })
}

fn lines(history: &History, take: impl Fn(&Event) -> bool) -> Vec<String> {
    let taken: Vec<String> = history.events.iter().filter(|event| take(event)).map(|event| history.line(event)).collect();
    if taken.len() <= LINES_MAX {
        return taken;
    }
    let (head, tail) = (&taken[..LINES_MAX / 2], &taken[taken.len() - LINES_MAX / 2..]);
    let left_out = format!("... {} more ...", taken.len() - LINES_MAX);
    head.iter().cloned().chain([left_out]).chain(tail.iter().cloned()).collect()
}
