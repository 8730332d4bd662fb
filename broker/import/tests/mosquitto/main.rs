//! Files that a real Mosquitto writes, read and brought into a store over an object store in memory.
//!
//! `MOSQUITTO_GOLDEN=FILE cargo test` keeps the file of the first test, which is how `golden/` is made.

mod broker;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use broker::{Came, Mosquitto, Session};
use bucketmq_import::mosquitto::{self, Contents, Direction, State};
use bucketmq_import::{Reason, Report, WriteOptions, plan, write};
use bucketmq_packet::{PublishProperties, QoS, RetainHandling, SubscriptionOptions};
use bucketmq_storage::durable::Place;
use bucketmq_storage::record::handshake::Handshake;
use bucketmq_storage::record::inbound::Inbound;
use bucketmq_storage::record::outbox::{OutboxNumber, Row};
use bucketmq_storage::record::session::{self, Presence, SessionKey};
use bucketmq_storage::record::subscription;
use bucketmq_storage::record::{Record, cursor::Cursor};
use bucketmq_storage::{DurableStore, Message, QueueEntry, Sequence, SessionNumber, Shards, Store};
use object_store::memory::InMemory;

const FORWARD: &[u8] = b"\x01\x01\x03\x00\x06text/x\x08\x00\x05reply\x09\x00\x02\x00\xFF\x26\x00\x01k\x00\x01v\x26\x00\x01k\x00\x01w";

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64
}

fn read(path: &Path) -> Contents {
    mosquitto::read(&mut File::open(path).expect("Mosquitto wrote it")).unwrap_or_else(|error| panic!("{error}"))
}

fn options(qos: QoS) -> SubscriptionOptions {
    SubscriptionOptions::with_qos(qos)
}

fn none() -> PublishProperties<'static> {
    PublishProperties::default()
}

fn with(expiry: Option<u32>, forward: &[u8]) -> PublishProperties<'_> {
    PublishProperties { message_expiry_interval: expiry, forward: Cow::Borrowed(forward), ..none() }
}

fn place() -> Place {
    Place { bucket: Arc::new(InMemory::new()), prefix: "test".into(), shards: Shards::new(4).expect("a power of two") }
}

async fn import(place: &Place, contents: Contents, now: u64, replace: bool) -> Report {
    let store = DurableStore::open(place).await.expect("opens");
    let report = write(&store, plan(contents, place.shards, now), WriteOptions { now, replace }).await.expect("written");
    // A crash: what was reported is durable.
    std::mem::forget(store);
    report
}

async fn all<R: Record>(store: &DurableStore) -> Vec<(R::Key, R)> {
    let mut found = Vec::new();
    for shard in store.shards().all() {
        found.extend(store.records::<R>(shard).await.expect("readable"));
    }
    found
}

async fn outbox(store: &DurableStore) -> Vec<(OutboxNumber, Row)> {
    let mut found = Vec::new();
    for shard in store.shards().all() {
        found.extend(store.outbox(shard).await.expect("readable"));
    }
    found
}

async fn sessions(store: &DurableStore) -> BTreeMap<String, session::Session> {
    let found = all::<session::Session>(store).await.into_iter();
    found
        .map(|(key, session)| {
            assert_eq!(key, SessionKey::of(&session.client_id));
            assert_eq!(session.number.shard(), store.shards().of(&session.client_id));
            (session.client_id.clone(), session)
        })
        .collect()
}

async fn queue(store: &DurableStore, number: SessionNumber) -> Vec<(u64, QueueEntry)> {
    let page = store.page(number, Sequence(0), usize::MAX, usize::MAX).await.expect("readable");
    page.into_iter().map(|(sequence, entry)| (sequence.0, entry)).collect()
}

fn payload(message: &Message) -> &str {
    std::str::from_utf8(message.payload()).expect("text")
}

