//! What a PUBLISH costs to decode and to encode. Packets stand behind each other as in a read buffer; prints medians.

use std::hint::black_box;
use std::time::Instant;

use bucketmq_packet::property::Property;
use bucketmq_packet::{
    Packet, PacketIdentifier, ProtocolVersion, Publish, PublishProperties, QoS, Sender, decode, decode_publish, packet_length,
};

const PACKETS: usize = 10_000;
const ROUNDS: usize = 201;

fn median_ns(mut round: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            round();
            start.elapsed().as_nanos() as f64 / PACKETS as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[ROUNDS / 2]
}

fn measure(what: &str, version: ProtocolVersion, publish: &Publish<'_>) {
    let mut buffer = Vec::new();
    (0..PACKETS).for_each(|_| publish.encode(version, &mut buffer));
    let each = buffer.len() / PACKETS;
    let in_place = median_ns(|| {
        let mut rest = black_box(&buffer[..]);
        while let Ok(Some(length)) = packet_length(rest) {
            let (packet, behind) = rest.split_at(length);
            rest = behind;
            let publish = decode_publish(packet, version, Sender::Client).expect("valid");
            black_box((publish.topic, publish.payload, publish.qos, publish.properties.topic_alias));
        }
    });
    let any = median_ns(|| {
        let mut rest = black_box(&buffer[..]);
        while let Some((packet, length)) = decode(rest, version, Sender::Client, u32::MAX).expect("valid") {
            black_box(matches!(packet, Packet::Publish(_)));
            rest = &rest[length..];
        }
    });
    let mut out = Vec::with_capacity(buffer.len());
    let encode = median_ns(|| {
        out.clear();
        (0..PACKETS).for_each(|_| black_box(publish).encode(version, &mut out));
        black_box(&out);
    });
    println!("{what}, {each} bytes: packet_length and decode_publish {in_place:.1} ns, decode {any:.1} ns, encode {encode:.1} ns");
}

fn main() {
    let publish = |topic, payload| Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic,
        packet_id: None,
        properties: PublishProperties::default(),
        payload,
    };
    let at_least_once = |publish| Publish { qos: QoS::AtLeastOnce, packet_id: PacketIdentifier::new(7), ..publish };
    measure("3.1.1, QoS 0", ProtocolVersion::V3_1_1, &publish("a/bcdefg", b"12345678"));
    measure("5.0, QoS 0", ProtocolVersion::V5, &publish("a/bcdef", b"12345678"));
    measure("3.1.1, QoS 1", ProtocolVersion::V3_1_1, &at_least_once(publish("a/bcdef", b"1234567")));
    measure("3.1.1, QoS 0, long topic", ProtocolVersion::V3_1_1, &publish("site/001/line/17/device/0001234/temperature", &[b'x'; 16]));
    measure("3.1.1, QoS 0, 256 bytes", ProtocolVersion::V3_1_1, &publish("bench/fan-in", &[b'x'; 256]));

    let mut forward = Vec::new();
    Property::ContentType("application/json").encode(&mut forward);
    Property::UserProperty("trace", "0123456789abcdef").encode(&mut forward);
    let properties = PublishProperties { message_expiry_interval: Some(60), forward: forward.into(), ..PublishProperties::default() };
    measure("5.0, three properties", ProtocolVersion::V5, &Publish { properties, ..publish("a/bcdef", b"12345678") });
}
