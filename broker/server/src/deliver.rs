//! Handing a run to one subscriber: under its lock, into its output or its queue.

use std::task::Waker;

use bucketmq_packet::message::QueueEntry;
use bucketmq_packet::{QoS, ReasonCode};
use bucketmq_routing::{Group, Matched, Member, Strategy};
use bucketmq_session::{Backlog, Delivered, Delivery, DropReason, QueueLimits};
use bucketmq_storage::record::handshake::Handshake;
use bucketmq_storage::{Batch, Position, Sequence, SessionNumber, Store};
use parking_lot::MutexGuard;

use crate::broker::Broker;
use crate::buffers;
use crate::client::{Client, ClientRef, Flow, State};
use crate::config::Limits;
use crate::durable::waits::Waits;
use crate::metrics::Dropped;
use crate::moment::Moment;
use crate::publish::Run;
use crate::shared::Manner;

/// Bytes of messages taken from a queue in the store at a time.
pub const PAGE_BYTES: usize = 1024 * 1024;

/// Tasks to wake when a batch is through, each once, and since when the batch is being handled.
#[derive(Default)]
pub struct Wakes {
    wakers: Vec<Waker>,
    /// When the batch was read.
    received: Option<Moment>,
    /// What was stored for Sessions that outlive the broker since this was last taken: the publisher's acknowledgement waits for it.
    pub waits: Waits,
}

impl Wakes {
    /// For a batch read at `received`.
    pub fn since(received: Moment) -> Self {
        Self { wakers: Vec::new(), received: Some(received), waits: Waits::default() }
    }

    /// The same with the memory of an earlier batch.
    #[inline]
    pub fn begin(&mut self, received: Moment) {
        self.received = Some(received);
    }

    /// Adds a task.
    #[inline]
    pub fn push(&mut self, waker: Option<Waker>) {
        self.wakers.extend(waker);
    }

    /// Wakes all.
    pub fn wake_all(&mut self) {
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
    }
}

/// One Session's queue in the store, and how far what was done to it has to be durable.
pub struct StoreBacklog<'a> {
    store: &'a dyn Store,
    session: SessionNumber,
    /// The newest change of a Session that outlives the broker.
    pub position: Option<Position>,
    stored: bool,
}

impl<'a> StoreBacklog<'a> {
    /// The queue of `client`.
    #[inline]
    pub fn new(broker: &'a Broker, client: &Client) -> Self {
        let store = if client.stored { &*broker.store } else { &*broker.volatile };
        Self { store, session: client.number, position: None, stored: client.stored }
    }

    /// The queue numbered `session`.
    pub fn of(store: &'a dyn Store, session: SessionNumber) -> Self {
        Self { store, session, position: None, stored: store.outlives_process() }
    }

    #[inline]
    fn reached(&mut self, position: Position) {
        if self.stored {
            self.position = Some(position);
        }
    }

    fn write(&mut self, change: impl FnOnce(&mut Batch, SessionNumber)) {
        let mut batch = Batch::default();
        change(&mut batch, self.session);
        let position = self.store.write(self.session.shard(), batch);
        self.reached(position);
    }

    /// Adds what was done to `waits`.
    #[inline]
    pub fn wait_in(&self, waits: &mut Waits) {
        if let Some(position) = self.position {
            waits.add(self.session.shard(), position);
        }
    }
}

impl Backlog for StoreBacklog<'_> {
    fn append(&mut self, sequence: u64, entry: QueueEntry) {
        let position = self.store.append(self.session, Sequence(sequence), entry);
        self.reached(position);
    }

    fn page(&mut self, from: u64, max_entries: usize) -> Option<Vec<(u64, QueueEntry)>> {
        let page = self.store.try_page(self.session, Sequence(from), max_entries, PAGE_BYTES)?;
        Some(page.into_iter().map(|(sequence, entry)| (sequence.0, entry)).collect())
    }

    fn remove_through(&mut self, sequence: u64) {
        self.store.remove_through(self.session, Sequence(sequence));
    }

    fn remove(&mut self, sequence: u64) {
        self.store.remove(self.session, Sequence(sequence));
    }

    fn sent(&mut self, sent: u64) {
        self.write(|batch, session| {
            batch.sent(session, Sequence(sent));
        });
    }

    fn released(&mut self, sequence: u64) {
        self.write(|batch, session| {
            batch.put(&(session, Sequence(sequence)), &Handshake::Released);
        });
    }

    fn completed(&mut self, sequence: u64) {
        self.write(|batch, session| {
            batch.delete::<Handshake>(&(session, Sequence(sequence)));
        });
    }
}

/// One Session's queue, whose changes go into a batch of its shard, to be kept or lost together with whatever else stands there.
pub struct BatchBacklog<'a> {
    queue: StoreBacklog<'a>,
    batch: &'a mut Batch,
}

impl<'a> BatchBacklog<'a> {
    /// The queue of `client`.
    pub fn new(broker: &'a Broker, client: &Client, batch: &'a mut Batch) -> Self {
        Self { queue: StoreBacklog::new(broker, client), batch }
    }
}

