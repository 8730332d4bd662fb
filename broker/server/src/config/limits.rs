//! `[limits]`: every bound of the broker by name, its default and the arithmetic behind it. All of them are hot: a reload changes them for what
//! comes next, and a Client keeps what its CONNACK told it.

use std::time::Duration;

use bucketmq_packet::AcknowledgeLevel;
use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units;

/// The largest packet MQTT can express: a Remaining Length of 268,435,455 after a fixed header of 5 bytes.
pub const PACKET_SIZE_MAX: u64 = 268_435_455 + 5;

/// Bounds for every Client and for the broker as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Network Connections at one time over all listeners; more are closed at once. 0, the default: as many as there are file descriptors, because
    /// `memory_watermark` sheds before they cost too much.
    pub max_connections: u32,

    /// Network Connections accepted per second over all listeners; more wait in the system's backlog. 0, the default: as fast as they come, because a
    /// fleet that reconnects wants to be back.
    pub max_connection_rate: u32,

    /// The largest packet a Client may send, fixed header included, from 1KiB to the protocol's own bound of 268435460B. A 5.0 Client is told it in
    /// CONNACK. 1MiB by default: nearly every payload is far smaller, and each connection may hold one packet while it arrives.
    #[serde(with = "units::size")]
    #[schemars(with = "String")]
    pub max_packet_size: ByteSize,

    /// The highest QoS granted to publishers and subscribers. 2 by default: all the protocol has.
    #[schemars(range(max = 2))]
    pub max_qos: u8,

    /// Levels of a Topic Name or Topic Filter. Matching takes time with each; 32 by default is more than any namespace made by people has.
    #[schemars(range(min = 1))]
    pub max_topic_levels: u16,

    /// Topic Aliases a Client may use towards the broker. Each remembers a Topic Name; 16 by default are 1 KiB of usual names, and publishers seldom use
    /// more topics. 0: none.
    pub topic_alias_maximum: u16,

    /// Topic Aliases the broker uses towards a Client, at most what the Client grants. 16 by default, as above. 0: none.
    pub topic_alias_maximum_out: u16,

    /// QoS 1 and 2 messages a Client may have under way to the broker; told in CONNACK. 64 by default keep a line with 100 ms of delay at 640 messages per
    /// second, and bound what one Client holds of the broker.
    #[schemars(range(min = 1))]
    pub receive_maximum: u16,

    /// QoS 1 and 2 messages sent to a Client and not yet acknowledged, at most what its Receive Maximum allows. 1024 by
    /// default keep a line with 100 ms of delay at 10,000 messages per second.
    #[schemars(range(min = 1, max = 30000))]
    pub max_inflight: u16,

    /// The Keep Alive a 5.0 Client is told when it asks for none, in whole seconds. 60s by default, so that a half-open connection ends after 90 s. 0s:
    /// it may stay without one.
    #[serde(with = "units::time")]
    #[schemars(with = "String")]
    pub keep_alive_default: Duration,

    /// The longest Keep Alive of a 5.0 Client, up to 65535s; one that asks for more is told this. 5m by default is below the 350 s after which a network
    /// load balancer of AWS forgets a silent connection. 0s: no cap.
    #[serde(with = "units::time")]
    #[schemars(with = "String")]
    pub keep_alive_max: Duration,

    /// The longest time a Session lives without a connection; a Client that asks for more (3.1.1 without Clean Session asks for ever) gets this. 7d by
    /// default spans a week of holidays and still frees what was abandoned. 0s: no cap.
    #[serde(with = "units::time")]
    #[schemars(with = "String")]
    pub session_expiry_max: Duration,

    /// The longest time a message waits for a Client or stays retained, whatever its publisher says. 0s, the default: no cap, because the queue and
    /// retained limits bound memory already.
    #[serde(with = "units::time")]
    #[schemars(with = "String")]
    pub message_expiry_max: Duration,

    /// Subscriptions of one Client. 1000 by default: a Client that wants more topics than that is better served by a wildcard.
    #[schemars(range(min = 1))]
    pub max_subscriptions: u32,

    /// Messages that wait for one Session, behind what is in flight. 1000 by default is a message per minute over 16 hours.
    #[schemars(range(min = 1))]
    pub session_queue_messages: u32,

    /// Bytes that wait for one Session. 16MiB by default: with `session_queue_messages` it is reached by messages above 16 KiB only.
    #[serde(with = "units::size")]
    #[schemars(with = "String")]
    pub session_queue_bytes: ByteSize,

    /// What a full queue does. `drop_oldest` by default: most Clients want the present, not the past.
    pub session_queue_overflow: QueueOverflow,

    /// Whether QoS 0 messages wait for a Session without a connection. Off by default: [MQTT-3.1.2-5] leaves it open, and Clients that cannot lose a
    /// message use QoS 1.
    pub queue_qos0: bool,

    /// Whether messages are retained. Switched off, a 5.0 Client is told so and a PUBLISH that asks for it is refused.
    pub retained_enabled: bool,

    /// Retained messages in total. 100000 by default: ten for each of ten thousand devices, and a `#` still takes them all in well under a second.
    #[schemars(range(min = 1))]
    pub retained_messages: u32,

    /// Bytes of retained messages in total. 256MiB by default, 2.6 KiB for each of the messages.
    #[serde(with = "units::size")]
    #[schemars(with = "String")]
    pub retained_bytes: ByteSize,

    /// Whether `$share/NAME/FILTER` may be subscribed to. On by default.
    pub shared_subscriptions: bool,

    /// Whether Topic Filters may hold `+` and `#`. On by default.
    pub wildcard_subscriptions: bool,

    /// Whether Subscriptions may carry an identifier. On by default.
    pub subscription_identifiers: bool,

    /// Which member of a Shared Subscription gets a message. `round_robin` by default: each the same number of messages.
    pub shared_strategy: SharedStrategy,

    /// Bytes encoded for a Client and not yet taken by its socket, from 4KiB to 64MiB; QoS 0 beyond it is dropped, QoS 1 and 2 wait in the queue. 512KiB
    /// by default is a tenth of a second of 40 Mbit/s.
    #[serde(with = "units::size")]
    #[schemars(with = "String")]
    pub output_buffer_bytes: ByteSize,

    /// PUBLISH packets per second of one Client; above it the Client is read more slowly. 0, the default: no limit, because only you know your devices.
    pub messages_rate: u32,

    /// Bytes per second of one Client; above it the Client is read more slowly. 0B, the default: no limit.
    #[serde(with = "units::size")]
    #[schemars(with = "String")]
    pub bytes_rate: ByteSize,

    /// What an acknowledgement promises when state is kept in a bucket. `durable`, the default: PUBACK, PUBREC, SUBACK and UNSUBACK say that it is in the
    /// bucket. `buffered`: that it is in the broker's memory and on its way; a broker that is killed without warning may lose what it took in the last
    /// quarter of a second and the write or two that were under way. A listener's `acknowledge` goes before this one, a role's before both; it holds
    /// for connections made from then on.
    pub acknowledge: AcknowledgeLevel,

    /// Bytes of messages and records that wait for the bucket, over all Clients; 1MiB to 64GiB. Beyond it, whoever publishes at QoS 1 or 2 to a Session
    /// that outlives its connection, or a retained message, is not read until the bucket has taken some of it: nothing is dropped, and everything else
    /// goes on. 64MiB by default, more than a healthy bucket leaves waiting at 100,000 messages a second.
    #[serde(with = "units::size")]
    #[schemars(with = "String")]
    pub unwritten_bytes: ByteSize,

    /// Memory of the process above which it refuses new connections, and drops QoS 0 if it still grows; at least 32MiB. 0B, the default: 80 % of what
    /// the cgroup or the machine has, which leaves the rest to socket buffers and the system.
    #[serde(with = "units::size")]
    #[schemars(with = "String")]
    pub memory_watermark: ByteSize,
}

