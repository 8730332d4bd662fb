//! Several brokers that are given one bucket: who waits, who gives way, who is fenced.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use bucketmq_packet::{QoS, ReasonCode};

use crate::client::{Broker, Came, pass, until};
use crate::durable::{STORED, resume};

/// The configuration of another broker at the bucket of `first`, called `name`.
fn another(first: &Broker, name: &str, takeover: &str) -> String {
    let bucket = format!("{}/bucket", first.folder.path().display());
    format!("{}[cluster]\nmember = \"{name}\"\ntakeover = \"{takeover}\"\n", STORED.replace("@FOLDER@/bucket", &bucket))
}

fn named(name: &str) -> String {
    format!("{STORED}[cluster]\nmember = \"{name}\"\n")
}

#[test]
fn a_second_broker_waits_says_for_whom_and_goes_on_where_the_first_one_died() {
    let mut first = Broker::start(&named("first"));
    let (mut client, _) = resume(&first, "client");
    client.subscribe("t", QoS::AtLeastOnce);
    let mut second = Broker::begin(&another(&first, "second", "never"), |_| {});
    let ready = second.until_readyz("\"owner\":\"first\"");
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("\"ownership\""), "{ready}");
    assert!(second.get("/livez").starts_with("HTTP/1.1 200"));
    assert_eq!(second.metric("mqtt_shard_owner"), 0);
    assert!(TcpStream::connect(second.address).is_err(), "Clients would hang");
    drop(client);
    first.until_away(1);
    assert_eq!(first.client("publisher").publish_acknowledged("t", b"kept"), Came::PubAck(ReasonCode::Success));
    first.signal("KILL");
    first.wait();
    let killed = Instant::now();
    second.until_ready();
    // The lock of the directory tells at once that nobody else lives.
    assert!(killed.elapsed() < Duration::from_secs(5), "{:?}", killed.elapsed());
    assert_eq!(second.metric("mqtt_shard_owner"), 1);
    let (mut client, present) = resume(&second, "client");
    assert!(present);
    assert_eq!(client.next(), Came::Publish("t".into(), b"kept".to_vec()));
}

#[test]
fn a_newer_broker_takes_over_and_the_older_one_takes_back_what_it_gives_up() {
    let mut old = Broker::start(&named("old"));
    let (mut client, _) = resume(&old, "client");
    client.subscribe("t", QoS::AtLeastOnce);
    drop(client);
    old.until_away(1);
    assert_eq!(old.client("publisher").publish_acknowledged("t", b"1"), Came::PubAck(ReasonCode::Success));

    let mut new = Broker::start(&another(&old, "new", "new"));
    let ready = old.until_readyz("\"owner\":\"new\"");
    assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
    assert!(TcpStream::connect(old.address).is_err(), "the old one still takes Clients");
    assert_eq!(new.client("publisher").publish_acknowledged("t", b"2"), Came::PubAck(ReasonCode::Success));

    new.signal("TERM");
    assert_eq!(new.wait().code(), Some(0), "{}", new.log());
    old.until_ready();
    assert_eq!(old.client("publisher").publish_acknowledged("t", b"3"), Came::PubAck(ReasonCode::Success));
    let (mut client, present) = resume(&old, "client");
    assert!(present);
    for payload in [b"1", b"2", b"3"] {
        assert_eq!(client.next(), Came::Publish("t".into(), payload.to_vec()));
    }

    // It has asked once: started again it waits.
    new.begin_again();
    new.until_readyz("\"owner\":\"old\"");
    pass(Duration::from_secs(5));
    assert!(old.get("/readyz").contains("\"ready\":true"), "{}", old.log());
    old.signal("TERM");
    assert_eq!(old.wait().code(), Some(0), "{}", old.log());
    new.until_ready();
}

#[test]
fn a_frozen_owner_is_fenced_and_acknowledges_nothing_when_it_wakes() {
    let mut frozen = Broker::start(&named("frozen"));
    let mut publisher = frozen.client("publisher");
    assert_eq!(publisher.publish_acknowledged("t", b"before"), Came::PubAck(ReasonCode::NoMatchingSubscribers));
    frozen.signal("STOP");
    let new = Broker::start(&another(&frozen, "new", "new"));
    let (mut client, _) = resume(&new, "client");
    client.subscribe("t", QoS::AtLeastOnce);
    // The old one knows nothing of that Subscription and would acknowledge what it matches to nobody.
    publisher.publish("t", b"after", QoS::AtLeastOnce);
    frozen.signal("CONT");
    assert_eq!(publisher.next(), Came::Disconnect(ReasonCode::ServerShuttingDown));
    assert_eq!(frozen.wait().code(), Some(75), "{}", frozen.log());
    assert!(frozen.log().contains("owns the bucket now") || frozen.log().contains("writes to the bucket no more"), "{}", frozen.log());
    assert_eq!(new.client("other").publish_acknowledged("t", b"new"), Came::PubAck(ReasonCode::Success));
    assert_eq!(client.next(), Came::Publish("t".into(), b"new".to_vec()));
}

#[test]
fn a_broker_whose_record_names_another_gives_up_and_says_so() {
    let mut broker = Broker::start(STORED);
    let object = broker.path("bucket/own/00");
    let text = std::fs::read_to_string(&object).unwrap();
    let incarnation = text.split("\"incarnation\":\"").nth(1).unwrap()[..32].to_owned();
    std::fs::write(&object, text.replace(&incarnation, &"0".repeat(32))).unwrap();
    assert_eq!(broker.wait().code(), Some(75), "{}", broker.log());
    assert!(broker.log().contains("another broker owns the bucket now"), "{}", broker.log());
}

#[test]
fn a_broker_that_waits_ends_when_it_is_told() {
    let first = Broker::start(STORED);
    let mut second = Broker::begin(&another(&first, "second", "never"), |_| {});
    second.until_readyz("\"owner\"");
    until(|| second.log().contains("waiting for it").then_some(()));
    second.signal("TERM");
    assert_eq!(second.wait().code(), Some(0), "{}", second.log());
}
