//! A stream of Control Packets: the first byte says version and sender, the rest is decoded packet by packet.
//!
//! Whatever is accepted has to encode to bytes that decode to the same, the fast path for PUBLISH has to agree with the general one, and no
//! part of a packet may be taken for a whole one.
#![no_main]

use bucketmq_packet::{Packet, ProtocolVersion, Sender, connect, decode, decode_publish, packet_length};
use libfuzzer_sys::fuzz_target;

const MAX_PACKET_SIZE: u32 = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let Some((first, mut rest)) = data.split_first() else { return };
    let mut version = ProtocolVersion::ALL[usize::from(first >> 1) % 3];
    let sender = if first & 1 == 0 { Sender::Client } else { Sender::Server };
    let _ = connect::version_hint(rest);
    // The caller promises a first byte; anything else must still not panic.
    let _ = decode_publish(rest, version, sender);
    while let Ok(Some((packet, length))) = decode(rest, version, sender, MAX_PACKET_SIZE) {
        let (bytes, behind) = rest.split_at(length);
        assert_eq!(packet_length(bytes), Ok(Some(length)));
        assert_eq!(decode(&bytes[..length - 1], version, sender, MAX_PACKET_SIZE), Ok(None));
        match &packet {
            Packet::Connect(connect) => version = connect.version,
            Packet::Publish(publish) => assert_eq!(decode_publish(bytes, version, sender).as_ref(), Ok(publish)),
            _ => {}
        }
        let mut out = Vec::new();
        packet.encode(version, &mut out);
        // Encoding never takes more than the peer needed: unknown or repeated things were refused, and lengths are minimal.
        assert!(out.len() <= bytes.len(), "{} bytes became {}", bytes.len(), out.len());
        assert_eq!(decode(&out, version, sender, MAX_PACKET_SIZE), Ok(Some((packet, out.len()))));
        rest = behind;
    }
});
