//! Any Control Packet: fixed header (5.0 2.1), length, dispatch.

use crate::reader::varint;
use crate::{
    Ack, Auth, ConnAck, Connect, Disconnect, PacketType, ProtocolVersion, Publish, ReasonCode, Sender, SubAck, Subscribe, UnsubAck,
    Unsubscribe, Violation, publish,
};

/// One Control Packet, borrowing from the bytes it was decoded from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub enum Packet<'a> {
    Connect(Connect<'a>),
    ConnAck(ConnAck<'a>),
    Publish(Publish<'a>),
    PubAck(Ack<'a>),
    PubRec(Ack<'a>),
    PubRel(Ack<'a>),
    PubComp(Ack<'a>),
    Subscribe(Subscribe<'a>),
    SubAck(SubAck<'a>),
    Unsubscribe(Unsubscribe<'a>),
    UnsubAck(UnsubAck<'a>),
    PingReq,
    PingResp,
    Disconnect(Disconnect<'a>),
    Auth(Auth<'a>),
}

/// The whole length, fixed header included, of the packet at the front of `input`; `None` until the fixed header is there.
#[inline]
pub fn packet_length(input: &[u8]) -> Result<Option<usize>, Violation> {
    match input {
        [_, length, ..] if *length < 0x80 => Ok(Some(2 + usize::from(*length))),
        [_, rest @ ..] => Ok(varint(rest)?.map(|(length, digits)| 1 + digits + length as usize)),
        [] => Ok(None),
    }
}

/// Decodes the first packet of `input`. `Ok(None)`: more bytes are needed. `Ok(Some((packet, length)))`: `length` bytes were used.
///
/// Its first byte is judged as soon as it is there, its size as soon as the fixed header is (0x95). CONNECT names its version itself; for all
/// others `version` counts.
pub fn decode<'a>(
    input: &'a [u8],
    version: ProtocolVersion,
    sender: Sender,
    max_packet_size: u32,
) -> Result<Option<(Packet<'a>, usize)>, Violation> {
    let Some((first, rest)) = input.split_first() else { return Ok(None) };
    let packet_type = check_first_byte(*first, version, sender)?;
    let in_packet = |violation: Violation| violation.within(packet_type);
    let Some((remaining, digits)) = varint(rest).map_err(in_packet)? else { return Ok(None) };
    let length = 1 + digits + remaining as usize;
    if length > max_packet_size as usize {
        // [MQTT-3.2.2-15] [MQTT-3.1.2-24]
        let clause = if sender == Sender::Client { "MQTT-3.2.2-15" } else { "MQTT-3.1.2-24" };
        return Err(in_packet(Violation::new(ReasonCode::PacketTooLarge, clause, "packet is larger than agreed")));
    }
    let Some(body) = rest.get(digits..digits + remaining as usize) else { return Ok(None) };
    let packet = decode_body(*first, packet_type, body, version, sender).map_err(in_packet)?;
    Ok(Some((packet, length)))
}

/// Type, direction and flags.
fn check_first_byte(first: u8, version: ProtocolVersion, sender: Sender) -> Result<PacketType, Violation> {
    let packet_type = PacketType::try_from(first >> 4).map_err(|_| Violation::malformed("2.1.2", "packet type 0 is reserved"))?;
    let wrong_way = match packet_type {
        PacketType::Connect | PacketType::Subscribe | PacketType::Unsubscribe | PacketType::PingReq => sender == Sender::Server,
        PacketType::ConnAck | PacketType::SubAck | PacketType::UnsubAck | PacketType::PingResp => sender == Sender::Client,
        _ => false,
    };
    if wrong_way {
        return Err(Violation::protocol_error("2.1.2", "packet type does not come from this side").within(packet_type));
    }
    let flags_are_right = match packet_type {
        PacketType::Publish => true,
        // CONNECT is judged by its own version; its flags are 0 in all but 3.1, which does not use them.
        PacketType::Connect => first & 0x0F == 0 || version == ProtocolVersion::V3_1,
        // 3.1 has QoS 1 and DUP here, and elsewhere flags it does not use.
        PacketType::PubRel | PacketType::Subscribe | PacketType::Unsubscribe if version == ProtocolVersion::V3_1 => first & 0x06 == 0x02,
        _ if version == ProtocolVersion::V3_1 => true,
        // [MQTT-2.1.3-1]
        _ => first == packet_type.first_byte(),
    };
    if flags_are_right {
        return Ok(packet_type);
    }
    let clause = match packet_type {
        PacketType::PubRel => "MQTT-3.6.1-1",
        PacketType::Subscribe => "MQTT-3.8.1-1",
        PacketType::Unsubscribe => "MQTT-3.10.1-1",
        PacketType::Disconnect => "MQTT-3.14.1-1",
        PacketType::Auth => "MQTT-3.15.1-1",
        _ => "MQTT-2.1.3-1",
    };
    Err(Violation::malformed(clause, "reserved flag of the fixed header has the wrong value").within(packet_type))
}

fn decode_body<'a>(
    first: u8,
    packet_type: PacketType,
    body: &'a [u8],
    version: ProtocolVersion,
    sender: Sender,
) -> Result<Packet<'a>, Violation> {
    let ack = |body| Ack::decode(body, packet_type, version, sender);
    let empty = |packet| if body.is_empty() { Ok(packet) } else { Err(Violation::malformed("2.1.4", "remaining length is not 0")) };
    Ok(match packet_type {
        PacketType::Connect => Packet::Connect(Connect::decode(body)?),
        PacketType::ConnAck => Packet::ConnAck(ConnAck::decode(body, version)?),
        PacketType::Publish => Packet::Publish(publish::decode_body(first, body, version, sender)?),
        PacketType::PubAck => Packet::PubAck(ack(body)?),
        PacketType::PubRec => Packet::PubRec(ack(body)?),
        PacketType::PubRel => Packet::PubRel(ack(body)?),
        PacketType::PubComp => Packet::PubComp(ack(body)?),
        PacketType::Subscribe => Packet::Subscribe(Subscribe::decode(body, version)?),
        PacketType::SubAck => Packet::SubAck(SubAck::decode(body, version)?),
        PacketType::Unsubscribe => Packet::Unsubscribe(Unsubscribe::decode(body, version)?),
        PacketType::UnsubAck => Packet::UnsubAck(UnsubAck::decode(body, version)?),
        PacketType::PingReq => empty(Packet::PingReq)?,
        PacketType::PingResp => empty(Packet::PingResp)?,
        PacketType::Disconnect => Packet::Disconnect(Disconnect::decode(body, version, sender)?),
        PacketType::Auth => Packet::Auth(Auth::decode(body, version, sender)?),
    })
}

impl Packet<'_> {
    /// Which of the fifteen it is.
    pub const fn packet_type(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::Connect,
            Self::ConnAck(_) => PacketType::ConnAck,
            Self::Publish(_) => PacketType::Publish,
            Self::PubAck(_) => PacketType::PubAck,
            Self::PubRec(_) => PacketType::PubRec,
            Self::PubRel(_) => PacketType::PubRel,
            Self::PubComp(_) => PacketType::PubComp,
            Self::Subscribe(_) => PacketType::Subscribe,
            Self::SubAck(_) => PacketType::SubAck,
            Self::Unsubscribe(_) => PacketType::Unsubscribe,
            Self::UnsubAck(_) => PacketType::UnsubAck,
            Self::PingReq => PacketType::PingReq,
            Self::PingResp => PacketType::PingResp,
            Self::Disconnect(_) => PacketType::Disconnect,
            Self::Auth(_) => PacketType::Auth,
        }
    }

    /// Appends the packet as `version` writes it.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        match self {
            Self::Connect(packet) => packet.encode(version, out),
            Self::ConnAck(packet) => packet.encode(version, out),
            Self::Publish(packet) => packet.encode(version, out),
            Self::PubAck(packet) | Self::PubRec(packet) | Self::PubRel(packet) | Self::PubComp(packet) => {
                packet.encode(self.packet_type(), version, out);
            }
            Self::Subscribe(packet) => packet.encode(version, out),
            Self::SubAck(packet) => packet.encode(version, out),
            Self::Unsubscribe(packet) => packet.encode(version, out),
            Self::UnsubAck(packet) => packet.encode(version, out),
            Self::PingReq | Self::PingResp => out.extend_from_slice(&[self.packet_type().first_byte(), 0]),
            Self::Disconnect(packet) => packet.encode(version, out),
            Self::Auth(packet) => packet.encode(version, out),
        }
    }
}

#[cfg(test)]
mod tests;