/// What becomes of a message for a Session whose queue is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QueueOverflow {
    /// The oldest waiting message makes room.
    #[default]
    DropOldest,
    /// The new message is dropped.
    RejectNew,
    /// The Client is disconnected with 0x97, and the new message is dropped.
    Disconnect,
}

/// Which member of a Shared Subscription gets a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SharedStrategy {
    /// One after the other.
    #[default]
    RoundRobin,
    /// Any.
    Random,
    /// The same one for the same publisher, as long as it is there.
    Sticky,
    /// The one with the fewest messages in flight.
    LeastInflight,
}

impl From<QueueOverflow> for bucketmq_session::Overflow {
    fn from(overflow: QueueOverflow) -> Self {
        match overflow {
            QueueOverflow::DropOldest => Self::DropOldest,
            QueueOverflow::RejectNew => Self::RejectNew,
            QueueOverflow::Disconnect => Self::Disconnect,
        }
    }
}

impl From<SharedStrategy> for bucketmq_routing::Strategy {
    fn from(strategy: SharedStrategy) -> Self {
        match strategy {
            SharedStrategy::RoundRobin => Self::RoundRobin,
            SharedStrategy::Random => Self::Random,
            SharedStrategy::Sticky => Self::Sticky,
            SharedStrategy::LeastInflight => Self::LeastInflight,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 0,
            max_connection_rate: 0,
            max_packet_size: ByteSize::mib(1),
            max_qos: 2,
            max_topic_levels: 32,
            topic_alias_maximum: 16,
            topic_alias_maximum_out: 16,
            receive_maximum: 64,
            max_inflight: 1024,
            keep_alive_default: Duration::from_secs(60),
            keep_alive_max: Duration::from_secs(300),
            session_expiry_max: Duration::from_secs(7 * 86_400),
            message_expiry_max: Duration::ZERO,
            max_subscriptions: 1000,
            session_queue_messages: 1000,
            session_queue_bytes: ByteSize::mib(16),
            session_queue_overflow: QueueOverflow::DropOldest,
            queue_qos0: false,
            retained_enabled: true,
            retained_messages: 100_000,
            retained_bytes: ByteSize::mib(256),
            shared_subscriptions: true,
            wildcard_subscriptions: true,
            subscription_identifiers: true,
            shared_strategy: SharedStrategy::RoundRobin,
            output_buffer_bytes: ByteSize::kib(512),
            messages_rate: 0,
            bytes_rate: ByteSize::b(0),
            acknowledge: AcknowledgeLevel::Durable,
            unwritten_bytes: ByteSize::mib(64),
            memory_watermark: ByteSize::b(0),
        }
    }
}

