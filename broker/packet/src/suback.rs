//! SUBACK (5.0 3.9).

use crate::ack::{explanation, put_explanation, reason_code};
use crate::property::{Place, UserProperties};
use crate::reader::Reader;
use crate::writer::{put_packet, put_packet_id};
use crate::{PacketIdentifier, PacketType, ProtocolVersion, ReasonCode, Sender, Violation};

/// A Server answers SUBSCRIBE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubAck<'a> {
    /// Of the SUBSCRIBE [MQTT-2.2.1-6].
    pub packet_id: PacketIdentifier,
    /// One for each filter, in their order [MQTT-3.9.3-1].
    pub reason_codes: Vec<ReasonCode>,
    /// For a person.
    pub reason_string: Option<&'a str>,
    /// User properties.
    pub user_properties: UserProperties<'a>,
}

impl<'a> SubAck<'a> {
    pub(crate) fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<Self, Violation> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        let (reason_string, user_properties) = match version {
            ProtocolVersion::V5 => explanation(&mut reader, Place::SubAck, Sender::Server)?,
            _ => Default::default(),
        };
        let reason_codes = reader
            .rest
            .iter()
            .map(|code| match version {
                ProtocolVersion::V5 => reason_code(*code, PacketType::SubAck, Sender::Server),
                _ => from_return_code(*code),
            })
            .collect::<Result<Vec<_>, _>>()?;
        if reason_codes.is_empty() {
            return Err(Violation::protocol_error("MQTT-3.9.3-1", "SUBACK without a reason code"));
        }
        Ok(Self { packet_id, reason_codes, reason_string, user_properties })
    }

    /// Appends the packet; before 5.0 without properties, and every failure as 0x80.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        put_packet(PacketType::SubAck, out, |out| {
            put_packet_id(self.packet_id, out);
            if version == ProtocolVersion::V5 {
                put_explanation(self.reason_string, &self.user_properties, out);
            }
            out.extend(self.reason_codes.iter().map(|code| match version {
                ProtocolVersion::V5 => code.value(),
                _ if code.is_error() => ReasonCode::UnspecifiedError.value(),
                _ => code.value(),
            }));
        });
    }
}

fn from_return_code(code: u8) -> Result<ReasonCode, Violation> {
    Ok(match code {
        0 => ReasonCode::Success,
        1 => ReasonCode::GrantedQoS1,
        2 => ReasonCode::GrantedQoS2,
        0x80 => ReasonCode::UnspecifiedError,
        _ => return Err(Violation::malformed("3.1.1 MQTT-3.9.3-2", "return code is reserved")),
    })
}

#[cfg(test)]
mod tests;
