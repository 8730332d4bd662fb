//! What the packets' table tests share.

use crate::{Packet, PacketIdentifier, PacketType, ProtocolVersion, Sender, decode};

/// What a row expects: a packet, or Reason Code and clause.
pub(crate) type Expected<'a> = Result<Packet<'a>, (u8, &'static str)>;

pub(crate) fn id(value: u16) -> PacketIdentifier {
    PacketIdentifier::new(value).expect("not 0")
}

/// `first`, the length of `parts` and `parts`: a packet from its pieces.
pub(crate) fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let mut bytes = vec![first];
    crate::property::put_varint(u32::try_from(body.len()).expect("a short test"), &mut bytes);
    bytes.extend_from_slice(&body);
    bytes
}

/// `bytes` decode to the packet, which encodes to what decodes to the same; every part of them from the front asks for more. Or they are
/// refused as expected, in a packet of `packet_type`.
pub(crate) fn check(packet_type: PacketType, version: ProtocolVersion, sender: Sender, name: &str, bytes: &[u8], expected: &Expected<'_>) {
    let decoded = decode(bytes, version, sender, u32::MAX);
    match expected {
        Ok(expected) => {
            let (packet, length) = decoded.unwrap_or_else(|violation| panic!("{name}: {violation}")).expect("the packet is whole");
            assert_eq!((&packet, length), (expected, bytes.len()), "{name}");
            assert_eq!(packet.packet_type(), packet_type, "{name}");
            let mut out = Vec::new();
            packet.encode(version, &mut out);
            assert_eq!(decode(&out, version, sender, u32::MAX), Ok(Some((packet, out.len()))), "{name}: encoded {out:02X?}");
            for end in 0..bytes.len() {
                assert_eq!(decode(&bytes[..end], version, sender, u32::MAX), Ok(None), "{name}: {end} bytes");
            }
        }
        Err((reason_code, clause)) => {
            let violation = decoded.expect_err(name);
            assert_eq!((violation.reason_code.value(), violation.clause), (*reason_code, *clause), "{name}: {violation}");
            assert_eq!(violation.packet_type, Some(packet_type), "{name}");
        }
    }
}
