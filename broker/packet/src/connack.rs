//! CONNACK (5.0 3.2), and the return codes older versions have instead of Reason Codes.

use crate::property::{Place, Properties, Property, UserProperties, optional, put_properties, user};
use crate::reader::Reader;
use crate::writer::put_packet;
use crate::{PacketType, ProtocolVersion, QoS, ReasonCode, Sender, Violation};

/// A Server answers CONNECT.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConnAck<'a> {
    /// The Session was there already. 3.1 cannot tell.
    pub session_present: bool,
    /// How it went.
    pub reason_code: ReasonCode,
    /// Properties; none before 5.0.
    pub properties: ConnAckProperties<'a>,
}

/// Properties of CONNACK (5.0 3.2.2.3). What is absent has the specification's default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConnAckProperties<'a> {
    /// Seconds the Server keeps the Session, where that is not what was asked for.
    pub session_expiry_interval: Option<u32>,
    /// QoS 1 and 2 messages the Server takes at a time.
    pub receive_maximum: Option<u16>,
    /// QoS 0 or 1, where 2 is not served.
    pub maximum_qos: Option<QoS>,
    /// Some(false): no retained messages.
    pub retain_available: Option<bool>,
    /// Bytes of the largest packet the Server takes.
    pub maximum_packet_size: Option<u32>,
    /// The Client Identifier the Server chose.
    pub assigned_client_identifier: Option<&'a str>,
    /// Largest alias the Server takes.
    pub topic_alias_maximum: Option<u16>,
    /// For a person.
    pub reason_string: Option<&'a str>,
    /// User properties.
    pub user_properties: UserProperties<'a>,
    /// Some(false): no wildcards.
    pub wildcard_subscription_available: Option<bool>,
    /// Some(false): no subscription identifiers.
    pub subscription_identifiers_available: Option<bool>,
    /// Some(false): no Shared Subscriptions.
    pub shared_subscription_available: Option<bool>,
    /// Seconds of Keep Alive instead of what the Client asked for.
    pub server_keep_alive: Option<u16>,
    /// What to build response topics from.
    pub response_information: Option<&'a str>,
    /// Where else to go.
    pub server_reference: Option<&'a str>,
    /// Enhanced authentication, its method.
    pub authentication_method: Option<&'a str>,
    /// Its last data.
    pub authentication_data: Option<&'a [u8]>,
}

impl<'a> ConnAckProperties<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, Violation> {
        let mut list = Properties::take(reader, Place::ConnAck, Sender::Server)?;
        let mut properties = Self::default();
        while let Some(property) = list.next()? {
            match property {
                Property::SessionExpiryInterval(value) => properties.session_expiry_interval = Some(value),
                Property::ReceiveMaximum(value) => properties.receive_maximum = Some(value),
                Property::MaximumQoS(value) => properties.maximum_qos = Some(value),
                Property::RetainAvailable(value) => properties.retain_available = Some(value),
                Property::MaximumPacketSize(value) => properties.maximum_packet_size = Some(value),
                Property::AssignedClientIdentifier(value) => properties.assigned_client_identifier = Some(value),
                Property::TopicAliasMaximum(value) => properties.topic_alias_maximum = Some(value),
                Property::ReasonString(value) => properties.reason_string = Some(value),
                Property::UserProperty(name, value) => properties.user_properties.push((name, value)),
                Property::WildcardSubscriptionAvailable(value) => properties.wildcard_subscription_available = Some(value),
                Property::SubscriptionIdentifierAvailable(value) => properties.subscription_identifiers_available = Some(value),
                Property::SharedSubscriptionAvailable(value) => properties.shared_subscription_available = Some(value),
                Property::ServerKeepAlive(value) => properties.server_keep_alive = Some(value),
                Property::ResponseInformation(value) => properties.response_information = Some(value),
                Property::ServerReference(value) => properties.server_reference = Some(value),
                Property::AuthenticationMethod(value) => properties.authentication_method = Some(value),
                Property::AuthenticationData(value) => properties.authentication_data = Some(value),
                _ => return Err(Violation::malformed("2.2.2.2", "property is not valid for this packet")),
            }
        }
        if properties.authentication_data.is_some() && properties.authentication_method.is_none() {
            return Err(Violation::protocol_error("3.2.2.3.18", "authentication data without a method"));
        }
        Ok(properties)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_properties(
            optional(self.session_expiry_interval, Property::SessionExpiryInterval)
                .chain(optional(self.receive_maximum, Property::ReceiveMaximum))
                // [MQTT-3.2.2-9] QoS 2 is told by silence.
                .chain(optional(self.maximum_qos.filter(|qos| *qos != QoS::ExactlyOnce), Property::MaximumQoS))
                .chain(optional(self.retain_available, Property::RetainAvailable))
                .chain(optional(self.maximum_packet_size, Property::MaximumPacketSize))
                .chain(optional(self.assigned_client_identifier, Property::AssignedClientIdentifier))
                .chain(optional(self.topic_alias_maximum, Property::TopicAliasMaximum))
                .chain(optional(self.reason_string, Property::ReasonString))
                .chain(user(&self.user_properties))
                .chain(optional(self.wildcard_subscription_available, Property::WildcardSubscriptionAvailable))
                .chain(optional(self.subscription_identifiers_available, Property::SubscriptionIdentifierAvailable))
                .chain(optional(self.shared_subscription_available, Property::SharedSubscriptionAvailable))
                .chain(optional(self.server_keep_alive, Property::ServerKeepAlive))
                .chain(optional(self.response_information, Property::ResponseInformation))
                .chain(optional(self.server_reference, Property::ServerReference))
                .chain(optional(self.authentication_method, Property::AuthenticationMethod))
                .chain(optional(self.authentication_data, Property::AuthenticationData)),
            out,
        );
    }
}

