//! What is counted and what is read from the broker, as Prometheus wants it.

use std::collections::HashMap;
use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};

use super::durations::family;
use super::{CLOSED, DROPPED, Gauges, METHODS, Metrics, PACKET_TYPES};

/// Hands [`Metrics`] to Prometheus.
pub struct Exporter {
    metrics: Arc<Metrics>,
    packets: IntCounterVec,
    bytes: IntCounterVec,
    messages: [IntCounterVec; 3],
    closed: IntCounterVec,
    authentication: IntCounterVec,
    plain: Vec<(IntCounter, Read)>,
    numbers: Vec<(Gauge, ReadNumber)>,
    publish_duration: Desc,
    delivery_duration: Desc,
}

/// Reads one counter.
type Read = fn(&Metrics) -> u64;

const PLAIN: [(&str, &str, Read); 8] = [
    ("mqtt_connections_opened_total", "Network Connections accepted with CONNACK 0x00.", |metrics| metrics.connections_opened.get()),
    ("mqtt_session_takeovers_total", "Sessions taken over by a new Network Connection.", |metrics| metrics.takeovers.get()),
    ("mqtt_protocol_violations_total", "Connections closed for what the Client sent.", |metrics| metrics.violations.get()),
    ("mqtt_wills_published_total", "Wills published.", |metrics| metrics.wills.get()),
    ("mqtt_publisher_holds_total", "Times a publisher was held because a subscriber's output was full.", |metrics| metrics.holds.get()),
    ("mqtt_acl_denied_total", "Publications and Subscriptions refused by the access rules.", |metrics| metrics.denied.get()),
    ("mqtt_snapshots_taken_total", "Snapshots taken while the broker served.", |metrics| metrics.snapshots.taken_total()),
    ("mqtt_snapshots_failed_total", "Snapshots that were asked for or due, and failed.", |metrics| metrics.snapshots.failed_total()),
];

/// Reads one number.
type ReadNumber = fn(&Metrics) -> f64;

const NUMBERS: [(&str, &str, ReadNumber); 2] = [
    ("mqtt_snapshot_last_success_timestamp_seconds", "When the newest snapshot was made, seconds since 1970; 0 without one.", |metrics| {
        metrics.snapshots.last_seconds()
    }),
    ("mqtt_snapshot_held_seconds", "How long acknowledgements waited at most for the last snapshot of this process.", |metrics| {
        metrics.snapshots.held_seconds()
    }),
];

pub(super) fn counter(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    IntCounterVec::new(Opts::new(name, help), labels).expect("name and labels are valid")
}

pub(super) fn desc(name: &str, help: &str, labels: &[&str]) -> Desc {
    let labels = labels.iter().map(|label| (*label).to_owned()).collect();
    Desc::new(name.into(), help.into(), labels, HashMap::new()).expect("name and labels are valid")
}

impl Exporter {
    /// An exporter of `metrics`.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            packets: counter("mqtt_packets_total", "MQTT Control Packets.", &["direction", "type"]),
            bytes: counter("mqtt_bytes_total", "Bytes of MQTT Control Packets.", &["direction"]),
            messages: [
                counter("mqtt_messages_received_total", "Application Messages received from Clients.", &["qos"]),
                counter("mqtt_messages_delivered_total", "Application Messages handed to a Client's output or queue.", &["qos"]),
                counter("mqtt_messages_dropped_total", "Application Messages not delivered.", &["reason"]),
            ],
            closed: counter("mqtt_connections_closed_total", "Network Connections ended.", &["reason"]),
            authentication: counter("mqtt_auth_total", "Attempts to authenticate.", &["method", "result"]),
            plain: PLAIN.iter().map(|(name, help, read)| (IntCounter::new(*name, *help).expect("name is valid"), *read)).collect(),
            numbers: NUMBERS.iter().map(|(name, help, read)| (Gauge::new(*name, *help).expect("name is valid"), *read)).collect(),
            publish_duration: desc(
                "mqtt_publish_duration_seconds",
                "From the read that brought a PUBLISH until every subscriber's output or queue has it.",
                &["qos"],
            ),
            delivery_duration: desc(
                "mqtt_delivery_duration_seconds",
                "From the read that brought a message to the write to a connected subscriber's socket; once a write, for its oldest message.",
                &[],
            ),
        }
    }

    /// Registers with `registry`.
    pub fn register(self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self))
    }
}

