//! The Will Message a Session holds (5.0 3.1.2.5).

use bucketmq_packet::QoS;

/// A Will as CONNECT brought it, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    /// Topic Name.
    pub topic: Box<str>,
    /// Application Message.
    pub payload: Box<[u8]>,
    /// QoS to publish with [MQTT-3.1.2-12].
    pub qos: QoS,
    /// Publish as a retained message [MQTT-3.1.2-14] [MQTT-3.1.2-15].
    pub retain: bool,
    /// Seconds between the end of the Network Connection and publication [MQTT-3.1.3-9].
    pub delay_interval: u32,
    /// Lifetime in seconds once published.
    pub message_expiry_interval: Option<u32>,
    /// Encoded properties that go on unaltered.
    pub forward: Box<[u8]>,
}
