//! A Session whose queue outlives the broker, over a storage that forgets what was not made durable: random lives and deaths.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bucketmq_packet::message::{Message, QueueEntry};
use bucketmq_packet::{Packet, PacketIdentifier, ProtocolVersion, QoS, ReasonCode, Sender, decode};
use proptest::prelude::*;

use crate::{Acknowledged, Backlog, BacklogMeter, Delivered, Delivery, Found, Gate, Link, LinkParameters, Overflow, QueueLimits, Session};

const LIMITS: QueueLimits = QueueLimits { messages: 10_000, bytes: 1 << 30, overflow: Overflow::RejectNew };

/// What stands in the storage.
#[derive(Debug, Clone, Default)]
struct Kept {
    queue: BTreeMap<u64, QueueEntry>,
    released: BTreeSet<u64>,
    next: u64,
    sent: u64,
}

impl Backlog for Kept {
    fn append(&mut self, sequence: u64, entry: QueueEntry) {
        assert!(sequence >= self.next, "sequences only grow");
        self.next = sequence + 1;
        self.queue.insert(sequence, entry);
    }
    fn page(&mut self, _from: u64, _max_entries: usize) -> Option<Vec<(u64, QueueEntry)>> {
        None
    }
    fn remove_through(&mut self, sequence: u64) {
        self.queue = self.queue.split_off(&(sequence + 1));
    }
    fn remove(&mut self, sequence: u64) {
        self.queue.remove(&sequence);
    }
    fn sent(&mut self, sent: u64) {
        self.sent = sent;
    }
    fn released(&mut self, sequence: u64) {
        self.released.insert(sequence);
    }
    fn completed(&mut self, sequence: u64) {
        self.released.remove(&sequence);
    }
}

/// The broker's side with its storage, and a Client that keeps its own Session.
struct World {
    session: Session,
    /// As the process sees the storage, and what of it survives.
    kept: Kept,
    durable: Kept,
    gate: Option<Gate>,
    published: u32,
    /// QoS of each message that was accepted and durable at some time: only those have to arrive.
    promised: HashMap<u32, QoS>,
    accepted: HashMap<u32, QoS>,
    /// How often each message was handed to the application.
    taken: HashMap<u32, u32>,
    /// The Client's QoS 2 identifiers between PUBREC and PUBREL.
    client_ids: BTreeSet<u16>,
    /// On their way to the broker.
    acks: Vec<(u8, PacketIdentifier)>,
    /// PUBRELs that wait until PUBREC is durable.
    pubrels: Vec<PacketIdentifier>,
}

impl World {
    fn new() -> Self {
        let mut session = Session::new(600);
        session.store();
        Self {
            session,
            kept: Kept::default(),
            durable: Kept::default(),
            gate: None,
            published: 0,
            promised: HashMap::new(),
            accepted: HashMap::new(),
            taken: HashMap::new(),
            client_ids: BTreeSet::new(),
            acks: Vec::new(),
            pubrels: Vec::new(),
        }
    }

    fn connect(&mut self, receive_maximum: u16) {
        if self.session.link().is_some() {
            return;
        }
        let parameters = LinkParameters {
            version: ProtocolVersion::V5,
            receive_maximum,
            maximum_packet_size: u32::MAX,
            topic_alias_maximum: 0,
            output_limit: 1 << 20,
        };
        self.session.attach(Link::new(parameters));
        self.gate = self.session.ask(&mut self.kept);
        // CONNACK waits for everything before it: a PUBREL that goes out on the new connection rests on a PUBREC that came on the old one.
        self.flush();
    }

    fn disconnect(&mut self) {
        if self.session.link().is_some() {
            self.session.suspend(&mut self.kept);
        }
        self.gate = None;
        self.acks.clear();
        self.pubrels.clear();
    }

    fn publish(&mut self, qos: QoS) {
        self.published += 1;
        let payload = self.published.to_be_bytes();
        let message = || Message::new("t", &payload, b"", qos, false, None);
        let delivery = Delivery {
            topic: "t",
            payload: &payload,
            forward: b"",
            expires_at: None,
            qos,
            retain: false,
            identifiers: &[],
            share: 0,
            message: &message,
        };
        let outcome = self.session.deliver(1, &delivery, &LIMITS, &mut self.kept, Vec::new);
        assert!(matches!(outcome, Delivered::Sent | Delivered::Queued));
        self.accepted.insert(self.published, qos);
    }

    fn flush(&mut self) {
        self.durable = self.kept.clone();
        self.promised.extend(self.accepted.drain());
        if let Some(gate) = self.gate.take() {
            self.session.open_gate(gate);
        }
        for id in std::mem::take(&mut self.pubrels) {
            self.client_released(id);
        }
    }

