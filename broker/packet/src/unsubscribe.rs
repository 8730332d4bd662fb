//! UNSUBSCRIBE (5.0 3.10). Topic Filters come as they stand in the packet, as in SUBSCRIBE.

use crate::property::{Place, Properties, Property, UserProperties, put_properties, user};
use crate::reader::Reader;
use crate::writer::{put_packet, put_packet_id, put_string};
use crate::{PacketIdentifier, PacketType, ProtocolVersion, Sender, Violation};

/// A Client wants no more Application Messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// Comes back in UNSUBACK.
    pub packet_id: PacketIdentifier,
    /// At least one [MQTT-3.10.3-2].
    pub filters: Vec<&'a str>,
    /// User properties.
    pub user_properties: UserProperties<'a>,
}

impl<'a> Unsubscribe<'a> {
    pub(crate) fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<Self, Violation> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        let mut user_properties = Vec::new();
        if version == ProtocolVersion::V5 {
            let mut list = Properties::take(&mut reader, Place::Unsubscribe, Sender::Client)?;
            while let Some(property) = list.next()? {
                match property {
                    Property::UserProperty(name, value) => user_properties.push((name, value)),
                    _ => return Err(Violation::malformed("2.2.2.2", "property is not valid for this packet")),
                }
            }
        }
        let mut filters = Vec::new();
        while !reader.is_empty() {
            // [MQTT-3.10.3-1]
            filters.push(reader.string()?);
        }
        // [MQTT-3.10.3-2]
        if filters.is_empty() {
            return Err(Violation::protocol_error("MQTT-3.10.3-2", "UNSUBSCRIBE without a topic filter"));
        }
        Ok(Self { packet_id, filters, user_properties })
    }

    /// Appends the packet; before 5.0 without properties.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        put_packet(PacketType::Unsubscribe, out, |out| {
            put_packet_id(self.packet_id, out);
            if version == ProtocolVersion::V5 {
                put_properties(user(&self.user_properties), out);
            }
            self.filters.iter().for_each(|filter| put_string(filter, out));
        });
    }
}

#[cfg(test)]
mod tests;
