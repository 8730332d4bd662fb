//! PUBACK, PUBREC, PUBREL and PUBCOMP, valid and malformed.

use crate::testing::{Expected, check, id};
use crate::{Ack, Packet, PacketType, ProtocolVersion, ReasonCode, Sender};

fn plain(reason_code: ReasonCode) -> Ack<'static> {
    Ack::new(id(0x0102), reason_code)
}

#[test]
fn puback_of_5_0_is_taken_in_all_its_lengths_or_refused() {
    use ReasonCode::{NoMatchingSubscribers, QuotaExceeded, Success};
    let rows: &[(&str, &[u8], Expected<'_>)] = &[
        ("identifier only", &[0x40, 2, 1, 2], Ok(Packet::PubAck(plain(Success)))),
        ("with reason code", &[0x40, 3, 1, 2, 0x97], Ok(Packet::PubAck(plain(QuotaExceeded)))),
        ("with empty properties", &[0x40, 4, 1, 2, 0x10, 0], Ok(Packet::PubAck(plain(NoMatchingSubscribers)))),
        (
            "with reason string and user property",
            &[0x40, 15, 1, 2, 0x00, 11, 0x1F, 0, 1, b'r', 0x26, 0, 1, b'k', 0, 1, b'v'],
            Ok(Packet::PubAck(Ack { reason_string: Some("r"), user_properties: vec![("k", "v")], ..plain(Success) })),
        ),
        ("flags", &[0x42, 2, 1, 2], Err((0x81, "MQTT-2.1.3-1"))),
        ("no identifier", &[0x40, 1, 1], Err((0x81, "2.1.4"))),
        ("identifier 0", &[0x40, 2, 0, 0], Err((0x81, "MQTT-2.2.1-3"))),
        ("reason code of another packet", &[0x40, 3, 1, 2, 0x92], Err((0x82, "MQTT-3.4.2-1"))),
        ("unknown reason code", &[0x40, 3, 1, 2, 0x55], Err((0x82, "MQTT-3.4.2-1"))),
        ("bytes after the properties", &[0x40, 5, 1, 2, 0, 0, 0], Err((0x81, "2.1.4"))),
        ("properties beyond the packet", &[0x40, 4, 1, 2, 0, 1], Err((0x81, "2.1.4"))),
        ("two reason strings", &[0x40, 10, 1, 2, 0, 6, 0x1F, 0, 0, 0x1F, 0, 0], Err((0x82, "3.2.2.3.9"))),
        ("property of another packet", &[0x40, 6, 1, 2, 0, 2, 0x01, 0], Err((0x81, "2.2.2.2"))),
        ("unknown property", &[0x40, 6, 1, 2, 0, 2, 0x7E, 0], Err((0x81, "2.2.2.2"))),
        ("property length not minimal", &[0x40, 5, 1, 2, 0, 0x80, 0], Err((0x81, "MQTT-1.5.5-1"))),
    ];
    for (name, bytes, expected) in rows {
        check(PacketType::PubAck, ProtocolVersion::V5, Sender::Client, name, bytes, expected);
        check(PacketType::PubAck, ProtocolVersion::V5, Sender::Server, name, bytes, expected);
    }
}

#[test]
fn every_acknowledgement_has_its_flags_and_reason_codes() {
    use PacketType::{PubComp, PubRec, PubRel};
    use ReasonCode::{PacketIdentifierNotFound, Success, UnspecifiedError};
    let rows: &[(PacketType, &[u8], Expected<'_>)] = &[
        (PubRec, &[0x50, 2, 1, 2], Ok(Packet::PubRec(plain(Success)))),
        (PubRec, &[0x50, 3, 1, 2, 0x80], Ok(Packet::PubRec(plain(UnspecifiedError)))),
        (PubRec, &[0x50, 3, 1, 2, 0x92], Err((0x82, "MQTT-3.5.2-1"))),
        (PubRec, &[0x52, 2, 1, 2], Err((0x81, "MQTT-2.1.3-1"))),
        (PubRel, &[0x62, 2, 1, 2], Ok(Packet::PubRel(plain(Success)))),
        (PubRel, &[0x62, 3, 1, 2, 0x92], Ok(Packet::PubRel(plain(PacketIdentifierNotFound)))),
        (PubRel, &[0x62, 3, 1, 2, 0x80], Err((0x82, "MQTT-3.6.2-1"))),
        (PubRel, &[0x60, 2, 1, 2], Err((0x81, "MQTT-3.6.1-1"))),
        (PubRel, &[0x6A, 2, 1, 2], Err((0x81, "MQTT-3.6.1-1"))),
        (PubComp, &[0x70, 2, 1, 2], Ok(Packet::PubComp(plain(Success)))),
        (PubComp, &[0x70, 3, 1, 2, 0x92], Ok(Packet::PubComp(plain(PacketIdentifierNotFound)))),
        (PubComp, &[0x70, 3, 1, 2, 0x10], Err((0x82, "MQTT-3.7.2-1"))),
        (PubComp, &[0x71, 2, 1, 2], Err((0x81, "MQTT-2.1.3-1"))),
    ];
    for (packet_type, bytes, expected) in rows {
        check(*packet_type, ProtocolVersion::V5, Sender::Client, packet_type.name(), bytes, expected);
    }
}

#[test]
fn before_5_0_there_is_only_the_identifier() {
    for version in [ProtocolVersion::V3_1, ProtocolVersion::V3_1_1] {
        let rows: &[(&str, &[u8], Expected<'_>)] = &[
            ("identifier", &[0x40, 2, 1, 2], Ok(Packet::PubAck(plain(ReasonCode::Success)))),
            ("reason code", &[0x40, 3, 1, 2, 0], Err((0x81, "2.1.4"))),
            ("identifier 0", &[0x40, 2, 0, 0], Err((0x81, "MQTT-2.2.1-3"))),
        ];
        for (name, bytes, expected) in rows {
            check(PacketType::PubAck, version, Sender::Client, name, bytes, expected);
        }
        let mut out = Vec::new();
        plain(ReasonCode::QuotaExceeded).encode(PacketType::PubAck, version, &mut out);
        assert_eq!(out, [0x40, 2, 1, 2]);
    }
}

#[test]
fn pubrel_of_3_1_may_carry_dup() {
    let expected = Ok(Packet::PubRel(plain(ReasonCode::Success)));
    check(PacketType::PubRel, ProtocolVersion::V3_1, Sender::Client, "DUP", &[0x6A, 2, 1, 2], &expected);
    check(PacketType::PubRel, ProtocolVersion::V3_1_1, Sender::Client, "DUP", &[0x6A, 2, 1, 2], &Err((0x81, "MQTT-3.6.1-1")));
}
