//! The Session: Subscriptions, both handshakes, the Will, and, while a Client is connected, its output.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bucketmq_packet::message::{Message, QueueEntry};
use bucketmq_packet::property::put_varint;
use bucketmq_packet::{PacketIdentifier, PacketType, ProtocolVersion, QoS, ReasonCode, SubscriptionOptions};

use crate::aliases::TopicForm;
use crate::backlog::{Backlog, BacklogMeter};
use crate::incoming::Incoming;
use crate::link::Link;
use crate::outgoing::{Acknowledged, Entry, Next, Outgoing, QueueLimits, Refused, State};
use crate::publish_out::{self, Delivery, Form};
use crate::stored::{BehindWindow, Gate, PageWanted};
use crate::will::Will;

/// A Subscription as the Session remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscription {
    /// As granted.
    pub options: SubscriptionOptions,
    /// Subscription Identifier given with it.
    pub identifier: Option<u32>,
    /// For a Shared Subscription the number deliveries through it carry; 0 otherwise.
    pub share: u32,
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivered {
    /// Encoded for the Client.
    Sent,
    /// Accepted and waiting.
    Queued,
    /// Accepted; older messages made room.
    QueuedDropping(u64),
    /// Not accepted.
    Dropped(DropReason),
    /// Not accepted, and the Client is to be disconnected with 0x97 Quota exceeded.
    DroppedDisconnect,
}

/// Why a message was not delivered to a Session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// The Session's queue is full.
    QueueFull,
    /// The socket's output is full (QoS 0).
    OutputFull,
    /// Larger than the Client's Maximum Packet Size [MQTT-3.1.2-25].
    TooLarge,
    /// The message expired [MQTT-3.3.2-5].
    Expired,
    /// QoS 0 for a Session without a Network Connection.
    NotConnected,
}

/// A message a leaving member of a Shared Subscription had not acknowledged.
#[derive(Debug)]
pub struct Orphan {
    /// The filter as subscribed, share name included.
    pub filter: Arc<str>,
    /// The message.
    pub message: Arc<Message>,
}

/// The Shared Subscriptions that deliveries came through, by a number no other one of the Session ever gets.
#[derive(Debug, Default)]
struct Shares {
    /// Sorted by number.
    named: Vec<(u32, Arc<str>)>,
    last: u32,
    /// How many of them are no Subscription any more, at most.
    left: usize,
}

/// Shared Subscriptions a Session has left and still knows, beyond those that something in flight came through: 16 bytes and the name each.
const SHARES_LEFT_MAX: usize = 16;

impl Shares {
    fn number(&self, name: &str) -> Option<u32> {
        self.named.iter().find(|(_, known)| **known == *name).map(|(number, _)| *number)
    }

    fn name(&self, number: u32) -> Option<&Arc<str>> {
        self.named.binary_search_by_key(&number, |(number, _)| *number).ok().map(|place| &self.named[place].1)
    }

    fn add(&mut self, name: Arc<str>) -> u32 {
        self.last += 1;
        self.named.push((self.last, name));
        self.last
    }
}

/// What the storage knows of a Session's handshakes and queue.
#[derive(Debug, Default)]
pub struct Found {
    /// One more than the newest sequence ever.
    pub next: u64,
    /// Everything before it may have been sent.
    pub sent: u64,
    /// What is in the queue.
    pub backlog: BacklogMeter,
    /// Entries for which PUBREC has come.
    pub released: Vec<u64>,
    /// Packet Identifiers of QoS 2 messages that were handed on and wait for PUBREL.
    pub incoming: Vec<PacketIdentifier>,
    /// The last number given to a Shared Subscription.
    pub last_share: u32,
}

/// One Client's Session.
#[derive(Debug, Default)]
pub struct Session {
    /// Some while a Network Connection serves the Session.
    link: Option<Box<Link>>,
    /// Seconds the Session outlives its connection; 0: not at all; `u32::MAX`: for ever.
    pub expiry_interval: u32,
    /// The Will, until it is published or dropped.
    pub will: Option<Box<Will>>,
    /// The receiving side at QoS 2.
    pub incoming: Incoming,
    subscriptions: BTreeMap<Arc<str>, Subscription>,
    shares: Shares,
    outgoing: Outgoing,
}

impl Session {
    /// A Session that outlives its connection by `expiry_interval` seconds.
    pub fn new(expiry_interval: u32) -> Self {
        Self { expiry_interval, ..Self::default() }
    }

    /// From now on the caller's [`Backlog`] outlives the broker and holds every QoS 1 and 2 message until its delivery is over.
    pub fn store(&mut self) {
        self.outgoing.store();
    }

