//! AUTH, valid and malformed.

use crate::testing::{Expected, check};
use crate::{Auth, Packet, PacketType, ProtocolVersion, ReasonCode, Sender};

#[test]
fn auth_is_taken_or_refused() {
    use Sender::{Client, Server};
    let auth = |reason_code| Auth { reason_code, authentication_method: Some("m"), ..Auth::default() };
    let rows: &[(&str, Sender, &[u8], Expected<'_>)] = &[
        ("shortest success", Server, &[0xF0, 0], Ok(Packet::Auth(Auth::default()))),
        (
            "continue",
            Client,
            &[0xF0, 11, 0x18, 9, 0x15, 0, 1, b'm', 0x16, 0, 2, 0, 1],
            Ok(Packet::Auth(Auth { authentication_data: Some(&[0, 1]), ..auth(ReasonCode::ContinueAuthentication) })),
        ),
        ("again", Client, &[0xF0, 6, 0x19, 4, 0x15, 0, 1, b'm'], Ok(Packet::Auth(auth(ReasonCode::ReAuthenticate)))),
        ("again, from a Server", Server, &[0xF0, 6, 0x19, 4, 0x15, 0, 1, b'm'], Err((0x82, "MQTT-3.15.2-1"))),
        ("success, from a Client", Client, &[0xF0, 0], Err((0x82, "MQTT-3.15.2-1"))),
        ("no method", Client, &[0xF0, 2, 0x18, 0], Err((0x82, "3.15.2.2.2"))),
        ("no properties", Client, &[0xF0, 1, 0x18], Err((0x81, "2.1.4"))),
        ("two methods", Client, &[0xF0, 8, 0x18, 6, 0x15, 0, 0, 0x15, 0, 0], Err((0x82, "3.1.2.11.9"))),
        ("flags", Client, &[0xF1, 0], Err((0x81, "MQTT-3.15.1-1"))),
        ("wrong code", Client, &[0xF0, 6, 0x80, 4, 0x15, 0, 1, b'm'], Err((0x82, "MQTT-3.15.2-1"))),
        ("bytes after", Client, &[0xF0, 7, 0x18, 4, 0x15, 0, 1, b'm', 0], Err((0x81, "2.1.4"))),
    ];
    for (name, sender, bytes, expected) in rows {
        check(PacketType::Auth, ProtocolVersion::V5, *sender, name, bytes, expected);
    }
    for version in [ProtocolVersion::V3_1, ProtocolVersion::V3_1_1] {
        check(PacketType::Auth, version, Sender::Client, "before 5.0", &[0xF0, 0], &Err((0x81, "3.1.1 2.2.1")));
    }
}
