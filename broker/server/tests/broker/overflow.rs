//! Bounds of what waits and of what is retained, in the real binary: what goes when there is no room, what the counters say, what comes in the end.

use std::time::Duration;

use bucketmq_packet::{Connect, ConnectProperties, Packet, Publish, PublishProperties, QoS, ReasonCode};

use crate::client::{Broker, Came, Client, connect, pass, publish, tcp, until};
use crate::with_limits;

/// Leaves a Session behind that is subscribed to `q`.
fn leave_behind(broker: &Broker, id: &str) {
    let mut client = Client::open(broker.address, id, false, None).unwrap();
    assert_eq!(client.subscribe("q", QoS::AtLeastOnce), Came::SubAck(vec![ReasonCode::GrantedQoS1]));
    drop(client);
    broker.until_away(1);
}

/// Connects to the Session again and takes what waits.
fn collect(broker: &Broker, id: &str) -> Vec<Vec<u8>> {
    let taken = Client::open(broker.address, id, false, None).unwrap().take_all();
    taken.into_iter().map(|(_, payload)| payload).collect()
}

fn numbers(numbers: impl IntoIterator<Item = u8>) -> Vec<Vec<u8>> {
    numbers.into_iter().map(|number| vec![number]).collect()
}

#[test]
fn a_full_queue_of_a_session_that_is_away_keeps_the_newest_or_the_oldest_as_configured() {
    for (overflow, kept) in [("drop_oldest", 2..5), ("reject_new", 0..3), ("disconnect", 0..3)] {
        let broker = with_limits(&format!("session_queue_messages = 3\nsession_queue_overflow = \"{overflow}\""));
        leave_behind(&broker, "away");
        let mut publisher = broker.client("publisher");
        for number in 0..5 {
            // The publisher has done nothing wrong, and others may have got it.
            assert_eq!(publisher.publish_acknowledged("q", &[number]), Came::PubAck(ReasonCode::Success), "{overflow}");
        }
        assert_eq!(broker.metric("mqtt_session_queue_messages"), 3, "{overflow}");
        assert_eq!(broker.dropped("queue_full"), 2, "{overflow}");
        assert_eq!(collect(&broker, "away"), numbers(kept), "{overflow}");
        assert_eq!(broker.metric("mqtt_session_queue_messages"), 0, "{overflow}");
    }
}

/// A connected subscriber to `q` that takes one message at a time.
fn slow_subscriber(broker: &Broker) -> Client {
    let properties = ConnectProperties { receive_maximum: Some(1), session_expiry_interval: Some(600), ..ConnectProperties::default() };
    let mut client = Client::over(tcp(broker.address), &Connect { properties, ..connect("slow", false, None) }).unwrap();
    client.subscribe("q", QoS::AtLeastOnce);
    client
}

#[test]
fn a_full_queue_of_a_connected_client_keeps_the_newest_or_the_oldest_as_configured() {
    for (overflow, kept) in [("drop_oldest", 3..6), ("reject_new", 1..4)] {
        let broker = with_limits(&format!("session_queue_messages = 3\nsession_queue_overflow = \"{overflow}\""));
        let mut subscriber = slow_subscriber(&broker);
        let mut publisher = broker.client("publisher");
        for number in 0..6 {
            assert_eq!(publisher.publish_acknowledged("q", &[number]), Came::PubAck(ReasonCode::Success), "{overflow}");
        }
        assert_eq!(broker.dropped("queue_full"), 2, "{overflow}");
        // What was sent already is not dropped.
        assert_eq!(subscriber.next(), Came::Publish("q".to_owned(), vec![0]), "{overflow}");
        subscriber.acknowledge();
        for number in kept {
            assert_eq!(subscriber.next(), Came::Publish("q".to_owned(), vec![number]), "{overflow}");
            subscriber.acknowledge();
        }
        assert!(subscriber.is_quiet());
    }
}

