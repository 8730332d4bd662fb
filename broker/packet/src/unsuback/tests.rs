//! UNSUBACK, valid and malformed.

use crate::testing::{Expected, check, id};
use crate::{Packet, PacketType, ProtocolVersion, ReasonCode, Sender, UnsubAck};

#[test]
fn unsuback_is_taken_or_refused() {
    use ProtocolVersion::{V3_1, V3_1_1, V5};
    let plain = |reason_codes: &[ReasonCode]| UnsubAck {
        packet_id: id(7),
        reason_codes: reason_codes.to_vec(),
        reason_string: None,
        user_properties: Vec::new(),
    };
    let rows: &[(&str, ProtocolVersion, &[u8], Expected<'_>)] = &[
        (
            "two codes",
            V5,
            &[0xB0, 5, 0, 7, 0, 0, 0x11],
            Ok(Packet::UnsubAck(plain(&[ReasonCode::Success, ReasonCode::NoSubscriptionExisted]))),
        ),
        ("identifier", V3_1_1, &[0xB0, 2, 0, 7], Ok(Packet::UnsubAck(plain(&[])))),
        ("identifier", V3_1, &[0xB0, 2, 0, 7], Ok(Packet::UnsubAck(plain(&[])))),
        ("codes before 5.0", V3_1_1, &[0xB0, 3, 0, 7, 0], Err((0x81, "2.1.4"))),
        ("no code", V5, &[0xB0, 3, 0, 7, 0], Err((0x82, "MQTT-3.11.3-1"))),
        ("code of SUBACK", V5, &[0xB0, 4, 0, 7, 0, 1], Err((0x82, "MQTT-3.11.3-2"))),
        ("identifier 0", V5, &[0xB0, 4, 0, 0, 0, 0], Err((0x81, "MQTT-2.2.1-3"))),
        ("flags", V5, &[0xB2, 4, 0, 7, 0, 0], Err((0x81, "MQTT-2.1.3-1"))),
    ];
    for (name, version, bytes, expected) in rows {
        check(PacketType::UnsubAck, *version, Sender::Server, name, bytes, expected);
    }
}

#[test]
fn before_5_0_codes_are_not_told() {
    let packet = UnsubAck { packet_id: id(7), reason_codes: vec![ReasonCode::Success], reason_string: None, user_properties: Vec::new() };
    let mut out = Vec::new();
    packet.encode(ProtocolVersion::V3_1_1, &mut out);
    assert_eq!(out, [0xB0, 2, 0, 7]);
}
