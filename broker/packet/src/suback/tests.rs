//! SUBACK, valid and malformed.

use crate::testing::{Expected, check, id};
use crate::{Packet, PacketType, ProtocolVersion, ReasonCode, Sender, SubAck};

fn suback(reason_codes: &[ReasonCode]) -> SubAck<'static> {
    SubAck { packet_id: id(7), reason_codes: reason_codes.to_vec(), reason_string: None, user_properties: Vec::new() }
}

#[test]
fn suback_is_taken_or_refused() {
    use ProtocolVersion::{V3_1_1, V5};
    use ReasonCode::{GrantedQoS1, GrantedQoS2, NotAuthorized, Success, UnspecifiedError};
    let rows: &[(&str, ProtocolVersion, &[u8], Expected<'_>)] = &[
        ("granted", V5, &[0x90, 5, 0, 7, 0, 1, 2], Ok(Packet::SubAck(suback(&[GrantedQoS1, GrantedQoS2])))),
        ("refused", V5, &[0x90, 4, 0, 7, 0, 0x87], Ok(Packet::SubAck(suback(&[NotAuthorized])))),
        (
            "explained",
            V5,
            &[0x90, 8, 0, 7, 4, 0x1F, 0, 1, b'r', 0],
            Ok(Packet::SubAck(SubAck { reason_string: Some("r"), ..suback(&[Success]) })),
        ),
        ("granted", V3_1_1, &[0x90, 4, 0, 7, 0, 0x80], Ok(Packet::SubAck(suback(&[Success, UnspecifiedError])))),
        ("no code", V5, &[0x90, 3, 0, 7, 0], Err((0x82, "MQTT-3.9.3-1"))),
        ("no code", V3_1_1, &[0x90, 2, 0, 7], Err((0x82, "MQTT-3.9.3-1"))),
        ("code of UNSUBACK", V5, &[0x90, 4, 0, 7, 0, 0x11], Err((0x82, "MQTT-3.9.3-2"))),
        ("reserved code", V3_1_1, &[0x90, 3, 0, 7, 3], Err((0x81, "3.1.1 MQTT-3.9.3-2"))),
        ("identifier 0", V5, &[0x90, 4, 0, 0, 0, 0], Err((0x81, "MQTT-2.2.1-3"))),
        ("flags", V5, &[0x92, 4, 0, 7, 0, 0], Err((0x81, "MQTT-2.1.3-1"))),
        ("property of CONNACK", V5, &[0x90, 6, 0, 7, 2, 0x25, 1, 0], Err((0x81, "2.2.2.2"))),
    ];
    for (name, version, bytes, expected) in rows {
        check(PacketType::SubAck, *version, Sender::Server, name, bytes, expected);
    }
    check(PacketType::SubAck, V5, Sender::Client, "direction", &[0x90, 4, 0, 7, 0, 0], &Err((0x82, "2.1.2")));
}

#[test]
fn before_5_0_every_failure_is_0x80() {
    let mut out = Vec::new();
    suback(&[ReasonCode::GrantedQoS1, ReasonCode::TopicFilterInvalid]).encode(ProtocolVersion::V3_1_1, &mut out);
    assert_eq!(out, [0x90, 4, 0, 7, 1, 0x80]);
}
