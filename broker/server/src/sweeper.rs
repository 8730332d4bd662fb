//! The task that lets time pass: Keep Alive, Wills that are due, Sessions that expire.
//!
//! A timer per Client would cost memory for each and work for each packet. Looking at every Client's four atomics costs 5 us per thousand
//! and nothing per packet.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bucketmq_packet::ReasonCode;

use crate::broker::Broker;

/// Time between two looks while there are few Clients: how late a Keep Alive, a Will or an expiry may be noticed.
const INTERVAL_MIN: Duration = Duration::from_millis(250);
/// The same with very many.
const INTERVAL_MAX: Duration = Duration::from_secs(5);
/// Clients looked at per second of interval, so that looking stays below 2 % of a core.
const CLIENTS_PER_SECOND: f64 = 200_000.0;

/// Runs until the broker stops.
pub async fn run(broker: Arc<Broker>) {
    loop {
        let clients = broker.registry.len() as f64;
        let interval = Duration::from_secs_f64(clients / CLIENTS_PER_SECOND).clamp(INTERVAL_MIN, INTERVAL_MAX);
        tokio::time::sleep(interval).await;
        sweep(&broker);
    }
}

/// Looks at every Client once.
pub fn sweep(broker: &Broker) {
    let second = broker.second();
    let mut silent = Vec::new();
    let mut due = Vec::new();
    broker.registry.for_each(|client| {
        if client.connected.load(Ordering::Relaxed) {
            let limit = client.keep_alive_limit.load(Ordering::Relaxed);
            // [MQTT-3.1.2-22] Strictly more, because both times are rounded down to a second.
            if limit > 0 && second.saturating_sub(client.last_seen.load(Ordering::Relaxed)) > limit {
                silent.push(client.clone());
            }
        } else if client.due.load(Ordering::Relaxed) <= second {
            due.push(client.clone());
        }
    });
    for client in silent {
        client.close(ReasonCode::KeepAliveTimeout);
    }
    for client in due {
        broker.fall_due(&client, second);
    }
}
