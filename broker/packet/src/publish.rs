//! PUBLISH (5.0 3.3), the packet everything is fast for.
//!
//! [`decode_publish`] allocates nothing unless properties are there that it has to collect: several subscription identifiers, or forwarded
//! properties with others in between.

use std::borrow::Cow;

use crate::property::{Place, Properties, Property, UserProperties, put_varint, user, varint_len};
use crate::reader::{HasWildcard, Reader, topic_name};
use crate::writer::{fitting, put_string, put_u16, put_u32};
use crate::{PacketIdentifier, PacketType, ProtocolVersion, QoS, ReasonCode, Sender, Violation};

/// An Application Message on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish<'a> {
    /// This may be the same PUBLISH again.
    pub dup: bool,
    /// Quality of Service.
    pub qos: QoS,
    /// To be retained, or from what is retained.
    pub retain: bool,
    /// Topic Name; "" when there is only an alias.
    pub topic: &'a str,
    /// Some for QoS 1 and 2.
    pub packet_id: Option<PacketIdentifier>,
    /// Properties; none before 5.0.
    pub properties: PublishProperties<'a>,
    /// Application Message.
    pub payload: &'a [u8],
}

/// Properties of a PUBLISH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishProperties<'a> {
    /// Seconds the message may still live.
    pub message_expiry_interval: Option<u32>,
    /// Number that stands for the topic.
    pub topic_alias: Option<u16>,
    /// Of all Subscriptions that matched; only from a Server.
    pub subscription_identifiers: Vec<u32>,
    /// What a Server forwards unaltered and in order [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-20]: payload
    /// format indicator, content type, response topic, correlation data and user properties, encoded, without their length. Borrowed when
    /// they stand side by side.
    pub forward: Cow<'a, [u8]>,
}

impl Default for PublishProperties<'_> {
    #[inline]
    fn default() -> Self {
        Self { message_expiry_interval: None, topic_alias: None, subscription_identifiers: Vec::new(), forward: Cow::Borrowed(&[]) }
    }
}

impl PublishProperties<'_> {
    /// The forwarded properties one by one. Costs a pass over their bytes; the broker itself never needs it.
    pub fn decoded(&self) -> ForwardedProperties<'_> {
        ForwardedProperties::decode(&self.forward)
    }

    /// Bytes of all properties, without their length.
    fn encoded_length(&self) -> usize {
        let expiry = if self.message_expiry_interval.is_some() { 5 } else { 0 };
        let alias = if self.topic_alias.is_some() { 3 } else { 0 };
        let identifiers: usize = self.subscription_identifiers.iter().map(|identifier| 1 + varint_len(*identifier)).sum();
        expiry + alias + identifiers + self.forward.len()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        if let Some(seconds) = self.message_expiry_interval {
            out.push(0x02);
            put_u32(seconds, out);
        }
        if let Some(alias) = self.topic_alias {
            out.push(0x23);
            put_u16(alias, out);
        }
        for identifier in &self.subscription_identifiers {
            Property::SubscriptionIdentifier(*identifier).encode(out);
        }
        out.extend_from_slice(&self.forward);
    }
}

/// The properties of an Application Message that mean nothing to a Server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ForwardedProperties<'a> {
    /// Some(true): the payload is UTF-8.
    pub payload_format_indicator: Option<bool>,
    /// What the payload is.
    pub content_type: Option<&'a str>,
    /// Where to answer.
    pub response_topic: Option<&'a str>,
    /// What the answer belongs to.
    pub correlation_data: Option<&'a [u8]>,
    /// User properties in their order.
    pub user_properties: UserProperties<'a>,
}

