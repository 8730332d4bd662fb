//! SUBSCRIBE, valid and malformed.

use crate::testing::{Expected, check, id, packet};
use crate::{Packet, PacketType, ProtocolVersion, QoS, RetainHandling, Sender, Subscribe, SubscriptionOptions};

fn subscribe<'a>(filters: &[(&'a str, SubscriptionOptions)]) -> Subscribe<'a> {
    Subscribe { packet_id: id(7), subscription_identifier: None, user_properties: Vec::new(), filters: filters.to_vec() }
}

fn table(version: ProtocolVersion, rows: &[(&str, u8, &[u8], Expected<'_>)]) {
    for (name, first, body, expected) in rows {
        check(PacketType::Subscribe, version, Sender::Client, name, &packet(*first, &[body]), expected);
    }
}

#[test]
fn subscribe_of_5_0_is_taken_or_refused() {
    let one = |options| Ok(Packet::Subscribe(subscribe(&[("a", options)])));
    let qos = SubscriptionOptions::with_qos;
    let all = SubscriptionOptions {
        qos: QoS::ExactlyOnce,
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::DoNotSend,
    };
    table(
        ProtocolVersion::V5,
        &[
            ("one filter", 0x82, b"\0\x07\0\0\x01a\x01", one(qos(QoS::AtLeastOnce))),
            ("all options", 0x82, b"\0\x07\0\0\x01a\x2E", one(all)),
            (
                "two filters",
                0x82,
                b"\0\x07\0\0\x01a\0\0\x01#\x12",
                Ok(Packet::Subscribe(subscribe(&[
                    ("a", qos(QoS::AtMostOnce)),
                    ("#", SubscriptionOptions { retain_handling: RetainHandling::SendIfNew, ..qos(QoS::ExactlyOnce) }),
                ]))),
            ),
            (
                "identifier and user property",
                0x82,
                b"\0\x07\x09\x0B\xFF\xFF\x7F\x26\0\0\0\0\0\x01a\0",
                Ok(Packet::Subscribe(Subscribe {
                    subscription_identifier: Some(2_097_151),
                    user_properties: vec![("", "")],
                    ..subscribe(&[("a", qos(QoS::AtMostOnce))])
                })),
            ),
            ("shared", 0x82, b"\0\x07\0\0\x0A$share/g/a\x01", Ok(Packet::Subscribe(subscribe(&[("$share/g/a", qos(QoS::AtLeastOnce))])))),
            // A filter no topic can match is for the Server to answer with 0x8F.
            ("wildcard out of place", 0x82, b"\0\x07\0\0\x03a#b\0", Ok(Packet::Subscribe(subscribe(&[("a#b", qos(QoS::AtMostOnce))])))),
            ("flags 0", 0x80, b"\0\x07\0\0\x01a\0", Err((0x81, "MQTT-3.8.1-1"))),
            ("flags with DUP", 0x8A, b"\0\x07\0\0\x01a\0", Err((0x81, "MQTT-3.8.1-1"))),
            ("identifier 0", 0x82, b"\0\0\0\0\x01a\0", Err((0x81, "MQTT-2.2.1-3"))),
            ("no filter", 0x82, b"\0\x07\0", Err((0x82, "MQTT-3.8.3-2"))),
            ("no options", 0x82, b"\0\x07\0\0\x01a", Err((0x81, "2.1.4"))),
            ("filter not UTF-8", 0x82, b"\0\x07\0\0\x01\xFF\0", Err((0x81, "MQTT-1.5.4-1"))),
            ("filter with NUL", 0x82, b"\0\x07\0\0\x01\0\0", Err((0x81, "MQTT-1.5.4-2"))),
            ("QoS 3", 0x82, b"\0\x07\0\0\x01a\x03", Err((0x82, "3.8.3.1"))),
            ("retain handling 3", 0x82, b"\0\x07\0\0\x01a\x30", Err((0x82, "3.8.3.1"))),
            ("reserved bit 6", 0x82, b"\0\x07\0\0\x01a\x40", Err((0x81, "MQTT-3.8.3-5"))),
            ("reserved bit 7", 0x82, b"\0\x07\0\0\x01a\x80", Err((0x81, "MQTT-3.8.3-5"))),
            ("no local, shared", 0x82, b"\0\x07\0\0\x0A$share/g/a\x04", Err((0x82, "MQTT-3.8.3-4"))),
            ("subscription identifier 0", 0x82, b"\0\x07\x02\x0B\0\0\x01a\0", Err((0x82, "3.8.2.1.2"))),
            ("two subscription identifiers", 0x82, b"\0\x07\x04\x0B\x01\x0B\x02\0\x01a\0", Err((0x82, "3.8.2.1.2"))),
            ("property of SUBACK", 0x82, b"\0\x07\x03\x1F\0\0\0\x01a\0", Err((0x81, "2.2.2.2"))),
            ("second filter cut off", 0x82, b"\0\x07\0\0\x01a\0\0", Err((0x81, "2.1.4"))),
        ],
    );
}

#[test]
fn before_5_0_there_is_only_a_qos() {
    let expected = Ok(Packet::Subscribe(subscribe(&[("a", SubscriptionOptions::with_qos(QoS::ExactlyOnce))])));
    table(
        ProtocolVersion::V3_1_1,
        &[
            ("QoS 2", 0x82, b"\0\x07\0\x01a\x02", expected.clone()),
            ("QoS 3", 0x82, b"\0\x07\0\x01a\x03", Err((0x81, "3.1.1 MQTT-3-8.3-4"))),
            ("reserved bit", 0x82, b"\0\x07\0\x01a\x06", Err((0x81, "3.1.1 MQTT-3-8.3-4"))),
            ("no filter", 0x82, b"\0\x07", Err((0x82, "MQTT-3.8.3-2"))),
            ("DUP", 0x8A, b"\0\x07\0\x01a\x02", Err((0x81, "MQTT-3.8.1-1"))),
        ],
    );
    table(
        ProtocolVersion::V3_1,
        &[
            ("QoS 2", 0x82, b"\0\x07\0\x01a\x02", expected.clone()),
            ("unused bits", 0x82, b"\0\x07\0\x01a\xFE", expected.clone()),
            ("DUP", 0x8A, b"\0\x07\0\x01a\x02", expected),
            ("QoS 3", 0x82, b"\0\x07\0\x01a\x03", Err((0x81, "3.1 3.8"))),
            ("no filter", 0x82, b"\0\x07", Err((0x82, "MQTT-3.8.3-2"))),
            ("flags 0", 0x80, b"\0\x07\0\x01a\x02", Err((0x81, "MQTT-3.8.1-1"))),
        ],
    );
}
