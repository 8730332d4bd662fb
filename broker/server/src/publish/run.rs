//! A run: PUBLISH packets that lie side by side and name one topic, and the memory they are gathered in.

use std::cell::RefCell;
use std::sync::Arc;

use bucketmq_packet::message::Message;
use bucketmq_packet::{ProtocolVersion, QoS};

use crate::broker::Broker;
use crate::deliver::Wakes;
use crate::moment::Moment;

/// Packets in one run: bounds the time a subscriber's lock is held.
pub(super) const RUN_ITEMS_MAX: usize = 8192;

/// One PUBLISH of a run, as offsets into the run's bytes.
#[derive(Debug, Clone, Copy)]
pub struct Item {
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) payload: u32,
    pub(super) forward: (u32, u32),
    /// Place plus 1 in the run's own property bytes, when they are not contiguous in the packet.
    pub(super) owned_forward: u32,
    /// Wall-clock milliseconds; 0: never.
    pub(super) expires_at: u64,
    pub(super) id: u16,
    /// QoS it was published with.
    pub qos: QoS,
    /// RETAIN it was published with.
    pub retain: bool,
    /// The packet may go to a QoS 0 subscriber as it is.
    pub(super) plain: bool,
    /// A QoS 2 duplicate: acknowledged, not handed on [MQTT-4.3.3-10].
    pub duplicate: bool,
}

/// A run of messages on one topic, ready to be delivered.
pub struct Run<'a> {
    /// Topic Name of all of them.
    pub topic: &'a str,
    /// Version the packets are encoded in.
    pub version: ProtocolVersion,
    pub(super) bytes: &'a [u8],
    /// The messages.
    pub items: &'a [Item],
    pub(super) owned_forward: &'a [Vec<u8>],
    pub(super) kept: &'a RefCell<Vec<Option<Arc<Message>>>>,
    /// All items are plain QoS 0, so that the bytes can be appended as they are.
    pub all_plain: bool,
    /// Longest packet, bytes.
    pub largest: usize,
    /// Wall clock, milliseconds.
    pub now: u64,
}

impl<'a> Run<'a> {
    /// Bytes of all packets, one behind the other.
    #[inline]
    pub fn verbatim(&self) -> &'a [u8] {
        self.bytes
    }

    /// Application Message of `item`.
    #[inline]
    pub fn payload(&self, item: &Item) -> &'a [u8] {
        &self.bytes[item.payload as usize..item.end as usize]
    }

    /// Properties of `item` that go on unaltered.
    #[inline]
    pub fn forward(&self, item: &Item) -> &'a [u8] {
        match item.owned_forward {
            0 => &self.bytes[item.forward.0 as usize..item.forward.1 as usize],
            place => &self.owned_forward[place as usize - 1],
        }
    }

    /// When `item` expires.
    #[inline]
    pub fn expires_at(&self, item: &Item) -> Option<u64> {
        (item.expires_at != 0).then_some(item.expires_at)
    }

    /// The message of the item at `place` as a shared value, made once.
    pub fn message(&self, place: usize) -> Arc<Message> {
        let mut kept = self.kept.borrow_mut();
        if kept.len() < self.items.len() {
            kept.resize(self.items.len(), None);
        }
        kept[place]
            .get_or_insert_with(|| {
                let item = &self.items[place];
                Message::new(self.topic, self.payload(item), self.forward(item), item.qos, item.retain, self.expires_at(item))
            })
            .clone()
    }
}

/// One message that did not come off the wire just now, to be delivered like a run.
pub struct Single {
    message: Arc<Message>,
    item: Item,
    forward: [Vec<u8>; 1],
    kept: RefCell<Vec<Option<Arc<Message>>>>,
    now: u64,
}

impl Single {
    /// `message` at `now`, milliseconds since 1970.
    pub fn new(message: &Arc<Message>, now: u64) -> Self {
        let item = Item {
            start: 0,
            end: message.payload().len() as u32,
            payload: 0,
            forward: (0, 0),
            owned_forward: 1,
            expires_at: message.expires_at().unwrap_or(0),
            id: 0,
            qos: message.qos(),
            retain: message.retain(),
            plain: false,
            duplicate: false,
        };
        let (forward, kept) = ([message.properties().to_vec()], RefCell::new(vec![Some(message.clone())]));
        Self { message: message.clone(), item, forward, kept, now }
    }

    /// True when it is to be retained.
    pub fn retains(&self) -> bool {
        self.item.retain
    }

    /// It as a run.
    pub fn run(&self) -> Run<'_> {
        Run {
            topic: self.message.topic(),
            version: ProtocolVersion::V5,
            bytes: self.message.payload(),
            items: std::slice::from_ref(&self.item),
            owned_forward: &self.forward,
            kept: &self.kept,
            all_plain: false,
            largest: self.message.len(),
            now: self.now,
        }
    }
}

/// Memory reused from run to run by one thread.
#[derive(Default)]
pub struct Scratch {
    pub(super) topic: String,
    pub(super) items: Vec<Item>,
    pub(super) owned_forward: Vec<Vec<u8>>,
    pub(super) kept: RefCell<Vec<Option<Arc<Message>>>>,
    /// Subscribers' tasks to wake when the batch is through.
    pub wakes: Wakes,
    /// PUBLISHes of the batch by QoS.
    pub(super) published: [u64; 3],
    /// Wall clock, milliseconds, of the batch.
    pub(super) now: u64,
}

thread_local! {
    static SCRATCH: RefCell<Option<Box<Scratch>>> = const { RefCell::new(None) };
}

impl Scratch {
    /// This thread's scratch memory, for a batch read at `received`.
    pub fn take(broker: &Broker, received: Moment) -> Box<Self> {
        let mut scratch = SCRATCH.with_borrow_mut(Option::take).unwrap_or_default();
        scratch.wakes.begin(received);
        scratch.now = broker.wall_ms();
        scratch
    }

    /// Gives it back at `now`, waking whom the batch concerned.
    pub fn finish(mut self: Box<Self>, broker: &Broker, received: Moment, now: Moment) {
        self.wakes.wake_all();
        let elapsed_ns = now.since_ns(received);
        for (durations, count) in broker.metrics.publish_duration.iter().zip(&mut self.published) {
            durations.observe(elapsed_ns, std::mem::take(count));
        }
        self.clear_run();
        SCRATCH.with_borrow_mut(|place| *place = Some(self));
    }

    /// Messages in the run just handled.
    pub fn run_length(&self) -> u64 {
        self.items.len() as u64
    }

    pub(super) fn clear_run(&mut self) {
        self.items.clear();
        self.owned_forward.clear();
        let kept = self.kept.get_mut();
        kept.clear();
        // One huge run must not keep its memory for ever.
        if kept.capacity() > RUN_ITEMS_MAX {
            *kept = Vec::new();
        }
    }
}
