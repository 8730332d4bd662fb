//! CONNACK, valid and malformed.

use super::return_code;
use crate::testing::{Expected, check};
use crate::{ConnAck, ConnAckProperties, Packet, PacketType, ProtocolVersion, QoS, ReasonCode, Sender};

fn connack(session_present: bool, reason_code: ReasonCode) -> ConnAck<'static> {
    ConnAck { session_present, reason_code, properties: ConnAckProperties::default() }
}

#[test]
fn connack_of_5_0_is_taken_or_refused() {
    let rows: &[(&str, &[u8], Expected<'_>)] = &[
        ("accepted", &[0x20, 3, 0, 0, 0], Ok(Packet::ConnAck(connack(false, ReasonCode::Success)))),
        ("session present", &[0x20, 3, 1, 0, 0], Ok(Packet::ConnAck(connack(true, ReasonCode::Success)))),
        ("refused", &[0x20, 3, 0, 0x87, 0], Ok(Packet::ConnAck(connack(false, ReasonCode::NotAuthorized)))),
        (
            "maximum QoS and keep alive",
            &[0x20, 8, 0, 0, 5, 0x24, 1, 0x13, 0, 10],
            Ok(Packet::ConnAck(ConnAck {
                properties: ConnAckProperties {
                    maximum_qos: Some(QoS::AtLeastOnce),
                    server_keep_alive: Some(10),
                    ..ConnAckProperties::default()
                },
                ..connack(false, ReasonCode::Success)
            })),
        ),
        ("reserved flag", &[0x20, 3, 2, 0, 0], Err((0x81, "MQTT-3.2.2-1"))),
        ("session present with a refusal", &[0x20, 3, 1, 0x87, 0], Err((0x82, "MQTT-3.2.2-6"))),
        ("code of another packet", &[0x20, 3, 0, 0x8E, 0], Err((0x82, "MQTT-3.2.2-8"))),
        ("no properties", &[0x20, 2, 0, 0], Err((0x81, "2.1.4"))),
        ("bytes after", &[0x20, 4, 0, 0, 0, 0], Err((0x81, "2.1.4"))),
        ("fixed header flags", &[0x21, 3, 0, 0, 0], Err((0x81, "MQTT-2.1.3-1"))),
        ("maximum QoS 2", &[0x20, 5, 0, 0, 2, 0x24, 2], Err((0x82, "3.2.2.3.4"))),
        ("retain available 2", &[0x20, 5, 0, 0, 2, 0x25, 2], Err((0x82, "3.2.2.3.5"))),
        ("wildcards 2", &[0x20, 5, 0, 0, 2, 0x28, 2], Err((0x82, "3.2.2.3.11"))),
        ("receive maximum 0", &[0x20, 6, 0, 0, 3, 0x21, 0, 0], Err((0x82, "3.1.2.11.3"))),
        ("maximum packet size 0", &[0x20, 8, 0, 0, 5, 0x27, 0, 0, 0, 0], Err((0x82, "3.1.2.11.4"))),
        ("authentication data alone", &[0x20, 6, 0, 0, 3, 0x16, 0, 0], Err((0x82, "3.2.2.3.18"))),
        ("property of CONNECT", &[0x20, 5, 0, 0, 2, 0x17, 1], Err((0x81, "2.2.2.2"))),
    ];
    for (name, bytes, expected) in rows {
        check(PacketType::ConnAck, ProtocolVersion::V5, Sender::Server, name, bytes, expected);
    }
    check(PacketType::ConnAck, ProtocolVersion::V5, Sender::Client, "wrong way", &[0x20, 3, 0, 0, 0], &Err((0x82, "2.1.2")));
}

#[test]
fn older_versions_have_six_return_codes() {
    use ReasonCode::{
        BadUserNameOrPassword, ClientIdentifierNotValid, NotAuthorized, ServerUnavailable, Success, UnsupportedProtocolVersion,
    };
    let codes = [Success, UnsupportedProtocolVersion, ClientIdentifierNotValid, ServerUnavailable, BadUserNameOrPassword, NotAuthorized];
    for version in [ProtocolVersion::V3_1, ProtocolVersion::V3_1_1] {
        for (number, reason_code) in (0u8..).zip(codes) {
            assert_eq!(return_code(reason_code), number);
            let expected = Ok(Packet::ConnAck(connack(false, reason_code)));
            check(PacketType::ConnAck, version, Sender::Server, reason_code.name(), &[0x20, 2, 0, number], &expected);
        }
        check(PacketType::ConnAck, version, Sender::Server, "reserved", &[0x20, 2, 0, 6], &Err((0x82, "3.1.1 3.2.2.3")));
        check(PacketType::ConnAck, version, Sender::Server, "properties", &[0x20, 3, 0, 0, 0], &Err((0x81, "2.1.4")));
    }
    for (reason_code, number) in [(ReasonCode::ServerBusy, 3), (ReasonCode::Banned, 5), (ReasonCode::BadAuthenticationMethod, 5)] {
        assert_eq!(return_code(reason_code), number);
    }
}

#[test]
fn session_present_is_told_only_where_it_can_be() {
    for (version, reason_code, expected) in [
        (ProtocolVersion::V3_1, ReasonCode::Success, vec![0x20, 2, 0, 0]),
        (ProtocolVersion::V3_1_1, ReasonCode::Success, vec![0x20, 2, 1, 0]),
        (ProtocolVersion::V5, ReasonCode::Success, vec![0x20, 3, 1, 0, 0]),
        // [MQTT-3.2.2-6]
        (ProtocolVersion::V3_1_1, ReasonCode::NotAuthorized, vec![0x20, 2, 0, 5]),
        (ProtocolVersion::V5, ReasonCode::NotAuthorized, vec![0x20, 3, 0, 0x87, 0]),
    ] {
        let mut out = Vec::new();
        connack(true, reason_code).encode(version, &mut out);
        assert_eq!(out, expected);
    }
    let expected = Ok(Packet::ConnAck(connack(false, ReasonCode::Success)));
    check(PacketType::ConnAck, ProtocolVersion::V3_1, Sender::Server, "3.1 reserves the byte", &[0x20, 2, 1, 0], &expected);
}
