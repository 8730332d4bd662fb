//! What a Server sends, owned.

use bucketmq_packet::{Packet, PacketIdentifier, PacketType, Publish, PublishProperties, QoS, ReasonCode};

/// An Application Message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// May have been sent before.
    pub dup: bool,
    /// Quality of Service.
    pub qos: QoS,
    /// From what is retained.
    pub retain: bool,
    /// Topic Name.
    pub topic: String,
    /// With QoS 1 and 2.
    pub packet_id: Option<PacketIdentifier>,
    /// All properties.
    pub properties: PublishProperties<'static>,
    /// Application Message.
    pub payload: Vec<u8>,
}

/// A Control Packet of a Server after CONNACK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// PUBLISH.
    Message(Message),
    /// PUBACK, PUBREC, PUBREL or PUBCOMP.
    Ack(PacketType, PacketIdentifier, Outcome),
    /// SUBACK or UNSUBACK, with a code for each filter.
    Answer(PacketType, Vec<ReasonCode>, Option<String>),
    /// PINGRESP.
    PingResp,
    /// DISCONNECT.
    Disconnect(Outcome),
    /// What a Server does not send now: AUTH, a second CONNACK.
    Unexpected(PacketType),
}

/// A Reason Code and the Reason String with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The code.
    pub reason_code: ReasonCode,
    /// For a person.
    pub reason_string: Option<String>,
}

impl Outcome {
    fn new(reason_code: ReasonCode, reason_string: Option<&str>) -> Self {
        Self { reason_code, reason_string: reason_string.map(str::to_owned) }
    }
}

impl From<&Publish<'_>> for Message {
    fn from(publish: &Publish<'_>) -> Self {
        let properties = &publish.properties;
        Self {
            dup: publish.dup,
            qos: publish.qos,
            retain: publish.retain,
            topic: publish.topic.to_owned(),
            packet_id: publish.packet_id,
            properties: PublishProperties {
                message_expiry_interval: properties.message_expiry_interval,
                topic_alias: properties.topic_alias,
                subscription_identifiers: properties.subscription_identifiers.clone(),
                forward: properties.forward.clone().into_owned().into(),
            },
            payload: publish.payload.to_vec(),
        }
    }
}

impl From<&Packet<'_>> for Incoming {
    fn from(packet: &Packet<'_>) -> Self {
        let packet_type = packet.packet_type();
        match packet {
            Packet::Publish(publish) => Self::Message(publish.into()),
            Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
                Self::Ack(packet_type, ack.packet_id, Outcome::new(ack.reason_code, ack.reason_string))
            }
            Packet::SubAck(ack) => Self::Answer(packet_type, ack.reason_codes.clone(), ack.reason_string.map(str::to_owned)),
            Packet::UnsubAck(ack) => Self::Answer(packet_type, ack.reason_codes.clone(), ack.reason_string.map(str::to_owned)),
            Packet::PingResp => Self::PingResp,
            Packet::Disconnect(disconnect) => Self::Disconnect(Outcome::new(disconnect.reason_code, disconnect.reason_string)),
            _ => Self::Unexpected(packet_type),
        }
    }
}
