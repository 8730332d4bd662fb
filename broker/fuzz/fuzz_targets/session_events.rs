//! Events in any order at one Session, against a Client that keeps count.
//!
//! What leaves decodes and keeps to the Client's limits; a message keeps its identifier, comes in its order, and never again once PUBACK or
//! PUBREC has answered it; the Session's counts are the Client's; and what was accepted arrives or is told as dropped.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};

use bucketmq_packet::message::Message;
use bucketmq_packet::{Packet, PacketIdentifier, ProtocolVersion, QoS, ReasonCode, Sender, SubscriptionOptions, decode};
use bucketmq_session::{Acknowledged, Delivered, Delivery, Link, LinkParameters, Orphan, Overflow, QueueLimits, Session, VecBacklog};
use libfuzzer_sys::fuzz_target;

const LIMITS: QueueLimits = QueueLimits { messages: 20, bytes: 400, overflow: Overflow::DropOldest };
const TOPICS: [&str; 3] = ["t", "a/longer/topic", "another"];
const FILTER: &str = "$share/g/t";

/// Where a handshake of this connection stands.
#[derive(Clone, Copy, PartialEq)]
enum Open {
    Published(QoS, u32),
    Released,
}

struct Bench {
    session: Session,
    backlog: VecBacklog,
    now: u64,
    /// Topic and QoS of every message, by its number, which is in its payload.
    messages: Vec<(&'static str, QoS)>,
    accepted: BTreeSet<u32>,
    /// Dropped after they were accepted, as the Session told.
    told: u64,
    taken: BTreeSet<u32>,
    /// QoS 1 and 2 messages the Client has seen, with the identifier they came with; 0 for QoS 0.
    seen: BTreeMap<u32, u16>,
    /// Answered with PUBACK or PUBREC, or given to another: not to be published again.
    over: BTreeSet<u32>,
    /// Of this connection.
    link: Option<LinkParameters>,
    open: BTreeMap<u16, Open>,
    aliases: BTreeMap<u16, String>,
}

impl Bench {
    fn new() -> Self {
        Self {
            session: Session::new(60),
            backlog: VecBacklog::default(),
            now: 1_000,
            messages: Vec::new(),
            accepted: BTreeSet::new(),
            told: 0,
            taken: BTreeSet::new(),
            seen: BTreeMap::new(),
            over: BTreeSet::new(),
            link: None,
            open: BTreeMap::new(),
            aliases: BTreeMap::new(),
        }
    }

    fn attach(&mut self, parameters: LinkParameters) {
        self.detach();
        self.session.attach(Link::new(parameters));
        self.link = Some(parameters);
    }

    fn detach(&mut self) {
        self.session.detach();
        self.link = None;
        self.open.clear();
        self.aliases.clear();
    }

    fn deliver(&mut self, qos: QoS, topic: &'static str, length: usize, lifetime_ms: Option<u64>, share: u32) {
        let number = self.messages.len() as u32;
        self.messages.push((topic, qos));
        let mut payload = number.to_be_bytes().to_vec();
        payload.resize(4 + length, b'x');
        let expires_at = lifetime_ms.map(|lifetime| self.now + lifetime);
        let message = || Message::new(topic, &payload, b"", qos, false, expires_at);
        let delivery =
            Delivery { topic, payload: &payload, forward: b"", expires_at, qos, retain: false, identifiers: &[], share, message: &message };
        let before = self.session.waiting();
        match self.session.deliver(self.now, &delivery, &LIMITS, &mut self.backlog, Vec::new) {
            Delivered::Sent | Delivered::Queued => {
                self.accepted.insert(number);
            }
            Delivered::QueuedDropping(count) => {
                self.accepted.insert(number);
                self.told += count;
            }
            Delivered::Dropped(_) => assert_eq!(self.session.waiting(), before, "a message that is refused costs no other"),
            Delivered::DroppedDisconnect => panic!("not the policy"),
        }
    }