impl Backlog for BatchBacklog<'_> {
    fn append(&mut self, sequence: u64, entry: QueueEntry) {
        self.batch.append(self.queue.session, Sequence(sequence), entry);
    }

    fn page(&mut self, from: u64, max_entries: usize) -> Option<Vec<(u64, QueueEntry)>> {
        self.queue.page(from, max_entries)
    }

    fn remove_through(&mut self, sequence: u64) {
        self.batch.remove_through(self.queue.session, Sequence(sequence));
    }

    fn remove(&mut self, sequence: u64) {
        self.batch.remove(self.queue.session, Sequence(sequence));
    }
}

/// The queue bounds a Session has by `limits`.
pub fn queue_limits(limits: &Limits) -> QueueLimits {
    QueueLimits {
        messages: u64::from(limits.session_queue_messages),
        bytes: limits.session_queue_bytes.as_u64(),
        overflow: limits.session_queue_overflow.into(),
    }
}

impl From<DropReason> for Dropped {
    fn from(reason: DropReason) -> Self {
        match reason {
            DropReason::QueueFull => Self::QueueFull,
            DropReason::OutputFull => Self::OutputFull,
            DropReason::TooLarge => Self::TooLarge,
            DropReason::Expired => Self::Expired,
            DropReason::NotConnected => Self::NotConnected,
        }
    }
}

impl Broker {
    /// Delivers `run` to one subscriber.
    pub(crate) fn deliver_run(&self, run: &Run<'_>, matched: &Matched<ClientRef>, limits: &Limits, wakes: &mut Wakes) {
        let client = &matched.subscriber;
        let mut state = client.lock();
        if state.ended {
            return;
        }
        let no_identifiers = matched.identifiers.as_slice().is_empty();
        if run.all_plain && no_identifiers && state.session.takes_verbatim(run.version, run.largest) {
            self.append_verbatim(run, &mut state, client.flow() == Flow::Lagging);
        } else {
            self.deliver_items(run, client, &mut state, matched, limits, &mut wakes.waits);
        }
        self.settle(client, &mut state, limits, wakes);
    }

    /// The whole run is QoS 0 and looks the same to this subscriber: one copy.
    #[inline]
    fn append_verbatim(&self, run: &Run<'_>, state: &mut State, lags: bool) {
        let count = run.items.len() as u64;
        let Some(link) = state.session.link_mut() else { return };
        // Publishers look whether there is room before they come here; two of them may have looked at the same time, and nothing is lost for that.
        if link.has_room() || (!lags && link.has_room_for_qos0()) {
            let bytes = run.verbatim();
            link.output_mut(|| buffers::spare_for(bytes.len())).extend_from_slice(bytes);
            self.metrics.message_delivered(QoS::AtMostOnce, count);
            self.metrics.sent(bucketmq_packet::PacketType::Publish, count);
        } else {
            self.metrics.dropped(Dropped::OutputFull, count);
        }
    }

    fn deliver_items(
        &self,
        run: &Run<'_>,
        client: &ClientRef,
        state: &mut State,
        matched: &Matched<ClientRef>,
        limits: &Limits,
        waits: &mut Waits,
    ) {
        let mut backlog = StoreBacklog::new(self, client);
        let queue = queue_limits(limits);
        let lags = client.flow() == Flow::Lagging;
        let mut tally = Tally::default();
        for (place, item) in run.items.iter().enumerate() {
            if item.duplicate {
                continue;
            }
            let qos = item.qos.min(matched.qos);
            let waits = limits.queue_qos0 && !state.session.is_transient();
            if qos == QoS::AtMostOnce && state.session.link().is_none() && !waits {
                tally.drop(Dropped::NotConnected);
                continue;
            }
            if qos == QoS::AtMostOnce && lags && state.session.link().is_some_and(|link| !link.has_room()) {
                tally.drop(Dropped::OutputFull);
                continue;
            }
            // [MQTT-3.3.1-12] [MQTT-3.3.1-13]
            let retain = item.retain && matched.retain_as_published;
            let manner = Manner { qos, retain, identifiers: matched.identifiers.as_slice(), share: 0 };
            let outcome = self.deliver_item(run, place, state, manner, &queue, &mut backlog);
            tally.add(qos, outcome);
        }
        backlog.wait_in(waits);
        tally.count(self, state);
    }

    /// Hands the item at `place` of `run` to one Session.
    #[inline]
    fn deliver_item(
        &self,
        run: &Run<'_>,
        place: usize,
        state: &mut State,
        manner: Manner<'_>,
        queue: &QueueLimits,
        backlog: &mut StoreBacklog<'_>,
    ) -> Delivered {
        let item = &run.items[place];
        state.session.deliver(
            run.now,
            &Delivery {
                topic: run.topic,
                payload: run.payload(item),
                forward: run.forward(item),
                expires_at: run.expires_at(item),
                qos: manner.qos,
                retain: manner.retain,
                identifiers: manner.identifiers,
                share: manner.share,
                message: &|| run.message(place),
            },
            queue,
            backlog,
            buffers::spare,
        )
    }

