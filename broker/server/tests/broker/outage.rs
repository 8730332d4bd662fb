//! What a bucket that is away must not change: the order of messages, the bound of memory, and that somebody can find out why.

use std::time::Duration;

use bucketmq_packet::{Packet, PacketIdentifier, Publish, QoS, ReasonCode};
use bucketmq_servers::Fault;
use bucketmq_storage::Shards;

use crate::acknowledge::start;
use crate::client::{Came, Client, connect, pass, publish, tcp, until};
use crate::durable::resume;

const LISTENER: &str = "[[listeners]]\nurl = \"tcp://@ADDRESS@\"\nanonymous = \"local\"\n";

/// PUBLISH of QoS 1 or 2 to `t` with an identifier of its own.
fn send(client: &mut Client, payload: &str, qos: QoS, id: u16, dup: bool) {
    let packet_id = PacketIdentifier::new(id);
    client.send(&Packet::Publish(Publish { packet_id, dup, ..publish("t", payload.as_bytes(), qos) }));
}

#[test]
fn what_was_sent_before_a_qos_2_message_comes_before_it_after_a_crash_too() {
    let mut scene = start(LISTENER);
    let (mut away, _) = resume(&scene.broker, "away");
    away.subscribe("t", QoS::ExactlyOnce);
    drop(away);
    scene.broker.until_away(1);
    let shards = Shards::default();
    assert_ne!(shards.of("away"), shards.of("publisher"));
    let (mut publisher, _) = resume(&scene.broker, "publisher");
    // The queue of the one takes nothing, the outbox of the other does.
    scene.proxy.inject(Fault::Hang.always().on_writes().key_containing(&format!("shards/{}/", shards.of("away"))));
    send(&mut publisher, "1", QoS::AtLeastOnce, 1, false);
    send(&mut publisher, "2", QoS::ExactlyOnce, 2, false);
    pass(Duration::from_secs(1));
    scene.broker.signal("KILL");
    scene.broker.wait();
    scene.proxy.heal();
    scene.broker.start_again();
    let (mut publisher, present) = resume(&scene.broker, "publisher");
    assert!(present);
    send(&mut publisher, "1", QoS::AtLeastOnce, 1, true);
    send(&mut publisher, "2", QoS::ExactlyOnce, 2, true);
    assert_eq!(publisher.next(), Came::PubAck(ReasonCode::Success));
    let (mut away, present) = resume(&scene.broker, "away");
    assert!(present);
    for payload in ["1", "2"] {
        assert_eq!(away.next(), Came::Publish("t".into(), payload.into()));
    }
}

#[test]
fn retained_messages_at_qos_0_wait_in_their_sockets_when_the_bucket_takes_nothing() {
    const MESSAGES: usize = 100;
    const BYTES: usize = 256 << 10;
    let scene = start(&format!("[limits]\nunwritten_bytes = \"1MiB\"\n{LISTENER}"));
    let broker = &scene.broker;
    scene.proxy.refuse(true);
    broker.until_readyz("\"awaiting\":[\"bucket\"]");
    let address = broker.address;
    let flood = std::thread::spawn(move || {
        let mut client = Client::over(tcp(address), &connect("flood", true, None)).unwrap();
        let payload = vec![b'x'; BYTES];
        for number in 0..MESSAGES {
            client.retain(&format!("kept/{number}"), &payload);
        }
        client.send(&Packet::PingReq);
        assert_eq!(client.next(), Came::Pong);
    });
    until(|| (broker.metric("mqtt_bucket_unwritten_bytes") > 1 << 20).then_some(()));
    pass(Duration::from_secs(1));
    let unwritten = broker.metric("mqtt_bucket_unwritten_bytes");
    assert!(unwritten < 3 << 20, "{unwritten} bytes");
    let kept = broker.metric("mqtt_retained_messages");
    // The broker's own figures are among them.
    assert!(kept < 50, "{kept} messages, {unwritten} bytes");
    // A Session that has to be stored would add to it; one that ends with its connection would not.
    let mut refused = Client::reading(tcp(broker.address));
    refused.send(&Packet::Connect(connect("new", false, None)));
    assert_eq!(refused.next(), Came::ConnAck(ReasonCode::ServerUnavailable, false));
    broker.client("transient");
    assert!(until(|| Some(broker.metric("mqtt_bucket_write_pending_seconds")).filter(|seconds| *seconds > 1)) < 60);
    let log = until(|| Some(broker.log()).filter(|log| log.contains("requests to the bucket fail")));
    assert!(log.contains("onnection refused") || log.contains("dispatch failure"), "{log}");
    scene.proxy.refuse(false);
    flood.join().unwrap();
    until(|| (broker.metric("mqtt_retained_messages") >= MESSAGES as u64).then_some(()));
    until(|| (broker.metric("mqtt_bucket_unwritten_bytes") == 0).then_some(()));
    assert!(broker.get("/readyz").contains("\"ready\":true"));
}
