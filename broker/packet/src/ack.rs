//! PUBACK, PUBREC, PUBREL and PUBCOMP (5.0 3.4 to 3.7): one shape, four types.

use crate::property::{Place, Properties, Property, UserProperties, optional, put_properties, user};
use crate::reader::Reader;
use crate::writer::{put_packet, put_packet_id};
use crate::{PacketIdentifier, PacketType, ProtocolVersion, ReasonCode, Sender, Violation};

/// One step of a QoS 1 or QoS 2 handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack<'a> {
    /// Of the PUBLISH [MQTT-2.2.1-5].
    pub packet_id: PacketIdentifier,
    /// How it went; always Success before 5.0.
    pub reason_code: ReasonCode,
    /// For a person.
    pub reason_string: Option<&'a str>,
    /// User properties.
    pub user_properties: UserProperties<'a>,
}

/// Reason string and user properties: what most answers carry.
pub(crate) type Explanation<'a> = (Option<&'a str>, UserProperties<'a>);

/// Reads a property list of reason string and user properties.
pub(crate) fn explanation<'a>(reader: &mut Reader<'a>, place: Place, sender: Sender) -> Result<Explanation<'a>, Violation> {
    let mut list = Properties::take(reader, place, sender)?;
    let (mut reason_string, mut user_properties) = (None, Vec::new());
    while let Some(property) = list.next()? {
        match property {
            Property::ReasonString(value) => reason_string = Some(value),
            Property::UserProperty(name, value) => user_properties.push((name, value)),
            _ => return Err(Violation::malformed("2.2.2.2", "property is not valid for this packet")),
        }
    }
    Ok((reason_string, user_properties))
}

/// Writes what [`explanation`] reads.
pub(crate) fn put_explanation(reason_string: Option<&str>, user_properties: &UserProperties<'_>, out: &mut Vec<u8>) {
    put_properties(optional(reason_string, Property::ReasonString).chain(user(user_properties)), out);
}

/// `code` as a Reason Code that `sender` may put into a packet of `packet_type`.
pub(crate) fn reason_code(code: u8, packet_type: PacketType, sender: Sender) -> Result<ReasonCode, Violation> {
    let clause = match packet_type {
        PacketType::ConnAck => "MQTT-3.2.2-8",
        PacketType::PubAck => "MQTT-3.4.2-1",
        PacketType::PubRec => "MQTT-3.5.2-1",
        PacketType::PubRel => "MQTT-3.6.2-1",
        PacketType::PubComp => "MQTT-3.7.2-1",
        PacketType::SubAck => "MQTT-3.9.3-2",
        PacketType::UnsubAck => "MQTT-3.11.3-2",
        PacketType::Disconnect => "MQTT-3.14.2-1",
        PacketType::Auth => "MQTT-3.15.2-1",
        _ => "2.4",
    };
    ReasonCode::try_from(code)
        .ok()
        .filter(|code| code.is_allowed(packet_type, sender))
        .ok_or_else(|| Violation::protocol_error(clause, "reason code is not one of this packet"))
}

impl<'a> Ack<'a> {
    /// Success without properties.
    #[inline]
    pub const fn success(packet_id: PacketIdentifier) -> Self {
        Self::new(packet_id, ReasonCode::Success)
    }

    /// `reason_code` without properties.
    #[inline]
    pub const fn new(packet_id: PacketIdentifier, reason_code: ReasonCode) -> Self {
        Self { packet_id, reason_code, reason_string: None, user_properties: Vec::new() }
    }

    #[inline]
    pub(crate) fn decode(body: &'a [u8], packet_type: PacketType, version: ProtocolVersion, sender: Sender) -> Result<Self, Violation> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        // Reason Code and properties may be left out, from the end.
        if reader.is_empty() {
            return Ok(Self::success(packet_id));
        }
        if version != ProtocolVersion::V5 {
            reader.finish()?;
        }
        let reason_code = reason_code(reader.u8()?, packet_type, sender)?;
        if reader.is_empty() {
            return Ok(Self::new(packet_id, reason_code));
        }
        let (reason_string, user_properties) = explanation(&mut reader, Place::Ack, sender)?;
        reader.finish()?;
        Ok(Self { packet_id, reason_code, reason_string, user_properties })
    }

    /// Appends the packet as `packet_type`, one of the four; before 5.0 without Reason Code and properties.
    #[inline]
    pub fn encode(&self, packet_type: PacketType, version: ProtocolVersion, out: &mut Vec<u8>) {
        debug_assert!(
            matches!(packet_type, PacketType::PubAck | PacketType::PubRec | PacketType::PubRel | PacketType::PubComp),
            "an acknowledgement is one of four packets"
        );
        let bare = self.reason_string.is_none() && self.user_properties.is_empty();
        if version != ProtocolVersion::V5 || (bare && self.reason_code == ReasonCode::Success) {
            let [high, low] = self.packet_id.get().to_be_bytes();
            out.extend_from_slice(&[packet_type.first_byte(), 2, high, low]);
            return;
        }
        put_packet(packet_type, out, |out| {
            put_packet_id(self.packet_id, out);
            out.push(self.reason_code.value());
            if !bare {
                put_explanation(self.reason_string, &self.user_properties, out);
            }
        });
    }
}

#[cfg(test)]
mod tests;