    /// A Session found in the storage, as `found` describes it; its Will and its Subscriptions are added by the caller.
    pub fn found(expiry_interval: u32, found: Found) -> Self {
        let Found { next, sent, backlog, released, incoming, last_share } = found;
        let mut session = Self { expiry_interval, outgoing: Outgoing::found(next, sent, backlog, released), ..Self::default() };
        session.shares.last = last_share;
        for id in incoming {
            session.incoming.begin(id);
        }
        session
    }

    /// A Subscription found in the storage.
    pub fn found_subscription(&mut self, filter: &str, subscription: Subscription) {
        let name: Arc<str> = filter.into();
        if subscription.share > 0 {
            let place = self.shares.named.partition_point(|(number, _)| *number < subscription.share);
            self.shares.named.insert(place, (subscription.share, name.clone()));
            self.shares.last = self.shares.last.max(subscription.share);
        }
        self.subscriptions.insert(name, subscription);
    }

    /// The Shared Subscriptions that deliveries came through, by number.
    pub fn share_names(&self) -> Vec<(u32, Arc<str>)> {
        self.shares.named.clone()
    }

    /// The last number given to a Shared Subscription.
    pub fn last_share(&self) -> u32 {
        self.shares.last
    }

    /// True when [`Self::ask`] should be called: something waits for a permission to be sent, or soon will. Sessions that are not stored never do.
    pub fn wants_gate(&self) -> bool {
        self.link.is_some() && self.outgoing.wants_gate()
    }

    /// Asks for permission to send. It holds once everything written so far is durable: call [`Self::open_gate`] then.
    pub fn ask(&mut self, backlog: &mut dyn Backlog) -> Option<Gate> {
        self.outgoing.ask(backlog)
    }

    /// What was asked for is durable.
    pub fn open_gate(&mut self, gate: Gate) {
        self.outgoing.open_gate(gate);
    }

    /// Tells the storage of a stored Session what is over; to be called after acknowledgements have been handled and messages sent.
    pub fn settle(&mut self, backlog: &mut dyn Backlog) {
        self.outgoing.settle(backlog);
    }

    /// A page of the queue that was not at hand and is wanted now.
    pub fn page_wanted(&self) -> Option<PageWanted> {
        self.link.as_ref().filter(|link| link.has_room()).and_then(|_| self.outgoing.page_wanted())
    }

    /// Takes the page that was wanted.
    pub fn accept_page(&mut self, wanted: PageWanted, page: Vec<(u64, QueueEntry)>, backlog: &mut dyn Backlog) {
        self.outgoing.accept_wanted(wanted, page, backlog);
    }

    /// A Network Connection takes the Session over. Call [`Self::pump`] after CONNACK has been written.
    pub fn attach(&mut self, link: Link) {
        self.outgoing.restart(link.parameters().receive_maximum);
        self.link = Some(Box::new(link));
    }

    /// The Network Connection is gone; what was encoded and not taken is lost with it (QoS 0) or sent again (QoS 1, 2).
    pub fn detach(&mut self) {
        self.link = None;
    }

    /// The same for a Session that waits for its Client: of a stored one only what was sent stays in memory.
    pub fn suspend(&mut self, backlog: &mut dyn Backlog) {
        self.link = None;
        self.outgoing.suspend(backlog);
    }

    /// The connection's output.
    #[inline]
    pub fn link(&self) -> Option<&Link> {
        self.link.as_deref()
    }

    /// The connection's output, to append to.
    #[inline]
    pub fn link_mut(&mut self) -> Option<&mut Link> {
        self.link.as_deref_mut()
    }

    /// True when the Session ends with its connection.
    #[inline]
    pub fn is_transient(&self) -> bool {
        self.expiry_interval == 0
    }

    /// Subscriptions by filter, share name included.
    pub fn subscriptions(&self) -> &BTreeMap<Arc<str>, Subscription> {
        &self.subscriptions
    }

    /// Remembers a Subscription. The one it replaces comes back [MQTT-3.8.4-3].
    pub fn subscribe(
        &mut self,
        filter: &str,
        shared: bool,
        options: SubscriptionOptions,
        identifier: Option<u32>,
    ) -> (Subscription, Option<Subscription>) {
        let old = self.subscriptions.get(filter).copied();
        let name: Arc<str> = self.subscriptions.get_key_value(filter).map_or_else(|| filter.into(), |(name, _)| name.clone());
        let share = match old {
            Some(old) => old.share,
            None if shared => self.share_number(&name),
            None => 0,
        };
        let new = Subscription { options, identifier, share };
        self.subscriptions.insert(name, new);
        (new, old)
    }

