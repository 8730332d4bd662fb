//! What is retained is the last that was acknowledged, or something sent later, and never something older.

use std::collections::{HashMap, HashSet};

use super::View;
use crate::history::{Event, Message, MessageIndex};

/// As for messages that wait.
const EXPIRY_SLACK_MS: u64 = 2_500;

pub(super) fn check(view: &View<'_>) -> Vec<String> {
    let mut broken = Vec::new();
    let mut by_topic: HashMap<&str, Vec<(MessageIndex, &Message)>> = HashMap::new();
    for (index, message) in view.history.messages.iter().enumerate().filter(|(_, message)| message.retain) {
        by_topic.entry(&message.topic).or_default().push((index, message));
    }
    let readers: HashSet<usize> = view.profiles.iter().enumerate().filter(|(_, profile)| profile.reader).map(|(index, _)| index).collect();
    let last_reader = view.profiles.len().saturating_sub(1);
    let mut at_the_end: HashMap<&str, MessageIndex> = HashMap::new();
    let mut asked: HashMap<usize, u64> = HashMap::new();
    for (at, event) in &view.history.events {
        match event {
            Event::Connect { client, .. } if readers.contains(client) => {
                asked.insert(*client, *at);
            }
            Event::Received { client, message, retain: true, host, .. } if readers.contains(client) => {
                let topic = &view.history.messages[*message].topic;
                if *client == last_reader {
                    at_the_end.insert(topic, *message);
                }
                let since = asked.get(client).copied().unwrap_or(0);
                if view.rival_of(*host, *at).is_none() {
                    stale(*at, *message, since, &by_topic[topic.as_str()], &mut broken);
                }
            }
            _ => {}
        }
    }
    let read = view.subscriptions.contains_key(&last_reader);
    for (topic, all) in by_topic.iter().filter(|_| read) {
        missing(view.end, topic, at_the_end.get(topic).copied(), all, &mut broken);
    }
    broken
}

/// Whether `newer` has to have taken the place of `value`. Order is promised within one QoS [MQTT-4.6.0-6]: a QoS 1 message that is sent again after its
/// connection broke is retained again, or clears again, also when its publisher had sent QoS 2 behind it, which is not handed on twice.
fn replaces((newer, message): &(MessageIndex, &Message), value: MessageIndex, all: &[(MessageIndex, &Message)]) -> bool {
    let comes_again = |value: &Message| value.qos == 1 && message.qos == 2 && value.sent_again.is_some_and(|at| at > message.sent);
    *newer > value && !all.iter().any(|(index, known)| *index == value && comes_again(known))
}

/// A value that had been replaced before the reader asked.
fn stale(at: u64, value: MessageIndex, asked: u64, all: &[(MessageIndex, &Message)], broken: &mut Vec<String>) {
    let newer = all.iter().find(|of| replaces(of, value, all) && of.1.acknowledged.is_some_and(|(at, _)| at < asked));
    if let Some((newer, message)) = newer {
        broken
            .push(format!("at {at} {value} is retained on {}, but {newer} was acknowledged at {:?}", message.topic, message.acknowledged));
    }
}

/// At the end: the last acknowledged value, or one sent later.
fn missing(end: u64, topic: &str, value: Option<MessageIndex>, all: &[(MessageIndex, &Message)], broken: &mut Vec<String>) {
    let Some((last, message)) = all.iter().rfind(|(_, message)| message.acknowledged.is_some()) else { return };
    let expires = |message: &Message| message.expiry.map(|seconds| message.sent + u64::from(seconds) * 1_000);
    let later: Vec<_> = all.iter().filter(|(index, _)| index >= last).collect();
    let leaves_nothing = |message: &Message| message.empty || expires(message).is_some();
    let comes_again = |of: &(MessageIndex, &Message)| !replaces(&(*last, *message), of.0, all);
    let mut may_be_last = later.iter().copied().chain(all.iter().filter(|of| comes_again(of)));
    let may_be_absent = may_be_last.any(|(_, message)| leaves_nothing(message));
    match value {
        None if !may_be_absent => {
            broken.push(format!("nothing is retained on {topic}, {last} was acknowledged at {:?}", message.acknowledged))
        }
        Some(value) => {
            let newer = all.iter().rfind(|of| of.1.acknowledged.is_some() && replaces(of, value, all));
            if let Some((newer, message)) = newer {
                broken.push(format!("{value} is retained on {topic} at the end, {newer} was acknowledged at {:?}", message.acknowledged));
            }
            let expired = all.iter().find(|(index, _)| *index == value).and_then(|(_, message)| expires(message));
            if expired.is_some_and(|at| end > at + 20_000 + EXPIRY_SLACK_MS) {
                broken.push(format!("{value} is still retained on {topic}, it expired at {expired:?}"));
            }
        }
        None => {}
    }
}
