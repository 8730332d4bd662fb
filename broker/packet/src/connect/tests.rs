//! CONNECT, valid and malformed.

use std::borrow::Cow;

use super::version_hint;
use crate::testing::{Expected, check, packet};
use crate::{Connect, ConnectProperties, Packet, PacketType, ProtocolVersion, QoS, Sender, Will, decode};

const MQTT_5: &[u8] = b"\0\x04MQTT\x05";
const MQTT_3_1_1: &[u8] = b"\0\x04MQTT\x04";
const MQTT_3_1: &[u8] = b"\0\x06MQIsdp\x03";

fn connect(version: ProtocolVersion) -> Connect<'static> {
    Connect {
        version,
        clean_start: true,
        keep_alive: 60,
        client_id: "c",
        username: None,
        password: None,
        will: None,
        properties: ConnectProperties::default(),
    }
}

fn will() -> Will<'static> {
    Will {
        topic: "w",
        payload: b"p",
        qos: QoS::AtLeastOnce,
        retain: true,
        delay_interval: 0,
        message_expiry_interval: None,
        forward: Cow::Borrowed(&[]),
    }
}

/// `head` with flags, Keep Alive 60 and the rest.
fn table(version: ProtocolVersion, head: &[u8], rows: &[(&str, u8, &[u8], Expected<'_>)]) {
    for (name, flags, rest, expected) in rows {
        let bytes = packet(0x10, &[head, &[*flags, 0, 60], rest]);
        check(PacketType::Connect, version, Sender::Client, name, &bytes, expected);
    }
}

#[test]
fn connect_of_5_0_is_taken_or_refused() {
    let plain = || connect(ProtocolVersion::V5);
    let with = |properties| Ok(Packet::Connect(Connect { properties, ..plain() }));
    let defaults = ConnectProperties::default;
    table(
        ProtocolVersion::V5,
        MQTT_5,
        &[
            ("plain", 0x02, b"\0\0\x01c", Ok(Packet::Connect(plain()))),
            ("resuming", 0x00, b"\0\0\x01c", Ok(Packet::Connect(Connect { clean_start: false, ..plain() }))),
            ("no client identifier", 0x02, b"\0\0\0", Ok(Packet::Connect(Connect { client_id: "", ..plain() }))),
            ("password alone", 0x42, b"\0\0\x01c\0\x02\0\xFF", Ok(Packet::Connect(Connect { password: Some(b"\0\xFF"), ..plain() }))),
            (
                "user name and password",
                0xC2,
                b"\0\0\x01c\0\x01u\0\0",
                Ok(Packet::Connect(Connect { username: Some("u"), password: Some(b""), ..plain() })),
            ),
            ("will", 0x2E, b"\0\0\x01c\0\0\x01w\0\x01p", Ok(Packet::Connect(Connect { will: Some(will()), ..plain() }))),
            (
                "will with properties",
                0x2E,
                b"\0\0\x01c\x0F\x01\x01\x18\0\0\0\x09\x02\0\0\0\x08\x03\0\0\0\x01w\0\x01p",
                Ok(Packet::Connect(Connect {
                    will: Some(Will {
                        delay_interval: 9,
                        message_expiry_interval: Some(8),
                        forward: Cow::Borrowed(b"\x01\x01\x03\0\0"),
                        ..will()
                    }),
                    ..plain()
                })),
            ),
            (
                "session expiry",
                0x02,
                b"\x05\x11\0\0\0\x00\0\x01c",
                with(ConnectProperties { session_expiry_interval: Some(0), ..defaults() }),
            ),
            ("receive maximum", 0x02, b"\x03\x21\0\x01\0\x01c", with(ConnectProperties { receive_maximum: Some(1), ..defaults() })),
            ("packet size", 0x02, b"\x05\x27\0\0\0\x09\0\x01c", with(ConnectProperties { maximum_packet_size: Some(9), ..defaults() })),
            ("topic alias maximum", 0x02, b"\x03\x22\0\x07\0\x01c", with(ConnectProperties { topic_alias_maximum: 7, ..defaults() })),
            (
                "no problem information",
                0x02,
                b"\x02\x17\0\0\x01c",
                with(ConnectProperties { request_problem_information: false, ..defaults() }),
            ),
            (
                "response information",
                0x02,
                b"\x02\x19\x01\0\x01c",
                with(ConnectProperties { request_response_information: true, ..defaults() }),
            ),
            (
                "authentication",
                0x02,
                b"\x08\x15\0\x01m\x16\0\x01d\0\x01c",
                with(ConnectProperties { authentication_method: Some("m"), authentication_data: Some(b"d"), ..defaults() }),
            ),
            (
                "user properties repeat",
                0x02,
                b"\x0A\x26\0\0\0\0\x26\0\0\0\0\0\x01c",
                with(ConnectProperties { user_properties: vec![("", ""), ("", "")], ..defaults() }),
            ),
            ("reserved flag", 0x03, b"\0\0\x01c", Err((0x81, "MQTT-3.1.2-3"))),
            ("will QoS without a will", 0x0A, b"\0\0\x01c", Err((0x81, "MQTT-3.1.2-11"))),
            ("will retain without a will", 0x22, b"\0\0\x01c", Err((0x81, "MQTT-3.1.2-13"))),
            ("will QoS 3", 0x1E, b"\0\0\x01c\0\0\x01w\0\0", Err((0x81, "MQTT-3.1.2-12"))),
            ("will flag without fields", 0x06, b"\0\0\x01c", Err((0x81, "2.1.4"))),
            ("will topic with a wildcard", 0x06, b"\0\0\x01c\0\0\x01#\0\0", Err((0x90, "MQTT-4.7.0-1"))),
            ("will topic empty", 0x06, b"\0\0\x01c\0\0\0\0\0", Err((0x90, "MQTT-4.7.3-1"))),
            ("two will delays", 0x06, b"\0\0\x01c\x0A\x18\0\0\0\0\x18\0\0\0\0\0\x01w\0\0", Err((0x82, "3.1.3.2.2"))),
            ("topic alias in the will", 0x06, b"\0\0\x01c\x03\x23\0\x01\0\x01w\0\0", Err((0x81, "2.2.2.2"))),
            ("payload format 2 in the will", 0x06, b"\0\0\x01c\x02\x01\x02\0\x01w\0\0", Err((0x82, "3.3.2.3.2"))),
            ("user name missing", 0x82, b"\0\0\x01c", Err((0x81, "2.1.4"))),
            ("password missing", 0xC2, b"\0\0\x01c\0\x01u", Err((0x81, "2.1.4"))),
            ("field without its flag", 0x02, b"\0\0\x01c\0\x01u", Err((0x81, "2.1.4"))),
            ("client identifier missing", 0x02, b"\0", Err((0x81, "2.1.4"))),
            ("client identifier with NUL", 0x02, b"\0\0\x01\0", Err((0x81, "MQTT-1.5.4-2"))),
            ("client identifier not UTF-8", 0x02, b"\0\0\x01\xFF", Err((0x81, "MQTT-1.5.4-1"))),
            ("user name with a surrogate", 0x82, b"\0\0\x01c\0\x03\xED\xA0\x80", Err((0x81, "MQTT-1.5.4-1"))),
            ("receive maximum 0", 0x02, b"\x03\x21\0\0\0\x01c", Err((0x82, "3.1.2.11.3"))),
            ("two receive maxima", 0x02, b"\x06\x21\0\x01\x21\0\x01\0\x01c", Err((0x82, "3.1.2.11.3"))),
            ("maximum packet size 0", 0x02, b"\x05\x27\0\0\0\0\0\x01c", Err((0x82, "3.1.2.11.4"))),
            ("two session expiries", 0x02, b"\x0A\x11\0\0\0\0\x11\0\0\0\0\0\x01c", Err((0x82, "3.1.2.11.2"))),
            ("two topic alias maxima", 0x02, b"\x06\x22\0\0\x22\0\0\0\x01c", Err((0x82, "3.1.2.11.5"))),
            ("request response information 2", 0x02, b"\x02\x19\x02\0\x01c", Err((0x82, "3.1.2.11.6"))),
            ("request problem information 2", 0x02, b"\x02\x17\x02\0\x01c", Err((0x82, "3.1.2.11.7"))),
            ("authentication data alone", 0x02, b"\x04\x16\0\x01d\0\x01c", Err((0x82, "3.1.2.11.10"))),
            ("property of PUBLISH", 0x02, b"\x02\x01\0\0\x01c", Err((0x81, "2.2.2.2"))),
            ("will delay outside the will", 0x02, b"\x05\x18\0\0\0\0\0\x01c", Err((0x81, "2.2.2.2"))),
            ("property cut off", 0x02, b"\x02\x11\0\0\x01c", Err((0x81, "2.1.4"))),
            ("properties beyond the packet", 0x02, b"\x7F\0\x01c", Err((0x81, "2.1.4"))),
        ],
    );
}

#[test]
fn connect_of_3_1_1_is_taken_or_refused() {
    let plain = || connect(ProtocolVersion::V3_1_1);
    table(
        ProtocolVersion::V3_1_1,
        MQTT_3_1_1,
        &[
            ("plain", 0x02, b"\0\x01c", Ok(Packet::Connect(plain()))),
            ("empty and clean", 0x02, b"\0\0", Ok(Packet::Connect(Connect { client_id: "", ..plain() }))),
            ("will", 0x2E, b"\0\x01c\0\x01w\0\x01p", Ok(Packet::Connect(Connect { will: Some(will()), ..plain() }))),
            ("user name", 0x82, b"\0\x01c\0\x01u", Ok(Packet::Connect(Connect { username: Some("u"), ..plain() }))),
            ("empty and not clean", 0x00, b"\0\0", Err((0x85, "3.1.1 MQTT-3.1.3-8"))),
            ("password without user name", 0x42, b"\0\x01c\0\0", Err((0x81, "3.1.1 MQTT-3.1.2-22"))),
            ("reserved flag", 0x03, b"\0\x01c", Err((0x81, "MQTT-3.1.2-3"))),
            ("will QoS 3", 0x1E, b"\0\x01c\0\x01w\0\0", Err((0x81, "MQTT-3.1.2-12"))),
            ("bytes after", 0x02, b"\0\x01cx", Err((0x81, "2.1.4"))),
            ("user name missing", 0x82, b"\0\x01c", Err((0x81, "2.1.4"))),
        ],
    );
}

#[test]
fn connect_of_3_1_is_taken_or_refused() {
    let plain = || connect(ProtocolVersion::V3_1);
    let long = "0123456789012345678901234";
    table(
        ProtocolVersion::V3_1,
        MQTT_3_1,
        &[
            ("plain", 0x02, b"\0\x01c", Ok(Packet::Connect(plain()))),
            ("unused flag", 0x03, b"\0\x01c", Ok(Packet::Connect(plain()))),
            ("flags without fields", 0xC2, b"\0\x01c", Ok(Packet::Connect(plain()))),
            ("user name without password", 0xC2, b"\0\x01c\0\x01u", Ok(Packet::Connect(Connect { username: Some("u"), ..plain() }))),
            ("long identifier", 0x02, b"\0\x190123456789012345678901234", Ok(Packet::Connect(Connect { client_id: long, ..plain() }))),
            ("empty", 0x02, b"\0\0", Err((0x85, "3.1 3.1"))),
            ("password without user name", 0x42, b"\0\x01c\0\0", Err((0x81, "3.1.1 MQTT-3.1.2-22"))),
        ],
    );
}

#[test]
fn name_and_level_have_to_fit() {
    for (head, expected) in [
        (&b"\0\x04MQTT\x06"[..], (0x84, "MQTT-3.1.2-2")),
        (b"\0\x04MQTT\x03", (0x84, "MQTT-3.1.2-2")),
        (b"\0\x04MQTT\x84", (0x84, "MQTT-3.1.2-2")),
        (b"\0\x06MQIsdp\x04", (0x84, "MQTT-3.1.2-2")),
        (b"\0\x04mqtt\x05", (0x84, "MQTT-3.1.2-1")),
        (b"\0\x05MQTTX\x05", (0x84, "MQTT-3.1.2-1")),
        (b"\0\x00\x05", (0x84, "MQTT-3.1.2-1")),
    ] {
        let bytes = packet(0x10, &[head, b"\x02\0\0\0\0\x01c"]);
        check(PacketType::Connect, ProtocolVersion::V5, Sender::Client, "name", &bytes, &Err(expected));
    }
}

#[test]
fn fixed_header_and_direction_are_checked() {
    let body: &[&[u8]] = &[MQTT_5, b"\x02\0\0\0\0\x01c"];
    check(PacketType::Connect, ProtocolVersion::V5, Sender::Client, "flags", &packet(0x11, body), &Err((0x81, "MQTT-2.1.3-1")));
    check(PacketType::Connect, ProtocolVersion::V5, Sender::Server, "direction", &packet(0x10, body), &Err((0x82, "2.1.2")));
}

#[test]
fn a_refusal_is_answered_in_the_version_asked_for_and_in_3_1_1_when_nobody_knows_it() {
    use ProtocolVersion::{V3_1, V3_1_1, V5};
    for (name, level, expected) in [
        ("MQTT", 5, Some(V5)),
        ("MQTT", 4, Some(V3_1_1)),
        ("MQIsdp", 3, Some(V3_1)),
        // [3.1.1 MQTT-3.1.2-2] Levels of no version, of a later one, and of another name.
        ("MQTT", 0, Some(V3_1_1)),
        ("MQTT", 3, Some(V3_1_1)),
        ("MQTT", 6, Some(V3_1_1)),
        ("MQTT", 0x7F, Some(V3_1_1)),
        ("MQIsdp", 4, Some(V3_1_1)),
        ("MQIsdp", 5, Some(V3_1_1)),
        // What a bridge says of itself.
        ("MQTT", 0x84, Some(V3_1_1)),
        ("MQTT", 0x85, Some(V5)),
        ("MQIsdp", 0x83, Some(V3_1)),
        // [MQTT-3.1.2-1] Other names, also when they differ little.
        ("mqtt", 5, None),
        ("MQTTX", 5, None),
        ("AMQP", 4, None),
        ("", 4, None),
    ] {
        let mut head = (name.len() as u16).to_be_bytes().to_vec();
        head.extend_from_slice(name.as_bytes());
        // Flags that are reserved: what follows the level does not matter.
        let bytes = packet(0x10, &[&head, &[level, 0xFF]]);
        assert_eq!(version_hint(&bytes), expected, "{name} {level}");
        let known = bytes.len() - 1;
        assert_eq!(version_hint(&bytes[..known]), expected, "{name} {level}");
        for end in 0..known {
            assert_eq!(version_hint(&bytes[..end]), None, "{name} {level}, {end} bytes of it");
        }
    }
}

#[test]
fn what_is_no_connect_is_not_answered() {
    let body: &[&[u8]] = &[MQTT_5, b"\x02\0\0\0\0\x01c"];
    for (what, bytes) in [
        ("another packet", packet(0x30, body)),
        ("flags", packet(0x11, body)),
        ("a length of five bytes", b"\x10\xFF\xFF\xFF\xFF\x01\0\x04MQTT\x05".to_vec()),
    ] {
        assert_eq!(version_hint(&bytes), None, "{what}");
    }
}

#[test]
fn a_connect_too_large_is_refused_before_it_is_there() {
    let violation = decode(&[0x10, 0xFF, 0xFF, 0x7F], ProtocolVersion::V5, Sender::Client, 100).expect_err("too large");
    assert_eq!((violation.reason_code.value(), violation.clause), (0x95, "MQTT-3.2.2-15"));
}
