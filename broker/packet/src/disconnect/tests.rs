//! DISCONNECT, valid and malformed.

use crate::testing::{Expected, check};
use crate::{Disconnect, Packet, PacketType, ProtocolVersion, ReasonCode, Sender};

#[test]
fn disconnect_of_5_0_is_taken_or_refused() {
    use Sender::{Client, Server};
    let plain = |reason_code| Ok(Packet::Disconnect(Disconnect::new(reason_code)));
    let rows: &[(&str, Sender, &[u8], Expected<'_>)] = &[
        ("shortest", Client, &[0xE0, 0], plain(ReasonCode::Success)),
        ("reason code", Client, &[0xE0, 1, 0x04], plain(ReasonCode::DisconnectWithWillMessage)),
        ("empty properties", Server, &[0xE0, 2, 0x8E, 0], plain(ReasonCode::SessionTakenOver)),
        (
            "session expiry",
            Client,
            &[0xE0, 7, 0, 5, 0x11, 0, 0, 0, 9],
            Ok(Packet::Disconnect(Disconnect { session_expiry_interval: Some(9), ..Disconnect::default() })),
        ),
        (
            "server reference",
            Server,
            &[0xE0, 6, 0x9C, 4, 0x1C, 0, 1, b's'],
            Ok(Packet::Disconnect(Disconnect { server_reference: Some("s"), ..Disconnect::new(ReasonCode::UseAnotherServer) })),
        ),
        ("session expiry from a Server", Server, &[0xE0, 7, 0, 5, 0x11, 0, 0, 0, 9], Err((0x82, "MQTT-3.14.2-2"))),
        ("server reference from a Client", Client, &[0xE0, 5, 0, 3, 0x1C, 0, 0], Err((0x82, "3.14.2.2.5"))),
        ("will message from a Server", Server, &[0xE0, 1, 0x04], Err((0x82, "MQTT-3.14.2-1"))),
        ("taken over from a Client", Client, &[0xE0, 1, 0x8E], Err((0x82, "MQTT-3.14.2-1"))),
        ("unknown code", Client, &[0xE0, 1, 0x7F], Err((0x82, "MQTT-3.14.2-1"))),
        ("two session expiries", Client, &[0xE0, 12, 0, 10, 0x11, 0, 0, 0, 9, 0x11, 0, 0, 0, 9], Err((0x82, "3.1.2.11.2"))),
        ("flags", Client, &[0xE1, 0], Err((0x81, "MQTT-3.14.1-1"))),
        ("bytes after", Client, &[0xE0, 3, 0, 0, 0], Err((0x81, "2.1.4"))),
    ];
    for (name, sender, bytes, expected) in rows {
        check(PacketType::Disconnect, ProtocolVersion::V5, *sender, name, bytes, expected);
    }
}

#[test]
fn before_5_0_only_a_client_says_it_and_says_nothing_more() {
    for version in [ProtocolVersion::V3_1, ProtocolVersion::V3_1_1] {
        let expected = Ok(Packet::Disconnect(Disconnect::default()));
        check(PacketType::Disconnect, version, Sender::Client, "plain", &[0xE0, 0], &expected);
        check(PacketType::Disconnect, version, Sender::Client, "reason code", &[0xE0, 1, 0], &Err((0x81, "2.1.4")));
        check(PacketType::Disconnect, version, Sender::Server, "from a Server", &[0xE0, 0], &Err((0x82, "3.1.1 3.14")));
    }
}
