//! Network Connections of the real binary: how many, how fast, and how long they may take to say who they are.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bucketmq_packet::{Packet, QoS, ReasonCode};

use crate::OPEN;
use crate::client::{Broker, Came, Client, connect, encoded, pass, publish, subscribe, tcp, until, until_closed};

const TWO: &str = "[[listeners]]\nurl = \"tcp://127.0.0.1:0\"\nname = \"first\"\nanonymous = \"local\"\n@FIRST@\n\
                   [[listeners]]\nurl = \"tcp://127.0.0.1:0\"\nname = \"second\"\nanonymous = \"local\"\n";

fn two_listeners(first: &str, limits: &str) -> Broker {
    Broker::start(&format!("{}[limits]\n{limits}\n", TWO.replace("@FIRST@", first)))
}

/// Whether the broker serves a Client that connects there now, which then leaves.
fn takes(broker: &Broker, listener: &str) -> bool {
    Client::open(broker.endpoint(listener), "visitor", true, None).is_ok()
}

#[test]
fn a_listener_takes_so_many_connections_and_others_take_theirs() {
    let broker = two_listeners("max_connections = 2", "");
    let _first = Client::open(broker.endpoint("first"), "a", true, None).unwrap();
    let second = Client::open(broker.endpoint("first"), "b", true, None).unwrap();
    let mut refused = tcp(broker.endpoint("first"));
    assert_eq!(until_closed(&mut refused), b"", "closed at once");
    assert_eq!(broker.metric("mqtt_connections_refused_total{listener=\"first\",reason=\"listener_connections\"}"), 1);
    assert!(takes(&broker, "second"));
    drop(second);
    until(|| takes(&broker, "first").then_some(()));
}

#[test]
fn connections_are_limited_in_total_and_a_reload_moves_the_limit_without_closing_any() {
    let broker = two_listeners("", "max_connections = 2");
    let mut live = [("first", "a"), ("second", "b")].map(|(listener, id)| Client::open(broker.endpoint(listener), id, true, None).unwrap());
    for listener in ["first", "second"] {
        assert_eq!(until_closed(&mut tcp(broker.endpoint(listener))), b"");
    }
    broker.reconfigure(|text| text.replace("max_connections = 2", "max_connections = 3"));
    assert!(takes(&broker, "first"));
    let ready = broker.reconfigure(|text| text.replace("max_connections = 3", "max_connections = 1"));
    assert!(ready.contains("\"ok\":true"), "{ready}");
    until(|| (!takes(&broker, "second")).then_some(()));
    for client in &mut live {
        assert!(client.is_quiet());
    }
}

#[test]
fn over_the_accept_rate_connections_wait_in_the_backlog_and_none_is_lost() {
    for (first, limits) in [("max_connection_rate = 10", ""), ("", "max_connection_rate = 10")] {
        let broker = two_listeners(first, limits);
        let started = Instant::now();
        let streams: Vec<TcpStream> = (0..15).map(|_| tcp(broker.endpoint("first"))).collect();
        let clients: Vec<_> = streams
            .into_iter()
            .enumerate()
            .map(|(number, stream)| Client::over(stream, &connect(&format!("client-{number}"), true, None)).unwrap())
            .collect();
        // Ten a second, of which the first two may come at once.
        assert!(started.elapsed() > Duration::from_millis(1_200), "{:?}", started.elapsed());
        drop(clients);
    }
}

#[test]
fn whoever_does_not_send_a_whole_connect_in_time_is_closed_and_gives_its_place_back() {
    let broker = Broker::start(&format!("{OPEN}connect_timeout = \"1s\"\n"));
    let whole = encoded(&Packet::Connect(connect("late", true, None)));
    let sent: [&[u8]; 4] = [b"", &whole[..1], &whole[..8], &whole[..whole.len() - 1]];
    let started = Instant::now();
    let mut streams = sent.map(|bytes| {
        let mut stream = tcp(broker.address);
        stream.write_all(bytes).unwrap();
        stream
    });
    // One that goes on and on without an end: the deadline is for all of it, not for each byte.
    let mut trickling = tcp(broker.address);
    let endless = [&[0x10, 0xFF, 0x7F][..], &[0, 4], b"MQTT\x05\x02\0\0\0\x3F\xFF"].concat();
    let mut bytes = endless.into_iter().chain(std::iter::repeat(b'x'));
    until(|| trickling.write_all(&[bytes.next()?]).is_err().then_some(()));
    assert!(started.elapsed() > Duration::from_millis(900), "{:?}", started.elapsed());
    for stream in &mut streams {
        assert_eq!(until_closed(stream), b"");
    }
    until(|| (broker.metric("mqtt_connections{listener=") == 0).then_some(()));
    assert_eq!(broker.metric("mqtt_connections_opened_total"), 0);
    // After CONNECT there is no such deadline.
    let mut client = broker.client("in time");
    pass(Duration::from_millis(1_200));
    assert!(client.is_quiet());
}

#[test]
fn a_client_that_writes_byte_by_byte_is_served_like_others() {
    let broker = Broker::start(OPEN);
    let packets = [
        Packet::Connect(connect("slow", true, None)),
        Packet::Subscribe(subscribe("t", QoS::AtMostOnce)),
        Packet::Publish(publish("t", b"letter by letter", QoS::AtMostOnce)),
        Packet::PingReq,
    ];
    let bytes: Vec<u8> = packets.iter().flat_map(encoded).collect();
    let stream = tcp(broker.address);
    stream.set_nodelay(true).unwrap();
    let mut client = Client::reading(stream);
    for byte in bytes {
        client.stream.write_all(&[byte]).unwrap();
        // So that each byte is a read of its own.
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(client.next(), Came::ConnAck(ReasonCode::Success, false));
    assert_eq!(client.next(), Came::SubAck(vec![ReasonCode::Success]));
    assert_eq!(client.next(), Came::Publish("t".to_owned(), b"letter by letter".to_vec()));
    assert_eq!(client.next(), Came::Pong);
}

#[test]
fn everything_may_come_at_once_behind_connect() {
    // [MQTT-3.1.4-5] A Client need not wait for CONNACK.
    let broker = Broker::start(OPEN);
    let large = vec![7; 200_000];
    let packets = [
        Packet::Connect(connect("hasty", true, None)),
        Packet::Subscribe(subscribe("t", QoS::AtMostOnce)),
        Packet::Publish(publish("t", &large, QoS::AtMostOnce)),
    ];
    let mut client = Client::reading(tcp(broker.address));
    client.stream.write_all(&packets.iter().flat_map(encoded).collect::<Vec<u8>>()).unwrap();
    assert_eq!(client.next(), Came::ConnAck(ReasonCode::Success, false));
    assert_eq!(client.next(), Came::SubAck(vec![ReasonCode::Success]));
    assert_eq!(client.next(), Came::Publish("t".to_owned(), large.clone()));
}
