//! DISCONNECT (5.0 3.14): the last packet, from either side since 5.0.

use crate::ack::reason_code;
use crate::property::{Place, Properties, Property, UserProperties, optional, put_properties, user};
use crate::reader::Reader;
use crate::writer::put_packet;
use crate::{PacketType, ProtocolVersion, ReasonCode, Sender, Violation};

/// The Network Connection is about to be closed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Disconnect<'a> {
    /// Why; Success is the normal disconnection.
    pub reason_code: ReasonCode,
    /// A new one, only from a Client [MQTT-3.14.2-2].
    pub session_expiry_interval: Option<u32>,
    /// For a person.
    pub reason_string: Option<&'a str>,
    /// Where else to go, only from a Server.
    pub server_reference: Option<&'a str>,
    /// User properties.
    pub user_properties: UserProperties<'a>,
}

impl<'a> Disconnect<'a> {
    /// `reason_code` without properties.
    pub fn new(reason_code: ReasonCode) -> Self {
        Self { reason_code, ..Self::default() }
    }

    pub(crate) fn decode(body: &'a [u8], version: ProtocolVersion, sender: Sender) -> Result<Self, Violation> {
        let mut reader = Reader::new(body);
        if version != ProtocolVersion::V5 {
            if sender == Sender::Server {
                return Err(Violation::protocol_error("3.1.1 3.14", "DISCONNECT from a Server before 5.0"));
            }
            reader.finish()?;
        }
        let mut packet = Self::default();
        // Reason Code and properties may be left out, from the end.
        if reader.is_empty() {
            return Ok(packet);
        }
        packet.reason_code = reason_code(reader.u8()?, PacketType::Disconnect, sender)?;
        if reader.is_empty() {
            return Ok(packet);
        }
        let mut list = Properties::take(&mut reader, Place::Disconnect, sender)?;
        while let Some(property) = list.next()? {
            match property {
                Property::SessionExpiryInterval(value) => packet.session_expiry_interval = Some(value),
                Property::ReasonString(value) => packet.reason_string = Some(value),
                Property::ServerReference(value) => packet.server_reference = Some(value),
                Property::UserProperty(name, value) => packet.user_properties.push((name, value)),
                _ => return Err(Violation::malformed("2.2.2.2", "property is not valid for this packet")),
            }
        }
        reader.finish()?;
        Ok(packet)
    }

    /// Appends the packet; before 5.0 the fixed header is all of it, and only a Client may send it.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        put_packet(PacketType::Disconnect, out, |out| {
            let bare = self.session_expiry_interval.is_none()
                && self.reason_string.is_none()
                && self.server_reference.is_none()
                && self.user_properties.is_empty();
            if version != ProtocolVersion::V5 || (bare && self.reason_code == ReasonCode::Success) {
                return;
            }
            out.push(self.reason_code.value());
            if !bare {
                put_properties(
                    optional(self.session_expiry_interval, Property::SessionExpiryInterval)
                        .chain(optional(self.reason_string, Property::ReasonString))
                        .chain(optional(self.server_reference, Property::ServerReference))
                        .chain(user(&self.user_properties)),
                    out,
                );
            }
        });
    }
}

#[cfg(test)]
mod tests;