    /// PUBREL reaches the Client, which answers with PUBCOMP.
    fn client_released(&mut self, id: PacketIdentifier) {
        self.client_ids.remove(&id.get());
        self.acks.push((7, id));
    }

    /// The broker's task runs: pages, gates, output; and the Client takes what came.
    fn run(&mut self) {
        if let Some(wanted) = self.session.page_wanted() {
            let page = self.kept.queue.range(wanted.from..).take(wanted.max_entries).map(|(sequence, entry)| (*sequence, entry.clone()));
            let page = page.collect();
            self.session.accept_page(wanted, page, &mut self.kept);
        }
        self.session.pump(1, &mut self.kept, Vec::new, |reason| panic!("dropped: {reason:?}"));
        self.session.settle(&mut self.kept);
        if self.gate.is_none() && self.session.wants_gate() {
            self.gate = self.session.ask(&mut self.kept);
        }
        let mut bytes = Vec::new();
        self.session.take_output(&mut bytes);
        let mut rest = &bytes[..];
        while let Some((packet, length)) = decode(rest, ProtocolVersion::V5, Sender::Server, u32::MAX).expect("well formed") {
            rest = &rest[length..];
            match packet {
                Packet::Publish(publish) => {
                    let number = u32::from_be_bytes(publish.payload.try_into().expect("4 bytes"));
                    let id = publish.packet_id.expect("QoS above 0");
                    let kind = if publish.qos == QoS::ExactlyOnce { 5 } else { 4 };
                    if kind == 4 || self.client_ids.insert(id.get()) {
                        *self.taken.entry(number).or_default() += 1;
                    }
                    if kind == 5 {
                        assert!(self.durable.queue.values().any(|entry| entry.message.payload() == publish.payload), "not durable yet");
                    }
                    self.acks.push((kind, id));
                }
                Packet::PubRel(ack) => self.client_released(ack.packet_id),
                other => panic!("{other:?}"),
            }
        }
    }

    /// The oldest acknowledgements on their way arrive.
    fn acknowledge(&mut self, count: usize) {
        let count = count.min(self.acks.len());
        for (kind, id) in self.acks.drain(..count) {
            match kind {
                4 => {
                    self.session.handle_puback(id);
                }
                5 => {
                    if self.session.handle_pubrec(id, ReasonCode::Success, &mut self.kept) == Acknowledged::Release {
                        self.pubrels.push(id);
                    }
                }
                _ => {
                    self.session.handle_pubcomp(id);
                }
            }
        }
        self.session.settle(&mut self.kept);
    }

    /// The broker dies and is started again on what was durable.
    fn crash(&mut self) {
        self.disconnect();
        self.accepted.clear();
        self.kept = self.durable.clone();
        let Kept { queue, released, next, sent } = &self.kept;
        let bytes = queue.values().map(|entry| entry.message.len() as u64).sum();
        let first = queue.keys().next().copied().unwrap_or(*next);
        let backlog = BacklogMeter { first, entries: queue.len() as u64, bytes };
        let released = released.iter().copied().collect();
        let found = Found { next: *next, sent: *sent, backlog, released, ..Found::default() };
        self.session = Session::found(600, found);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn what_was_durable_arrives_and_qos_2_once(steps in prop::collection::vec((0..14_u8, 1..40_u16), 1..200)) {
        let mut world = World::new();
        for (step, number) in steps {
            match step {
                0..3 => (0..number).for_each(|_| world.publish(QoS::AtLeastOnce)),
                3..6 => (0..number % 8).for_each(|_| world.publish(QoS::ExactlyOnce)),
                6 | 7 => world.flush(),
                8 => world.connect(number),
                9 => world.run(),
                10 | 11 => world.acknowledge(number.into()),
                12 => world.disconnect(),
                _ => world.crash(),
            }
        }
        // Everything comes to rest.
        world.disconnect();
        world.connect(20);
        for _ in 0..2_000 {
            world.flush();
            world.run();
            world.acknowledge(usize::MAX);
        }
        for (number, qos) in &world.promised {
            let taken = world.taken.get(number).copied().unwrap_or(0);
            prop_assert!(taken >= 1, "{number} at {qos:?} never came");
            prop_assert!(*qos != QoS::ExactlyOnce || taken == 1, "{number} came {taken} times");
        }
        prop_assert!(world.kept.queue.is_empty() && world.kept.released.is_empty(), "{:?}", world.kept);
        prop_assert_eq!(world.session.waiting(), 0);
    }
}
