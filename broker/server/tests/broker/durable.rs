//! The broker killed without a warning: what it acknowledged is there when it is started again on the same bucket.

use std::time::Duration;

use bucketmq_packet::{Connect, Packet, PacketType, Publish, QoS, ReasonCode, Will};

use crate::client::{Broker, Came, Client, connect, pass, publish, tcp, until};

pub const STORED: &str = "[[listeners]]\nurl = \"tcp://@ADDRESS@\"\nanonymous = \"local\"\n[bucket]\nurl = \"file://@FOLDER@/bucket\"\n";

/// What nobody waits for is written within a quarter of a second, and a while for the disk.
const WRITTEN: Duration = Duration::from_millis(600);

/// Connects, and says whether the Session was there.
pub fn resume(broker: &Broker, id: &str) -> (Client, bool) {
    let mut client = Client::reading(tcp(broker.address));
    client.send(&Packet::Connect(connect(id, false, None)));
    let Came::ConnAck(ReasonCode::Success, present) = client.next() else { panic!("no CONNACK") };
    (client, present)
}

fn texts(messages: &[(String, Vec<u8>)]) -> Vec<&str> {
    messages.iter().map(|(_, payload)| std::str::from_utf8(payload).unwrap()).collect()
}

#[test]
fn sessions_queues_and_retained_messages_outlive_the_broker() {
    let mut broker = Broker::start(STORED);
    let (mut away, present) = resume(&broker, "away");
    assert!(!present);
    away.subscribe("work/+", QoS::AtLeastOnce);
    drop(away);
    broker.until_away(1);
    let mut publisher = broker.client("publisher");
    for payload in ["1", "2", "3"] {
        assert_eq!(publisher.publish_acknowledged("work/a", payload.as_bytes()), Came::PubAck(ReasonCode::Success));
    }
    publisher.send(&Packet::Publish(Publish { retain: true, ..publish("kept", b"value", QoS::AtLeastOnce) }));
    publisher.next();
    for round in 0..3 {
        broker.crash();
        let mut reader = broker.client("reader");
        reader.subscribe("kept", QoS::AtMostOnce);
        assert_eq!(reader.next(), Came::Publish("kept".into(), b"value".to_vec()), "round {round}");
        broker.client("publisher").publish_acknowledged("work/b", format!("after crash {round}").as_bytes());
    }
    let (mut away, present) = resume(&broker, "away");
    assert!(present);
    assert_eq!(texts(&away.take_all()), ["1", "2", "3", "after crash 0", "after crash 1", "after crash 2"]);
    // What was acknowledged does not come again, and the Subscription goes on.
    drop(away);
    broker.until_away(1);
    pass(WRITTEN);
    broker.crash();
    broker.client("publisher").publish_acknowledged("work/c", b"last");
    let (mut away, _) = resume(&broker, "away");
    assert_eq!(texts(&away.take_all()), ["last"]);
}

#[test]
fn what_was_sent_and_not_acknowledged_comes_again_with_dup_and_its_identifier() {
    let mut broker = Broker::start(STORED);
    let (mut subscriber, _) = resume(&broker, "subscriber");
    subscriber.subscribe("t", QoS::AtLeastOnce);
    broker.client("publisher").publish_acknowledged("t", b"once");
    assert_eq!(subscriber.next(), Came::Publish("t".into(), b"once".to_vec()));
    let first = subscriber.last.unwrap();
    broker.crash();
    let (mut subscriber, present) = resume(&broker, "subscriber");
    assert!(present);
    assert_eq!(subscriber.next(), Came::Publish("t".into(), b"once".to_vec()));
    let again = subscriber.last.unwrap();
    assert!(!first.dup && again.dup);
    assert_eq!(first.packet_id, again.packet_id);
}

