//! Encoding a PUBLISH for one Client: its version, its Packet Identifier, its subscription identifiers, its aliases, what is left of the expiry.

use std::sync::Arc;

use bucketmq_packet::message::Message;
use bucketmq_packet::property::{put_varint, varint_len};
use bucketmq_packet::{PacketIdentifier, ProtocolVersion, QoS};

use crate::aliases::TopicForm;

/// One Application Message on its way to one Session.
pub struct Delivery<'a> {
    /// Topic Name.
    pub topic: &'a str,
    /// Application Message.
    pub payload: &'a [u8],
    /// Encoded properties that go on unaltered and in order [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20].
    pub forward: &'a [u8],
    /// Wall-clock milliseconds after which the message has expired.
    pub expires_at: Option<u64>,
    /// The smaller of published and granted QoS [MQTT-3.8.4-8].
    pub qos: QoS,
    /// RETAIN as this Client shall see it.
    pub retain: bool,
    /// Subscription Identifiers of all matching Subscriptions [MQTT-3.3.4-3] [MQTT-3.3.4-4].
    pub identifiers: &'a [u32],
    /// Which Shared Subscription of the Session this came through (its place in the Session's own list, plus 1); 0: none.
    pub share: u32,
    /// The message as a shared value, made when somebody has to keep it.
    pub message: &'a dyn Fn() -> Arc<Message>,
}

/// How a PUBLISH is written; everything `encode_publish` needs beside the content.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form<'a> {
    pub(crate) version: ProtocolVersion,
    pub(crate) dup: bool,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) packet_id: Option<PacketIdentifier>,
    pub(crate) topic: TopicForm,
    /// Seconds left.
    pub(crate) expiry: Option<u32>,
    pub(crate) identifiers: &'a [u32],
}

fn properties_length(form: &Form<'_>, forward: &[u8]) -> usize {
    let expiry = if form.expiry.is_some() { 5 } else { 0 };
    let alias = if form.topic == TopicForm::Name { 0 } else { 3 };
    expiry + alias + form.identifiers.iter().map(|id| 1 + varint_len(*id)).sum::<usize>() + forward.len()
}

fn remaining_length(form: &Form<'_>, topic: &str, payload: &[u8], forward: &[u8]) -> usize {
    let topic_length = if matches!(form.topic, TopicForm::Alias(_)) { 0 } else { topic.len() };
    let id = if form.packet_id.is_some() { 2 } else { 0 };
    let properties = if form.version == ProtocolVersion::V5 {
        let length = properties_length(form, forward);
        varint_len(length as u32) + length
    } else {
        0
    };
    2 + topic_length + id + properties + payload.len()
}

/// Bytes of the whole packet.
pub(crate) fn length(form: &Form<'_>, topic: &str, payload: &[u8], forward: &[u8]) -> usize {
    let remaining = remaining_length(form, topic, payload, forward);
    1 + varint_len(remaining as u32) + remaining
}

/// Appends the packet to `out`.
pub(crate) fn encode(form: &Form<'_>, topic: &str, payload: &[u8], forward: &[u8], out: &mut Vec<u8>) {
    let remaining = remaining_length(form, topic, payload, forward);
    out.reserve(5 + remaining);
    // [MQTT-3.3.1-3] DUP here is ours, never the publisher's.
    out.push(0x30 | u8::from(form.dup) << 3 | (form.qos as u8) << 1 | u8::from(form.retain));
    put_varint(remaining as u32, out);
    if matches!(form.topic, TopicForm::Alias(_)) {
        out.extend_from_slice(&[0, 0]);
    } else {
        out.extend_from_slice(&(topic.len() as u16).to_be_bytes());
        out.extend_from_slice(topic.as_bytes());
    }
    if let Some(id) = form.packet_id {
        out.extend_from_slice(&id.get().to_be_bytes());
    }
    if form.version == ProtocolVersion::V5 {
        put_varint(properties_length(form, forward) as u32, out);
        if let Some(seconds) = form.expiry {
            out.push(0x02);
            out.extend_from_slice(&seconds.to_be_bytes());
        }
        if let TopicForm::NameAndAlias(alias) | TopicForm::Alias(alias) = form.topic {
            out.push(0x23);
            out.extend_from_slice(&alias.to_be_bytes());
        }
        for id in form.identifiers {
            out.push(0x0B);
            put_varint(*id, out);
        }
        out.extend_from_slice(forward);
    }
    out.extend_from_slice(payload);
}

/// Seconds left until `expires_at` [MQTT-3.3.2-6]; `Some(0)` never: what has expired is `Err`.
pub(crate) fn seconds_left(now: u64, expires_at: Option<u64>) -> Result<Option<u32>, ()> {
    match expires_at {
        None => Ok(None),
        Some(at) if at <= now => Err(()),
        Some(at) => Ok(Some(u32::try_from((at - now).div_ceil(1000)).unwrap_or(u32::MAX))),
    }
}

/// Bytes of a plain QoS 0 PUBLISH without identifiers or alias, for callers that compare with a limit.
pub fn publish_length(version: ProtocolVersion, topic: &str, payload: &[u8], forward: &[u8]) -> usize {
    length(&plain(version), topic, payload, forward)
}

/// Appends a plain QoS 0 PUBLISH without identifiers or alias: the form that many Clients can share.
pub fn encode_publish(version: ProtocolVersion, topic: &str, payload: &[u8], forward: &[u8], out: &mut Vec<u8>) {
    encode(&plain(version), topic, payload, forward, out);
}

fn plain(version: ProtocolVersion) -> Form<'static> {
    Form {
        version,
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        packet_id: None,
        topic: TopicForm::Name,
        expiry: None,
        identifiers: &[],
    }
}