    /// Takes what has left and checks it.
    fn look(&mut self) {
        let Some(link) = self.link else { return };
        let told = &mut self.told;
        self.session.pump(self.now, &mut self.backlog, Vec::new, |_| *told += 1);
        let mut bytes = Vec::new();
        self.session.take_output(&mut bytes);
        let mut rest = &bytes[..];
        while let Some((packet, length)) =
            decode(rest, link.version, Sender::Server, link.maximum_packet_size).expect("it fits and is well-formed")
        {
            rest = &rest[length..];
            match packet {
                Packet::Publish(publish) => {
                    let number = u32::from_be_bytes(*publish.payload.first_chunk().expect("it begins with its number"));
                    let (topic, qos) = self.messages[number as usize];
                    assert_eq!(publish.qos, qos);
                    assert_ne!(publish.properties.message_expiry_interval, Some(0), "it has expired");
                    if let Some(alias) = publish.properties.topic_alias {
                        assert!((1..=link.topic_alias_maximum).contains(&alias));
                        if !publish.topic.is_empty() {
                            self.aliases.insert(alias, publish.topic.to_owned());
                        }
                        assert_eq!(self.aliases.get(&alias).map(String::as_str), Some(topic));
                    } else {
                        assert_eq!(publish.topic, topic);
                    }
                    let id = publish.packet_id.map_or(0, PacketIdentifier::get);
                    assert!(!self.over.contains(&number), "published again after it was answered");
                    if publish.dup {
                        assert_eq!(self.seen.get(&number), Some(&id), "sent again with another identifier");
                    } else {
                        let ordered = |before: &u32| (self.messages[*before as usize].1 == QoS::AtMostOnce) == (qos == QoS::AtMostOnce);
                        let last = self.seen.keys().rev().find(|before| ordered(before));
                        // QoS 0 passes the others, and, where some waited and some did not, each other.
                        assert!(qos == QoS::AtMostOnce || last.is_none_or(|last| *last < number), "out of order");
                        assert!(self.seen.insert(number, id).is_none(), "twice without DUP");
                    }
                    if qos != QoS::AtMostOnce {
                        assert!(self.open.insert(id, Open::Published(qos, number)).is_none(), "an identifier is in use twice");
                        assert!(self.open.len() <= usize::from(link.receive_maximum), "more than the Receive Maximum");
                    }
                }
                Packet::PubRel(ack) => {
                    assert!(self.open.insert(ack.packet_id.get(), Open::Released).is_none(), "an identifier is in use twice")
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(rest.is_empty());
        assert_eq!(self.session.inflight() as usize, self.open.len());
    }

    fn puback(&mut self, id: PacketIdentifier) {
        let answer = self.session.handle_puback(id);
        if let Some(&Open::Published(QoS::AtLeastOnce, number)) = self.open.get(&id.get()) {
            assert_eq!(answer, Acknowledged::Finished);
            self.open.remove(&id.get());
            self.over.insert(number);
        } else {
            assert_eq!(answer, Acknowledged::Unknown);
        }
    }

    fn pubrec(&mut self, id: PacketIdentifier, code: ReasonCode) {
        let answer = self.session.handle_pubrec(id, code, &mut self.backlog);
        match (self.open.get(&id.get()).copied(), code.is_error()) {
            (Some(Open::Published(QoS::ExactlyOnce, number)), refused) => {
                assert_eq!(answer, if refused { Acknowledged::Finished } else { Acknowledged::Release });
                self.over.insert(number);
                self.open.remove(&id.get());
                if !refused {
                    self.open.insert(id.get(), Open::Released);
                }
            }
            (Some(Open::Released), false) => assert_eq!(answer, Acknowledged::Release),
            _ => assert_eq!(answer, Acknowledged::Unknown),
        }
    }

    fn pubcomp(&mut self, id: PacketIdentifier) {
        let answer = self.session.handle_pubcomp(id);
        if self.open.get(&id.get()) == Some(&Open::Released) {
            assert_eq!(answer, Acknowledged::Finished);
            self.open.remove(&id.get());
        } else {
            assert_eq!(answer, Acknowledged::Unknown);
        }
    }

    fn give_away(&mut self, orphans: Vec<Orphan>, begun: bool) {
        for orphan in orphans {
            let number = u32::from_be_bytes(*orphan.message.payload().first_chunk().expect("it begins with its number"));
            let qos = self.messages[number as usize].1;
            let seen = self.seen.contains_key(&number);
            assert!(!seen || begun && qos == QoS::AtLeastOnce, "the Client holds it");
            assert!(self.over.insert(number), "it is answered");
            assert!(self.taken.insert(number));
        }
    }

    /// Answers everything until nothing is left.
    fn drain(&mut self) {
        self.attach(LinkParameters {
            version: ProtocolVersion::V5,
            receive_maximum: 8,
            maximum_packet_size: u32::MAX,
            topic_alias_maximum: 0,
            output_limit: u32::MAX,
        });
        self.look();
        while let Some((&id, &open)) = self.open.first_key_value() {
            let id = PacketIdentifier::new(id).expect("not 0");
            match open {
                Open::Published(QoS::AtLeastOnce, _) => self.puback(id),
                Open::Published(..) => self.pubrec(id, ReasonCode::Success),
                Open::Released => self.pubcomp(id),
            }
            self.look();
        }
        assert_eq!((self.session.waiting(), self.session.waiting_bytes(), self.session.inflight()), (0, 0, 0));
        assert!(self.backlog.0.is_empty());
        let lost = self.accepted.iter().filter(|number| !self.seen.contains_key(number) && !self.taken.contains(number)).count();
        assert!(lost as u64 <= self.told, "{lost} lost, {} told", self.told);
    }
}

fuzz_target!(|data: &[u8]| {
    let mut bench = Bench::new();
    let share = bench.session.subscribe(FILTER, true, SubscriptionOptions::with_qos(QoS::ExactlyOnce), None).0.share;
    let mut bytes = data.iter().copied();
    while let (Some(event), Some(value)) = (bytes.next(), bytes.next()) {
        let (event, variant) = (event % 10, event / 10);
        let id = PacketIdentifier::new(u16::from(value) + 1).expect("not 0");
        let linked = bench.link.is_some();
        match event {
            0..=2 => {
                let qos = QoS::try_from(event).expect("0 to 2");
                // Now and then one that is larger than the whole queue.
                let length = if variant == 25 { 500 } else { usize::from(value % 64) };
                let lifetime_ms = (value & 0x40 != 0).then_some(u64::from(value));
                let share = if value & 0x80 != 0 { share } else { 0 };
                bench.deliver(qos, TOPICS[usize::from(variant) % 3], length, lifetime_ms, share);
            }
            3 if linked => bench.puback(id),
            4 if linked => bench.pubrec(id, if variant & 1 == 0 { ReasonCode::Success } else { ReasonCode::QuotaExceeded }),
            5 if linked => bench.pubcomp(id),
            6 => {
                let version = if variant & 1 == 0 { ProtocolVersion::V5 } else { ProtocolVersion::V3_1_1 };
                bench.attach(LinkParameters {
                    version,
                    receive_maximum: u16::from(value % 8) + 1,
                    maximum_packet_size: if variant & 2 == 0 { u32::MAX } else { 16 + u32::from(value / 4) },
                    topic_alias_maximum: if version == ProtocolVersion::V5 { u16::from(variant / 4 % 4) } else { 0 },
                    output_limit: 200,
                });
            }
            7 => bench.detach(),
            // The Client leaves the share and stays, or it is away and others take what they can.
            8 => {
                let filter = linked.then_some(FILTER);
                let orphans = bench.session.take_orphans(filter, &mut bench.backlog);
                bench.give_away(orphans, !linked);
            }
            9 => bench.now += u64::from(value),
            _ => {}
        }
        bench.look();
        assert!(bench.session.waiting() <= LIMITS.messages && bench.session.waiting_bytes() <= LIMITS.bytes);
    }
    bench.drain();
});