impl<'a> ForwardedProperties<'a> {
    /// Takes apart what `forward` holds; ends early at what no packet could have carried.
    pub(crate) fn decode(forward: &'a [u8]) -> Self {
        let mut decoded = Self::default();
        let mut properties = Properties::new(forward, Place::Publish, Sender::Server);
        while let Ok(Some(property)) = properties.next() {
            match property {
                Property::PayloadFormatIndicator(value) => decoded.payload_format_indicator = Some(value),
                Property::ContentType(value) => decoded.content_type = Some(value),
                Property::ResponseTopic(value) => decoded.response_topic = Some(value),
                Property::CorrelationData(value) => decoded.correlation_data = Some(value),
                Property::UserProperty(name, value) => decoded.user_properties.push((name, value)),
                _ => break,
            }
        }
        decoded
    }

    /// The bytes for [`PublishProperties::forward`] or [`crate::Will::forward`].
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut put = |property: Option<Property<'_>>| property.iter().for_each(|property| property.encode(&mut out));
        put(self.payload_format_indicator.map(Property::PayloadFormatIndicator));
        put(self.content_type.map(Property::ContentType));
        put(self.response_topic.map(Property::ResponseTopic));
        put(self.correlation_data.map(Property::CorrelationData));
        user(&self.user_properties).for_each(|property| property.encode(&mut out));
        out
    }
}

/// Collects the forwarded properties while a list is read: one slice as long as they stand side by side, a copy otherwise.
#[derive(Debug)]
pub(crate) struct Forward<'a> {
    /// From the first forwarded property to the end of the list.
    tail: &'a [u8],
    /// Bytes of `tail` that are forwarded, as long as nothing was copied.
    length: usize,
    copied: Vec<u8>,
}

impl<'a> Forward<'a> {
    pub(crate) const fn new() -> Self {
        Self { tail: &[], length: 0, copied: Vec::new() }
    }

    /// A forwarded property was read: `before` and `after` are what was left of the list before and after it.
    pub(crate) fn push(&mut self, before: &'a [u8], after: &'a [u8]) {
        let length = before.len() - after.len();
        if self.length == 0 && self.copied.is_empty() {
            self.tail = before;
            self.length = length;
        } else if self.copied.is_empty() && self.tail.len() - self.length == before.len() {
            self.length += length;
        } else {
            if self.copied.is_empty() {
                self.copied.extend_from_slice(&self.tail[..self.length]);
            }
            self.copied.extend_from_slice(&before[..length]);
        }
    }

    pub(crate) fn finish(self) -> Cow<'a, [u8]> {
        if self.copied.is_empty() { Cow::Borrowed(&self.tail[..self.length]) } else { Cow::Owned(self.copied) }
    }
}

/// Decodes one whole packet of which the caller knows that it begins with the first byte of a PUBLISH, 0x3_.
#[inline]
pub fn decode_publish<'a>(packet: &'a [u8], version: ProtocolVersion, sender: Sender) -> Result<Publish<'a>, Violation> {
    let (first, body) = match *packet {
        [first, length, ref body @ ..] if length < 0x80 && usize::from(length) == body.len() => (first, body),
        _ => long_packet(packet)?,
    };
    decode_body(first, body, version, sender)
}

/// First byte and body of a packet with more than 127 bytes.
#[inline(never)]
fn long_packet(packet: &[u8]) -> Result<(u8, &[u8]), Violation> {
    let wrong = Violation::malformed("2.1.4", "remaining length is not the length of the packet").within(PacketType::Publish);
    let (first, rest) = packet.split_first().ok_or(wrong)?;
    let (length, digits) = crate::reader::varint(rest).map_err(|violation| violation.within(PacketType::Publish))?.ok_or(wrong)?;
    let body = &rest[digits..];
    if body.len() == length as usize { Ok((*first, body)) } else { Err(wrong) }
}

/// Decodes what follows the fixed header.
#[inline]
pub(crate) fn decode_body<'a>(first: u8, body: &'a [u8], version: ProtocolVersion, sender: Sender) -> Result<Publish<'a>, Violation> {
    decode_fields(first, body, version, sender).map_err(|violation| violation.within(PacketType::Publish))
}

