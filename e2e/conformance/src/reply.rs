//! What a broker sent, owned.

use bucketmq_packet::{Ack, ConnAck, Packet, PacketType, ReasonCode, UserProperties};

use crate::message::Message;

/// A packet from the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// CONNACK.
    ConnAck(Box<Accepted>),
    /// PUBLISH; the topic stands even if only an alias was sent.
    Publish(Message),
    /// PUBACK, PUBREC, PUBREL or PUBCOMP.
    Ack(PacketType, Acked),
    /// SUBACK or UNSUBACK.
    Codes(PacketType, Acked),
    /// PINGRESP.
    PingResp,
    /// DISCONNECT.
    Disconnect(Acked),
    /// AUTH.
    Auth(Authentication),
}

/// The CONNACK, whatever it says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub struct Accepted {
    pub session_present: bool,
    /// Reason Code; return codes of older versions are translated.
    pub code: u8,
    pub session_expiry_interval: Option<u32>,
    pub receive_maximum: Option<u16>,
    pub maximum_qos: Option<u8>,
    pub retain_available: bool,
    pub maximum_packet_size: Option<u32>,
    pub assigned_client_identifier: Option<String>,
    pub topic_alias_maximum: u16,
    pub wildcard_available: bool,
    pub identifiers_available: bool,
    pub shared_available: bool,
    pub server_keep_alive: Option<u16>,
    pub response_information: Option<String>,
    pub authentication_method: Option<String>,
    pub authentication_data: Vec<u8>,
}

/// An AUTH.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub struct Authentication {
    /// Reason Code.
    pub code: u8,
    pub method: Option<String>,
    pub data: Vec<u8>,
    pub reason_string: Option<String>,
    pub user_properties: Vec<(String, String)>,
}

/// An acknowledgement or DISCONNECT.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Acked {
    /// 0 for DISCONNECT.
    pub packet_id: u16,
    /// One Reason Code, or one for each filter.
    pub codes: Vec<u8>,
    /// Reason String.
    pub reason_string: Option<String>,
    /// User Properties.
    pub user_properties: Vec<(String, String)>,
    /// Session Expiry Interval of a DISCONNECT.
    pub session_expiry_interval: Option<u32>,
}

impl Acked {
    /// The first Reason Code.
    pub fn code(&self) -> u8 {
        self.codes.first().copied().unwrap_or(0)
    }
}

impl Reply {
    /// The name for sentences.
    pub fn name(&self) -> String {
        match self {
            Self::ConnAck(accepted) => format!("CONNACK 0x{:02X}", accepted.code),
            Self::Publish(message) => format!("PUBLISH {:?} {:?} (QoS {})", message.topic, short(&message.text()), message.qos),
            Self::Ack(packet_type, ack) => format!("{} {} 0x{:02X}", packet_type.name(), ack.packet_id, ack.code()),
            Self::Codes(packet_type, ack) => format!("{} {} {:02X?}", packet_type.name(), ack.packet_id, ack.codes),
            Self::PingResp => "PINGRESP".into(),
            Self::Disconnect(disconnect) => format!("DISCONNECT 0x{:02X}", disconnect.code()),
            Self::Auth(auth) => format!("AUTH 0x{:02X}", auth.code),
        }
    }
}

/// The beginning of a long text.
pub fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

fn owned(user_properties: &UserProperties<'_>) -> Vec<(String, String)> {
    user_properties.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

fn values(codes: &[ReasonCode]) -> Vec<u8> {
    codes.iter().map(|code| code.value()).collect()
}

fn acked(ack: &Ack<'_>) -> Acked {
    Acked {
        packet_id: ack.packet_id.get(),
        codes: vec![ack.reason_code.value()],
        reason_string: ack.reason_string.map(Into::into),
        user_properties: owned(&ack.user_properties),
        session_expiry_interval: None,
    }
}

impl From<&ConnAck<'_>> for Accepted {
    fn from(connack: &ConnAck<'_>) -> Self {
        let properties = &connack.properties;
        Self {
            session_present: connack.session_present,
            code: connack.reason_code.value(),
            session_expiry_interval: properties.session_expiry_interval,
            receive_maximum: properties.receive_maximum,
            maximum_qos: properties.maximum_qos.map(|qos| qos as u8),
            retain_available: properties.retain_available.unwrap_or(true),
            maximum_packet_size: properties.maximum_packet_size,
            assigned_client_identifier: properties.assigned_client_identifier.map(Into::into),
            topic_alias_maximum: properties.topic_alias_maximum.unwrap_or(0),
            wildcard_available: properties.wildcard_subscription_available.unwrap_or(true),
            identifiers_available: properties.subscription_identifiers_available.unwrap_or(true),
            shared_available: properties.shared_subscription_available.unwrap_or(true),
            server_keep_alive: properties.server_keep_alive,
            response_information: properties.response_information.map(Into::into),
            authentication_method: properties.authentication_method.map(Into::into),
            authentication_data: properties.authentication_data.unwrap_or_default().into(),
        }
    }
}

impl Reply {
    /// The owned form; `None` for packets only Clients send.
    pub fn from_packet(packet: &Packet<'_>) -> Option<Self> {
        Some(match packet {
            Packet::ConnAck(connack) => Self::ConnAck(Box::new(connack.into())),
            Packet::Publish(publish) => Self::Publish(publish.into()),
            Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
                Self::Ack(packet.packet_type(), acked(ack))
            }
            Packet::SubAck(suback) => Self::Codes(
                PacketType::SubAck,
                Acked {
                    packet_id: suback.packet_id.get(),
                    codes: values(&suback.reason_codes),
                    reason_string: suback.reason_string.map(Into::into),
                    user_properties: owned(&suback.user_properties),
                    session_expiry_interval: None,
                },
            ),
            Packet::UnsubAck(unsuback) => Self::Codes(
                PacketType::UnsubAck,
                Acked {
                    packet_id: unsuback.packet_id.get(),
                    codes: values(&unsuback.reason_codes),
                    reason_string: unsuback.reason_string.map(Into::into),
                    user_properties: owned(&unsuback.user_properties),
                    session_expiry_interval: None,
                },
            ),
            Packet::PingResp => Self::PingResp,
            Packet::Disconnect(disconnect) => Self::Disconnect(Acked {
                packet_id: 0,
                codes: vec![disconnect.reason_code.value()],
                reason_string: disconnect.reason_string.map(Into::into),
                user_properties: owned(&disconnect.user_properties),
                session_expiry_interval: disconnect.session_expiry_interval,
            }),
            Packet::Auth(auth) => Self::Auth(Authentication {
                code: auth.reason_code.value(),
                method: auth.authentication_method.map(Into::into),
                data: auth.authentication_data.unwrap_or_default().into(),
                reason_string: auth.reason_string.map(Into::into),
                user_properties: owned(&auth.user_properties),
            }),
            Packet::Connect(_) | Packet::Subscribe(_) | Packet::Unsubscribe(_) | Packet::PingReq => return None,
        })
    }
}