    fn share_number(&mut self, name: &Arc<str>) -> u32 {
        if let Some(number) = self.shares.number(name) {
            return number;
        }
        // What was left stays known while something in flight came through it; each sweep forgets at least SHARES_LEFT_MAX.
        if self.shares.left > SHARES_LEFT_MAX + self.outgoing.window_len() {
            let subscribed: HashSet<u32> = self.subscriptions.values().map(|subscription| subscription.share).collect();
            let in_flight: HashSet<u32> = self.outgoing.shares().collect();
            self.shares.named.retain(|(number, _)| subscribed.contains(number) || in_flight.contains(number));
            self.shares.left = self.shares.named.iter().filter(|(number, _)| !subscribed.contains(number)).count();
        }
        self.shares.add(name.clone())
    }

    /// Forgets a Subscription.
    pub fn unsubscribe(&mut self, filter: &str) -> Option<Subscription> {
        let subscription = self.subscriptions.remove(filter)?;
        self.shares.left += usize::from(subscription.share > 0);
        Some(subscription)
    }

    /// The number deliveries through the Shared Subscription `filter` carry, when the Session has it.
    pub fn share_of(&self, filter: &str) -> Option<Subscription> {
        self.subscriptions.get(filter).copied()
    }

    #[cfg(test)]
    pub(crate) fn shares_known(&self) -> usize {
        self.shares.named.len()
    }

    /// Messages waiting whose delivery has not begun.
    pub fn waiting(&self) -> u64 {
        self.outgoing.waiting()
    }

    /// Bytes of those.
    pub fn waiting_bytes(&self) -> u64 {
        self.outgoing.waiting_bytes()
    }

    /// QoS 1 and 2 messages sent and not finished.
    pub fn inflight(&self) -> u32 {
        self.outgoing.inflight()
    }

    /// True when `bytes` of QoS 0 PUBLISH packets in `version` format, each at most `largest` long, may be appended as they are.
    #[inline]
    pub fn takes_verbatim(&self, version: ProtocolVersion, largest: usize) -> bool {
        self.link.as_ref().is_some_and(|link| {
            let ours = link.parameters.version;
            (ours == ProtocolVersion::V5) == (version == ProtocolVersion::V5)
                && link.aliases.is_none()
                && largest <= link.parameters.maximum_packet_size as usize
        })
    }

    /// Delivers one message. `spare` gives an output buffer when the link has none.
    pub fn deliver(
        &mut self,
        now: u64,
        delivery: &Delivery<'_>,
        limits: &QueueLimits,
        backlog: &mut dyn Backlog,
        spare: impl FnOnce() -> Vec<u8>,
    ) -> Delivered {
        let Some(link) = self.link.as_deref_mut() else {
            return self.enqueue(delivery, limits, backlog);
        };
        if delivery.qos == QoS::AtMostOnce {
            if !link.has_room_for_qos0() {
                return Delivered::Dropped(DropReason::OutputFull);
            }
            let form = match live_form(link, now, delivery, None) {
                Ok(form) => form,
                Err(reason) => return Delivered::Dropped(reason),
            };
            publish_out::encode(&form, delivery.topic, delivery.payload, delivery.forward, link.output_mut(spare));
            return Delivered::Sent;
        }
        // QoS 2 does not leave a stored Session before its entry is durable.
        let at_once = link.has_room()
            && self.outgoing.open(link.parameters.receive_maximum)
            && (delivery.qos == QoS::AtLeastOnce || !self.outgoing.is_stored());
        if !at_once {
            return self.enqueue(delivery, limits, backlog);
        }
        // The identifier is not known before the entry is made and does not change the length.
        let form = match live_form(link, now, delivery, PacketIdentifier::new(1)) {
            Ok(form) => form,
            Err(reason) => return Delivered::Dropped(reason),
        };
        // A Session with expiry 0 never sends again, so nobody needs the message, unless another member of the share may have to take it.
        let keep = self.expiry_interval > 0 || delivery.share > 0;
        let sequence = self.outgoing.next_sequence();
        if self.outgoing.is_stored() {
            backlog.append(sequence, queue_entry(delivery));
        }
        let id = self.outgoing.begin(Entry {
            sequence,
            message: keep.then(|| (delivery.message)()),
            identifiers: if keep { delivery.identifiers.into() } else { Box::default() },
            share: delivery.share,
            state: if delivery.qos == QoS::AtLeastOnce { State::AwaitPuback } else { State::AwaitPubrec },
            qos: delivery.qos,
            retain: delivery.retain,
        });
        let form = Form { packet_id: Some(id), ..form };
        publish_out::encode(&form, delivery.topic, delivery.payload, delivery.forward, link.output_mut(spare));
        Delivered::Sent
    }

