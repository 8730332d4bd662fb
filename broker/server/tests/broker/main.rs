//! The real binary in everything that the conformance suite, which sees MQTT only, does not: start, stop, reload, limits, bad input.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod access_reload;
mod acknowledge;
mod bucket_health;
mod bucket_tools;
mod check_config;
mod client;
mod client_tools;
mod connections;
mod durable;
mod import;
mod import_retained;
mod left_over_closing;
mod limits;
mod live_snapshots;
mod outage;
mod overflow;
mod ownership;
mod prefix_owner;
mod proxy_protocol;
mod scram;
mod slow_reader;
mod tls;
mod tls_reload;
mod unix_socket;
mod unusable;
mod websocket;
mod withdrawn_while_away;

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bucketmq_packet::{QoS, ReasonCode};

use client::{Broker, Came, Client, run, until};

const OPEN: &str = "[[listeners]]\nurl = \"tcp://@ADDRESS@\"\nanonymous = \"local\"\n";

fn with_limits(limits: &str) -> Broker {
    Broker::start(&format!("{OPEN}[limits]\n{limits}\n"))
}

#[test]
fn clients_are_told_when_the_broker_stops_and_it_exits_with_0() {
    for signal in ["TERM", "INT"] {
        let mut broker = Broker::start(OPEN);
        let mut client = broker.client("a");
        broker.signal(signal);
        assert_eq!(client.next(), Came::Disconnect(ReasonCode::ServerShuttingDown));
        drop(client);
        assert_eq!(broker.wait().code(), Some(0), "{}", broker.log());
    }
}

#[test]
fn how_long_messages_take_is_counted_by_qos_and_at_the_socket() {
    let broker = Broker::start(OPEN);
    let mut subscriber = broker.client("subscriber");
    subscriber.subscribe("t", QoS::AtLeastOnce);
    let mut publisher = broker.client("publisher");
    publisher.publish("t", b"0", QoS::AtMostOnce);
    publisher.publish_acknowledged("t", b"1");
    subscriber.next();
    subscriber.next();
    until(|| (broker.metric("mqtt_publish_duration_seconds_count{qos=\"1\"}") == 1).then_some(()));
    assert_eq!(broker.metric("mqtt_publish_duration_seconds_count{qos=\"0\"}"), 1);
    assert_eq!(broker.metric("mqtt_publish_duration_seconds_bucket{qos=\"0\",le=\"10\"}"), 1, "it took less than ten seconds");
    until(|| (1..=2).contains(&broker.metric("mqtt_delivery_duration_seconds_count")).then_some(()));
}

#[test]
fn limits_change_while_clients_stay() {
    let broker = with_limits("max_subscriptions = 1");
    let mut client = broker.client("a");
    assert_eq!(client.subscribe("one", QoS::AtMostOnce), Came::SubAck(vec![ReasonCode::Success]));
    assert_eq!(client.subscribe("two", QoS::AtMostOnce), Came::SubAck(vec![ReasonCode::QuotaExceeded]));
    let ready = broker.reconfigure(|text| text.replace("max_subscriptions = 1", "max_subscriptions = 2"));
    assert!(ready.contains("\"ok\":true"), "{ready}");
    assert_eq!(client.subscribe("two", QoS::AtMostOnce), Came::SubAck(vec![ReasonCode::Success]));
}

#[test]
fn a_broken_configuration_leaves_the_old_one_in_force_and_readyz_says_why() {
    let broker = with_limits("max_subscriptions = 1");
    let mut client = broker.client("a");
    let ready = broker.reconfigure(|text| text.replace("max_subscriptions", "max_subscription"));
    assert!(ready.contains("\"ok\":false") && ready.contains("limits.max_subscription") && ready.contains("\"ready\":true"), "{ready}");
    client.subscribe("one", QoS::AtMostOnce);
    assert_eq!(client.subscribe("two", QoS::AtMostOnce), Came::SubAck(vec![ReasonCode::QuotaExceeded]));
}

