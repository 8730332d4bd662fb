//! Counters that cost the hot path next to nothing: one padded cell per thread and metric, added up when somebody scrapes.
//!
//! Names are constants in this file; every name begins with `mqtt_`, every label is bounded (no Client Identifier, no topic).

mod bucket;
mod durations;
mod export;
mod snapshots;

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bucketmq_packet::{PacketType, QoS};

pub use bucket::BucketExporter;
pub use durations::Durations;
pub use export::{Exporter, GaugeSet};
pub use snapshots::SnapshotFigures;

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
    /// The topic has more levels than the broker takes.
    TopicLevels,
}

const DROPPED: [(&str, Dropped); 10] = [
    ("no_subscribers", Dropped::NoSubscribers),
    ("queue_full", Dropped::QueueFull),
    ("output_full", Dropped::OutputFull),
    ("too_large", Dropped::TooLarge),
    ("expired", Dropped::Expired),
    ("not_authorized", Dropped::NotAuthorized),
    ("retained_full", Dropped::RetainedFull),
    ("memory", Dropped::Memory),
    ("not_connected", Dropped::NotConnected),
    ("topic_levels", Dropped::TopicLevels),
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
    dropped: [Spread; 10],
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
    authentication: [[Spread; 2]; 4],
    /// Publications and Subscriptions refused by the access rules.
    pub denied: Spread,
    /// By QoS: from the read that brought a PUBLISH to the end of its batch, when every subscriber's output or queue has it.
    pub publish_duration: [Durations; 3],
    /// From the read that brought a message to the write that gave it to the socket of a connected subscriber: once a write, its oldest message.
    pub delivery_duration: Durations,
    /// Snapshots taken while it serves.
    pub snapshots: SnapshotFigures,
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

const METHODS: [&str; 4] = ["certificate", "password", "anonymous", "scram"];

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
    /// Connections closed before CONNECT was looked at, per listener name and reason.
    pub refused: Vec<(String, &'static str, u64)>,
    /// Listener, subject and end of validity (seconds since 1970) of each certificate in force.
    pub certificate_expiry: Vec<(String, String, i64)>,
    /// Bytes that wait to be written to the bucket.
    pub unwritten_bytes: i64,
    /// How long the write to the bucket that has been under way longest has taken so far.
    pub write_pending_seconds: i64,
    /// Resident memory.
    pub resident_bytes: i64,
    /// 1 while the broker sheds load.
    pub shedding: i64,
    /// 0 serving, 1 draining.
    pub drain_state: i64,
    /// 1 while the shards are this broker's.
    pub owner: i64,
    /// 1 while it may acknowledge QoS 1 and 2.
    pub confirmed: i64,
    /// Shards that cannot be read.
    pub shards_refused: i64,
}
