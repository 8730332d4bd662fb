//! Properties of MQTT 5.0 (2.2.2): their table, their values, their bytes; and the Variable Byte Integer.
//!
//! One list, [`Properties`], checks every property against the packet and the sender, and refuses repeats; packets only match on
//! [`Property`]. Its cost is linear in the bytes read.

use crate::reader::{HasWildcard, Reader, topic_name};
use crate::writer::{encode_varint, put_binary, put_prefixed, put_string, put_u16, put_u32};
use crate::{QoS, Sender, Violation};

/// User Properties in the order of the packet, repeats included. Empty, it holds no memory.
pub type UserProperties<'a> = Vec<(&'a str, &'a str)>;

/// The largest value of a Variable Byte Integer.
pub const VARINT_MAX: u32 = 268_435_455;

/// Bytes of `value` as a Variable Byte Integer.
#[inline]
pub const fn varint_len(value: u32) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

/// Appends `value` as a Variable Byte Integer in its shortest form [MQTT-1.5.5-1].
#[inline]
pub fn put_varint(value: u32, out: &mut Vec<u8>) {
    debug_assert!(value <= VARINT_MAX, "beyond a variable byte integer");
    if value < 0x80 {
        out.push(value as u8);
    } else {
        out.extend_from_slice(&encode_varint(value)[..varint_len(value)]);
    }
}

/// The Variable Byte Integer at the front of `input` and how many bytes it takes; `None` when more bytes are needed.
#[inline]
pub fn decode_varint(input: &[u8]) -> Result<Option<(u32, usize)>, Violation> {
    crate::reader::varint(input)
}

/// `bytes` as the content of a UTF-8 Encoded String: well-formed [MQTT-1.5.4-1], without U+0000 [MQTT-1.5.4-2].
#[inline]
pub fn check_utf8(bytes: &[u8]) -> Result<&str, Violation> {
    crate::reader::utf8(bytes)
}

/// Where properties stand: the packets that have them, and the Will in CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub enum Place {
    Connect = 1 << 0,
    Will = 1 << 1,
    ConnAck = 1 << 2,
    Publish = 1 << 3,
    /// PUBACK, PUBREC, PUBREL and PUBCOMP.
    Ack = 1 << 4,
    Subscribe = 1 << 5,
    SubAck = 1 << 6,
    Unsubscribe = 1 << 7,
    UnsubAck = 1 << 8,
    Disconnect = 1 << 9,
    Auth = 1 << 10,
}

const EVERYWHERE: u16 = (1 << 11) - 1;
const MESSAGE: u16 = Place::Publish as u16 | Place::Will as u16;
const HANDSHAKE: u16 = Place::Connect as u16 | Place::ConnAck as u16;
const CONNACK: u16 = Place::ConnAck as u16;
const REASON_STRING: u16 = Place::ConnAck as u16
    | Place::Ack as u16
    | Place::SubAck as u16
    | Place::UnsubAck as u16
    | Place::Disconnect as u16
    | Place::Auth as u16;

/// The places a property may stand in (5.0 table 2-4) and the section that says so; `None` for identifiers without a meaning.
const fn allowed(identifier: u8) -> Option<(u16, &'static str)> {
    Some(match identifier {
        0x01 => (MESSAGE, "3.3.2.3.2"),
        0x02 => (MESSAGE, "3.3.2.3.3"),
        0x03 => (MESSAGE, "3.3.2.3.9"),
        0x08 => (MESSAGE, "3.3.2.3.5"),
        0x09 => (MESSAGE, "3.3.2.3.6"),
        0x0B => (Place::Publish as u16 | Place::Subscribe as u16, "3.8.2.1.2"),
        0x11 => (HANDSHAKE | Place::Disconnect as u16, "3.1.2.11.2"),
        0x12 => (CONNACK, "3.2.2.3.7"),
        0x13 => (CONNACK, "3.2.2.3.14"),
        0x15 => (HANDSHAKE | Place::Auth as u16, "3.1.2.11.9"),
        0x16 => (HANDSHAKE | Place::Auth as u16, "3.1.2.11.10"),
        0x17 => (Place::Connect as u16, "3.1.2.11.7"),
        0x18 => (Place::Will as u16, "3.1.3.2.2"),
        0x19 => (Place::Connect as u16, "3.1.2.11.6"),
        0x1A => (CONNACK, "3.2.2.3.15"),
        0x1C => (CONNACK | Place::Disconnect as u16, "3.2.2.3.16"),
        0x1F => (REASON_STRING, "3.2.2.3.9"),
        0x21 => (HANDSHAKE, "3.1.2.11.3"),
        0x22 => (HANDSHAKE, "3.1.2.11.5"),
        0x23 => (Place::Publish as u16, "3.3.2.3.4"),
        0x24 => (CONNACK, "3.2.2.3.4"),
        0x25 => (CONNACK, "3.2.2.3.5"),
        0x26 => (EVERYWHERE, "3.1.2.11.8"),
        0x27 => (HANDSHAKE, "3.1.2.11.4"),
        0x28 => (CONNACK, "3.2.2.3.11"),
        0x29 => (CONNACK, "3.2.2.3.12"),
        0x2A => (CONNACK, "3.2.2.3.13"),
        _ => return None,
    })
}

