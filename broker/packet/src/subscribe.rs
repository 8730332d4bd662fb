//! SUBSCRIBE (5.0 3.8).
//!
//! Topic Filters come as they stand in the packet: [`crate::topic::check_filter`] judges them, because a Server answers a filter it cannot
//! take in SUBACK and needs the share name anyway.

use crate::property::{Place, Properties, Property, UserProperties, optional, put_properties, user};
use crate::reader::Reader;
use crate::writer::{put_packet, put_packet_id, put_string};
use crate::{PacketIdentifier, PacketType, ProtocolVersion, QoS, Sender, UnknownValue, Violation};

/// A Client asks for Application Messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// Comes back in SUBACK.
    pub packet_id: PacketIdentifier,
    /// Comes back with every message these filters match.
    pub subscription_identifier: Option<u32>,
    /// User properties.
    pub user_properties: UserProperties<'a>,
    /// At least one [MQTT-3.8.3-2].
    pub filters: Vec<(&'a str, SubscriptionOptions)>,
}

/// How a Subscription wants its messages (5.0 3.8.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SubscriptionOptions {
    /// The most it wants.
    pub qos: QoS,
    /// Not what this Client publishes itself.
    pub no_local: bool,
    /// RETAIN as the publisher set it.
    pub retain_as_published: bool,
    /// What of the retained messages to send.
    pub retain_handling: RetainHandling,
}

/// Which retained messages a new Subscription gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum RetainHandling {
    /// All that match, each time.
    #[default]
    SendAtSubscribe = 0,
    /// All that match, unless the Subscription was there.
    SendIfNew = 1,
    /// None.
    DoNotSend = 2,
}

impl TryFrom<u8> for RetainHandling {
    type Error = UnknownValue;

    fn try_from(value: u8) -> Result<Self, UnknownValue> {
        match value {
            0 => Ok(Self::SendAtSubscribe),
            1 => Ok(Self::SendIfNew),
            2 => Ok(Self::DoNotSend),
            _ => Err(UnknownValue(value)),
        }
    }
}

impl SubscriptionOptions {
    /// Only a QoS, as before 5.0.
    pub const fn with_qos(qos: QoS) -> Self {
        Self { qos, no_local: false, retain_as_published: false, retain_handling: RetainHandling::SendAtSubscribe }
    }

    /// The byte of 5.0.
    pub const fn value(self) -> u8 {
        self.qos as u8 | (self.no_local as u8) << 2 | (self.retain_as_published as u8) << 3 | (self.retain_handling as u8) << 4
    }

    fn decode(byte: u8, version: ProtocolVersion) -> Result<Self, Violation> {
        let qos = QoS::from_bits(byte);
        match version {
            // The upper bits are not used, which is not to say 0.
            ProtocolVersion::V3_1 => qos.map(Self::with_qos).ok_or_else(|| Violation::malformed("3.1 3.8", "requested QoS is 3")),
            ProtocolVersion::V3_1_1 if byte & 0xFC != 0 => {
                Err(Violation::malformed("3.1.1 MQTT-3-8.3-4", "reserved bit of the requested QoS is set"))
            }
            ProtocolVersion::V3_1_1 => {
                qos.map(Self::with_qos).ok_or_else(|| Violation::malformed("3.1.1 MQTT-3-8.3-4", "requested QoS is 3"))
            }
            ProtocolVersion::V5 => {
                // [MQTT-3.8.3-5]
                if byte & 0xC0 != 0 {
                    return Err(Violation::malformed("MQTT-3.8.3-5", "reserved subscription option is set"));
                }
                let error = |detail| Violation::protocol_error("3.8.3.1", detail);
                Ok(Self {
                    qos: qos.ok_or_else(|| error("maximum QoS is 3"))?,
                    no_local: byte & 0x04 != 0,
                    retain_as_published: byte & 0x08 != 0,
                    retain_handling: RetainHandling::try_from(byte >> 4).map_err(|_| error("retain handling is 3"))?,
                })
            }
        }
    }
}

impl<'a> Subscribe<'a> {
    pub(crate) fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<Self, Violation> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        let (mut subscription_identifier, mut user_properties) = (None, Vec::new());
        if version == ProtocolVersion::V5 {
            let mut list = Properties::take(&mut reader, Place::Subscribe, Sender::Client)?;
            while let Some(property) = list.next()? {
                match property {
                    Property::SubscriptionIdentifier(value) => subscription_identifier = Some(value),
                    Property::UserProperty(name, value) => user_properties.push((name, value)),
                    _ => return Err(Violation::malformed("2.2.2.2", "property is not valid for this packet")),
                }
            }
        }
        let mut filters = Vec::new();
        while !reader.is_empty() {
            // [MQTT-3.8.3-1]
            let filter = reader.string()?;
            let options = SubscriptionOptions::decode(reader.u8()?, version)?;
            // [MQTT-3.8.3-4]
            if options.no_local && filter.starts_with("$share/") {
                return Err(Violation::protocol_error("MQTT-3.8.3-4", "no local on a shared subscription"));
            }
            filters.push((filter, options));
        }
        // [MQTT-3.8.3-2]
        if filters.is_empty() {
            return Err(Violation::protocol_error("MQTT-3.8.3-2", "SUBSCRIBE without a topic filter"));
        }
        Ok(Self { packet_id, subscription_identifier, user_properties, filters })
    }

    /// Appends the packet; before 5.0 without properties, and of the options only the QoS.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        put_packet(PacketType::Subscribe, out, |out| {
            put_packet_id(self.packet_id, out);
            if version == ProtocolVersion::V5 {
                put_properties(
                    optional(self.subscription_identifier, Property::SubscriptionIdentifier).chain(user(&self.user_properties)),
                    out,
                );
            }
            for (filter, options) in &self.filters {
                put_string(filter, out);
                out.push(if version == ProtocolVersion::V5 { options.value() } else { options.qos as u8 });
            }
        });
    }
}

#[cfg(test)]
mod tests;
