//! Reading the gauges: what is counted by looking, when somebody scrapes.

use std::sync::atomic::Ordering;

use bucketmq_listener::{Listeners, Refusal};

use crate::broker::Broker;
use crate::memory;
use crate::metrics::Gauges;

/// A broker that waits for its bucket.
pub fn waiting() -> Gauges {
    Gauges { resident_bytes: memory::resident_bytes() as i64, ..Gauges::default() }
}

/// The state of `broker` as numbers.
pub fn read(broker: &Broker, listeners: &Listeners) -> Gauges {
    let mut gauges = Gauges { owner: 1, confirmed: i64::from(broker.confirmation.holds()), ..waiting() };
    broker.registry.for_each(|client| {
        if client.connected.load(Ordering::Relaxed) {
            gauges.sessions_connected += 1;
        } else {
            gauges.sessions_disconnected += 1;
        }
        let state = client.lock();
        gauges.queue_messages += state.session.waiting() as i64;
        gauges.queue_bytes += state.session.waiting_bytes() as i64;
        gauges.inflight_messages += i64::from(state.session.inflight());
    });
    let (entries, bytes) = broker.groups.waiting();
    gauges.queue_messages += entries as i64;
    gauges.queue_bytes += bytes as i64;
    {
        let subscriptions = broker.subscriptions.read();
        gauges.subscriptions = subscriptions.len() as i64;
        gauges.subscriptions_shared = subscriptions.shared_len() as i64;
    }
    let retained = broker.store.retained_usage();
    gauges.retained_messages = retained.messages as i64;
    gauges.retained_bytes = retained.bytes as i64;
    gauges.unwritten_bytes = broker.store.unwritten_bytes() as i64;
    gauges.write_pending_seconds = broker.store.slowest_write().map_or(0, |(_, since)| since.as_secs() as i64);
    gauges.shedding = i64::from(broker.sheds_connections());
    gauges.drain_state = i64::from(broker.is_draining());
    gauges.shards_refused = broker.shards.all().filter(|shard| broker.store.is_refused(*shard)).count() as i64;
    for bound in listeners.bound() {
        let handle = &bound.handle;
        gauges.connections.push((handle.name().to_owned(), handle.protocol().label().to_owned(), handle.connections() as i64));
        gauges.tls_handshakes.push((handle.name().to_owned(), handle.counters.tls_handshakes()));
        for reason in Refusal::ALL {
            gauges.refused.push((handle.name().to_owned(), reason.label(), handle.counters.refused(reason)));
        }
    }
    for certificate in listeners.certificates() {
        gauges.certificate_expiry.push((certificate.listener, certificate.subject, certificate.not_after));
    }
    gauges
}