#[test]
fn a_qos_2_message_is_taken_once_and_handed_on_once_whatever_dies() {
    let mut broker = Broker::start(STORED);
    let (mut subscriber, _) = resume(&broker, "subscriber");
    subscriber.subscribe("t", QoS::ExactlyOnce);
    drop(subscriber);
    broker.until_away(1);
    let (mut publisher, _) = resume(&broker, "publisher");
    publisher.publish("t", b"once", QoS::ExactlyOnce);
    assert_eq!(publisher.next(), Came::Step(PacketType::PubRec, 7, ReasonCode::Success));
    broker.crash();
    // PUBREC may have been lost: the Client sends the same again.
    let (mut publisher, present) = resume(&broker, "publisher");
    assert!(present);
    publisher.send(&Packet::Publish(Publish { dup: true, ..publish("t", b"once", QoS::ExactlyOnce) }));
    assert_eq!(publisher.next(), Came::Step(PacketType::PubRec, 7, ReasonCode::Success));
    publisher.step(PacketType::PubRel, 7);
    assert_eq!(publisher.next(), Came::Step(PacketType::PubComp, 7, ReasonCode::Success));
    broker.crash();
    // The identifier is free for another message.
    let (mut publisher, _) = resume(&broker, "publisher");
    publisher.publish("t", b"another", QoS::ExactlyOnce);
    assert_eq!(publisher.next(), Came::Step(PacketType::PubRec, 7, ReasonCode::Success));

    let (mut subscriber, _) = resume(&broker, "subscriber");
    assert_eq!(subscriber.next(), Came::Publish("t".into(), b"once".to_vec()));
    let id = subscriber.last.unwrap().packet_id.unwrap().get();
    assert_eq!(subscriber.next(), Came::Publish("t".into(), b"another".to_vec()));
    let other = subscriber.last.unwrap().packet_id.unwrap().get();
    subscriber.step(PacketType::PubRec, id);
    assert_eq!(subscriber.next(), Came::Step(PacketType::PubRel, id, ReasonCode::Success));
    broker.crash();
    // From PUBREC on the message is never sent again; its handshake is finished.
    let (mut subscriber, _) = resume(&broker, "subscriber");
    assert_eq!(subscriber.next(), Came::Step(PacketType::PubRel, id, ReasonCode::Success));
    assert_eq!(subscriber.next(), Came::Publish("t".into(), b"another".to_vec()));
    assert!(subscriber.last.unwrap().dup);
    subscriber.step(PacketType::PubComp, id);
    subscriber.step(PacketType::PubRec, other);
    assert_eq!(subscriber.next(), Came::Step(PacketType::PubRel, other, ReasonCode::Success));
    subscriber.step(PacketType::PubComp, other);
    assert!(subscriber.is_quiet());
    pass(WRITTEN);
    broker.crash();
    assert!(resume(&broker, "subscriber").0.is_quiet());
}

#[test]
fn a_session_that_was_ended_does_not_come_back_and_one_that_expires_meanwhile_is_gone() {
    let mut broker = Broker::start(STORED);
    let (mut ended, _) = resume(&broker, "ended");
    ended.subscribe("t", QoS::AtLeastOnce);
    drop(ended);
    broker.until_away(1);
    // Clean Start.
    drop(broker.client("ended"));
    let mut short = connect("short", false, None);
    short.properties.session_expiry_interval = Some(2);
    drop(Client::over(tcp(broker.address), &short).unwrap());
    broker.until_away(1);
    pass(WRITTEN);
    broker.signal("KILL");
    broker.wait();
    pass(Duration::from_millis(2000));
    broker.start_again();
    assert!(!resume(&broker, "ended").1, "Clean Start ended it");
    assert!(!resume(&broker, "short").1, "it expired while nobody looked");
}

