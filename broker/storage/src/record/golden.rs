//! Records as each release wrote them: they decode for ever, and this release still writes them the same way.
//!
//! A line is the name of a record, its key and its value in hexadecimal. A release adds a file; no file is ever changed.

use bucketmq_packet::message::Message;
use bucketmq_packet::{PacketIdentifier, QoS, RetainHandling, SubscriptionOptions};

use super::applied::Applied;
use super::cursor::Cursor;
use super::estate::Estate;
use super::format::Format;
use super::group::Group;
use super::growth::{Grown, Growth};
use super::handshake::Handshake;
use super::inbound::Inbound;
use super::outbox::{self, OutboxNumber, Row, Target};
use super::payload::{Payload, Released};
use super::queue::{Chunk, Content, Queued};
use super::retained::Retained;
use super::session::{Presence, Session, SessionKey};
use super::subscription::Subscription;
use super::will::Will;
use super::{Kind, Record};
use crate::shard::{ShardId, Shards};
use crate::store::{Sequence, SessionNumber};

const RELEASES: [&str; 1] = [include_str!("golden/0.1.txt")];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal")).collect()
}

/// One record of every kind, and of every form a kind has.
fn samples() -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    fn sample<R: Record>(name: &'static str, key: R::Key, record: R) -> (&'static str, Vec<u8>, Vec<u8>) {
        (name, R::key(&key), record.encode())
    }
    let message = |qos, expires_at| Message::new("site/\u{e9}/t", b"21.5", b"\x01\x01", qos, qos == QoS::AtLeastOnce, expires_at);
    let session = SessionNumber::new(ShardId(3), 77);
    let queued = |sequence, content| Queued {
        sequence: Sequence(sequence),
        content,
        identifiers: Box::new([5, 268_435_455]),
        share: 2,
        qos: QoS::AtLeastOnce,
        retain: true,
    };
    let chunk = Chunk {
        entries: vec![
            queued(300, Content::Here(message(QoS::AtLeastOnce, Some(1_800_000_000_000)))),
            Queued {
                identifiers: Box::default(),
                share: 0,
                qos: QoS::ExactlyOnce,
                retain: false,
                ..queued(301, Content::Here(message(QoS::ExactlyOnce, None)))
            },
            queued(305, Content::Elsewhere(u64::MAX)),
        ],
    };
    let options = SubscriptionOptions {
        qos: QoS::ExactlyOnce,
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::DoNotSend,
    };
    let connected = Session {
        client_id: "client".into(),
        owner: None,
        number: session,
        expiry_interval: u32::MAX,
        presence: Presence::Connected,
        last_share: 0,
    };
    let away = Session {
        owner: Some("user".into()),
        expiry_interval: 3600,
        presence: Presence::Away(1_800_000_000_000),
        last_share: 2,
        ..connected.clone()
    };
    let will = Will {
        topic: "gone".into(),
        payload: b"bye".to_vec(),
        qos: QoS::AtLeastOnce,
        retain: true,
        delay_interval: 30,
        message_expiry_interval: Some(60),
        forward: b"\x01\x01".to_vec(),
        owner: Some("user".into()),
        due_at: Some(1_800_000_000_000),
    };
    let shards = Shards::new(16).expect("a power of two");
    let number = OutboxNumber { epoch: 4, counter: 9 };
    let row = |target| Row { target, publisher: session, message: message(QoS::ExactlyOnce, None) };
    let rows = |target| outbox::Chunk { rows: vec![(number, row(target))] };
    let several = outbox::Chunk {
        rows: vec![(number, row(Target::Shards(Vec::new()))), (OutboxNumber { counter: 12, ..number }, row(Target::Shards(Vec::new())))],
    };
    let id = |id| PacketIdentifier::new(id).expect("not 0");
    let grown = |session, next| Grown { session, next: Sequence(next), messages: 3, bytes: 49 };
    vec![
        sample("format", (), Format { version: 1, shards, shard: ShardId(3), made_by: "0.1.0".into() }),
        sample("session connected", SessionKey::of("client"), connected),
        sample("session away", SessionKey::of("client"), away),
        sample("subscription", (SessionKey::of("client"), "$share/g/a/#".into()), Subscription { options, identifier: Some(5), share: 2 }),
        sample("queue", (session, Sequence(305)), chunk),
        sample("payload", 8, Payload { references: 1000, message: message(QoS::AtMostOnce, None) }),
        sample("inbound", session, Inbound { ids: vec![id(1), id(65_535)] }),
        sample("retained", "site/\u{e9}/t".into(), Retained { message: message(QoS::AtLeastOnce, None) }),
        sample("will", SessionKey::of("client"), will),
        sample("outbox shards", number, rows(Target::Shards(vec![ShardId(0), ShardId(15)]))),
        sample("outbox several", number, several),
        sample("outbox group", number, rows(Target::Group { filter: "$share/g/a/#".into() })),
        sample("applied", ShardId(3), Applied { number }),
        sample("group", "$share/g/a/#".into(), Group { number: session }),
        sample("released", 8, Released { count: 999 }),
        sample("cursor", session, Cursor { head: Sequence(300), next: Sequence(306), sent: Sequence(1324), messages: 3, bytes: 49 }),
        sample("handshake released", (session, Sequence(301)), Handshake::Released),
        sample("handshake done", (session, Sequence(302)), Handshake::Done),
        sample("growth", 6, Growth { queues: vec![grown(session, 306), grown(SessionNumber(session.0 + 1), 1)] }),
        sample("estate", session, Estate { from: Sequence(300), begun: Sequence(302), shares: vec![(2, "$share/g/a/#".into())] }),
    ]
}

fn decodes(key: &[u8], value: &[u8]) {
    fn check<R: Record>(key: &[u8], value: &[u8]) {
        R::decode_key(key).expect("the key decodes");
        R::decode(value).expect("the value decodes");
    }
    match Kind::of(key).expect("a known kind") {
        Kind::Format => check::<Format>(key, value),
        Kind::Session => check::<Session>(key, value),
        Kind::Subscription => check::<Subscription>(key, value),
        Kind::Queue => check::<Chunk>(key, value),
        Kind::Payload => check::<Payload>(key, value),
        Kind::Inbound => check::<Inbound>(key, value),
        Kind::Retained => check::<Retained>(key, value),
        Kind::Will => check::<Will>(key, value),
        Kind::Outbox => check::<outbox::Chunk>(key, value),
        Kind::Applied => check::<Applied>(key, value),
        Kind::Group => check::<Group>(key, value),
        Kind::Released => check::<Released>(key, value),
        Kind::Cursor => check::<Cursor>(key, value),
        Kind::Handshake => check::<Handshake>(key, value),
        Kind::Growth => check::<Growth>(key, value),
        Kind::Estate => check::<Estate>(key, value),
    }
}

#[test]
fn what_every_release_wrote_decodes() {
    for release in RELEASES {
        for line in release.lines() {
            let [_, key, value] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
            decodes(&bytes(key), &bytes(value));
        }
    }
}

#[test]
fn this_release_writes_what_the_last_golden_file_holds() {
    let written: String = samples().iter().map(|(name, key, value)| format!("{name}\t{}\t{}\n", hex(key), hex(value))).collect();
    let golden = RELEASES[RELEASES.len() - 1];
    assert_eq!(written, golden, "the format changed: raise the record's version, keep the old one readable and add a golden file");
}

#[test]
fn every_kind_has_a_golden_record() {
    let kinds: std::collections::BTreeSet<_> = samples().iter().map(|(_, key, _)| Kind::of(key).expect("known")).collect();
    assert_eq!(kinds.len(), Kind::ALL.len());
}
