//! AUTH (5.0 3.15): enhanced authentication, not there before 5.0.

use crate::ack::reason_code;
use crate::property::{Place, Properties, Property, UserProperties, optional, put_properties, user};
use crate::reader::Reader;
use crate::writer::put_packet;
use crate::{PacketType, ProtocolVersion, ReasonCode, Sender, Violation};

/// One step of an authentication exchange.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Auth<'a> {
    /// Success, Continue authentication or Re-authenticate.
    pub reason_code: ReasonCode,
    /// The method; absent only in the shortest form of Success.
    pub authentication_method: Option<&'a str>,
    /// What the method says.
    pub authentication_data: Option<&'a [u8]>,
    /// For a person.
    pub reason_string: Option<&'a str>,
    /// User properties.
    pub user_properties: UserProperties<'a>,
}

impl<'a> Auth<'a> {
    pub(crate) fn decode(body: &'a [u8], version: ProtocolVersion, sender: Sender) -> Result<Self, Violation> {
        if version != ProtocolVersion::V5 {
            return Err(Violation::malformed("3.1.1 2.2.1", "packet type 15 is reserved before 5.0"));
        }
        let mut reader = Reader::new(body);
        let mut packet = Self::default();
        // Reason Code and properties may be left out together, which says Success.
        let code = if reader.is_empty() { 0 } else { reader.u8()? };
        packet.reason_code = reason_code(code, PacketType::Auth, sender)?;
        if body.is_empty() {
            return Ok(packet);
        }
        let mut list = Properties::take(&mut reader, Place::Auth, sender)?;
        while let Some(property) = list.next()? {
            match property {
                Property::AuthenticationMethod(value) => packet.authentication_method = Some(value),
                Property::AuthenticationData(value) => packet.authentication_data = Some(value),
                Property::ReasonString(value) => packet.reason_string = Some(value),
                Property::UserProperty(name, value) => packet.user_properties.push((name, value)),
                _ => return Err(Violation::malformed("2.2.2.2", "property is not valid for this packet")),
            }
        }
        reader.finish()?;
        if packet.authentication_method.is_none() {
            return Err(Violation::protocol_error("3.15.2.2.2", "AUTH without an authentication method"));
        }
        Ok(packet)
    }

    /// Appends the packet.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        debug_assert!(version == ProtocolVersion::V5, "there is no AUTH before 5.0");
        put_packet(PacketType::Auth, out, |out| {
            let bare = self.authentication_method.is_none()
                && self.authentication_data.is_none()
                && self.reason_string.is_none()
                && self.user_properties.is_empty();
            if bare && self.reason_code == ReasonCode::Success {
                return;
            }
            out.push(self.reason_code.value());
            put_properties(
                optional(self.authentication_method, Property::AuthenticationMethod)
                    .chain(optional(self.authentication_data, Property::AuthenticationData))
                    .chain(optional(self.reason_string, Property::ReasonString))
                    .chain(user(&self.user_properties)),
                out,
            );
        });
    }
}

#[cfg(test)]
mod tests;