#[test]
fn a_client_whose_queue_overflows_is_disconnected_where_that_is_configured_and_keeps_what_waits() {
    let broker = with_limits("session_queue_messages = 3\nsession_queue_overflow = \"disconnect\"");
    let mut subscriber = slow_subscriber(&broker);
    let mut publisher = broker.client("publisher");
    for number in 0..5 {
        assert_eq!(publisher.publish_acknowledged("q", &[number]), Came::PubAck(ReasonCode::Success));
    }
    assert_eq!(subscriber.next(), Came::Publish("q".to_owned(), vec![0]));
    assert_eq!(subscriber.next(), Came::Disconnect(ReasonCode::QuotaExceeded));
    assert_eq!(subscriber.next(), Came::Closed);
    assert_eq!(broker.dropped("queue_full"), 1);
    assert_eq!(broker.metric("mqtt_connections_closed_total{reason=\"server\"}"), 1);
    broker.until_away(1);
    assert_eq!(collect(&broker, "slow"), numbers(0..4));
}

#[test]
fn bytes_bound_a_queue_too_and_what_is_larger_than_all_of_it_drives_nobody_out() {
    let broker = with_limits("session_queue_bytes = \"1KiB\"");
    leave_behind(&broker, "away");
    let mut publisher = broker.client("publisher");
    for number in 0..3 {
        publisher.publish_acknowledged("q", &[number; 400]);
    }
    publisher.publish_acknowledged("q", &[9; 2000]);
    assert!(broker.metric("mqtt_session_queue_bytes") <= 1024);
    assert_eq!(broker.dropped("queue_full"), 2);
    assert_eq!(collect(&broker, "away"), [vec![1; 400], vec![2; 400]]);
}

#[test]
fn qos_0_waits_for_a_session_that_is_away_only_where_that_is_configured() {
    for (queue_qos0, dropped, kept) in [(false, 2, numbers([1])), (true, 0, numbers([0, 1, 2]))] {
        let broker = with_limits(&format!("queue_qos0 = {queue_qos0}"));
        leave_behind(&broker, "away");
        let mut publisher = broker.client("publisher");
        publisher.publish("q", &[0], QoS::AtMostOnce);
        publisher.publish_acknowledged("q", &[1]);
        publisher.publish("q", &[2], QoS::AtMostOnce);
        assert!(publisher.is_quiet());
        assert_eq!(broker.dropped("not_connected"), dropped, "{queue_qos0}");
        assert_eq!(collect(&broker, "away"), kept, "{queue_qos0}");
    }
}

#[test]
fn queued_qos_0_keeps_to_the_bounds_of_the_queue() {
    let broker = with_limits("queue_qos0 = true\nsession_queue_messages = 2");
    leave_behind(&broker, "away");
    let mut publisher = broker.client("publisher");
    for number in 0..5 {
        publisher.publish("q", &[number], QoS::AtMostOnce);
    }
    assert!(publisher.is_quiet());
    assert_eq!(broker.dropped("queue_full"), 3);
    assert_eq!(collect(&broker, "away"), numbers([3, 4]));
}

/// Publishes at QoS 1 with a Message Expiry Interval.
fn publish_for(publisher: &mut Client, topic: &str, payload: &[u8], seconds: Option<u32>, retain: bool) {
    let properties = PublishProperties { message_expiry_interval: seconds, ..PublishProperties::default() };
    publisher.send(&Packet::Publish(Publish { properties, retain, ..publish(topic, payload, QoS::AtLeastOnce) }));
    assert!(matches!(publisher.next(), Came::PubAck(ReasonCode::Success | ReasonCode::NoMatchingSubscribers)));
}

#[test]
fn a_message_that_expires_in_the_queue_is_not_delivered_and_the_others_say_how_long_they_have() {
    let broker = with_limits("");
    leave_behind(&broker, "away");
    let mut publisher = broker.client("publisher");
    publish_for(&mut publisher, "q", b"short", Some(1), false);
    publish_for(&mut publisher, "q", b"long", Some(600), false);
    publish_for(&mut publisher, "q", b"for ever", None, false);
    // Nothing to be seen tells that it is over: who would look would also take it.
    pass(Duration::from_millis(1_100));
    let mut client = Client::open(broker.address, "away", false, None).unwrap();
    assert_eq!(client.next(), Came::Publish("q".to_owned(), b"long".to_vec()));
    // [MQTT-3.3.2-6] What is left of it.
    let left = client.last.unwrap().message_expiry_interval.unwrap();
    assert!((500..600).contains(&left), "{left}");
    assert_eq!(client.next(), Came::Publish("q".to_owned(), b"for ever".to_vec()));
    assert_eq!(client.last.unwrap().message_expiry_interval, None);
    assert_eq!(broker.dropped("expired"), 1);
}