#[test]
fn readyz_tells_which_revision_of_the_configuration_is_in_force() {
    let broker = Broker::start(&format!("revision = \"one\"\n{OPEN}"));
    assert!(broker.get("/readyz").contains("\"revision\":\"one\""));
    let ready = broker.reconfigure(|text| text.replace("\"one\"", "\"two\"\nrevison = \"x\""));
    assert!(ready.contains("\"ok\":false") && ready.contains("\"revision\":\"one\""), "{ready}");
    let ready = broker.reconfigure(|text| text.replace("revison = \"x\"\n", ""));
    assert!(ready.contains("\"ok\":true") && ready.contains("\"revision\":\"two\""), "{ready}");
    let ready = broker.reconfigure(|text| text.replace("revision = \"two\"\n", ""));
    assert!(ready.contains("\"revision\":null"), "{ready}");
}

#[test]
fn listeners_come_and_go_without_dropping_a_connection_of_those_that_stay() {
    let broker = Broker::start(OPEN);
    let mut client = broker.client("a");
    let second = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    broker.reconfigure(|text| format!("[[listeners]]\nurl = \"tcp://{second}\"\nanonymous = \"local\"\n{text}"));
    assert!(Client::open(second, "b", true, None).is_ok());
    broker.reconfigure(|text| text.replacen(&format!("[[listeners]]\nurl = \"tcp://{second}\"\nanonymous = \"local\"\n"), "", 1));
    until(|| TcpStream::connect(second).is_err().then_some(()));
    assert_eq!(client.subscribe("still", QoS::AtMostOnce), Came::SubAck(vec![ReasonCode::Success]));
}

const SECURED: &str = "[[listeners]]\nurl = \"tcp://@ADDRESS@\"\n[access]\nusers_file = \"users\"\n[access.roles.worker]\n\
                       rules = [\"allow connect\", \"allow publish,subscribe work/#\"]\n";

#[test]
fn what_is_withdrawn_stops_working_on_live_sessions() {
    let folder = tempfile::tempdir().unwrap();
    for user in ["ann", "bob"] {
        let (code, _, errors) = run(&["passwd", "users", user, "--roles", "worker"], folder.path(), "secret");
        assert_eq!(code, 0, "{errors}");
    }
    let users = std::fs::read_to_string(folder.path().join("users")).unwrap();
    let broker = Broker::start_with_users(SECURED, &users);
    assert_eq!(
        Client::open(broker.address, "x", true, Some(("ann", "wrong"))).err(),
        Some(Came::ConnAck(ReasonCode::BadUserNameOrPassword, false))
    );
    let mut ann = Client::open(broker.address, "ann", true, Some(("ann", "secret"))).unwrap();
    let mut bob = Client::open(broker.address, "bob", true, Some(("bob", "secret"))).unwrap();
    assert_eq!(ann.subscribe("work/#", QoS::AtMostOnce), Came::SubAck(vec![ReasonCode::Success]));
    assert_eq!(ann.subscribe("other/#", QoS::AtMostOnce), Came::SubAck(vec![ReasonCode::NotAuthorized]));
    // The role loses the right: the Subscription stops, the connection stays.
    broker.reconfigure(|text| text.replace("publish,subscribe work/#", "publish work/#"));
    until(|| (broker.metric("mqtt_subscriptions{kind=\"plain\"}") == 0).then_some(()));
    bob.publish("work/1", b"unheard", QoS::AtLeastOnce);
    assert_eq!(bob.next(), Came::PubAck(ReasonCode::NoMatchingSubscribers));
    bob.publish("other/1", b"forbidden", QoS::AtLeastOnce);
    assert_eq!(bob.next(), Came::PubAck(ReasonCode::NotAuthorized));
    // The user goes: by the file alone, without a signal.
    std::fs::write(
        broker.path("users"),
        users.lines().filter(|line| !line.starts_with("bob:")).map(|line| format!("{line}\n")).collect::<String>(),
    )
    .unwrap();
    assert_eq!(bob.next(), Came::Disconnect(ReasonCode::NotAuthorized));
    assert_eq!(ann.subscribe("work/#", QoS::AtMostOnce), Came::SubAck(vec![ReasonCode::NotAuthorized]));
}

