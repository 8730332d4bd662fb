//! What was promised against what came. Pure: it reads the history and knows nothing of how it came about.

mod delivery;
mod retained;
mod sessions;
mod wills;

use std::collections::HashMap;

use crate::history::{ClientIndex, End, Event, History};
use crate::scenario::Profile;

/// Broken promises told one by one.
const TOLD_MAX: usize = 12;

/// A Subscription that was acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct Subscription {
    filter: String,
    qos: u8,
    acknowledged: u64,
    /// Of which of the Client's Sessions.
    session: u32,
}

/// Two brokers on one bucket: from `from` on the older one may not know what the newer one does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Brokers {
    /// When it was started.
    started: u64,
    /// When it was over.
    down: u64,
}

/// The history, sorted by who it is about.
pub(crate) struct View<'a> {
    history: &'a History,
    profiles: &'a [Profile],
    subscriptions: HashMap<ClientIndex, Vec<Subscription>>,
    /// Connections of each Client.
    connections: HashMap<ClientIndex, Vec<Connection>>,
    /// Brokers by number.
    brokers: HashMap<usize, Brokers>,
    end: u64,
}

/// One connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Connection {
    asked: u64,
    clean: bool,
    will: Option<usize>,
    /// CONNACK: when, Session Present, which broker.
    accepted: Option<(u64, bool, usize)>,
    /// Which Session of the Client, counted from 1.
    session: u32,
    ended: Option<(u64, End)>,
    /// Something came that shows that the Session is in the bucket.
    proven: bool,
}

impl Connection {
    /// When the broker of the connection was over, or another one had taken its bucket, as far as that was before `until`.
    fn broker_lost(&self, view: &View<'_>, until: u64) -> u64 {
        let Some((_, _, host)) = self.accepted else { return u64::MAX };
        let down = view.brokers.get(&host).map_or(u64::MAX, |broker| broker.down);
        view.rival_of(host, until).unwrap_or(u64::MAX).min(down)
    }
}

/// All broken promises.
pub fn check(history: &History, profiles: &[Profile]) -> Vec<String> {
    let view = View::of(history, profiles);
    let mut broken: Vec<String> = history
        .events
        .iter()
        .filter_map(|(at, event)| match event {
            Event::Wrong { client, what } => Some(format!("at {at} client {client}: {what}")),
            _ => None,
        })
        .collect();
    broken.extend(delivery::check(&view));
    broken.extend(sessions::check(&view));
    broken.extend(wills::check(&view));
    broken.extend(retained::check(&view));
    let count = broken.len();
    broken.truncate(TOLD_MAX);
    if count > TOLD_MAX {
        broken.push(format!("and {} more", count - TOLD_MAX));
    }
    broken
}

impl<'a> View<'a> {
    fn of(history: &'a History, profiles: &'a [Profile]) -> Self {
        let end = history.events.last().map_or(0, |(at, _)| *at);
        let mut view = Self { history, profiles, subscriptions: HashMap::new(), connections: HashMap::new(), brokers: HashMap::new(), end };
        for (at, event) in &history.events {
            view.add(*at, event);
        }
        // QoS 2 that was acknowledged shows that the Session of its publisher is in the bucket.
        for message in history.messages.iter().filter(|message| message.qos == 2) {
            if let Some((at, _)) = message.acknowledged {
                view.prove(message.publisher, at);
            }
        }
        view
    }

    fn add(&mut self, at: u64, event: &Event) {
        match event {
            Event::Connect { client, will, clean } => {
                let all = self.connections.entry(*client).or_default();
                let session = all.last().map_or(0, |last| last.session);
                all.push(Connection { asked: at, clean: *clean, will: *will, accepted: None, session, ended: None, proven: false });
            }
            Event::Connected { client, host, present } => {
                if let Some(last) = self.connections.get_mut(client).and_then(|all| all.last_mut()) {
                    last.accepted = Some((at, *present, *host));
                    last.session += u32::from(!*present);
                }
            }
            Event::Ended { client, how } => {
                if let Some(last) = self.connections.get_mut(client).and_then(|all| all.last_mut()) {
                    last.ended = Some((at, *how));
                }
            }
            Event::Subscribed { client, filter, qos } => {
                let session = self.connections.get(client).and_then(|all| all.last()).map_or(0, |last| last.session);
                let subscription = Subscription { filter: filter.clone(), qos: *qos, acknowledged: at, session };
                self.subscriptions.entry(*client).or_default().push(subscription);
                self.prove(*client, at);
            }
            Event::Up { host, started } => {
                self.brokers.insert(*host, Brokers { started: *started, down: u64::MAX });
            }
            Event::Down { host } => {
                if let Some(broker) = self.brokers.get_mut(host) {
                    broker.down = at;
                }
            }
            Event::Received { .. } | Event::Subscribing { .. } | Event::Wrong { .. } => {}
        }
    }

    fn prove(&mut self, client: ClientIndex, at: u64) {
        let all = self.connections.get_mut(&client);
        if let Some(connection) = all.and_then(|all| all.iter_mut().rfind(|connection| connection.asked <= at)) {
            connection.proven = true;
        }
    }

    /// The Session a Client has at the end.
    fn last_session(&self, client: ClientIndex) -> u32 {
        self.connections.get(&client).and_then(|all| all.last()).map_or(0, |last| last.session)
    }

    /// Another broker was there between the start of `host` and `at`: when the first of them was started.
    fn rival_of(&self, host: usize, at: u64) -> Option<u64> {
        let since = self.brokers.get(&host)?.started;
        let others = self.brokers.iter().filter(|(number, other)| **number != host && other.started <= at && other.down >= since);
        others.map(|(_, other)| other.started).min()
    }

    /// No broker went down or came up between the two times, and there were not two.
    fn is_steady(&self, from: u64, to: u64) -> bool {
        let touched = |at: u64| (from..=to).contains(&at);
        !self.brokers.values().any(|broker| touched(broker.started) || touched(broker.down)) && !self.had_rivals(from, to)
    }

    fn had_rivals(&self, from: u64, to: u64) -> bool {
        self.brokers.values().filter(|broker| broker.started <= to && broker.down >= from).count() > 1
    }
}

/// The share and the filter of a Shared Subscription.
pub(crate) fn share(filter: &str) -> Option<(&str, &str)> {
    filter.strip_prefix("$share/")?.split_once('/')
}

/// Whether a Topic Filter matches, said as simply as possible.
pub(crate) fn matches(filter: &str, topic: &str) -> bool {
    let filter = share(filter).map_or(filter, |(_, filter)| filter);
    let (mut filter, mut topic) = (filter.split('/'), topic.split('/'));
    loop {
        match (filter.next(), topic.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests;