#[test]
fn no_message_waits_or_stays_retained_longer_than_the_configured_maximum() {
    let broker = with_limits("message_expiry_max = \"2s\"\n[sys_topics]\ninterval = \"0s\"");
    leave_behind(&broker, "away");
    let mut publisher = broker.client("publisher");
    publish_for(&mut publisher, "q", b"for ever", None, false);
    publish_for(&mut publisher, "q", b"long", Some(600), false);
    publish_for(&mut publisher, "kept", b"for ever", None, true);
    assert_eq!(broker.metric("mqtt_retained_messages"), 1);
    pass(Duration::from_millis(2_100));
    assert_eq!(collect(&broker, "away"), numbers([]));
    assert_eq!(broker.dropped("expired"), 2);
    let mut reader = broker.client("reader");
    reader.subscribe("kept", QoS::AtMostOnce);
    assert!(reader.is_quiet());
    until(|| (broker.metric("mqtt_retained_messages") == 0).then_some(()));
}

/// What somebody who subscribes to everything now gets, in the order of the topics.
fn retained(broker: &Broker) -> Vec<(String, usize)> {
    let mut reader = broker.client("reader");
    reader.subscribe("#", QoS::AtMostOnce);
    let mut found: Vec<_> = reader.take_all().into_iter().map(|(topic, payload)| (topic, payload.len())).collect();
    found.sort();
    found
}

fn named(expected: &[(&str, usize)]) -> Vec<(String, usize)> {
    expected.iter().map(|(topic, length)| ((*topic).to_owned(), *length)).collect()
}

#[test]
fn retained_messages_are_limited_in_number_and_one_that_is_cleared_makes_room() {
    let broker = with_limits("retained_messages = 2\n[sys_topics]\ninterval = \"0s\"");
    let mut publisher = broker.client("publisher");
    for topic in ["a", "b", "c"] {
        publisher.retain(topic, &[7; 10]);
    }
    assert!(publisher.is_quiet());
    assert_eq!((broker.dropped("retained_full"), broker.metric("mqtt_retained_messages")), (1, 2));
    assert_eq!(retained(&broker), named(&[("a", 10), ("b", 10)]));
    // One that is there may be replaced; one that goes makes room.
    publisher.retain("a", &[7; 5]);
    publisher.retain("b", b"");
    publisher.retain("c", &[7; 20]);
    assert!(publisher.is_quiet());
    assert_eq!((broker.dropped("retained_full"), broker.metric("mqtt_retained_messages")), (1, 2));
    assert_eq!(retained(&broker), named(&[("a", 5), ("c", 20)]));
}

#[test]
fn retained_messages_are_limited_in_bytes_and_what_does_not_fit_leaves_nothing_outdated_behind() {
    let broker = with_limits("retained_bytes = \"1KiB\"\n[sys_topics]\ninterval = \"0s\"");
    let mut subscriber = broker.client("subscriber");
    subscriber.subscribe("a", QoS::AtMostOnce);
    let mut publisher = broker.client("publisher");
    publisher.retain("a", &[7; 400]);
    publisher.retain("b", &[7; 400]);
    publisher.retain("c", &[7; 400]);
    assert!(publisher.is_quiet());
    assert!(broker.metric("mqtt_retained_bytes") <= 1024);
    assert_eq!(retained(&broker), named(&[("a", 400), ("b", 400)]));
    publisher.retain("a", &[7; 900]);
    assert!(publisher.is_quiet());
    assert_eq!(broker.dropped("retained_full"), 2);
    assert_eq!(retained(&broker), named(&[("b", 400)]));
    // Who was subscribed has got both.
    assert_eq!(subscriber.next(), Came::Publish("a".to_owned(), vec![7; 400]));
    assert_eq!(subscriber.next(), Came::Publish("a".to_owned(), vec![7; 900]));
}