/// The return code (3.1.1 table 3.1) that says nearest what `reason_code` says.
pub const fn return_code(reason_code: ReasonCode) -> u8 {
    match reason_code {
        ReasonCode::UnsupportedProtocolVersion => 1,
        ReasonCode::ClientIdentifierNotValid => 2,
        ReasonCode::BadUserNameOrPassword => 4,
        // The Client may not do what it asks for, now or later.
        ReasonCode::NotAuthorized
        | ReasonCode::Banned
        | ReasonCode::BadAuthenticationMethod
        | ReasonCode::TopicNameInvalid
        | ReasonCode::PacketTooLarge
        | ReasonCode::PayloadFormatInvalid
        | ReasonCode::RetainNotSupported
        | ReasonCode::QoSNotSupported => 5,
        // It may try again.
        _ if reason_code.is_error() => 3,
        _ => 0,
    }
}

fn from_return_code(code: u8) -> Result<ReasonCode, Violation> {
    Ok(match code {
        0 => ReasonCode::Success,
        1 => ReasonCode::UnsupportedProtocolVersion,
        2 => ReasonCode::ClientIdentifierNotValid,
        3 => ReasonCode::ServerUnavailable,
        4 => ReasonCode::BadUserNameOrPassword,
        5 => ReasonCode::NotAuthorized,
        _ => return Err(Violation::protocol_error("3.1.1 3.2.2.3", "return code is reserved")),
    })
}

impl<'a> ConnAck<'a> {
    pub(crate) fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<Self, Violation> {
        let mut reader = Reader::new(body);
        // 3.1 reserves the whole byte and says nothing of its value.
        let flags = reader.u8()?;
        let flags = if version == ProtocolVersion::V3_1 { 0 } else { flags };
        // [MQTT-3.2.2-1]
        if flags > 1 {
            return Err(Violation::malformed("MQTT-3.2.2-1", "reserved acknowledge flag is set"));
        }
        let session_present = flags == 1;
        let code = reader.u8()?;
        let (reason_code, properties) = if version == ProtocolVersion::V5 {
            (crate::ack::reason_code(code, PacketType::ConnAck, Sender::Server)?, ConnAckProperties::decode(&mut reader)?)
        } else {
            (from_return_code(code)?, ConnAckProperties::default())
        };
        reader.finish()?;
        // [MQTT-3.2.2-6]
        if session_present && reason_code.is_error() {
            return Err(Violation::protocol_error("MQTT-3.2.2-6", "session present with a refusal"));
        }
        Ok(Self { session_present, reason_code, properties })
    }

    /// Appends the packet; before 5.0 with the nearest return code and without properties.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        put_packet(PacketType::ConnAck, out, |out| {
            // [MQTT-3.2.2-6] [3.1.1 MQTT-3.2.2-4]
            out.push(u8::from(self.session_present && !self.reason_code.is_error() && version != ProtocolVersion::V3_1));
            if version == ProtocolVersion::V5 {
                out.push(self.reason_code.value());
                self.properties.encode(out);
            } else {
                out.push(return_code(self.reason_code));
            }
        });
    }
}

#[cfg(test)]
mod tests;
