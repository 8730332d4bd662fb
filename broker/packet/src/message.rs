//! An Application Message as it is kept, and its place in a queue.

use std::fmt;
use std::sync::Arc;

use crate::QoS;

/// Bytes before the content: deadline 8, length of the properties 4, length of the topic 2, flags 1.
const HEADER: usize = 15;
const RETAIN: u8 = 0b100;

/// An Application Message, shared by all who keep it. Topic, properties and payload stand in one allocation, 31 bytes more than they are.
#[derive(PartialEq, Eq)]
#[repr(transparent)]
pub struct Message([u8]);

impl Message {
    /// `properties` are those a Server forwards unaltered, encoded and without their length [MQTT-3.3.2-4]; `expires_at` is in milliseconds
    /// since 1970. A topic of more than 65,535 bytes or properties of more than 4 GiB do not exist on the wire.
    pub fn new(topic: &str, payload: &[u8], properties: &[u8], qos: QoS, retain: bool, expires_at: Option<u64>) -> Arc<Self> {
        let topic_len = u16::try_from(topic.len()).expect("a Topic Name is a UTF-8 Encoded String, up to 65,535 bytes");
        let properties_len = u32::try_from(properties.len()).expect("an MQTT Control Packet has up to 256 MiB");
        let flags = qos as u8 | if retain { RETAIN } else { 0 };
        let content = HEADER + topic.len() + properties.len() + payload.len();
        let mut bytes: Arc<[u8]> = std::iter::repeat_n(0, content).collect();
        let mut rest = Arc::get_mut(&mut bytes).expect("nobody else has it yet");
        let mut put = |part: &[u8]| {
            let (place, behind) = std::mem::take(&mut rest).split_at_mut(part.len());
            place.copy_from_slice(part);
            rest = behind;
        };
        put(&expires_at.unwrap_or(u64::MAX).to_le_bytes());
        put(&properties_len.to_le_bytes());
        put(&topic_len.to_le_bytes());
        put(&[flags]);
        put(topic.as_bytes());
        put(properties);
        put(payload);
        // SAFETY: `Message` is a transparent wrapper of `[u8]`, so a reference count of one has the layout of a reference count of the other.
        unsafe { Arc::from_raw(Arc::into_raw(bytes) as *const Self) }
    }

    /// Topic Name.
    #[inline]
    pub fn topic(&self) -> &str {
        let topic = &self.0[HEADER..HEADER + self.topic_len()];
        debug_assert!(std::str::from_utf8(topic).is_ok());
        // SAFETY: these bytes were copied from a `str` in `new`, the only way to make a Message, and never change.
        unsafe { std::str::from_utf8_unchecked(topic) }
    }

    /// Application Message; what MQTT calls the payload.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.0[HEADER + self.topic_len() + self.properties_len()..]
    }

    /// Properties that go on unaltered and in order, encoded, without their length.
    #[inline]
    pub fn properties(&self) -> &[u8] {
        let from = HEADER + self.topic_len();
        &self.0[from..from + self.properties_len()]
    }

    /// When it expires, in milliseconds since 1970.
    #[inline]
    pub fn expires_at(&self) -> Option<u64> {
        let deadline = u64::from_le_bytes(self.header::<0, 8>());
        (deadline != u64::MAX).then_some(deadline)
    }

    /// True when it has expired at `now`, milliseconds since 1970 [MQTT-3.3.2-5].
    #[inline]
    pub fn is_expired(&self, now: u64) -> bool {
        self.expires_at().is_some_and(|deadline| deadline <= now)
    }

    /// QoS it was published with.
    #[inline]
    pub fn qos(&self) -> QoS {
        match self.flags() & 3 {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        }
    }

    /// RETAIN it was published with.
    #[inline]
    pub fn retain(&self) -> bool {
        self.flags() & RETAIN != 0
    }

    /// Bytes of topic, properties and payload.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "a message has a topic")]
    pub fn len(&self) -> usize {
        self.0.len() - HEADER
    }

    fn flags(&self) -> u8 {
        self.0[HEADER - 1]
    }

    #[inline]
    fn properties_len(&self) -> usize {
        u32::from_le_bytes(self.header::<8, 4>()) as usize
    }

    #[inline]
    fn topic_len(&self) -> usize {
        usize::from(u16::from_le_bytes(self.header::<12, 2>()))
    }

    #[inline]
    fn header<const FROM: usize, const LEN: usize>(&self) -> [u8; LEN] {
        *self.0[FROM..].first_chunk().expect("the header is always there")
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Payloads stay out of logs.
        formatter
            .debug_struct("Message")
            .field("topic", &self.topic())
            .field("payload_bytes", &self.payload().len())
            .field("qos", &self.qos())
            .field("retain", &self.retain())
            .field("expires_at", &self.expires_at())
            .finish()
    }
}

/// A message waiting for one Session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueEntry {
    /// What waits.
    pub message: Arc<Message>,
    /// Subscription Identifiers of all matching Subscriptions [MQTT-3.3.4-4].
    pub identifiers: Box<[u32]>,
    /// Which Shared Subscription of the Session it came through, by the number the Session gave it; 0: none.
    pub share: u32,
    /// The smaller of published and granted QoS [MQTT-3.8.4-8].
    pub qos: QoS,
    /// RETAIN as the Client shall see it [MQTT-3.3.1-12] [MQTT-3.3.1-13].
    pub retain: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_gives_back_what_it_was_made_of() {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            for retain in [false, true] {
                for expires_at in [None, Some(0), Some(1_800_000_000_000)] {
                    let message = Message::new("a/\u{e9}", b"payload", b"\x01\x01", qos, retain, expires_at);
                    assert_eq!(message.topic(), "a/\u{e9}");
                    assert_eq!(message.payload(), b"payload");
                    assert_eq!(message.properties(), b"\x01\x01");
                    assert_eq!((message.qos(), message.retain(), message.expires_at()), (qos, retain, expires_at));
                    assert_eq!(message.len(), 4 + 7 + 2);
                }
            }
        }
    }

    #[test]
    fn the_largest_topic_and_empty_parts_are_kept_too() {
        let topic = "t".repeat(65_535);
        assert_eq!(Message::new(&topic, b"", b"", QoS::AtMostOnce, false, None).topic(), topic);
        let message = Message::new("t", b"", b"", QoS::AtMostOnce, false, None);
        assert!(message.payload().is_empty() && message.properties().is_empty());
    }

    #[test]
    fn a_message_expires_at_its_deadline() {
        let message = Message::new("t", b"", b"", QoS::AtMostOnce, false, Some(1_000));
        assert!(!message.is_expired(999));
        assert!(message.is_expired(1_000));
        assert!(!Message::new("t", b"", b"", QoS::AtMostOnce, false, None).is_expired(u64::MAX));
    }
}