    fn enqueue(&mut self, delivery: &Delivery<'_>, limits: &QueueLimits, backlog: &mut dyn Backlog) -> Delivered {
        match self.outgoing.enqueue(queue_entry(delivery), self.link.is_some(), limits, backlog) {
            Ok(()) => Delivered::Queued,
            Err(Refused::Older(count)) => Delivered::QueuedDropping(count),
            Err(Refused::New) => Delivered::Dropped(DropReason::QueueFull),
            Err(Refused::Disconnect) if self.link.is_some() => Delivered::DroppedDisconnect,
            Err(Refused::Disconnect) => Delivered::Dropped(DropReason::QueueFull),
        }
    }

    /// Sends what waits, as far as quota and output allow. `dropped` counts what expired or is too large on the way.
    pub fn pump(&mut self, now: u64, backlog: &mut dyn Backlog, spare: impl FnOnce() -> Vec<u8>, mut dropped: impl FnMut(DropReason)) {
        let Some(link) = self.link.as_deref_mut() else { return };
        let receive_maximum = link.parameters.receive_maximum;
        let keep = self.expiry_interval > 0;
        let mut spare = Some(spare);
        loop {
            self.outgoing.refill(backlog);
            let has_room = link.has_room();
            match self.outgoing.poll(receive_maximum) {
                Next::Idle => return,
                Next::Release(id) => {
                    let out = link.output_mut(|| spare.take().map_or_else(Vec::new, |spare| spare()));
                    put_ack(PacketType::PubRel, id, out);
                }
                Next::Publish { .. } if !has_room => return,
                Next::Publish { id, dup, entry } => {
                    let Some(message) = entry.message.clone() else {
                        self.outgoing.skip();
                        continue;
                    };
                    // Once begun, a QoS 2 handshake is finished whatever the expiry says [MQTT-4.3.3-7]; QoS 1 sent before may expire no more either.
                    let expiry = match publish_out::seconds_left(now, message.expires_at()) {
                        Ok(expiry) => expiry,
                        Err(()) if dup => Some(1),
                        Err(()) => {
                            dropped(DropReason::Expired);
                            self.outgoing.skip();
                            continue;
                        }
                    };
                    let form = Form {
                        version: link.parameters.version,
                        // [MQTT-3.3.1-1] [MQTT-3.3.1-2]
                        dup: dup && entry.qos != QoS::AtMostOnce,
                        qos: entry.qos,
                        retain: entry.retain,
                        packet_id: (entry.qos != QoS::AtMostOnce).then_some(id),
                        topic: TopicForm::Name,
                        expiry,
                        identifiers: &entry.identifiers,
                    };
                    let Some(topic) = topic_form(link, &form, message.topic(), message.payload(), message.properties()) else {
                        dropped(DropReason::TooLarge);
                        self.outgoing.skip();
                        continue;
                    };
                    let out = link.output_mut(|| spare.take().map_or_else(Vec::new, |spare| spare()));
                    publish_out::encode(&Form { topic, ..form }, message.topic(), message.payload(), message.properties(), out);
                    let share = entry.share;
                    self.outgoing.sent(keep || share > 0);
                }
            }
        }
    }

