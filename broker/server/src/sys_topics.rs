//! `$SYS` topics: the broker about itself, retained, under the names people know from Mosquitto.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bucketmq_packet::QoS;
use bucketmq_packet::message::Message;

use crate::broker::Broker;

/// Publishes all of them every `interval` until the broker stops.
pub async fn run(broker: Arc<Broker>, interval: Duration) {
    let mut clients_maximum = 0;
    publish(&broker, "$SYS/broker/version", concat!("bucketmq version ", env!("CARGO_PKG_VERSION")));
    loop {
        let (mut connected, mut disconnected) = (0u64, 0u64);
        broker.registry.for_each(|client| if client.connected.load(Ordering::Relaxed) { connected += 1 } else { disconnected += 1 });
        clients_maximum = clients_maximum.max(connected);
        let metrics = &broker.metrics;
        let values = [
            ("$SYS/broker/clients/connected", connected),
            ("$SYS/broker/clients/disconnected", disconnected),
            ("$SYS/broker/clients/total", connected + disconnected),
            ("$SYS/broker/clients/maximum", clients_maximum),
            ("$SYS/broker/messages/received", metrics.messages_received_total()),
            ("$SYS/broker/messages/sent", metrics.messages_delivered_total()),
            ("$SYS/broker/publish/messages/dropped", metrics.messages_dropped_total()),
            ("$SYS/broker/bytes/received", metrics.bytes_received.get()),
            ("$SYS/broker/bytes/sent", metrics.bytes_sent.get()),
            ("$SYS/broker/retained messages/count", broker.store.retained_usage().messages),
            ("$SYS/broker/store/messages/bytes", broker.store.retained_usage().bytes),
            ("$SYS/broker/subscriptions/count", broker.subscriptions.read().len() as u64),
            ("$SYS/broker/shared_subscriptions/count", broker.subscriptions.read().shared_len() as u64),
        ];
        for (topic, value) in values {
            publish(&broker, topic, &value.to_string());
        }
        publish(&broker, "$SYS/broker/uptime", &format!("{} seconds", broker.uptime().as_secs()));
        tokio::time::sleep(interval).await;
    }
}

fn publish(broker: &Broker, topic: &str, payload: &str) {
    broker.publish_own(&Message::new(topic, payload.as_bytes(), b"", QoS::AtMostOnce, true, None));
}