/// A limit out of its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("limits.{key}: {problem}")]
pub struct LimitError {
    /// Which one.
    pub key: &'static str,
    /// What was expected and what stands there.
    pub problem: String,
}

impl Limits {
    /// Whether every limit is in its range; all that are not.
    pub fn validate(&self) -> Result<(), Vec<LimitError>> {
        let mut check = Check(Vec::new());
        check.size("max_packet_size", self.max_packet_size, 1 << 10, PACKET_SIZE_MAX);
        check.number("max_qos", self.max_qos, 0, 2);
        check.number("max_topic_levels", self.max_topic_levels, 1, u16::MAX);
        check.number("receive_maximum", self.receive_maximum, 1, u16::MAX);
        // 30,000: a Packet Identifier is 16 bits, and finding a free one stays quick while half of them are.
        check.number("max_inflight", self.max_inflight, 1, 30_000);
        check.seconds("keep_alive_max", self.keep_alive_max, u16::MAX.into());
        check.seconds("keep_alive_default", self.keep_alive_default, u16::MAX.into());
        if !self.keep_alive_max.is_zero() && self.keep_alive_default > self.keep_alive_max {
            let (default, max) = (units::time_text(self.keep_alive_default), units::time_text(self.keep_alive_max));
            check.wrong("keep_alive_default", format!("expected at most keep_alive_max, which is {max}, found {default}"));
        }
        check.seconds("session_expiry_max", self.session_expiry_max, u32::MAX.into());
        check.seconds("message_expiry_max", self.message_expiry_max, u32::MAX.into());
        check.number("max_subscriptions", self.max_subscriptions, 1, u32::MAX);
        check.number("session_queue_messages", self.session_queue_messages, 1, u32::MAX);
        check.size("session_queue_bytes", self.session_queue_bytes, 1 << 10, 1 << 40);
        check.number("retained_messages", self.retained_messages, 1, u32::MAX);
        check.size("retained_bytes", self.retained_bytes, 1 << 10, 1 << 40);
        check.size("output_buffer_bytes", self.output_buffer_bytes, 4 << 10, 64 << 20);
        check.size("unwritten_bytes", self.unwritten_bytes, 1 << 20, 64 << 30);
        if self.memory_watermark.as_u64() != 0 {
            check.size("memory_watermark", self.memory_watermark, 32 << 20, u64::MAX);
        }
        if check.0.is_empty() { Ok(()) } else { Err(check.0) }
    }
}

