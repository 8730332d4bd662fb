//! UNSUBSCRIBE, valid and malformed.

use crate::testing::{Expected, check, id, packet};
use crate::{Packet, PacketType, ProtocolVersion, Sender, Unsubscribe};

#[test]
fn unsubscribe_is_taken_or_refused() {
    use ProtocolVersion::{V3_1, V3_1_1, V5};
    let plain = |filters: &[&'static str]| Unsubscribe { packet_id: id(7), filters: filters.to_vec(), user_properties: Vec::new() };
    let rows: &[(&str, ProtocolVersion, u8, &[u8], Expected<'_>)] = &[
        ("two filters", V5, 0xA2, b"\0\x07\0\0\x01a\0\x01#", Ok(Packet::Unsubscribe(plain(&["a", "#"])))),
        (
            "user property",
            V5,
            0xA2,
            b"\0\x07\x05\x26\0\0\0\0\0\x01a",
            Ok(Packet::Unsubscribe(Unsubscribe { user_properties: vec![("", "")], ..plain(&["a"]) })),
        ),
        ("one filter", V3_1_1, 0xA2, b"\0\x07\0\x01a", Ok(Packet::Unsubscribe(plain(&["a"])))),
        ("DUP", V3_1, 0xAA, b"\0\x07\0\x01a", Ok(Packet::Unsubscribe(plain(&["a"])))),
        ("DUP", V3_1_1, 0xAA, b"\0\x07\0\x01a", Err((0x81, "MQTT-3.10.1-1"))),
        ("flags 0", V5, 0xA0, b"\0\x07\0\0\x01a", Err((0x81, "MQTT-3.10.1-1"))),
        ("identifier 0", V5, 0xA2, b"\0\0\0\0\x01a", Err((0x81, "MQTT-2.2.1-3"))),
        ("no filter", V5, 0xA2, b"\0\x07\0", Err((0x82, "MQTT-3.10.3-2"))),
        ("no filter", V3_1_1, 0xA2, b"\0\x07", Err((0x82, "MQTT-3.10.3-2"))),
        ("filter cut off", V5, 0xA2, b"\0\x07\0\0\x02a", Err((0x81, "2.1.4"))),
        ("filter not UTF-8", V5, 0xA2, b"\0\x07\0\0\x01\xC0", Err((0x81, "MQTT-1.5.4-1"))),
        ("subscription identifier", V5, 0xA2, b"\0\x07\x02\x0B\x01\0\x01a", Err((0x81, "2.2.2.2"))),
    ];
    for (name, version, first, body, expected) in rows {
        check(PacketType::Unsubscribe, *version, Sender::Client, name, &packet(*first, &[body]), expected);
    }
}