    /// True when [`Self::pump`] might have something to send.
    pub fn wants_pump(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.has_room()) && self.outgoing.has_unsent()
    }

    /// PUBACK from the Client.
    #[inline]
    pub fn handle_puback(&mut self, id: PacketIdentifier) -> Acknowledged {
        self.outgoing.puback(id)
    }

    /// PUBREC from the Client. `Release`: answer PUBREL; `Unknown` without an error code: answer it too, with 0x92 in 5.0, so that the
    /// Client can end its side.
    pub fn handle_pubrec(&mut self, id: PacketIdentifier, reason_code: ReasonCode, backlog: &mut dyn Backlog) -> Acknowledged {
        self.outgoing.pubrec(id, reason_code.is_error(), backlog)
    }

    /// PUBCOMP from the Client.
    pub fn handle_pubcomp(&mut self, id: PacketIdentifier) -> Acknowledged {
        self.outgoing.pubcomp(id)
    }

    /// Moves the waiting output into `into` (empty, and kept as the next output buffer). False: nothing to send.
    #[inline]
    pub fn take_output(&mut self, into: &mut Vec<u8>) -> bool {
        let Some(link) = self.link.as_deref_mut() else { return false };
        if link.output.is_empty() {
            return false;
        }
        if into.is_empty() {
            std::mem::swap(&mut link.output, into);
        } else {
            into.append(&mut link.output);
        }
        true
    }

    /// Gives the link's empty buffer away, when it has one: an idle connection keeps none.
    pub fn reclaim_buffer(&mut self) -> Option<Vec<u8>> {
        let link = self.link.as_deref_mut()?;
        (link.output.is_empty() && link.output.capacity() > 0).then(|| std::mem::take(&mut link.output))
    }

    /// What stands behind the window, which [`Self::take_orphans`] takes only when it is at hand.
    pub fn behind_window(&self) -> BehindWindow {
        self.outgoing.behind_window()
    }

    /// Messages that came through Shared Subscriptions and may go to another member, taken out of this Session: of all of them when its
    /// connection or the Session ends; of `filter` when that alone is left, and then only what the Client has not been sent.
    pub fn take_orphans(&mut self, filter: Option<&str>, backlog: &mut dyn Backlog) -> Vec<Orphan> {
        let Self { shares, outgoing, .. } = self;
        if shares.named.is_empty() {
            return Vec::new();
        }
        // [MQTT-3.10.4-3] [MQTT-3.3.4-9] A connected Client holds what it was sent: its delivery is finished, and it counts until then.
        outgoing
            .take_shared(filter.is_none(), backlog, |share| {
                shares.name(share).is_some_and(|name| filter.is_none_or(|filter| &**name == filter))
            })
            .into_iter()
            .filter_map(|(share, message)| Some(Orphan { filter: shares.name(share)?.clone(), message }))
            .collect()
    }
}

fn queue_entry(delivery: &Delivery<'_>) -> QueueEntry {
    QueueEntry {
        message: (delivery.message)(),
        identifiers: delivery.identifiers.into(),
        share: delivery.share,
        qos: delivery.qos,
        retain: delivery.retain,
    }
}

fn live_form<'a>(link: &mut Link, now: u64, delivery: &Delivery<'a>, packet_id: Option<PacketIdentifier>) -> Result<Form<'a>, DropReason> {
    let expiry = publish_out::seconds_left(now, delivery.expires_at).map_err(|()| DropReason::Expired)?;
    let form = Form {
        version: link.parameters.version,
        dup: false,
        qos: delivery.qos,
        retain: delivery.retain,
        packet_id,
        topic: TopicForm::Name,
        expiry,
        identifiers: delivery.identifiers,
    };
    let topic = topic_form(link, &form, delivery.topic, delivery.payload, delivery.forward).ok_or(DropReason::TooLarge)?;
    Ok(Form { topic, ..form })
}

/// How the packet names its topic. None: it is too large for the Client however that is done [MQTT-3.1.2-24] [MQTT-3.1.2-25].
fn topic_form(link: &mut Link, form: &Form<'_>, topic: &str, payload: &[u8], forward: &[u8]) -> Option<TopicForm> {
    let largest = link.parameters.maximum_packet_size as usize;
    let fits = |topic_form| publish_out::length(&Form { topic: topic_form, ..*form }, topic, payload, forward) <= largest;
    match &mut link.aliases {
        Some(aliases) => aliases.form(topic, fits),
        None => fits(TopicForm::Name).then_some(TopicForm::Name),
    }
}

/// Appends an acknowledgement with Reason Code 0x00, which is the same in every version.
#[inline]
pub fn put_ack(kind: PacketType, id: PacketIdentifier, out: &mut Vec<u8>) {
    let [high, low] = id.get().to_be_bytes();
    // [MQTT-2.1.3-1] PUBREL alone has flags 0b0010.
    let flags = if kind == PacketType::PubRel { 2 } else { 0 };
    out.extend_from_slice(&[(kind as u8) << 4 | flags, 2, high, low]);
}

/// Appends an acknowledgement with `reason_code`; versions before 5.0 have no place for it.
pub fn put_ack_with_reason(kind: PacketType, id: PacketIdentifier, reason_code: ReasonCode, version: ProtocolVersion, out: &mut Vec<u8>) {
    if version != ProtocolVersion::V5 || reason_code == ReasonCode::Success {
        return put_ack(kind, id, out);
    }
    let [high, low] = id.get().to_be_bytes();
    let flags = if kind == PacketType::PubRel { 2 } else { 0 };
    out.push((kind as u8) << 4 | flags);
    put_varint(3, out);
    out.extend_from_slice(&[high, low, reason_code.value()]);
}