#[test]
fn a_reader_that_does_not_read_costs_bounded_memory_and_others_get_everything() {
    let broker = with_limits("output_buffer_bytes = \"256KiB\"");
    let mut deaf = broker.client("deaf");
    deaf.subscribe("load", QoS::AtMostOnce);
    let mut reader = broker.client("reader");
    reader.subscribe("load", QoS::AtMostOnce);
    let before = broker.resident();
    const MESSAGES: usize = 8_000;
    let mut publisher = broker.client("publisher");
    let sender = std::thread::spawn(move || {
        for _ in 0..MESSAGES {
            publisher.publish("load", &[7; 8192], QoS::AtMostOnce);
        }
        publisher
    });
    // Counted as bytes, because a reader slower than the broker would be held to be deaf as well: header 3, topic 6, properties 1, payload.
    let mut left = MESSAGES * (3 + 6 + 1 + 8192);
    let mut chunk = vec![0; 1 << 20];
    while left > 0 {
        let count = std::io::Read::read(&mut reader.stream, &mut chunk).unwrap_or(0);
        assert!(count > 0, "{left} bytes never came");
        left -= count;
    }
    sender.join().unwrap();
    let grown = broker.resident().saturating_sub(before);
    assert!(grown < 30 << 20, "{grown} bytes");
    assert!(broker.metric("mqtt_messages_dropped_total{reason=\"output_full\"}") > 0);
}

#[test]
fn the_queue_of_a_session_that_is_away_is_bounded() {
    let broker = with_limits("session_queue_messages = 3");
    let mut client = Client::open(broker.address, "away", false, None).unwrap();
    client.subscribe("q", QoS::AtLeastOnce);
    drop(client);
    until(|| (broker.metric("mqtt_sessions{state=\"disconnected\"}") == 1).then_some(()));
    let mut publisher = broker.client("publisher");
    for number in 0..5u8 {
        publisher.publish("q", &[number], QoS::AtLeastOnce);
        publisher.next();
    }
    assert_eq!(broker.metric("mqtt_session_queue_messages"), 3);
    let mut client = Client::open(broker.address, "away", false, None).unwrap();
    for number in 2..5 {
        assert_eq!(client.next(), Came::Publish("q".to_owned(), vec![number]));
    }
}

#[test]
fn connections_are_limited_in_number_and_silent_ones_are_closed() {
    let broker = Broker::start(&format!("{OPEN}max_connections = 2\nconnect_timeout = \"1s\"\n"));
    let _first = broker.client("a");
    // Says nothing: takes a place until its deadline.
    let mut silent = TcpStream::connect(broker.address).unwrap();
    silent.set_read_timeout(Some(client::PATIENCE)).unwrap();
    let started = Instant::now();
    assert_eq!(std::io::Read::read(&mut silent, &mut [0; 8]).unwrap_or(0), 0);
    assert!(started.elapsed() > Duration::from_millis(500));
    let _second = broker.client("b");
    let mut refused = TcpStream::connect(broker.address).unwrap();
    refused.set_read_timeout(Some(client::PATIENCE)).unwrap();
    assert_eq!(std::io::Read::read(&mut refused, &mut [0; 8]).unwrap_or(0), 0, "closed at once");
}

#[test]
fn a_publisher_over_its_rate_is_slowed_down() {
    let broker = with_limits("messages_rate = 100");
    let mut client = broker.client("a");
    let started = Instant::now();
    for _ in 0..200 {
        client.publish("t", b"x", QoS::AtLeastOnce);
        client.next();
    }
    assert!(started.elapsed() > Duration::from_millis(1_500), "{:?}", started.elapsed());
}