#[test]
fn the_will_of_a_client_that_was_connected_fires_after_its_delay_unless_it_comes_back() {
    let mut broker = Broker::start(STORED);
    let with_will = |id: &'static str, delay: u32, expiry: u32| {
        let will = Will {
            topic: "will",
            payload: id.as_bytes(),
            qos: QoS::AtLeastOnce,
            retain: false,
            delay_interval: delay,
            message_expiry_interval: None,
            forward: std::borrow::Cow::Borrowed(b""),
        };
        let mut with = Connect { will: Some(will), ..connect(id, false, None) };
        with.properties.session_expiry_interval = Some(expiry);
        with
    };
    let (mut watcher, _) = resume(&broker, "watcher");
    watcher.subscribe("will", QoS::AtLeastOnce);
    let late = Client::over(tcp(broker.address), &with_will("late", 2, 600)).unwrap();
    let back = Client::over(tcp(broker.address), &with_will("back", 2, 600)).unwrap();
    let brief = Client::over(tcp(broker.address), &with_will("brief", 2, 0)).unwrap();
    pass(WRITTEN);
    broker.crash();
    drop((late, back, brief));
    let (mut watcher, _) = resume(&broker, "watcher");
    // A Session with expiry 0 ended with the broker, and its Will did not wait.
    assert_eq!(watcher.next(), Came::Publish("will".into(), b"brief".to_vec()));
    watcher.acknowledge();
    let _back = resume(&broker, "back");
    assert_eq!(watcher.next(), Came::Publish("will".into(), b"late".to_vec()));
    watcher.acknowledge();
    pass(Duration::from_millis(1000));
    assert!(watcher.is_quiet(), "the Will of a Client that is back");
}

#[test]
fn a_retained_will_does_not_come_back_over_what_was_retained_after_it() {
    let mut broker = Broker::start(STORED);
    for (topic, newer) in [("state/1", b"up".as_slice()), ("state/2", b"")] {
        let mut witness = broker.client("witness");
        witness.subscribe(topic, QoS::AtLeastOnce);
        let will = Will {
            topic,
            payload: b"down",
            qos: QoS::AtLeastOnce,
            retain: true,
            delay_interval: 0,
            message_expiry_interval: None,
            forward: std::borrow::Cow::Borrowed(b""),
        };
        drop(Client::over(tcp(broker.address), &Connect { will: Some(will), ..connect("device", true, None) }).unwrap());
        assert_eq!(witness.next(), Came::Publish(topic.into(), b"down".to_vec()));
        let mut publisher = broker.client("publisher");
        publisher.send(&Packet::Publish(Publish { retain: true, ..publish(topic, newer, QoS::AtLeastOnce) }));
        assert_eq!(publisher.next(), Came::PubAck(ReasonCode::Success));
        // At once: it is not written yet that the Will went out.
        broker.crash();
        pass(WRITTEN);
        let mut reader = broker.client("reader");
        reader.subscribe(topic, QoS::AtMostOnce);
        match newer {
            b"" => assert!(reader.is_quiet()),
            _ => assert_eq!(reader.next(), Came::Publish(topic.into(), newer.to_vec())),
        }
    }
}

#[test]
fn messages_of_a_shared_subscription_wait_for_a_member() {
    let mut broker = Broker::start(STORED);
    let (mut member, _) = resume(&broker, "member");
    member.subscribe("$share/g/jobs", QoS::AtLeastOnce);
    drop(member);
    broker.until_away(1);
    let mut publisher = broker.client("publisher");
    for payload in ["1", "2"] {
        publisher.publish_acknowledged("jobs", payload.as_bytes());
    }
    broker.crash();
    let (mut member, present) = resume(&broker, "member");
    assert!(present);
    let mut came = Vec::new();
    until(|| {
        came.extend(member.take_all());
        (came.len() == 2).then_some(())
    });
    assert_eq!(texts(&came), ["1", "2"]);
}

#[test]
fn a_broker_that_is_told_to_stop_leaves_everything_in_the_bucket() {
    let mut broker = Broker::start(STORED);
    let (mut away, _) = resume(&broker, "away");
    away.subscribe("t", QoS::AtLeastOnce);
    drop(away);
    broker.until_away(1);
    let mut publisher = broker.client("publisher");
    for number in 0..900 {
        publisher.publish("t", number.to_string().as_bytes(), QoS::AtLeastOnce);
        if number % 20 == 19 {
            for _ in 0..20 {
                assert_eq!(publisher.next(), Came::PubAck(ReasonCode::Success));
            }
        }
    }
    broker.signal("TERM");
    assert_eq!(broker.wait().code(), Some(0), "{}", broker.log());
    broker.start_again();
    let (mut away, present) = resume(&broker, "away");
    assert!(present);
    for number in 0..900 {
        assert_eq!(away.next(), Came::Publish("t".into(), number.to_string().into_bytes()));
        away.acknowledge();
    }
    assert!(away.is_quiet());
}

