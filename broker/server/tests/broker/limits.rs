//! What one Client may ask of the real binary: size of packets, levels of topics, number of Subscriptions, and the Reason Code beyond.

use bucketmq_packet::{
    Connect, ConnectProperties, Packet, PacketIdentifier, QoS, ReasonCode, Subscribe, SubscriptionOptions, Unsubscribe, Will,
};

use crate::client::{Came, Client, connect, encoded, publish, tcp};
use crate::with_limits;

#[test]
fn a_packet_above_the_limit_is_answered_with_0x95_and_one_of_exactly_the_limit_is_taken() {
    let broker = with_limits("max_packet_size = \"2KiB\"");
    let overhead = encoded(&Packet::Publish(publish("t", &[7; 2000], QoS::AtMostOnce))).len() - 2000;
    let mut subscriber = broker.client("subscriber");
    subscriber.subscribe("t", QoS::AtMostOnce);
    let mut publisher = broker.client("publisher");
    publisher.publish("t", &vec![7; 2048 - overhead], QoS::AtMostOnce);
    assert_eq!(subscriber.next(), Came::Publish("t".to_owned(), vec![7; 2048 - overhead]));
    publisher.publish("t", &vec![7; 2049 - overhead], QoS::AtMostOnce);
    assert_eq!(publisher.next(), Came::Disconnect(ReasonCode::PacketTooLarge));
    assert_eq!(publisher.next(), Came::Closed);
    assert!(subscriber.is_quiet());
    assert_eq!(broker.metric("mqtt_protocol_violations_total"), 1);
    // The answer does not wait for a packet that would be large if it came.
    let mut client = broker.client("announcing");
    std::io::Write::write_all(&mut client.stream, &[0x30, 0xFF, 0xFF, 0x7F]).unwrap();
    assert_eq!(client.next(), Came::Disconnect(ReasonCode::PacketTooLarge));
    // CONNECT is a packet like others.
    let long = "x".repeat(3000);
    let refused = Client::over(tcp(broker.address), &connect(&long, true, None)).err();
    assert_eq!(refused, Some(Came::ConnAck(ReasonCode::PacketTooLarge, false)));
}

/// [MQTT-3.1.2-24] A CONNACK that cannot be shortened is not sent to a Client that does not take it, and no Session is opened for it.
#[test]
fn a_client_that_takes_no_connack_is_refused_without_a_session() {
    let broker = with_limits("");
    for (largest, accepted) in [(12, false), (200, true)] {
        let properties = ConnectProperties { maximum_packet_size: Some(largest), ..ConnectProperties::default() };
        let opened = Client::over(tcp(broker.address), &Connect { properties, ..connect("small", true, None) });
        assert_eq!(opened.as_ref().err(), (!accepted).then_some(&Came::ConnAck(ReasonCode::PacketTooLarge, false)));
        assert_eq!(broker.metric("mqtt_connections_opened_total"), u64::from(accepted));
    }
}

#[test]
fn a_message_too_large_for_one_subscriber_is_dropped_for_it_and_reaches_the_others() {
    let broker = with_limits("");
    let properties = ConnectProperties { maximum_packet_size: Some(200), ..ConnectProperties::default() };
    let mut small = Client::over(tcp(broker.address), &Connect { properties, ..connect("small", true, None) }).unwrap();
    let mut large = broker.client("large");
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        small.subscribe("t", qos);
        large.subscribe("t", qos);
        let mut publisher = broker.client("publisher");
        assert_eq!(publisher.publish_acknowledged("t", &[7; 300]), Came::PubAck(ReasonCode::Success));
        assert_eq!(publisher.publish_acknowledged("t", &[7; 30]), Came::PubAck(ReasonCode::Success));
        assert_eq!(large.next(), Came::Publish("t".to_owned(), vec![7; 300]));
        assert_eq!(large.next(), Came::Publish("t".to_owned(), vec![7; 30]));
        assert_eq!(small.next(), Came::Publish("t".to_owned(), vec![7; 30]));
    }
    assert_eq!(broker.dropped("too_large"), 2);
}

#[test]
fn topics_have_so_many_levels_and_no_more() {
    let broker = with_limits("max_topic_levels = 3");
    let mut client = broker.client("a");
    for (filter, reason_code) in [
        ("a/b/c", ReasonCode::Success),
        ("a/+/#", ReasonCode::Success),
        ("$share/group/a/b/c", ReasonCode::Success),
        ("a/b/c/d", ReasonCode::TopicFilterInvalid),
        ("a/b/c/#", ReasonCode::TopicFilterInvalid),
        ("///", ReasonCode::TopicFilterInvalid),
        ("$share/group/a/b/c/d", ReasonCode::TopicFilterInvalid),
    ] {
        assert_eq!(client.subscribe(filter, QoS::AtMostOnce), Came::SubAck(vec![reason_code]), "{filter}");
    }
    let mut publisher = broker.client("publisher");
    assert_eq!(publisher.publish_acknowledged("x/y/z", b""), Came::PubAck(ReasonCode::NoMatchingSubscribers));
    assert_eq!(publisher.publish_acknowledged("a/b/c/d", b""), Came::PubAck(ReasonCode::TopicNameInvalid));
    // At QoS 0 nobody can be told; the connection stays.
    publisher.publish("a/b/c/d", b"", QoS::AtMostOnce);
    assert!(publisher.is_quiet());
    assert_eq!((broker.dropped("topic_levels"), broker.dropped("not_authorized")), (2, 0));
    let will = Will {
        topic: "a/b/c/d",
        payload: b"",
        qos: QoS::AtMostOnce,
        retain: false,
        delay_interval: 0,
        message_expiry_interval: None,
        forward: (&[][..]).into(),
    };
    let refused = Client::over(tcp(broker.address), &Connect { will: Some(will), ..connect("dying", true, None) }).err();
    assert_eq!(refused, Some(Came::ConnAck(ReasonCode::TopicNameInvalid, false)));
}

#[test]
fn subscriptions_of_a_client_are_counted_and_one_that_is_given_back_makes_room() {
    let broker = with_limits("max_subscriptions = 2");
    let mut client = broker.client("a");
    let options = SubscriptionOptions::with_qos(QoS::AtMostOnce);
    let packet_id = PacketIdentifier::new(1).unwrap();
    client.send(&Packet::Subscribe(Subscribe {
        packet_id,
        subscription_identifier: None,
        user_properties: Vec::new(),
        filters: vec![("one", options), ("$share/group/two", options), ("three", options), ("one", options)],
    }));
    // The same filter again is no further Subscription [MQTT-3.8.4-3].
    let expected = [ReasonCode::Success, ReasonCode::Success, ReasonCode::QuotaExceeded, ReasonCode::Success];
    assert_eq!(client.next(), Came::SubAck(expected.to_vec()));
    client.send(&Packet::Unsubscribe(Unsubscribe { packet_id, user_properties: Vec::new(), filters: vec!["$share/group/two"] }));
    assert_eq!(client.next(), Came::UnsubAck(vec![ReasonCode::Success]));
    assert_eq!(client.subscribe("three", QoS::AtMostOnce), Came::SubAck(vec![ReasonCode::Success]));
    // Others have their own.
    assert_eq!(broker.client("b").subscribe("four", QoS::AtMostOnce), Came::SubAck(vec![ReasonCode::Success]));
    client.publish("three", b"here", QoS::AtMostOnce);
    assert_eq!(client.next(), Came::Publish("three".to_owned(), b"here".to_vec()));
}