impl Collector for Exporter {
    fn desc(&self) -> Vec<&Desc> {
        let mut all = self.packets.desc();
        all.extend(self.bytes.desc());
        all.extend(self.messages.iter().flat_map(Collector::desc));
        all.extend(self.closed.desc());
        all.extend(self.authentication.desc());
        all.extend(self.plain.iter().flat_map(|(counter, _)| counter.desc()));
        all.extend(self.numbers.iter().flat_map(|(gauge, _)| gauge.desc()));
        all.extend([&self.publish_duration, &self.delivery_duration]);
        all
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let set = |vec: &IntCounterVec, labels: &[&str], value: u64| {
            let one = vec.with_label_values(labels);
            one.inc_by(value.saturating_sub(one.get()));
        };
        for (name, kind) in PACKET_TYPES {
            set(&self.packets, &["received", name], self.metrics.packets_received[kind as usize].get());
            set(&self.packets, &["sent", name], self.metrics.packets_sent[kind as usize].get());
        }
        set(&self.bytes, &["received"], self.metrics.bytes_received.get());
        set(&self.bytes, &["sent"], self.metrics.bytes_sent.get());
        for (qos, label) in ["0", "1", "2"].iter().enumerate() {
            set(&self.messages[0], &[label], self.metrics.messages_received[qos].get());
            set(&self.messages[1], &[label], self.metrics.messages_delivered[qos].get());
        }
        for (label, why) in DROPPED {
            set(&self.messages[2], &[label], self.metrics.dropped[why as usize].get());
        }
        for (label, why) in CLOSED {
            set(&self.closed, &[label], self.metrics.closed[why as usize].get());
        }
        for (method, results) in METHODS.iter().zip(&self.metrics.authentication) {
            set(&self.authentication, &[method, "refused"], results[0].get());
            set(&self.authentication, &[method, "accepted"], results[1].get());
        }
        for (counter, read) in &self.plain {
            counter.inc_by(read(&self.metrics).saturating_sub(counter.get()));
        }
        for (gauge, read) in &self.numbers {
            gauge.set(read(&self.metrics));
        }
        let mut all = self.packets.collect();
        all.extend(self.bytes.collect());
        all.extend(self.messages.iter().flat_map(Collector::collect));
        all.extend(self.closed.collect());
        all.extend(self.authentication.collect());
        all.extend(self.plain.iter().flat_map(|(counter, _)| counter.collect()));
        all.extend(self.numbers.iter().flat_map(|(gauge, _)| gauge.collect()));
        let by_qos = self.metrics.publish_duration.iter().zip(["0", "1", "2"]);
        all.push(family(&self.publish_duration, by_qos.map(|(durations, qos)| durations.metric(Some(("qos", qos)))).collect()));
        all.push(family(&self.delivery_duration, vec![self.metrics.delivery_duration.metric(None)]));
        all
    }
}

/// The gauges as Prometheus sees them.
pub struct GaugeSet {
    connections: IntGaugeVec,
    sessions: IntGaugeVec,
    subscriptions: IntGaugeVec,
    certificates: IntGaugeVec,
    handshakes: IntCounterVec,
    refused: IntCounterVec,
    plain: Vec<prometheus::IntGauge>,
}

