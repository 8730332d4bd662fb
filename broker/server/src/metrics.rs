//! Counters that cost the hot path next to nothing: one padded cell per thread and metric, added up when somebody scrapes.
//!
//! Names are constants in this file; every name begins with `mqtt_`, every label is bounded (no Client Identifier, no topic).

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bucketmq_packet::{PacketType, QoS};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};

/// Cells per counter. Threads beyond share.
const CELLS: usize = 8;

static NEXT_THREAD: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static CELL: Cell<usize> = Cell::new(NEXT_THREAD.fetch_add(1, Ordering::Relaxed) % CELLS);
}

#[repr(align(128))]
#[derive(Debug, Default)]
struct Padded(AtomicU64);

/// A counter spread over the threads' own cache lines.
#[derive(Debug, Default)]
pub struct Spread([Padded; CELLS]);

impl Spread {
    /// Adds `count`.
    #[inline]
    pub fn add(&self, count: u64) {
        if count > 0 {
            self.0[CELL.get()].0.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// The sum.
    pub fn get(&self) -> u64 {
        self.0.iter().map(|cell| cell.0.load(Ordering::Relaxed)).sum()
    }
}

/// Why a message was dropped; the label values of `mqtt_messages_dropped_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Dropped {
    /// No Subscription matched.
    NoSubscribers,
    /// The Session's queue was full.
    QueueFull,
    /// The Client did not read.
    OutputFull,
    /// Larger than the Client takes.
    TooLarge,
    /// Expired before delivery.
    Expired,
    /// The publisher was not allowed to.
    NotAuthorized,
    /// Retained limits reached.
    RetainedFull,
    /// Memory is short.
    Memory,
    /// QoS 0 for a Client that is away.
    NotConnected,
}

const DROPPED: [(&str, Dropped); 9] = [
    ("no_subscribers", Dropped::NoSubscribers),
    ("queue_full", Dropped::QueueFull),
    ("output_full", Dropped::OutputFull),
    ("too_large", Dropped::TooLarge),
    ("expired", Dropped::Expired),
    ("not_authorized", Dropped::NotAuthorized),
    ("retained_full", Dropped::RetainedFull),
    ("memory", Dropped::Memory),
    ("not_connected", Dropped::NotConnected),
];

const PACKET_TYPES: [(&str, PacketType); 15] = [
    ("CONNECT", PacketType::Connect),
    ("CONNACK", PacketType::ConnAck),
    ("PUBLISH", PacketType::Publish),
    ("PUBACK", PacketType::PubAck),
    ("PUBREC", PacketType::PubRec),
    ("PUBREL", PacketType::PubRel),
    ("PUBCOMP", PacketType::PubComp),
    ("SUBSCRIBE", PacketType::Subscribe),
    ("SUBACK", PacketType::SubAck),
    ("UNSUBSCRIBE", PacketType::Unsubscribe),
    ("UNSUBACK", PacketType::UnsubAck),
    ("PINGREQ", PacketType::PingReq),
    ("PINGRESP", PacketType::PingResp),
    ("DISCONNECT", PacketType::Disconnect),
    ("AUTH", PacketType::Auth),
];

/// Everything counted while the broker runs.
#[derive(Debug, Default)]
pub struct Metrics {
    packets_received: [Spread; 16],
    packets_sent: [Spread; 16],
    /// Bytes read from Clients.
    pub bytes_received: Spread,
    /// Bytes written to Clients.
    pub bytes_sent: Spread,
    messages_received: [Spread; 3],
    messages_delivered: [Spread; 3],
    dropped: [Spread; 9],
    /// Network Connections that reached CONNACK 0x00.
    pub connections_opened: Spread,
    closed: [Spread; 6],
    /// Sessions taken over by a new connection.
    pub takeovers: Spread,
    /// CONNECT refused or connections closed for what the Client sent.
    pub violations: Spread,
    /// Wills published.
    pub wills: Spread,
    /// Publishers held because a subscriber's output was full.
    pub holds: Spread,
    authentication: [[Spread; 2]; 3],
    /// Publications and Subscriptions refused by the access rules.
    pub denied: Spread,
}

/// Why a connection ended; the label values of `mqtt_connections_closed_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Closed {
    /// The Client sent DISCONNECT.
    Disconnect,
    /// The socket was closed or failed.
    Network,
    /// Another connection took the Session.
    TakenOver,
    /// The Client broke a rule.
    Violation,
    /// Nothing came within one and a half times the Keep Alive.
    KeepAlive,
    /// The broker ended it for another reason.
    Server,
}

const CLOSED: [(&str, Closed); 6] = [
    ("disconnect", Closed::Disconnect),
    ("network", Closed::Network),
    ("taken_over", Closed::TakenOver),
    ("violation", Closed::Violation),
    ("keep_alive", Closed::KeepAlive),
    ("server", Closed::Server),
];

const METHODS: [&str; 3] = ["certificate", "password", "anonymous"];

impl Metrics {
    /// Counts packets from Clients.
    #[inline]
    pub fn received(&self, kind: PacketType, count: u64) {
        self.packets_received[kind as usize & 15].add(count);
    }

    /// Counts packets to Clients.
    #[inline]
    pub fn sent(&self, kind: PacketType, count: u64) {
        self.packets_sent[kind as usize & 15].add(count);
    }

    /// Counts the end of a Network Connection.
    pub fn closed(&self, why: Closed) {
        self.closed[why as usize].add(1);
    }

    /// Counts an attempt to authenticate.
    pub fn authenticated(&self, method: &str, accepted: bool) {
        let method = METHODS.iter().position(|known| *known == method).unwrap_or(1);
        self.authentication[method][usize::from(accepted)].add(1);
    }