    /// Delivers each message of `run` to one member of a Shared Subscription [MQTT-4.8.2-4].
    pub(crate) fn deliver_shared(
        &self,
        run: &Run<'_>,
        group: &Group<ClientRef>,
        publisher: SessionNumber,
        limits: &Limits,
        wakes: &mut Wakes,
    ) {
        let queue = queue_limits(limits);
        for (place, item) in run.items.iter().enumerate() {
            if item.duplicate {
                continue;
            }
            let Some((member, mut state)) = self.pick_locked(group, limits, publisher.0) else {
                self.queue_for_group(group, run, place, item.qos, limits, &mut wakes.waits);
                continue;
            };
            let client = &member.subscriber;
            let mut tally = Tally::default();
            // [MQTT-4.8.2-3] The QoS granted to this member.
            let qos = item.qos.min(member.options.qos);
            let share = state.session.share_of(group.name()).map_or(0, |subscription| subscription.share);
            let identifier = member.options.subscription_identifier;
            let retain = item.retain && member.options.retain_as_published;
            let manner = Manner { qos, retain, identifiers: identifier.as_slice(), share };
            let mut backlog = StoreBacklog::new(self, client);
            let outcome = self.deliver_item(run, place, &mut state, manner, &queue, &mut backlog);
            backlog.wait_in(&mut wakes.waits);
            tally.add(qos, outcome);
            tally.count(self, &mut state);
            self.settle(client, &mut state, limits, wakes);
        }
    }

    /// A connected member by the configured strategy, with its state: never one whose Session has ended meanwhile.
    pub(crate) fn pick_locked<'a>(
        &self,
        group: &'a Group<ClientRef>,
        limits: &Limits,
        publisher: u64,
    ) -> Option<(&'a Member<ClientRef>, MutexGuard<'a, State>)> {
        loop {
            let member = self.pick(group, limits, publisher)?;
            let state = member.subscriber.lock();
            // Whoever ends a Session says under its lock that it is not connected: the next choice is another one.
            if !state.ended {
                return Some((member, state));
            }
        }
    }

    /// A connected member by the configured strategy.
    pub(crate) fn pick<'a>(&self, group: &'a Group<ClientRef>, limits: &Limits, publisher: u64) -> Option<&'a Member<ClientRef>> {
        let strategy: Strategy = limits.shared_strategy.into();
        let counts_inflight = strategy == Strategy::LeastInflight;
        group.pick(strategy, publisher, |client| {
            if !client.connected.load(std::sync::atomic::Ordering::Relaxed) {
                return None;
            }
            if counts_inflight {
                let state = client.lock();
                return Some(state.session.inflight() + u32::try_from(state.session.waiting()).unwrap_or(u32::MAX / 2));
            }
            // A member that does not read is passed over while another does.
            Some(u32::from(client.flow() != Flow::Open))
        })
    }

    /// After a delivery: is the subscriber full, and does its task know?
    #[inline]
    pub(crate) fn settle(&self, client: &Client, state: &mut State, limits: &Limits, wakes: &mut Wakes) {
        let Some(link) = state.session.link() else { return };
        if client.flow() == Flow::Open && (!link.has_room() || state.session.waiting() * 2 > u64::from(limits.session_queue_messages)) {
            client.set_flow(Flow::Full);
        }
        if link.pending() > 0 || state.closing.is_some() || state.session.wants_gate() || state.session.page_wanted().is_some() {
            if state.output_since.is_none() {
                state.output_since = wakes.received;
            }
            wakes.push(state.schedule());
        }
    }
}

#[derive(Default)]
struct Tally {
    delivered: [u64; 3],
    sent: u64,
    disconnect: bool,
    dropped: Option<(Dropped, u64)>,
    older: u64,
}

impl Tally {
    fn drop(&mut self, why: Dropped) {
        match &mut self.dropped {
            Some((_, count)) => *count += 1,
            none => *none = Some((why, 1)),
        }
    }

    #[inline]
    fn add(&mut self, qos: QoS, outcome: Delivered) {
        match outcome {
            Delivered::Sent => {
                self.delivered[qos as usize] += 1;
                self.sent += 1;
            }
            Delivered::Queued => self.delivered[qos as usize] += 1,
            Delivered::QueuedDropping(count) => {
                self.delivered[qos as usize] += 1;
                self.older += count;
            }
            Delivered::Dropped(reason) => self.drop(reason.into()),
            Delivered::DroppedDisconnect => {
                self.drop(Dropped::QueueFull);
                self.disconnect = true;
            }
        }
    }

    fn count(self, broker: &Broker, state: &mut State) {
        for (qos, count) in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce].into_iter().zip(self.delivered) {
            broker.metrics.message_delivered(qos, count);
        }
        broker.metrics.sent(bucketmq_packet::PacketType::Publish, self.sent);
        broker.metrics.dropped(Dropped::QueueFull, self.older);
        if let Some((why, count)) = self.dropped {
            broker.metrics.dropped(why, count);
        }
        if self.disconnect && state.closing.is_none() {
            state.closing = Some(ReasonCode::QuotaExceeded);
        }
    }
}
