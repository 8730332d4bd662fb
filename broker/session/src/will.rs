//! The Will Message a Session holds (5.0 3.1.2.5).

use std::sync::Arc;

use bucketmq_packet::QoS;
use bucketmq_packet::message::Message;

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

impl Will {
    /// The message it becomes at `now`, milliseconds since 1970.
    pub fn message(&self, now: u64) -> Arc<Message> {
        let expires_at = self.message_expiry_interval.map(|seconds| now.saturating_add(u64::from(seconds) * 1000));
        Message::new(&self.topic, &self.payload, &self.forward, self.qos, self.retain, expires_at)
    }
}