    /// Counts Application Messages from Clients.
    #[inline]
    pub fn message_received(&self, qos: QoS, count: u64) {
        self.messages_received[qos as usize].add(count);
    }

    /// Counts Application Messages handed to a Client's output or queue.
    #[inline]
    pub fn message_delivered(&self, qos: QoS, count: u64) {
        self.messages_delivered[qos as usize].add(count);
    }

    /// Counts messages that went nowhere.
    #[inline]
    pub fn dropped(&self, why: Dropped, count: u64) {
        self.dropped[why as usize].add(count);
    }

    /// Application Messages received so far, all QoS.
    pub fn messages_received_total(&self) -> u64 {
        self.messages_received.iter().map(Spread::get).sum()
    }

    /// Application Messages delivered so far, all QoS.
    pub fn messages_delivered_total(&self) -> u64 {
        self.messages_delivered.iter().map(Spread::get).sum()
    }

    /// Messages dropped so far, all reasons but the absence of subscribers.
    pub fn messages_dropped_total(&self) -> u64 {
        self.dropped.iter().skip(1).map(Spread::get).sum()
    }
}

/// Gauges read from the broker when somebody scrapes.
#[derive(Debug, Clone, Default)]
pub struct Gauges {
    /// Connected Clients per listener name and protocol.
    pub connections: Vec<(String, String, i64)>,
    /// Sessions with a connection.
    pub sessions_connected: i64,
    /// Sessions without.
    pub sessions_disconnected: i64,
    /// Subscriptions, not shared.
    pub subscriptions: i64,
    /// Shared Subscriptions (members, all groups).
    pub subscriptions_shared: i64,
    /// Retained messages.
    pub retained_messages: i64,
    /// Their bytes.
    pub retained_bytes: i64,
    /// Messages waiting in Sessions' queues.
    pub queue_messages: i64,
    /// Their bytes.
    pub queue_bytes: i64,
    /// QoS 1 and 2 messages sent and not finished.
    pub inflight_messages: i64,
    /// TLS handshakes completed per listener name.
    pub tls_handshakes: Vec<(String, u64)>,
    /// Listener, subject and end of validity (seconds since 1970) of each certificate in force.
    pub certificate_expiry: Vec<(String, String, i64)>,
    /// Resident memory.
    pub resident_bytes: i64,
    /// 1 while the broker sheds load.
    pub shedding: i64,
    /// 0 serving, 1 draining.
    pub drain_state: i64,
}

/// Hands [`Metrics`] to Prometheus.
pub struct Exporter {
    metrics: Arc<Metrics>,
    packets: IntCounterVec,
    bytes: IntCounterVec,
    messages: [IntCounterVec; 3],
    closed: IntCounterVec,
    authentication: IntCounterVec,
    plain: Vec<(IntCounter, Read)>,
}

/// Reads one counter.
type Read = fn(&Metrics) -> u64;

const PLAIN: [(&str, &str, Read); 6] = [
    ("mqtt_connections_opened_total", "Network Connections accepted with CONNACK 0x00.", |metrics| metrics.connections_opened.get()),
    ("mqtt_session_takeovers_total", "Sessions taken over by a new Network Connection.", |metrics| metrics.takeovers.get()),
    ("mqtt_protocol_violations_total", "Connections closed for what the Client sent.", |metrics| metrics.violations.get()),
    ("mqtt_wills_published_total", "Wills published.", |metrics| metrics.wills.get()),
    ("mqtt_publisher_holds_total", "Times a publisher was held because a subscriber's output was full.", |metrics| metrics.holds.get()),
    ("mqtt_acl_denied_total", "Publications and Subscriptions refused by the access rules.", |metrics| metrics.denied.get()),
];

fn counter(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    IntCounterVec::new(Opts::new(name, help), labels).expect("name and labels are valid")
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
        let mut all = self.packets.collect();
        all.extend(self.bytes.collect());
        all.extend(self.messages.iter().flat_map(Collector::collect));
        all.extend(self.closed.collect());
        all.extend(self.authentication.collect());
        all.extend(self.plain.iter().flat_map(|(counter, _)| counter.collect()));
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
    plain: Vec<prometheus::IntGauge>,
}

const PLAIN_GAUGES: [(&str, &str); 8] = [
    ("mqtt_retained_messages", "Retained messages."),
    ("mqtt_retained_bytes", "Bytes of retained messages: topic, payload and properties."),
    ("mqtt_session_queue_messages", "Messages waiting in Sessions' queues."),
    ("mqtt_session_queue_bytes", "Bytes waiting in Sessions' queues."),
    ("mqtt_inflight_messages", "QoS 1 and 2 messages sent and not finished."),
    ("mqtt_process_resident_bytes", "Resident memory of the broker."),
    ("mqtt_load_shedding", "1 while the broker refuses load because memory is short."),
    ("mqtt_drain_state", "0 serving, 1 draining."),
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
        let build = vec("mqtt_build_info", "1; the labels say what runs.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let mut plain = Vec::new();
        for (name, help) in PLAIN_GAUGES {
            let gauge = prometheus::IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            plain.push(gauge);
        }
        Ok(Self { connections, sessions, subscriptions, certificates, handshakes, plain })
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
        let values = [
            gauges.retained_messages,
            gauges.retained_bytes,
            gauges.queue_messages,
            gauges.queue_bytes,
            gauges.inflight_messages,
            gauges.resident_bytes,
            gauges.shedding,
            gauges.drain_state,
        ];
        for (gauge, value) in self.plain.iter().zip(values) {
            gauge.set(value);
        }
    }
}
