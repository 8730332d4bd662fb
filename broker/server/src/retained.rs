//! Retained messages: kept at publication, sent to new Subscriptions in bounded pieces.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bucketmq_packet::QoS;
use bucketmq_packet::message::Message;
use bucketmq_routing::{Cursor, Retained};
use parking_lot::RwLock;

use crate::broker::Broker;
use crate::client::{ClientRef, State};
use crate::config::Limits;
use crate::metrics::Dropped;
use crate::publish::{Item, Run};
use crate::shared::Manner;

/// Retained messages looked up at a time: how long the tree's lock is held for one Subscription.
const PAGE_TOPICS: usize = 256;

/// Retained messages by topic. Names and values stand in memory; the store has them as well once it is durable.
#[derive(Default)]
pub struct RetainedTopics {
    tree: RwLock<Retained<Arc<Message>>>,
    messages: AtomicU64,
    bytes: AtomicU64,
}

impl RetainedTopics {
    /// True without any: a Subscription then needs no walk.
    pub fn is_empty(&self) -> bool {
        self.messages.load(Ordering::Relaxed) == 0
    }

    /// How many there are.
    pub fn messages(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }

    /// Bytes of topics, payloads and properties.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn set(&self, topic: &str, message: Arc<Message>) {
        let bytes = message.len() as u64;
        let old = self.tree.write().insert(topic, message);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        match old {
            Some(old) => self.bytes.fetch_sub(old.len() as u64, Ordering::Relaxed),
            None => self.messages.fetch_add(1, Ordering::Relaxed),
        };
    }

    fn clear(&self, topic: &str) {
        let old = self.tree.write().remove(topic);
        if let Some(old) = old {
            self.messages.fetch_sub(1, Ordering::Relaxed);
            self.bytes.fetch_sub(old.len() as u64, Ordering::Relaxed);
        }
    }

    /// The retained message of `topic`.
    pub fn get(&self, topic: &str) -> Option<Arc<Message>> {
        self.tree.read().get(topic).cloned()
    }

    /// Removes what has expired among the next `count` topics after `cursor`; gives where to go on. None: the end was reached.
    pub fn sweep(&self, cursor: Option<Cursor>, count: usize, now: u64) -> Option<Cursor> {
        for filter in ["#"] {
            let (page, next) = self.tree.read().page(filter, cursor.clone(), count);
            for (topic, message) in page {
                if message.expires_at().is_some_and(|at| at <= now) {
                    self.clear(&topic);
                }
            }
            if next.is_some() {
                return next;
            }
        }
        None
    }
}

/// Keeps `item` of `run` as its topic's retained message, or clears that [MQTT-3.3.1-5] [MQTT-3.3.1-6].
pub fn keep(broker: &Broker, run: &Run<'_>, place: usize, item: &Item, limits: &Limits) {
    let retained = &broker.retained;
    if run.payload(item).is_empty() {
        // [MQTT-3.3.1-6] [MQTT-3.3.1-7] An empty payload clears the retained message and is not stored itself.
        retained.clear(run.topic);
        return;
    }
    let message = run.message(place);
    // [MQTT-3.3.1-5] replaces; a topic that has one keeps its place when the limits are reached.
    let old = retained.get(run.topic).map_or((1, 0), |old| (0, old.len() as u64));
    let too_many = retained.messages() + old.0 > u64::from(limits.retained_messages);
    let too_large = retained.bytes() + message.len() as u64 > limits.retained_bytes.as_u64() + old.1;
    if (too_many || too_large) && !run.topic.starts_with("$SYS/") {
        broker.metrics.dropped(Dropped::RetainedFull, 1);
        // What stays would be older than what was just published, so nothing stays.
        retained.clear(run.topic);
        return;
    }
    retained.set(run.topic, message);
}

/// A new Subscription's way through the retained messages.
#[derive(Debug)]
pub struct RetainedWalk {
    filter: Box<str>,
    qos: QoS,
    identifier: Option<u32>,
    cursor: Option<Cursor>,
}

impl RetainedWalk {
    /// A walk from the beginning.
    pub fn new(filter: &str, qos: QoS, identifier: Option<u32>) -> Self {
        Self { filter: filter.into(), qos, identifier, cursor: None }
    }

    /// The filter it is for.
    pub fn filter(&self) -> &str {
        &self.filter
    }
}

/// Sends retained messages while the Client has room for them. Called with the Session locked, so that a live message cannot come in
/// between a value's reading and its sending.
pub fn walk(broker: &Broker, client: &ClientRef, state: &mut State) {
    let limits = broker.limits.load();
    let now = broker.wall_ms();
    while let Some(mut walk) = state.walks.pop() {
        loop {
            // QoS 1 and 2 wait for the handshakes of those before: the queue is for live messages.
            if state.session.link().is_none_or(|link| !link.has_room()) || state.session.waiting() > 0 {
                state.walks.push(walk);
                return;
            }
            let (page, next) = broker.retained.tree.read().page(&walk.filter, walk.cursor.take(), PAGE_TOPICS);
            for (_, message) in page {
                // [MQTT-3.3.2-6] Expired while retained.
                if message.expires_at().is_some_and(|at| at <= now) {
                    continue;
                }
                // [MQTT-3.3.1-8] RETAIN is 1 because a Subscription was made; [MQTT-3.8.4-8] the smaller QoS.
                let qos = message.qos().min(walk.qos);
                let manner = Manner { qos, retain: true, identifiers: walk.identifier.as_slice(), share: 0 };
                broker.deliver_kept(client, state, &message, manner, &limits);
            }
            match next {
                Some(cursor) => walk.cursor = Some(cursor),
                None => break,
            }
        }
    }
}
