//! The Will Message a Client leaves in CONNECT (5.0 3.1.2.5, 3.1.3.2).

use std::borrow::Cow;

use crate::property::{Place, Properties, Property, put_varint};
use crate::publish::Forward;
use crate::reader::{HasWildcard, Reader, topic_name};
use crate::writer::{put_binary, put_string};
use crate::{ForwardedProperties, ProtocolVersion, QoS, ReasonCode, Sender, Violation};

/// Published when the Network Connection ends otherwise than by DISCONNECT 0x00.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will<'a> {
    /// Topic Name.
    pub topic: &'a str,
    /// Application Message.
    pub payload: &'a [u8],
    /// Quality of Service it is published with.
    pub qos: QoS,
    /// To be retained.
    pub retain: bool,
    /// Seconds to wait before it is published.
    pub delay_interval: u32,
    /// Seconds it lives from then on.
    pub message_expiry_interval: Option<u32>,
    /// The properties published with it, as in [`crate::PublishProperties::forward`] [MQTT-3.1.3-10].
    pub forward: Cow<'a, [u8]>,
}

impl<'a> Will<'a> {
    /// The forwarded properties one by one.
    pub fn decoded(&self) -> ForwardedProperties<'_> {
        ForwardedProperties::decode(&self.forward)
    }

    /// Decodes the part of the payload of CONNECT that belongs to the Will.
    pub(crate) fn decode(reader: &mut Reader<'a>, version: ProtocolVersion, qos: QoS, retain: bool) -> Result<Self, Violation> {
        let mut will =
            Self { topic: "", payload: &[], qos, retain, delay_interval: 0, message_expiry_interval: None, forward: Cow::Borrowed(&[]) };
        if version == ProtocolVersion::V5 {
            will.decode_properties(reader)?;
        }
        // [MQTT-3.1.3-11]
        will.topic = match topic_name(reader.binary()?)? {
            Ok("") => return Err(Violation::new(ReasonCode::TopicNameInvalid, "MQTT-4.7.3-1", "will topic is empty")),
            Ok(topic) => topic,
            Err(HasWildcard) => {
                return Err(Violation::new(ReasonCode::TopicNameInvalid, "MQTT-4.7.0-1", "will topic contains a wildcard"));
            }
        };
        will.payload = reader.binary()?;
        Ok(will)
    }

    fn decode_properties(&mut self, reader: &mut Reader<'a>) -> Result<(), Violation> {
        let mut list = Properties::take(reader, Place::Will, Sender::Client)?;
        let mut forward = Forward::new();
        loop {
            let before = list.remaining();
            match list.next()? {
                None => break,
                Some(Property::WillDelayInterval(seconds)) => self.delay_interval = seconds,
                Some(Property::MessageExpiryInterval(seconds)) => self.message_expiry_interval = Some(seconds),
                Some(_) => forward.push(before, list.remaining()),
            }
        }
        self.forward = forward.finish();
        Ok(())
    }

    pub(crate) fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        if version == ProtocolVersion::V5 {
            let delay = Some(self.delay_interval).filter(|seconds| *seconds > 0);
            let length = 5 * (usize::from(delay.is_some()) + usize::from(self.message_expiry_interval.is_some())) + self.forward.len();
            put_varint(length as u32, out);
            delay.map(Property::WillDelayInterval).iter().for_each(|property| property.encode(out));
            self.message_expiry_interval.map(Property::MessageExpiryInterval).iter().for_each(|property| property.encode(out));
            out.extend_from_slice(&self.forward);
        }
        put_string(self.topic, out);
        put_binary(self.payload, out);
    }
}