/// Another object than the one that was written, in the shard of `client_id`: its last manifest is cut short. What it was comes back.
fn damage(broker: &Broker, client_id: &str) -> (std::path::PathBuf, Vec<u8>) {
    let shard = bucketmq_storage::Shards::default().of(client_id);
    let folder = broker.path(&format!("bucket/shards/{shard}/manifest"));
    let mut manifests: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    manifests.sort();
    let last = manifests.pop().unwrap();
    let bytes = std::fs::read(&last).unwrap();
    std::fs::write(&last, &bytes[..bytes.len() / 2]).unwrap();
    (last, bytes)
}

#[test]
fn a_shard_that_cannot_be_read_is_refused_and_the_others_are_served_until_it_is_repaired() {
    // Of different shards.
    let (sound, damaged) = ("sound", "damaged");
    let mut broker = Broker::start(STORED);
    for id in [sound, damaged] {
        resume(&broker, id).0.subscribe("t", QoS::ExactlyOnce);
    }
    broker.until_away(2);
    broker.signal("TERM");
    broker.wait();
    let (object, bytes) = damage(&broker, damaged);
    broker.begin_again();
    let ready = broker.until_readyz("\"shards\"");
    assert!(ready.contains("\"reason\":\"ShardRefused\""), "{ready}");
    assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
    assert_eq!(broker.metric("mqtt_shards_refused"), 1);
    let name = object.file_name().unwrap().to_str().unwrap();
    assert!(broker.log().contains("a shard cannot be read and is refused") && broker.log().contains(name), "{}", broker.log());

    let mut refused = Client::reading(tcp(broker.address));
    refused.send(&Packet::Connect(connect(damaged, false, None)));
    assert_eq!(refused.next(), Came::ConnAck(ReasonCode::ServerUnavailable, false));
    let (mut subscriber, present) = resume(&broker, sound);
    assert!(present);
    let (mut publisher, _) = resume(&broker, "publisher");
    // Who subscribes in the shard that cannot be read is not known: nothing is acknowledged. QoS 2 waits for all of them.
    publisher.publish("t", b"0", QoS::AtMostOnce);
    assert_eq!(subscriber.next(), Came::Publish("t".into(), b"0".to_vec()));
    publisher.publish("t", b"2", QoS::ExactlyOnce);
    publisher.send(&Packet::PingReq);
    assert_eq!(publisher.next(), Came::Pong);
    pass(WRITTEN);
    assert!(publisher.is_quiet() && subscriber.is_quiet());

    // Repaired: the publisher sends again what was not acknowledged, and both get it once.
    drop((publisher, subscriber));
    broker.signal("TERM");
    assert_eq!(broker.wait().code(), Some(0), "{}", broker.log());
    std::fs::write(&object, &bytes).unwrap();
    broker.start_again();
    let (mut publisher, present) = resume(&broker, "publisher");
    assert!(present);
    publisher.send(&Packet::Publish(Publish { dup: true, ..publish("t", b"2", QoS::ExactlyOnce) }));
    assert_eq!(publisher.next(), Came::Step(PacketType::PubRec, 7, ReasonCode::Success));
    for id in [sound, damaged] {
        let (mut subscriber, present) = resume(&broker, id);
        assert!(present);
        assert_eq!(subscriber.next(), Came::Publish("t".into(), b"2".to_vec()), "{id}");
        let packet_id = subscriber.last.unwrap().packet_id.unwrap().get();
        subscriber.step(PacketType::PubRec, packet_id);
        assert_eq!(subscriber.next(), Came::Step(PacketType::PubRel, packet_id, ReasonCode::Success));
        subscriber.step(PacketType::PubComp, packet_id);
        assert!(subscriber.is_quiet(), "{id} gets it twice");
    }
}