#[test]
fn above_the_memory_watermark_new_connections_are_refused() {
    let broker = with_limits("memory_watermark = \"32MiB\"");
    let mut publisher = broker.client("publisher");
    for number in 0..60 {
        publisher.retain(&format!("large/{number}"), &[7; 600_000]);
    }
    until(|| (broker.metric("mqtt_load_shedding") == 1).then_some(()));
    let mut refused = TcpStream::connect(broker.address).unwrap();
    refused.set_read_timeout(Some(client::PATIENCE)).unwrap();
    assert_eq!(std::io::Read::read(&mut refused, &mut [0; 8]).unwrap_or(0), 0);
}

#[test]
fn garbage_from_thousands_leaves_no_trace() {
    let broker = Broker::start(OPEN);
    let hostile: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &[0x10, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F],
        &[0x30, 0x00],
        &[0x10, 0x0C, 0, 4, b'M', b'Q', b'T', b'T', 9, 2, 0, 0, 0, 0],
        &[0x10, 0x7F, 0, 4],
        &[0xFF; 64],
    ];
    let attack = |rounds: usize| {
        for number in 0..rounds {
            let Ok(mut stream) = TcpStream::connect(broker.address) else { continue };
            let _ = stream.write_all(hostile[number % hostile.len()]);
        }
    };
    attack(1_000);
    until(|| (broker.metric("mqtt_connections{listener=") == 0).then_some(()));
    let before = broker.resident();
    attack(5_000);
    until(|| (broker.metric("mqtt_connections{listener=") == 0).then_some(()));
    let after = broker.resident();
    assert!(after < before + before / 10 + (4 << 20), "{before} then {after}");
    assert!(!broker.log().contains("panicked"), "{}", broker.log());
    assert!(broker.metric("mqtt_protocol_violations_total") > 1_000);
    broker.client("well behaved");
}

#[test]
fn a_share_without_connected_members_keeps_its_messages() {
    let broker = Broker::start(OPEN);
    let mut member = Client::open(broker.address, "member", false, None).unwrap();
    member.subscribe("$share/g/jobs", QoS::AtLeastOnce);
    drop(member);
    until(|| (broker.metric("mqtt_sessions{state=\"disconnected\"}") == 1).then_some(()));
    let mut publisher = broker.client("publisher");
    publisher.publish("jobs", b"waits", QoS::AtLeastOnce);
    assert_eq!(publisher.next(), Came::PubAck(ReasonCode::Success));
    let mut member = Client::open(broker.address, "member", false, None).unwrap();
    assert_eq!(member.next(), Came::Publish("jobs".to_owned(), b"waits".to_vec()));
}

#[test]
fn a_wrong_key_is_told_with_file_line_and_key() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("broker.toml"), "[limits]\nmax_qos = 2\nmax_paket_size = \"1MiB\"\n").unwrap();
    let (code, _, errors) = run(&["serve", "--config", "broker.toml"], folder.path(), "");
    assert_eq!(code, 78);
    assert!(errors.contains("broker.toml:3") && errors.contains("limits.max_paket_size") && errors.contains("max_packet_size"), "{errors}");
    let (code, output, _) = run(&["check-config", "--config", "broker.toml", "--json"], folder.path(), "");
    assert!(code == 78 && output.contains("limits.max_paket_size"), "{code} {output}");
}

#[test]
fn a_listener_that_nobody_could_pass_is_refused_with_what_to_add() {
    let folder = tempfile::tempdir().unwrap();
    let (code, _, errors) = run(&["serve", "--listen", "tcp://127.0.0.1:0", "--admin", ""], folder.path(), "");
    assert!(code == 78 && errors.contains("anonymous"), "{code} {errors}");
}
