//! PUBLISH, valid and malformed.

use std::borrow::Cow;

use proptest::prelude::*;

use super::Forward;
use crate::property::{Place, Properties, Property};
use crate::testing::{Expected, check, id, packet};
use crate::{ForwardedProperties, Packet, PacketType, ProtocolVersion, Publish, PublishProperties, QoS, Sender, decode_publish};

fn publish(qos: QoS, properties: PublishProperties<'static>) -> Publish<'static> {
    let packet_id = if qos == QoS::AtMostOnce { None } else { Some(id(7)) };
    Publish { dup: false, qos, retain: false, topic: "a/b", packet_id, properties, payload: b"hi" }
}

fn table(version: ProtocolVersion, sender: Sender, rows: &[(&str, u8, &[u8], Expected<'_>)]) {
    for (name, first, body, expected) in rows {
        let bytes = packet(*first, &[body]);
        check(PacketType::Publish, version, sender, name, &bytes, expected);
        let direct = decode_publish(&bytes, version, sender).map(Packet::Publish);
        assert_eq!(direct.map_err(|violation| (violation.reason_code.value(), violation.clause)), *expected, "{name}, decoded directly");
    }
}

#[test]
fn publish_without_properties_is_taken_or_refused() {
    for version in [ProtocolVersion::V3_1, ProtocolVersion::V3_1_1] {
        let plain = |qos| publish(qos, PublishProperties::default());
        table(
            version,
            Sender::Client,
            &[
                ("QoS 0", 0x30, b"\0\x03a/bhi", Ok(Packet::Publish(plain(QoS::AtMostOnce)))),
                ("retained", 0x31, b"\0\x03a/bhi", Ok(Packet::Publish(Publish { retain: true, ..plain(QoS::AtMostOnce) }))),
                ("QoS 1", 0x32, b"\0\x03a/b\0\x07hi", Ok(Packet::Publish(plain(QoS::AtLeastOnce)))),
                ("QoS 2 again", 0x3C, b"\0\x03a/b\0\x07hi", Ok(Packet::Publish(Publish { dup: true, ..plain(QoS::ExactlyOnce) }))),
                ("no payload", 0x30, b"\0\x03a/b", Ok(Packet::Publish(Publish { payload: b"", ..plain(QoS::AtMostOnce) }))),
                ("not ASCII", 0x30, b"\0\x03a\xC3\xBChi", Ok(Packet::Publish(Publish { topic: "aü", ..plain(QoS::AtMostOnce) }))),
                ("QoS 3", 0x36, b"\0\x03a/b\0\x07hi", Err((0x81, "MQTT-3.3.1-4"))),
                ("QoS 3 with DUP", 0x3E, b"\0\x03a/b\0\x07hi", Err((0x81, "MQTT-3.3.1-4"))),
                ("DUP with QoS 0", 0x38, b"\0\x03a/bhi", Err((0x81, "MQTT-3.3.1-2"))),
                ("identifier 0", 0x32, b"\0\x03a/b\0\0hi", Err((0x81, "MQTT-2.2.1-3"))),
                ("identifier missing", 0x32, b"\0\x03a/b\0", Err((0x81, "2.1.4"))),
                ("empty packet", 0x30, b"", Err((0x81, "2.1.4"))),
                ("topic beyond the packet", 0x30, b"\0\x04a/b", Err((0x81, "2.1.4"))),
                ("topic empty", 0x30, b"\0\0hi", Err((0x82, "MQTT-4.7.3-1"))),
                ("wildcard +", 0x30, b"\0\x03a/+hi", Err((0x90, "MQTT-3.3.2-2"))),
                ("wildcard # beyond ASCII", 0x30, b"\0\x03\xC3\xBC#hi", Err((0x90, "MQTT-3.3.2-2"))),
                ("U+0000", 0x30, b"\0\x03a\0bhi", Err((0x81, "MQTT-1.5.4-2"))),
                ("not UTF-8", 0x30, b"\0\x03a\xC3/hi", Err((0x81, "MQTT-1.5.4-1"))),
                ("surrogate", 0x30, b"\0\x03\xED\xA0\x80hi", Err((0x81, "MQTT-1.5.4-1"))),
            ],
        );
    }
}

#[test]
fn publish_of_5_0_from_a_client_is_taken_or_refused() {
    let with = |properties| Ok(Packet::Publish(publish(QoS::AtMostOnce, properties)));
    let none = PublishProperties::default;
    table(
        ProtocolVersion::V5,
        Sender::Client,
        &[
            ("no properties", 0x30, b"\0\x03a/b\0hi", with(none())),
            ("QoS 1", 0x32, b"\0\x03a/b\0\x07\0hi", Ok(Packet::Publish(publish(QoS::AtLeastOnce, none())))),
            ("expiry", 0x30, b"\0\x03a/b\x05\x02\0\0\0\x09hi", with(PublishProperties { message_expiry_interval: Some(9), ..none() })),
            ("alias", 0x30, b"\0\x03a/b\x03\x23\0\x05hi", with(PublishProperties { topic_alias: Some(5), ..none() })),
            (
                "alias alone",
                0x30,
                b"\0\0\x03\x23\0\x05hi",
                Ok(Packet::Publish(Publish {
                    topic: "",
                    ..publish(QoS::AtMostOnce, PublishProperties { topic_alias: Some(5), ..none() })
                })),
            ),
            (
                "forwarded, side by side",
                0x30,
                b"\0\x03a/b\x0D\x02\0\0\0\x09\x01\x01\x03\0\0\x09\0\0hi",
                with(PublishProperties { message_expiry_interval: Some(9), forward: Cow::Borrowed(b"\x01\x01\x03\0\0\x09\0\0"), ..none() }),
            ),
            (
                "forwarded, with others between",
                0x30,
                b"\0\x03a/b\x0D\x01\x01\x02\0\0\0\x09\x03\0\0\x09\0\0hi",
                with(PublishProperties { message_expiry_interval: Some(9), forward: Cow::Borrowed(b"\x01\x01\x03\0\0\x09\0\0"), ..none() }),
            ),
            ("no property length", 0x30, b"\0\x03a/b", Err((0x81, "2.1.4"))),
            ("property length not minimal", 0x30, b"\0\x03a/b\x80\0hi", Err((0x81, "MQTT-1.5.5-1"))),
            ("properties beyond the packet", 0x30, b"\0\x03a/b\x05hi", Err((0x81, "2.1.4"))),
            ("neither topic nor alias", 0x30, b"\0\0\0hi", Err((0x82, "MQTT-4.7.3-1"))),
            ("alias 0", 0x30, b"\0\x03a/b\x03\x23\0\0hi", Err((0x94, "MQTT-3.3.2-8"))),
            ("two aliases", 0x30, b"\0\x03a/b\x06\x23\0\x01\x23\0\x01hi", Err((0x82, "3.3.2.3.4"))),
            ("two expiries", 0x30, b"\0\x03a/b\x0A\x02\0\0\0\x01\x02\0\0\0\x01hi", Err((0x82, "3.3.2.3.3"))),
            ("payload format 2", 0x30, b"\0\x03a/b\x02\x01\x02hi", Err((0x82, "3.3.2.3.2"))),
            ("two payload formats", 0x30, b"\0\x03a/b\x04\x01\0\x01\0hi", Err((0x82, "3.3.2.3.2"))),
            ("two content types", 0x30, b"\0\x03a/b\x06\x03\0\0\x03\0\0hi", Err((0x82, "3.3.2.3.9"))),
            ("two correlation data", 0x30, b"\0\x03a/b\x06\x09\0\0\x09\0\0hi", Err((0x82, "3.3.2.3.6"))),
            ("two response topics", 0x30, b"\0\x03a/b\x08\x08\0\x01r\x08\0\x01rhi", Err((0x82, "3.3.2.3.5"))),
            ("response topic with a wildcard", 0x30, b"\0\x03a/b\x04\x08\0\x01#hi", Err((0x82, "MQTT-3.3.2-14"))),
            ("response topic empty", 0x30, b"\0\x03a/b\x03\x08\0\0hi", Err((0x82, "MQTT-4.7.3-1"))),
            ("content type not UTF-8", 0x30, b"\0\x03a/b\x04\x03\0\x01\xFFhi", Err((0x81, "MQTT-1.5.4-1"))),
            ("user property with NUL", 0x30, b"\0\x03a/b\x06\x26\0\0\0\x01\0hi", Err((0x81, "MQTT-1.5.4-2"))),
            ("subscription identifier", 0x30, b"\0\x03a/b\x02\x0B\x01hi", Err((0x82, "MQTT-3.3.4-6"))),
            ("property of CONNECT", 0x30, b"\0\x03a/b\x03\x21\0\x01hi", Err((0x81, "2.2.2.2"))),
            ("unknown property", 0x30, b"\0\x03a/b\x02\x04\x01hi", Err((0x81, "2.2.2.2"))),
            ("identifier of two bytes", 0x30, b"\0\x03a/b\x03\x81\x01\0hi", Err((0x81, "2.2.2.2"))),
            ("wildcard", 0x30, b"\0\x03#/b\0hi", Err((0x90, "MQTT-3.3.2-2"))),
        ],
    );
}

#[test]
fn a_server_names_the_subscriptions_that_matched() {
    let none = PublishProperties::default;
    table(
        ProtocolVersion::V5,
        Sender::Server,
        &[
            (
                "two identifiers",
                0x30,
                b"\0\x03a/b\x05\x0B\x01\x0B\x80\x01hi",
                Ok(Packet::Publish(publish(QoS::AtMostOnce, PublishProperties { subscription_identifiers: vec![1, 128], ..none() }))),
            ),
            ("identifier 0", 0x30, b"\0\x03a/b\x02\x0B\0hi", Err((0x82, "3.8.2.1.2"))),
            ("identifier not minimal", 0x30, b"\0\x03a/b\x03\x0B\x81\0hi", Err((0x81, "MQTT-1.5.5-1"))),
        ],
    );
}

#[test]
fn the_given_bytes_have_to_be_one_packet() {
    for bytes in [&b""[..], b"\x30", b"\x30\x05\0\x01a", b"\x30\x03\0\x01abc", b"\x30\x80\x80\x80\x80\x01", b"\x30\x80"] {
        assert!(decode_publish(bytes, ProtocolVersion::V3_1_1, Sender::Client).is_err(), "{bytes:02X?}");
    }
    let long = packet(0x30, &[b"\0\x01a", &[b'x'; 300]]);
    let decoded = decode_publish(&long, ProtocolVersion::V3_1_1, Sender::Client).expect("a long packet");
    assert_eq!((decoded.topic, decoded.payload.len()), ("a", 300));
}

#[test]
fn what_stands_side_by_side_is_borrowed() {
    let bytes = packet(0x30, &[b"\0\x01a\x0D\x02\0\0\0\x09\x01\x01\x03\0\0\x09\0\0"]);
    let side_by_side = decode_publish(&bytes, ProtocolVersion::V5, Sender::Client).expect("valid");
    assert!(matches!(side_by_side.properties.forward, Cow::Borrowed(_)));
    let bytes = packet(0x30, &[b"\0\x01a\x0D\x01\x01\x02\0\0\0\x09\x03\0\0\x09\0\0"]);
    let apart = decode_publish(&bytes, ProtocolVersion::V5, Sender::Client).expect("valid");
    assert!(matches!(apart.properties.forward, Cow::Owned(_)));
    assert_eq!(apart.properties, side_by_side.properties);
}

#[test]
fn forwarded_properties_can_be_taken_apart_and_built() {
    let forwarded = ForwardedProperties {
        payload_format_indicator: Some(true),
        content_type: Some("text/plain"),
        response_topic: Some("r"),
        correlation_data: Some(&[0, 255]),
        user_properties: vec![("k", "1"), ("k", "2")],
    };
    let properties = PublishProperties { forward: Cow::Owned(forwarded.encode()), ..PublishProperties::default() };
    assert_eq!(properties.decoded(), forwarded);
    // Bytes no packet could have carried end the list, and nothing else.
    let broken = PublishProperties { forward: Cow::Borrowed(b"\x01\x01\x23\0\x01\x03\0\0"), ..PublishProperties::default() };
    assert_eq!(broken.decoded(), ForwardedProperties { payload_format_indicator: Some(true), ..ForwardedProperties::default() });
}

#[test]
fn a_packet_full_of_user_properties_takes_linear_time() {
    let count = 200_000;
    let list = b"\x26\0\0\0\0".repeat(count);
    let mut length = Vec::new();
    crate::property::put_varint(u32::try_from(list.len()).expect("a megabyte"), &mut length);
    let bytes = packet(0x30, &[b"\0\x01a", &length, &list]);
    let decoded = decode_publish(&bytes, ProtocolVersion::V5, Sender::Client).expect("valid");
    assert_eq!(decoded.properties.forward.len(), list.len());
    assert_eq!(decoded.properties.decoded().user_properties.len(), count);
}

proptest! {
    #[test]
    fn forwarded_properties_keep_their_order_whatever_stands_between(kinds in prop::collection::vec(0..3u8, 0..12)) {
        let (mut list, mut expected, mut contiguous, mut ended) = (Vec::new(), Vec::new(), true, false);
        for (at, kind) in kinds.iter().enumerate() {
            let name = at.to_string();
            let mut one = Vec::new();
            if *kind == 0 {
                Property::SubscriptionIdentifier(9).encode(&mut one);
                ended |= !expected.is_empty();
            } else {
                Property::UserProperty(&name, "").encode(&mut one);
                contiguous &= !ended;
                expected.extend_from_slice(&one);
            }
            list.extend_from_slice(&one);
        }
        let mut properties = Properties::new(&list, Place::Publish, Sender::Server);
        let mut forward = Forward::new();
        loop {
            let before = properties.remaining();
            match properties.next().expect("valid") {
                None => break,
                Some(Property::UserProperty(..)) => forward.push(before, properties.remaining()),
                Some(_) => {}
            }
        }
        let forward = forward.finish();
        prop_assert_eq!(&forward[..], &expected[..]);
        prop_assert_eq!(matches!(forward, Cow::Borrowed(_)), contiguous);
    }
}