#[inline(always)]
fn decode_fields<'a>(first: u8, body: &'a [u8], version: ProtocolVersion, sender: Sender) -> Result<Publish<'a>, Violation> {
    let dup = first & 0x08 != 0;
    let retain = first & 0x01 != 0;
    // [MQTT-3.3.1-4]
    let qos = QoS::from_bits(first >> 1).ok_or_else(|| Violation::malformed("MQTT-3.3.1-4", "QoS is 3"))?;
    // [MQTT-3.3.1-2]
    if dup && qos == QoS::AtMostOnce {
        return Err(Violation::malformed("MQTT-3.3.1-2", "DUP is set with QoS 0"));
    }
    let mut reader = Reader::new(body);
    // [MQTT-3.3.2-1] The Topic Name comes first.
    let topic = match topic_name(reader.binary()?)? {
        Ok(topic) => topic,
        // [MQTT-3.3.2-2]
        Err(HasWildcard) => return Err(Violation::new(ReasonCode::TopicNameInvalid, "MQTT-3.3.2-2", "topic name contains a wildcard")),
    };
    // [MQTT-2.2.1-2] A Packet Identifier only with QoS 1 and 2.
    let packet_id = if qos == QoS::AtMostOnce { None } else { Some(reader.packet_id()?) };
    let properties = match version {
        ProtocolVersion::V5 => decode_properties(&mut reader, sender)?,
        _ => PublishProperties::default(),
    };
    if topic.is_empty() && properties.topic_alias.is_none() {
        return Err(Violation::protocol_error("MQTT-4.7.3-1", "topic name is empty and there is no topic alias"));
    }
    Ok(Publish { dup, qos, retain, topic, packet_id, properties, payload: reader.rest })
}

#[inline(always)]
fn decode_properties<'a>(reader: &mut Reader<'a>, sender: Sender) -> Result<PublishProperties<'a>, Violation> {
    if let [0, rest @ ..] = reader.rest {
        reader.rest = rest;
        return Ok(PublishProperties::default());
    }
    decode_some_properties(reader, sender)
}

#[inline(never)]
fn decode_some_properties<'a>(reader: &mut Reader<'a>, sender: Sender) -> Result<PublishProperties<'a>, Violation> {
    let mut list = Properties::take(reader, Place::Publish, sender)?;
    let mut properties = PublishProperties::default();
    let mut forward = Forward::new();
    loop {
        let before = list.remaining();
        match list.next()? {
            None => break,
            Some(Property::MessageExpiryInterval(seconds)) => properties.message_expiry_interval = Some(seconds),
            Some(Property::TopicAlias(alias)) => properties.topic_alias = Some(alias),
            Some(Property::SubscriptionIdentifier(identifier)) => properties.subscription_identifiers.push(identifier),
            Some(_) => forward.push(before, list.remaining()),
        }
    }
    properties.forward = forward.finish();
    Ok(properties)
}

impl Publish<'_> {
    /// Appends the packet. Before 5.0 properties are left out.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        let properties = if version == ProtocolVersion::V5 { Some(self.properties.encoded_length()) } else { None };
        let properties_length = properties.map_or(0, |length| varint_len(length as u32) + length);
        let topic = fitting(self.topic);
        let id_length = if self.packet_id.is_some() { 2 } else { 0 };
        let remaining = 2 + topic.len() + id_length + properties_length + self.payload.len();
        debug_assert!(self.packet_id.is_some() == (self.qos != QoS::AtMostOnce), "a packet identifier goes with QoS 1 and 2 only");
        debug_assert!(!self.dup || self.qos != QoS::AtMostOnce, "DUP goes with QoS 1 and 2 only");
        out.reserve(5 + remaining);
        out.push(0x30 | u8::from(self.dup) << 3 | (self.qos as u8) << 1 | u8::from(self.retain));
        put_varint(remaining as u32, out);
        put_string(topic, out);
        if let Some(packet_id) = self.packet_id {
            put_u16(packet_id.get(), out);
        }
        if let Some(length) = properties {
            put_varint(length as u32, out);
            self.properties.encode(out);
        }
        out.extend_from_slice(self.payload);
    }
}

#[cfg(test)]
mod tests;
