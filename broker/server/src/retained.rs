//! Retained messages: kept at publication, sent to new Subscriptions in bounded pieces.

use bucketmq_packet::QoS;
use bucketmq_storage::{Position, RetainedCursor, RetainedLimit};

use crate::broker::Broker;
use crate::client::{ClientRef, State};
use crate::config::Limits;
use crate::durable::waits::Waits;
use crate::metrics::Dropped;
use crate::publish::{Item, Run};
use crate::shared::Manner;

/// Retained messages looked up at a time for one Subscription.
const PAGE_MESSAGES: usize = 256;
/// And their bytes.
const PAGE_BYTES: usize = 256 * 1024;

/// Keeps `item` of `run` as its topic's retained message, or clears that [MQTT-3.3.1-5] [MQTT-3.3.1-6].
pub fn keep(broker: &Broker, run: &Run<'_>, place: usize, item: &Item, limits: &Limits) -> Position {
    if run.payload(item).is_empty() {
        // [MQTT-3.3.1-6] [MQTT-3.3.1-7] An empty payload clears the retained message and is not stored itself.
        return broker.store.remove_retained(run.topic);
    }
    let limit = if run.topic.starts_with("$SYS/") {
        // The broker's own few topics do not depend on what Clients retain.
        RetainedLimit::NONE
    } else {
        RetainedLimit { messages: u64::from(limits.retained_messages), bytes: limits.retained_bytes.as_u64() }
    };
    broker.store.set_retained(run.message(place), limit).unwrap_or_else(|_| {
        broker.metrics.dropped(Dropped::RetainedFull, 1);
        // What would stay is older than what was just published, so nothing stays.
        broker.store.remove_retained(run.topic)
    })
}

/// A new Subscription's way through the retained messages.
#[derive(Debug)]
pub struct RetainedWalk {
    filter: Box<str>,
    qos: QoS,
    identifier: Option<u32>,
    cursor: Option<RetainedCursor>,
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
            let Some(page) = broker.store.try_retained_page(&walk.filter, walk.cursor.as_ref(), PAGE_MESSAGES, PAGE_BYTES) else {
                state.walks.push(walk);
                return;
            };
            for message in &page.messages {
                // [MQTT-3.3.2-6] Expired while retained.
                if message.is_expired(now) {
                    continue;
                }
                // [MQTT-3.3.1-8] RETAIN is 1 because a Subscription was made; [MQTT-3.8.4-8] the smaller QoS.
                let qos = message.qos().min(walk.qos);
                let manner = Manner { qos, retain: true, identifiers: walk.identifier.as_slice(), share: 0 };
                // Nobody's acknowledgement waits for it: the retained message stays where it is.
                broker.deliver_kept(client, state, message, manner, &limits, &mut Waits::default());
            }
            match page.next {
                Some(cursor) => walk.cursor = Some(cursor),
                None => break,
            }
        }
    }
}