const PLAIN_GAUGES: [(&str, &str); 13] = [
    ("mqtt_retained_messages", "Retained messages."),
    ("mqtt_retained_bytes", "Bytes of retained messages: topic, payload and properties."),
    ("mqtt_session_queue_messages", "Messages waiting in Sessions' queues."),
    ("mqtt_session_queue_bytes", "Bytes waiting in Sessions' queues."),
    ("mqtt_inflight_messages", "QoS 1 and 2 messages sent and not finished."),
    ("mqtt_bucket_unwritten_bytes", "Bytes of changes that wait to be written to the bucket."),
    ("mqtt_bucket_write_pending_seconds", "How long the oldest write to the bucket that is under way has taken so far, 0 without one."),
    ("mqtt_process_resident_bytes", "Resident memory of the broker."),
    ("mqtt_load_shedding", "1 while the broker refuses load because memory is short."),
    ("mqtt_drain_state", "0 serving, 1 draining."),
    ("mqtt_shard_owner", "1 while this broker owns the shards, 0 while it waits for them."),
    ("mqtt_acknowledgements_confirmed", "1 while it is confirmed that this broker may acknowledge QoS 1 and 2, 0 while they wait."),
    ("mqtt_shards_refused", "Shards whose objects are damaged; none of their Clients is served."),
];

impl GaugeSet {
    /// Makes and registers the gauges.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let vec = |name: &str, help: &str, labels: &[&str]| -> prometheus::Result<IntGaugeVec> {
            let gauge = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let connections = vec("mqtt_connections", "Open Network Connections.", &["listener", "protocol"])?;
        let sessions = vec("mqtt_sessions", "Sessions.", &["state"])?;
        let subscriptions = vec("mqtt_subscriptions", "Subscriptions.", &["kind"])?;
        let expiry = "mqtt_tls_certificate_expiry_timestamp_seconds";
        let certificates = vec(expiry, "End of validity of the certificate in force, seconds since 1970.", &["listener", "subject"])?;
        let handshakes = counter("mqtt_tls_handshake_total", "TLS handshakes completed.", &["listener"]);
        registry.register(Box::new(handshakes.clone()))?;
        let refused =
            counter("mqtt_connections_refused_total", "Connections closed before CONNECT was looked at.", &["listener", "reason"]);
        registry.register(Box::new(refused.clone()))?;
        let build = vec("mqtt_build_info", "1; the labels say what runs.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let mut plain = Vec::new();
        for (name, help) in PLAIN_GAUGES {
            let gauge = prometheus::IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            plain.push(gauge);
        }
        Ok(Self { connections, sessions, subscriptions, certificates, handshakes, refused, plain })
    }

    /// Sets all from `gauges`.
    pub fn set(&self, gauges: &Gauges) {
        self.connections.reset();
        for (listener, protocol, count) in &gauges.connections {
            self.connections.with_label_values(&[listener, protocol]).set(*count);
        }
        self.sessions.with_label_values(&["connected"]).set(gauges.sessions_connected);
        self.sessions.with_label_values(&["disconnected"]).set(gauges.sessions_disconnected);
        self.subscriptions.with_label_values(&["plain"]).set(gauges.subscriptions);
        self.subscriptions.with_label_values(&["shared"]).set(gauges.subscriptions_shared);
        self.certificates.reset();
        for (listener, subject, not_after) in &gauges.certificate_expiry {
            self.certificates.with_label_values(&[listener, subject]).set(*not_after);
        }
        for (listener, count) in &gauges.tls_handshakes {
            let counter = self.handshakes.with_label_values(&[listener]);
            counter.inc_by(count.saturating_sub(counter.get()));
        }
        for (listener, reason, count) in &gauges.refused {
            let counter = self.refused.with_label_values(&[listener.as_str(), reason]);
            counter.inc_by(count.saturating_sub(counter.get()));
        }
        let values = [
            gauges.retained_messages,
            gauges.retained_bytes,
            gauges.queue_messages,
            gauges.queue_bytes,
            gauges.inflight_messages,
            gauges.unwritten_bytes,
            gauges.write_pending_seconds,
            gauges.resident_bytes,
            gauges.shedding,
            gauges.drain_state,
            gauges.owner,
            gauges.confirmed,
            gauges.shards_refused,
        ];
        for (gauge, value) in self.plain.iter().zip(values) {
            gauge.set(value);
        }
    }
}