/// One property with its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub enum Property<'a> {
    /// True: the payload is UTF-8.
    PayloadFormatIndicator(bool),
    MessageExpiryInterval(u32),
    ContentType(&'a str),
    ResponseTopic(&'a str),
    CorrelationData(&'a [u8]),
    SubscriptionIdentifier(u32),
    SessionExpiryInterval(u32),
    AssignedClientIdentifier(&'a str),
    ServerKeepAlive(u16),
    AuthenticationMethod(&'a str),
    AuthenticationData(&'a [u8]),
    RequestProblemInformation(bool),
    WillDelayInterval(u32),
    RequestResponseInformation(bool),
    ResponseInformation(&'a str),
    ServerReference(&'a str),
    ReasonString(&'a str),
    ReceiveMaximum(u16),
    TopicAliasMaximum(u16),
    TopicAlias(u16),
    MaximumQoS(QoS),
    RetainAvailable(bool),
    UserProperty(&'a str, &'a str),
    MaximumPacketSize(u32),
    WildcardSubscriptionAvailable(bool),
    SubscriptionIdentifierAvailable(bool),
    SharedSubscriptionAvailable(bool),
}

impl Property<'_> {
    /// Appends identifier and value.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut flag = |identifier: u8, value: bool| out.extend_from_slice(&[identifier, u8::from(value)]);
        match *self {
            Self::PayloadFormatIndicator(value) => flag(0x01, value),
            Self::RequestProblemInformation(value) => flag(0x17, value),
            Self::RequestResponseInformation(value) => flag(0x19, value),
            Self::MaximumQoS(value) => flag(0x24, value != QoS::AtMostOnce),
            Self::RetainAvailable(value) => flag(0x25, value),
            Self::WildcardSubscriptionAvailable(value) => flag(0x28, value),
            Self::SubscriptionIdentifierAvailable(value) => flag(0x29, value),
            Self::SharedSubscriptionAvailable(value) => flag(0x2A, value),
            Self::MessageExpiryInterval(value) => put_four(0x02, value, out),
            Self::SessionExpiryInterval(value) => put_four(0x11, value, out),
            Self::WillDelayInterval(value) => put_four(0x18, value, out),
            Self::MaximumPacketSize(value) => put_four(0x27, value, out),
            Self::ServerKeepAlive(value) => put_two(0x13, value, out),
            Self::ReceiveMaximum(value) => put_two(0x21, value, out),
            Self::TopicAliasMaximum(value) => put_two(0x22, value, out),
            Self::TopicAlias(value) => put_two(0x23, value, out),
            Self::ContentType(value) => put_text(0x03, value, out),
            Self::ResponseTopic(value) => put_text(0x08, value, out),
            Self::AssignedClientIdentifier(value) => put_text(0x12, value, out),
            Self::AuthenticationMethod(value) => put_text(0x15, value, out),
            Self::ResponseInformation(value) => put_text(0x1A, value, out),
            Self::ServerReference(value) => put_text(0x1C, value, out),
            Self::ReasonString(value) => put_text(0x1F, value, out),
            Self::CorrelationData(value) => put_bytes(0x09, value, out),
            Self::AuthenticationData(value) => put_bytes(0x16, value, out),
            Self::SubscriptionIdentifier(value) => {
                out.push(0x0B);
                put_varint(value, out);
            }
            Self::UserProperty(name, value) => {
                put_text(0x26, name, out);
                put_string(value, out);
            }
        }
    }
}

fn put_two(identifier: u8, value: u16, out: &mut Vec<u8>) {
    out.push(identifier);
    put_u16(value, out);
}

fn put_four(identifier: u8, value: u32, out: &mut Vec<u8>) {
    out.push(identifier);
    put_u32(value, out);
}

fn put_text(identifier: u8, value: &str, out: &mut Vec<u8>) {
    out.push(identifier);
    put_string(value, out);
}

fn put_bytes(identifier: u8, value: &[u8], out: &mut Vec<u8>) {
    out.push(identifier);
    put_binary(value, out);
}

/// Appends `properties` behind their length; none is a length of 0 [MQTT-2.2.2-1].
pub(crate) fn put_properties<'p>(properties: impl IntoIterator<Item = Property<'p>>, out: &mut Vec<u8>) {
    put_prefixed(out, |out| properties.into_iter().for_each(|property| property.encode(out)));
}

/// The user properties as [`Property`] values.
pub(crate) fn user<'p>(properties: &'p UserProperties<'_>) -> impl Iterator<Item = Property<'p>> {
    properties.iter().map(|(name, value)| Property::UserProperty(name, value))
}

/// A property that is written only when there is a value.
pub(crate) fn optional<'p, T>(value: Option<T>, property: fn(T) -> Property<'p>) -> impl Iterator<Item = Property<'p>> {
    value.map(property).into_iter()
}

/// The properties of one packet, checked one after the other.
#[derive(Debug, Clone)]
pub struct Properties<'a> {
    reader: Reader<'a>,
    place: Place,
    sender: Sender,
    /// One bit for each identifier that was there.
    seen: u64,
}

impl<'a> Properties<'a> {
    /// The list in `bytes`, which are what the Property Length counts.
    pub fn new(bytes: &'a [u8], place: Place, sender: Sender) -> Self {
        Self { reader: Reader::new(bytes), place, sender, seen: 0 }
    }

    /// Takes Property Length and properties from the front of `reader`.
    pub(crate) fn take(reader: &mut Reader<'a>, place: Place, sender: Sender) -> Result<Self, Violation> {
        let length = reader.varint()?;
        Ok(Self { reader: reader.sub(length as usize)?, place, sender, seen: 0 })
    }

    /// Bytes not yet read.
    #[inline]
    pub(crate) fn remaining(&self) -> &'a [u8] {
        self.reader.rest
    }

    /// The next property; `None` at the end.
    #[allow(clippy::should_implement_trait, reason = "a Violation ends the list, which an iterator would not say")]
    pub fn next(&mut self) -> Result<Option<Property<'a>>, Violation> {
        if self.reader.is_empty() {
            return Ok(None);
        }
        let identifier = self.reader.u8()?;
        let Some((places, clause)) = allowed(identifier) else {
            return Err(Violation::malformed("2.2.2.2", "unknown property identifier"));
        };
        if places & self.place as u16 == 0 {
            return Err(Violation::malformed("2.2.2.2", "property is not valid for this packet"));
        }
        self.check_sender(identifier)?;
        self.check_repeat(identifier, clause)?;
        self.value(identifier, clause).map(Some)
    }

    fn check_sender(&self, identifier: u8) -> Result<(), Violation> {
        match (identifier, self.place, self.sender) {
            (0x0B, Place::Publish, Sender::Client) => {
                Err(Violation::protocol_error("MQTT-3.3.4-6", "PUBLISH from a Client carries a subscription identifier"))
            }
            (0x11, Place::Disconnect, Sender::Server) => {
                Err(Violation::protocol_error("MQTT-3.14.2-2", "DISCONNECT from a Server carries a session expiry interval"))
            }
            (0x1C, Place::Disconnect, Sender::Client) => {
                Err(Violation::protocol_error("3.14.2.2.5", "DISCONNECT from a Client carries a server reference"))
            }
            _ => Ok(()),
        }
    }

    fn check_repeat(&mut self, identifier: u8, clause: &'static str) -> Result<(), Violation> {
        let repeats = match identifier {
            0x26 => true,
            // Several Subscriptions may have matched (5.0 3.3.2.3.8).
            0x0B => self.place == Place::Publish,
            _ => false,
        };
        let bit = 1 << identifier;
        if self.seen & bit != 0 && !repeats {
            return Err(Violation::protocol_error(clause, "property stands more than once"));
        }
        self.seen |= bit;
        Ok(())
    }

    fn value(&mut self, identifier: u8, clause: &'static str) -> Result<Property<'a>, Violation> {
        let reader = &mut self.reader;
        Ok(match identifier {
            0x01 => Property::PayloadFormatIndicator(flag(reader, clause)?),
            0x02 => Property::MessageExpiryInterval(reader.u32()?),
            0x03 => Property::ContentType(reader.string()?),
            0x08 => Property::ResponseTopic(response_topic(reader)?),
            0x09 => Property::CorrelationData(reader.binary()?),
            0x0B => match reader.varint()? {
                0 => return Err(Violation::protocol_error(clause, "subscription identifier is 0")),
                value => Property::SubscriptionIdentifier(value),
            },
            0x11 => Property::SessionExpiryInterval(reader.u32()?),
            0x12 => Property::AssignedClientIdentifier(reader.string()?),
            0x13 => Property::ServerKeepAlive(reader.u16()?),
            0x15 => Property::AuthenticationMethod(reader.string()?),
            0x16 => Property::AuthenticationData(reader.binary()?),
            0x17 => Property::RequestProblemInformation(flag(reader, clause)?),
            0x18 => Property::WillDelayInterval(reader.u32()?),
            0x19 => Property::RequestResponseInformation(flag(reader, clause)?),
            0x1A => Property::ResponseInformation(reader.string()?),
            0x1C => Property::ServerReference(reader.string()?),
            0x1F => Property::ReasonString(reader.string()?),
            0x21 => match reader.u16()? {
                0 => return Err(Violation::protocol_error(clause, "receive maximum is 0")),
                value => Property::ReceiveMaximum(value),
            },
            0x22 => Property::TopicAliasMaximum(reader.u16()?),
            0x23 => match reader.u16()? {
                0 => return Err(Violation::new(crate::ReasonCode::TopicAliasInvalid, "MQTT-3.3.2-8", "topic alias is 0")),
                value => Property::TopicAlias(value),
            },
            0x24 => Property::MaximumQoS(if flag(reader, clause)? { QoS::AtLeastOnce } else { QoS::AtMostOnce }),
            0x25 => Property::RetainAvailable(flag(reader, clause)?),
            0x26 => Property::UserProperty(reader.string()?, reader.string()?),
            0x27 => match reader.u32()? {
                0 => return Err(Violation::protocol_error(clause, "maximum packet size is 0")),
                value => Property::MaximumPacketSize(value),
            },
            0x28 => Property::WildcardSubscriptionAvailable(flag(reader, clause)?),
            0x29 => Property::SubscriptionIdentifierAvailable(flag(reader, clause)?),
            0x2A => Property::SharedSubscriptionAvailable(flag(reader, clause)?),
            _ => return Err(Violation::malformed("2.2.2.2", "unknown property identifier")),
        })
    }
}

fn flag(reader: &mut Reader<'_>, clause: &'static str) -> Result<bool, Violation> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Violation::protocol_error(clause, "property has a value other than 0 and 1")),
    }
}

fn response_topic<'a>(reader: &mut Reader<'a>) -> Result<&'a str, Violation> {
    match topic_name(reader.binary()?)? {
        Ok("") => Err(Violation::protocol_error("MQTT-4.7.3-1", "response topic is empty")),
        Ok(topic) => Ok(topic),
        Err(HasWildcard) => Err(Violation::protocol_error("MQTT-3.3.2-14", "response topic contains a wildcard")),
    }
}

#[cfg(test)]
mod tests;
