//! UNSUBACK (5.0 3.11).

use crate::ack::{explanation, put_explanation, reason_code};
use crate::property::{Place, UserProperties};
use crate::reader::Reader;
use crate::writer::{put_packet, put_packet_id};
use crate::{PacketIdentifier, PacketType, ProtocolVersion, ReasonCode, Sender, Violation};

/// A Server answers UNSUBSCRIBE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsubAck<'a> {
    /// Of the UNSUBSCRIBE [MQTT-2.2.1-6].
    pub packet_id: PacketIdentifier,
    /// One for each filter, in their order [MQTT-3.11.3-1]; not told before 5.0.
    pub reason_codes: Vec<ReasonCode>,
    /// For a person.
    pub reason_string: Option<&'a str>,
    /// User properties.
    pub user_properties: UserProperties<'a>,
}

impl<'a> UnsubAck<'a> {
    pub(crate) fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<Self, Violation> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        if version != ProtocolVersion::V5 {
            // There is no payload (3.1.1 3.11.3).
            reader.finish()?;
            return Ok(Self { packet_id, reason_codes: Vec::new(), reason_string: None, user_properties: Vec::new() });
        }
        let (reason_string, user_properties) = explanation(&mut reader, Place::UnsubAck, Sender::Server)?;
        let reason_codes =
            reader.rest.iter().map(|code| reason_code(*code, PacketType::UnsubAck, Sender::Server)).collect::<Result<Vec<_>, _>>()?;
        if reason_codes.is_empty() {
            return Err(Violation::protocol_error("MQTT-3.11.3-1", "UNSUBACK without a reason code"));
        }
        Ok(Self { packet_id, reason_codes, reason_string, user_properties })
    }

    /// Appends the packet; before 5.0 the Packet Identifier is all of it.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        put_packet(PacketType::UnsubAck, out, |out| {
            put_packet_id(self.packet_id, out);
            if version == ProtocolVersion::V5 {
                put_explanation(self.reason_string, &self.user_properties, out);
                out.extend(self.reason_codes.iter().map(|code| code.value()));
            }
        });
    }
}

#[cfg(test)]
mod tests;