struct Check(Vec<LimitError>);

impl Check {
    fn wrong(&mut self, key: &'static str, problem: String) {
        self.0.push(LimitError { key, problem });
    }

    fn number<T: PartialOrd + std::fmt::Display>(&mut self, key: &'static str, value: T, min: T, max: T) {
        if value < min || value > max {
            self.wrong(key, format!("expected a whole number from {min} to {max}, found {value}"));
        }
    }

    fn size(&mut self, key: &'static str, value: ByteSize, min: u64, max: u64) {
        if value.as_u64() < min || value.as_u64() > max {
            let [min, max, value] = [ByteSize(min), ByteSize(max), value].map(units::size_text);
            self.wrong(key, format!("expected a size from {min} to {max}, found {value}"));
        }
    }

    fn seconds(&mut self, key: &'static str, value: Duration, max: u64) {
        if value.as_secs() > max || value.subsec_nanos() != 0 {
            self.wrong(key, format!("expected whole seconds from 0s to {max}s, found {}", units::time_text(value)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(change: impl FnOnce(&mut Limits)) -> Vec<String> {
        let mut limits = Limits::default();
        change(&mut limits);
        limits.validate().err().into_iter().flatten().map(|error| error.to_string()).collect()
    }

    #[test]
    fn the_defaults_are_within_their_ranges() {
        assert_eq!(Limits::default().validate(), Ok(()));
    }

    #[test]
    fn the_ends_of_the_ranges_are_within() {
        assert!(problem(|limits| limits.max_packet_size = ByteSize(PACKET_SIZE_MAX)).is_empty());
        assert!(problem(|limits| limits.max_packet_size = ByteSize::kib(1)).is_empty());
        assert!(problem(|limits| limits.max_inflight = 30_000).is_empty());
        assert!(problem(|limits| limits.keep_alive_max = Duration::from_secs(65_535)).is_empty());
        assert!(problem(|limits| limits.keep_alive_max = Duration::ZERO).is_empty());
        assert!(problem(|limits| limits.session_expiry_max = Duration::from_secs(u32::MAX.into())).is_empty());
    }

    #[test]
    fn what_is_out_of_range_is_told_with_the_range() {
        type Change = fn(&mut Limits);
        let table: [(Change, &str); 12] = [
            (
                |limits| limits.max_packet_size = ByteSize(1023),
                "limits.max_packet_size: expected a size from 1KiB to 268435460B, found 1023B",
            ),
            (
                |limits| limits.max_packet_size = ByteSize(PACKET_SIZE_MAX + 1),
                "limits.max_packet_size: expected a size from 1KiB to 268435460B, found",
            ),
            (|limits| limits.max_qos = 3, "limits.max_qos: expected a whole number from 0 to 2, found 3"),
            (|limits| limits.max_topic_levels = 0, "limits.max_topic_levels: expected a whole number from 1 to 65535, found 0"),
            (|limits| limits.receive_maximum = 0, "limits.receive_maximum: expected a whole number from 1"),
            (|limits| limits.max_inflight = 30_001, "limits.max_inflight: expected a whole number from 1 to 30000"),
            (
                |limits| limits.keep_alive_max = Duration::from_secs(65_536),
                "limits.keep_alive_max: expected whole seconds from 0s to 65535s",
            ),
            (
                |limits| limits.keep_alive_default = Duration::from_secs(301),
                "limits.keep_alive_default: expected at most keep_alive_max, which is 5m, found 301s",
            ),
            (|limits| limits.keep_alive_default = Duration::from_millis(1500), "limits.keep_alive_default: expected whole seconds"),
            (
                |limits| limits.output_buffer_bytes = ByteSize::kib(3),
                "limits.output_buffer_bytes: expected a size from 4KiB to 64MiB, found 3KiB",
            ),
            (|limits| limits.memory_watermark = ByteSize::mib(1), "limits.memory_watermark: expected a size from 32MiB"),
            (|limits| limits.max_subscriptions = 0, "limits.max_subscriptions: expected a whole number from 1"),
        ];
        for (change, expected) in table {
            let problems = problem(change);
            assert!(matches!(&problems[..], [problem] if problem.starts_with(expected)), "{expected}: {problems:?}");
        }
    }
}
