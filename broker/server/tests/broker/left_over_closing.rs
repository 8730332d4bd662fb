//! What was to close one connection does not close the next.

use std::io::Write;

use bucketmq_packet::{Connect, ConnectProperties, Disconnect, Packet, PacketIdentifier, Publish, QoS, ReasonCode};

use crate::client::{Client, connect, encoded, publish, tcp};
use crate::with_limits;

#[test]
fn what_closed_one_connection_does_not_close_the_next() {
    let broker = with_limits("session_queue_messages = 1\nsession_queue_overflow = \"disconnect\"");
    let properties = ConnectProperties { receive_maximum: Some(1), session_expiry_interval: Some(600), ..ConnectProperties::default() };
    let mut client = Client::over(tcp(broker.address), &Connect { properties, ..connect("a", false, None) }).unwrap();
    client.subscribe("q", QoS::AtLeastOnce);
    // Its own messages: one in flight, one waiting, one too many; and then it leaves by itself, all in one write.
    let mut bytes = Vec::new();
    for number in 1..=3 {
        let packet_id = PacketIdentifier::new(number);
        bytes.extend(encoded(&Packet::Publish(Publish { packet_id, ..publish("q", b"x", QoS::AtLeastOnce) })));
    }
    bytes.extend(encoded(&Packet::Disconnect(Disconnect::new(ReasonCode::Success))));
    client.stream.write_all(&bytes).unwrap();
    broker.until_away(1);
    assert_eq!(broker.dropped("queue_full"), 1);
    let mut client = Client::open(broker.address, "a", false, None).unwrap();
    assert_eq!(client.take_all().len(), 2);
}