/// Everything at once: deliveries in every state, both directions, properties, expiry, retained messages.
fn life(mosquitto: &mut Mosquitto) -> Contents {
    let mut publisher = mosquitto.client("publisher", Session { expiry: 1000, ..Session::default() });
    let full = with(Some(5000), FORWARD);
    publisher.publish("r/1", QoS::AtLeastOnce, true, "retained", full.clone());
    publisher.publish("r/2", QoS::AtMostOnce, true, "first", none());
    publisher.publish("r/2", QoS::AtMostOnce, true, "second", none());
    publisher.publish("r/3", QoS::AtMostOnce, true, "gone", none());
    publisher.publish("r/3", QoS::AtMostOnce, true, "", none());
    let mut four = mosquitto.client("four", Session { old: true, ..Session::default() });
    four.subscribe("q/3", options(QoS::AtLeastOnce), None);
    four.subscribe("x/+/#", options(QoS::AtMostOnce), None);
    four.disconnect();
    let mut five = mosquitto.client("five", Session { expiry: 3600, ..Session::default() });
    let wanted = SubscriptionOptions { no_local: true, retain_as_published: true, ..options(QoS::ExactlyOnce) };
    five.subscribe("q/#", wanted, Some(300));
    // Which Mosquitto forgets.
    five.subscribe("$share/group/s", options(QoS::AtLeastOnce), None);
    publisher.publish("q/1", QoS::ExactlyOnce, false, "m1", none());
    publisher.publish("q/2", QoS::ExactlyOnce, true, "m2", full);
    publisher.publish("q/3", QoS::AtLeastOnce, false, "m3", none());
    publisher.publish("q/4", QoS::AtLeastOnce, false, "m4", with(Some(5000), b""));
    publisher.publish("q/5", QoS::ExactlyOnce, false, "m5", none());
    // The retained message of q/2 goes again.
    publisher.publish("q/2", QoS::AtMostOnce, true, "", none());
    for (id, payload) in [(1, "m1"), (2, "m2"), (3, "m3"), (0, "")] {
        assert_eq!(five.next(), Came::Publish(id, payload.into()));
    }
    publisher.publish_only(500, "q/6", QoS::ExactlyOnce, true, "not released", none());
    assert_eq!(publisher.next(), Came::Other(5));
    five.pubrec(1);
    let file = mosquitto.stop();
    if let Ok(kept) = std::env::var("MOSQUITTO_GOLDEN") {
        std::fs::copy(&file, kept).expect("copied");
    }
    read(&file)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_mosquitto_had_goes_on_in_the_store() {
    let Some(mut mosquitto) = Mosquitto::start("") else { return };
    let began = now() / 1000;
    let contents = life(&mut mosquitto);
    let ended = now() / 1000 + 1;
    assert_eq!((contents.version, contents.config.shutdown), (6, true));
    assert!(contents.passed_over.is_empty() && contents.strays.is_empty(), "{contents:?}");
    let publisher = contents.clients.iter().find(|client| client.id == "publisher").expect("it is there");
    let [incoming] = &publisher.messages[..] else { panic!("{publisher:?}") };
    assert_eq!((incoming.direction, incoming.state, incoming.mid), (Direction::In, State::WaitForPubrel, 500));

    let (place, now) = (place(), now());
    let report = import(&place, contents, now, false).await;
    let json = serde_json::to_string(&report).expect("JSON");
    assert!(report.skipped.is_empty() && report.notes.is_empty(), "{json}");
    assert_eq!((report.sessions, report.sessions_without_owner, report.subscriptions), (3, 3, 3), "{json}");
    assert_eq!((report.messages, report.messages_in_flight, report.incoming, report.retained), (6, 3, 1, 3), "{json}");

    let store = DurableStore::open(&place).await.expect("opens");
    let sessions = sessions(&store).await;
    assert_eq!(sessions.keys().collect::<Vec<_>>(), ["five", "four", "publisher"]);
    for (id, expiry) in [("five", 3600), ("publisher", 1000), ("four", u32::MAX)] {
        let session = &sessions[id];
        assert_eq!((session.expiry_interval, session.owner.as_deref(), session.last_share), (expiry, None, 0));
        let Presence::Away(since) = session.presence else { panic!("{session:?}") };
        assert!((began * 1000..=ended * 1000).contains(&since), "{id}: {since}");
    }

    let five = queue(&store, sessions["five"].number).await;
    let seen: Vec<_> = five.iter().map(|(sequence, entry)| (*sequence, payload(&entry.message), entry.qos as u8, entry.retain)).collect();
    // Sequences 0, 1, 2 are Packet Identifiers 1, 2, 3.
    assert_eq!(seen, [(0, "m1", 2, false), (1, "m2", 2, true), (2, "m3", 1, false), (3, "m4", 1, false), (4, "m5", 2, false)]);
    assert!(five.iter().all(|(_, entry)| *entry.identifiers == [300]));
    assert_eq!((five[1].1.message.properties(), five[1].1.message.topic()), (FORWARD, "q/2"));
    for (place, expires) in [(0, false), (1, true), (3, true)] {
        let expires_at = five[place].1.message.expires_at();
        assert_eq!(expires_at.is_some(), expires);
        assert!(expires_at.is_none_or(|at| ((began + 5000) * 1000..=(ended + 5000) * 1000).contains(&at)));
    }
    let cursor = store.cursor(sessions["five"].number);
    assert_eq!((cursor.head, cursor.next, cursor.sent, cursor.messages), (Sequence(0), Sequence(5), Sequence(3), 5));
    assert_eq!(all::<Handshake>(&store).await, [((sessions["five"].number, Sequence(0)), Handshake::Released)]);

    let four = queue(&store, sessions["four"].number).await;
    assert_eq!(four.iter().map(|(_, entry)| payload(&entry.message)).collect::<Vec<_>>(), ["m3"]);
    assert_eq!(store.cursor(sessions["four"].number), Cursor { next: Sequence(1), messages: 1, bytes: 5, ..Cursor::default() });

    let mut subscriptions = all::<subscription::Subscription>(&store).await;
    subscriptions.sort_by(|one, other| one.0.1.cmp(&other.0.1));
    let expected = [("five", "q/#", 2, true, Some(300)), ("four", "q/3", 1, false, None), ("four", "x/+/#", 0, false, None)];
    assert_eq!(subscriptions.len(), expected.len());
    for (((key, filter), found), (id, wanted, qos, flags, identifier)) in subscriptions.iter().zip(expected) {
        assert_eq!((key, filter.as_str()), (&SessionKey::of(id), wanted));
        assert_eq!((found.options.qos as u8, found.options.no_local, found.options.retain_as_published), (qos, flags, flags));
        assert_eq!((found.options.retain_handling, found.identifier, found.share), (RetainHandling::SendAtSubscribe, identifier, 0));
    }

    let publisher = sessions["publisher"].number;
    let inbound: Vec<(_, Vec<_>)> = all::<Inbound>(&store)
        .await
        .into_iter()
        .map(|(session, inbound)| (session, inbound.ids.iter().map(|id| id.get()).collect()))
        .collect();
    assert_eq!(inbound, [(publisher, vec![500])]);
    let rows = outbox(&store).await;
    let [(number, row)] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!((number.epoch, number.counter, row.publisher, payload(&row.message)), (1, 0, publisher, "not released"));
    assert!(row.message.retain());

    let page = store.retained_page("#", None, 99, usize::MAX).await.expect("readable");
    let mut retained: Vec<_> = page.messages.iter().map(|message| (message.topic(), payload(message), message.qos() as u8)).collect();
    retained.sort_unstable();
    assert_eq!(retained, [("q/6", "not released", 2), ("r/1", "retained", 1), ("r/2", "second", 0)]);
    let first = page.messages.iter().find(|message| message.topic() == "r/1").expect("it is there");
    assert_eq!((first.properties(), first.retain(), first.expires_at().is_some()), (FORWARD, true, true));
    store.close().await.expect("closes");

    again(&mut mosquitto, &place, now).await;
}

/// What is in the bucket stays, unless it shall give way.
async fn again(mosquitto: &mut Mosquitto, place: &Place, now: u64) {
    assert!(mosquitto.run());
    let mut new = mosquitto.client("new", Session { expiry: 9, ..Session::default() });
    new.subscribe("new", options(QoS::AtMostOnce), None);
    new.disconnect();
    let mut four = mosquitto.client("four", Session { old: true, ..Session::default() });
    assert_eq!(four.next(), Came::Publish(1, "m3".into()));
    let file = mosquitto.stop();
    let report = import(place, read(&file), now, false).await;
    assert_eq!((report.sessions, report.retained), (1, 0));
    assert_eq!((report.skipped(Reason::SessionInBucket), report.skipped(Reason::RetainedInBucket)), (3, 3));
    let store = DurableStore::open(place).await.expect("opens");
    let before = sessions(&store).await;
    let new = before["new"].number.counter();
    assert!(before.iter().all(|(id, session)| id == "new" || session.number.counter() < new));
    std::mem::forget(store);

    let report = import(place, read(&file), now, true).await;
    assert_eq!((report.sessions, report.sessions_replaced, report.retained, report.skipped.len()), (4, 4, 3, 0));
    let store = DurableStore::open(place).await.expect("opens");
    let after = sessions(&store).await;
    assert!(after.iter().all(|(id, session)| session.number.counter() > before[id].number.counter()));
    assert!(queue(&store, before["five"].number).await.is_empty(), "the queue before is gone");
    assert_eq!(queue(&store, after["five"].number).await.len(), 5);
    assert_eq!(store.cursor(after["four"].number).sent, Sequence(1), "now it has been sent");
    assert_eq!(all::<subscription::Subscription>(&store).await.len(), 4);
    let rows = outbox(&store).await;
    assert_eq!(rows.iter().map(|(number, _)| number.epoch).collect::<Vec<_>>(), [1, 2], "above all that is known");
    assert_eq!(all::<Inbound>(&store).await.len(), 1);
    store.close().await.expect("closes");

    let plan = plan(read(&file), Shards::default(), now + 10_000_000);
    let left: Vec<_> = plan.sessions.iter().map(|session| session.client_id.as_str()).collect();
    // Those that were connected when Mosquitto ended and whose clocks it did not start begin now.
    assert!(left.contains(&"four") && !left.contains(&"new"), "{left:?}");
    assert_eq!(plan.report.skipped(Reason::RetainedExpired), 1);
}

#[test]
fn a_session_belongs_to_its_user_as_far_as_mosquitto_says_which() {
    let Some(mut mosquitto) = Mosquitto::start("") else { return };
    let users = [("a", Some("alice")), ("b", None), ("c", None), ("d", Some("bob")), ("e", None)];
    for (id, user) in users {
        mosquitto.client(id, Session { old: true, user, ..Session::default() }).disconnect();
    }
    mosquitto.client("temporary", Session::default()).disconnect();
    let plan = plan(read(&mosquitto.stop()), Shards::default(), now());
    assert!(plan.report.skipped.values().all(|count| count.examples == ["temporary"]), "{:?}", plan.report);
    assert_eq!(plan.sessions.len(), users.len());
    for (session, (id, user)) in plan.sessions.iter().zip(users) {
        assert_eq!(session.client_id, id);
        // Mosquitto 2.0 writes the user name of "a" for "c", too.
        if session.owner.as_deref() != user {
            assert_eq!((id, &plan.report.notes[&Reason::OwnerUncertain].examples[..]), ("c", &["c".to_owned()][..]));
        }
    }
}

/// What does not depend on the format.
fn said(contents: &Contents) -> Vec<String> {
    let mut said = Vec::new();
    for client in &contents.clients {
        said.push(format!("client {} {}", client.id, client.last_mid));
        for message in &client.messages {
            let topic = &contents.messages[&message.store_id].topic;
            let (mid, qos, retain, dup) = (message.mid, message.qos, message.retain, message.dup);
            said.push(format!("{} {topic} {mid} {qos:?} {:?} {:?} {retain} {dup}", client.id, message.direction, message.state));
        }
    }
    for message in contents.messages.values() {
        let mosquitto::StoredMessage { topic, payload, properties, expiry_time, source_id, qos, retain, .. } = message;
        said.push(format!("message {topic} {payload:?} {properties:?} {expiry_time:?} {source_id} {qos:?} {retain}"));
    }
    for one in &contents.subscriptions {
        let mosquitto::Subscription { client_id, filter, qos, no_local, retain_as_published, identifier } = one;
        said.push(format!("subscription {client_id} {filter} {qos:?} {no_local} {retain_as_published} {identifier:?}"));
    }
    said.extend(contents.retained.iter().map(|store_id| format!("retained {}", contents.messages[store_id].topic)));
    said.sort();
    said
}

#[test]
fn mosquitto_reads_the_same_in_files_made_by_hand() {
    let files: [&[u8]; 4] = [
        include_bytes!("../../src/mosquitto/golden/by-hand-2.db"),
        include_bytes!("../../src/mosquitto/golden/by-hand-3.db"),
        include_bytes!("../../src/mosquitto/golden/by-hand-4.db"),
        include_bytes!("../../src/mosquitto/golden/by-hand-5.db"),
    ];
    for (mut file, version) in files.into_iter().zip(2..) {
        let Some(mut mosquitto) = Mosquitto::start_with("queue_qos0_messages true\n", Some(file)) else { return };
        let ours = mosquitto::read(&mut file).expect("readable");
        let its = read(&mosquitto.stop());
        assert_eq!((ours.version, its.version), (version, 6));
        assert!(said(&ours).len() >= 6);
        assert_eq!(said(&ours), said(&its), "format {version}");
    }
}

#[test]
fn a_bridge_of_mosquittos_is_no_session() {
    let bridge = "connection upstream\naddress 127.0.0.1:1\ncleansession false\ntopic # out 1\n";
    let Some(mut mosquitto) = Mosquitto::start(bridge) else { return };
    let mut publisher = mosquitto.client("publisher", Session { expiry: 5, ..Session::default() });
    publisher.publish("t", QoS::AtLeastOnce, false, "for the bridge", none());
    let plan = plan(read(&mosquitto.stop()), Shards::default(), now());
    assert_eq!(plan.sessions.iter().map(|session| session.client_id.as_str()).collect::<Vec<_>>(), ["publisher"], "{:?}", plan.report);
    assert_eq!(plan.report.skipped(Reason::SessionNotPersistent), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_sessions_and_ten_thousand_retained_messages_come_along() {
    let Some(mut mosquitto) = Mosquitto::start("max_queued_messages 0\n") else { return };
    let began = now() - 1000;
    for number in 0..1000 {
        let old = number % 2 == 0;
        let mut client = mosquitto.client(&format!("client-{number:04}"), Session { old, expiry: 86_400, user: None });
        client.subscribe(&format!("to/{}", number % 10), options(QoS::ExactlyOnce), None);
        client.disconnect();
    }
    let mut publisher = mosquitto.client("publisher", Session::default());
    for number in 0..10_000 {
        publisher.publish(&format!("retained/{number}"), QoS::AtMostOnce, true, &number.to_string(), none());
    }
    let large = "x".repeat(100_000);
    for number in 0..50 {
        publisher.publish(&format!("to/{}", number % 10), QoS::AtLeastOnce, false, &format!("{number} {large}"), none());
    }
    let contents = read(&mosquitto.stop());
    let (place, now) = (place(), now());
    let report = import(&place, contents, now, false).await;
    assert_eq!((report.sessions, report.subscriptions, report.messages, report.retained), (1000, 1000, 5000, 10_000), "{report:?}");
    let store = DurableStore::open(&place).await.expect("opens");
    assert_eq!((store.usage().queued_messages, store.retained_usage().messages), (5000, 10_000));
    let sessions = sessions(&store).await;
    assert_eq!(sessions.len(), 1000);
    for (number, session) in sessions.values().enumerate() {
        // These Clients left, and their clocks run.
        assert_eq!(session.expiry_interval, if number % 2 == 0 { u32::MAX } else { 86_400 });
        assert!(matches!(session.presence, Presence::Away(since) if (began..=now).contains(&since)), "{session:?}");
    }
    for (number, session) in sessions.values().enumerate().step_by(97) {
        let found = queue(&store, session.number).await;
        let numbers: Vec<usize> = found
            .iter()
            .map(|(_, entry)| payload(&entry.message).split(' ').next().expect("a number").parse().expect("a number"))
            .collect();
        assert_eq!(numbers, (0..5).map(|round| round * 10 + number % 10).collect::<Vec<_>>());
        assert_eq!(found.iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    }
    store.close().await.expect("closes");
}
