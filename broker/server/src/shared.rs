//! Shared Subscriptions beyond a single delivery: the queue of a group none of whose members is connected, and messages whose member left.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bucketmq_packet::message::{Message, QueueEntry};
use bucketmq_packet::{QoS, topic};
use bucketmq_routing::Group;
use bucketmq_session::{Backlog, Delivery, Orphan, Overflow};
use bucketmq_storage::record::cursor::Cursor;
use bucketmq_storage::{Batch, Sequence, SessionNumber, Store, record};
use parking_lot::Mutex;

use crate::broker::Broker;
use crate::buffers;
use crate::client::{ClientRef, State};
use crate::config::Limits;
use crate::deliver::{PAGE_BYTES, StoreBacklog, Wakes, queue_limits};
use crate::durable::waits::Waits;
use crate::metrics::Dropped;
use crate::publish::Run;

/// Entries handed out at a time.
const PAGE_ENTRIES: usize = 256;

#[derive(Debug, Default)]
struct GroupQueue {
    /// Where the queue lives in the store, once there is one.
    number: Option<SessionNumber>,
    next: u64,
    first: u64,
    entries: u64,
    bytes: u64,
    /// A task brings its pages.
    draining: bool,
}

impl GroupQueue {
    /// `page` leaves the queue. False: there was nothing.
    fn hand_out(&mut self, page: &[(u64, QueueEntry)], backlog: &mut StoreBacklog<'_>) -> bool {
        let Some((last, _)) = page.last() else {
            self.entries = 0;
            self.bytes = 0;
            return false;
        };
        backlog.remove_through(*last);
        self.first = last + 1;
        self.entries = self.entries.saturating_sub(page.len() as u64);
        self.bytes = self.bytes.saturating_sub(page.iter().map(|(_, entry)| entry.message.len() as u64).sum());
        true
    }
}

/// A Shared Subscription's members and what waits for them. Bounded like a Session's queue.
#[derive(Debug, Default)]
struct GroupState {
    members: usize,
    queue: GroupQueue,
}

/// All Shared Subscriptions by filter, `$share/{name}/` included.
#[derive(Debug, Default)]
pub struct Groups(Mutex<HashMap<String, GroupState>>);

impl Groups {
    /// A Session has subscribed.
    pub fn join(&self, filter: &str) {
        self.0.lock().entry(filter.into()).or_default().members += 1;
    }

    /// A Session has unsubscribed or ended; with the last one the queue goes.
    pub fn leave(&self, filter: &str, store: &dyn Store) {
        let mut groups = self.0.lock();
        let Some(group) = groups.get_mut(filter) else { return };
        group.members = group.members.saturating_sub(1);
        if group.members == 0
            && let Some(GroupState { queue: GroupQueue { number: Some(number), .. }, .. }) = groups.remove(filter)
        {
            delete_queue(store, filter, number);
        }
    }

    /// A queue that was found in the bucket. Its members join one by one, before or after this; see [`Self::found_all`].
    pub fn found(&self, filter: &str, number: SessionNumber, cursor: &Cursor) {
        let Cursor { head, next, messages, bytes, .. } = *cursor;
        let queue = GroupQueue { number: Some(number), next: next.0, first: head.0, entries: messages, bytes, draining: false };
        self.0.lock().entry(filter.into()).or_default().queue = queue;
    }

    /// All members have joined: a queue without any goes.
    pub fn found_all(&self, store: &dyn Store) {
        self.0.lock().retain(|filter, group| {
            if group.members == 0
                && let Some(number) = group.queue.number
            {
                delete_queue(store, filter, number);
            }
            group.members > 0
        });
    }

    /// True when one of the Session's Shared Subscriptions has more members than this one, so that its messages may have a better place.
    pub fn has_others(&self, state: &State) -> bool {
        if state.session.subscriptions().values().all(|subscription| subscription.share == 0) {
            return false;
        }
        let groups = self.0.lock();
        state.session.subscriptions().keys().any(|filter| groups.get(&**filter).is_some_and(|group| group.members > 1))
    }

    /// True when a Session other than the one that asks has the Shared Subscription `filter`; `has_it`: that one has it too.
    pub fn has_another(&self, filter: &str, has_it: bool) -> bool {
        self.0.lock().get(filter).is_some_and(|group| group.members > usize::from(has_it))
    }

    /// Messages and bytes waiting in all groups.
    pub fn waiting(&self) -> (u64, u64) {
        self.0.lock().values().fold((0, 0), |(entries, bytes), group| (entries + group.queue.entries, bytes + group.queue.bytes))
    }
}

fn delete_queue(store: &dyn Store, filter: &str, number: SessionNumber) {
    let mut batch = Batch::default();
    batch.delete::<record::group::Group>(&filter.to_owned());
    batch.remove_session(number);
    store.write(number.shard(), batch);
}

impl Broker {
    /// No member is connected: the message waits in the group's queue.
    pub(crate) fn queue_for_group(
        &self,
        group: &Group<ClientRef>,
        run: &Run<'_>,
        place: usize,
        qos: QoS,
        limits: &Limits,
        waits: &mut Waits,
    ) {
        let granted = group.members().iter().map(|member| member.options.qos).max().unwrap_or(QoS::AtMostOnce);
        if qos.min(granted) == QoS::AtMostOnce && !limits.queue_qos0 {
            self.metrics.dropped(Dropped::NotConnected, 1);
            return;
        }
        self.enqueue_for_group(group, run.message(place), limits, waits);
        // A member may have connected between the choice and the queue.
        if self.pick(group, limits, 0).is_some() {
            self.drain_group(group.name(), limits);
        }
    }

    fn enqueue_for_group(&self, group: &Group<ClientRef>, message: Arc<Message>, limits: &Limits, waits: &mut Waits) {
        let bounds = queue_limits(limits);
        let bytes = message.len() as u64;
        let mut groups = self.groups.0.lock();
        let Some(state) = groups.get_mut(group.name()) else { return };
        let queue = &mut state.queue;
        let number = *queue.number.get_or_insert_with(|| {
            let shard = self.shards.of(group.name());
            let number = self.next_number(shard);
            let mut batch = Batch::default();
            batch.put(&group.name().to_owned(), &record::group::Group { number });
            self.store.write(shard, batch);
            number
        });
        let mut backlog = StoreBacklog::of(&*self.store, number);
        while queue.entries + 1 > bounds.messages || queue.bytes + bytes > bounds.bytes {
            self.metrics.dropped(Dropped::QueueFull, 1);
            if bounds.overflow != Overflow::DropOldest || queue.entries == 0 {
                return;
            }
            // Not at hand: its bytes are unknown, so the average goes.
            let (sequence, oldest_bytes) = match backlog.page(queue.first, 1).and_then(|mut page| page.pop()) {
                Some((sequence, entry)) => (sequence, entry.message.len() as u64),
                None => (queue.first, queue.bytes / queue.entries),
            };
            backlog.remove_through(sequence);
            queue.first = sequence + 1;
            queue.entries -= 1;
            queue.bytes = queue.bytes.saturating_sub(oldest_bytes);
        }
        let entry = QueueEntry { qos: message.qos(), retain: message.retain(), message, identifiers: Box::default(), share: 0 };
        backlog.append(queue.next, entry);
        queue.next += 1;
        queue.entries += 1;
        queue.bytes += bytes;
        backlog.wait_in(waits);
    }

    /// A member is there (again): its groups' queues are handed out.
    pub fn drain_groups_for(&self, client: &ClientRef) {
        let filters: Vec<Arc<str>> = {
            let state = client.lock();
            state
                .session
                .subscriptions()
                .iter()
                .filter(|(_, subscription)| subscription.share > 0)
                .map(|(filter, _)| filter.clone())
                .collect()
        };
        if filters.is_empty() {
            return;
        }
        let limits = self.limits.load();
        for filter in filters {
            self.drain_group(&filter, &limits);
        }
    }

    fn drain_group(&self, filter: &str, limits: &Limits) {
        loop {
            let page = {
                let mut groups = self.groups.0.lock();
                let Some(GroupState { queue: queue @ GroupQueue { number: Some(_), entries: 1.., .. }, .. }) = groups.get_mut(filter)
                else {
                    return;
                };
                let Some(number) = queue.number else { return };
                let mut backlog = StoreBacklog::of(&*self.store, number);
                let Some(page) = backlog.page(queue.first, PAGE_ENTRIES) else {
                    drop(groups);
                    self.drain_from_afar(filter);
                    return;
                };
                if !queue.hand_out(&page, &mut backlog) {
                    return;
                }
                page
            };
            let mut wakes = Wakes::since(self.moment());
            for (_, entry) in page {
                self.hand_to_group(filter, &entry.message, limits, &mut wakes);
            }
            wakes.wake_all();
        }
    }

    /// The queue of a group is not at hand: a task brings it, page by page, one task for each group at a time.
    fn drain_from_afar(&self, filter: &str) {
        let Some(broker) = self.me() else { return };
        {
            let mut groups = self.groups.0.lock();
            let Some(group) = groups.get_mut(filter) else { return };
            if std::mem::replace(&mut group.queue.draining, true) {
                return;
            }
        }
        let filter = filter.to_owned();
        tokio::spawn(async move { while broker.drain_page(&filter).await {} });
    }

    /// Where the group's queue begins, when something is in it and somebody is there to take it. Otherwise the task that brings its pages ends: who
    /// comes later starts another.
    fn next_to_drain(&self, filter: &str) -> Option<(SessionNumber, u64)> {
        let mut groups = self.groups.0.lock();
        let queue = &mut groups.get_mut(filter)?.queue;
        if let GroupQueue { number: Some(number), first, entries: 1.., .. } = *queue
            && self.has_connected_member(filter)
        {
            return Some((number, first));
        }
        queue.draining = false;
        None
    }

    fn has_connected_member(&self, filter: &str) -> bool {
        let Some((share, parsed)) = topic::check_filter(filter).ok().and_then(|parsed| Some((parsed.share_name?, parsed.filter))) else {
            return false;
        };
        let subscriptions = self.subscriptions.read();
        let members = subscriptions.group(share, parsed).into_iter().flat_map(|group| group.members());
        members.into_iter().any(|member| member.subscriber.connected.load(Ordering::Relaxed))
    }

    /// Brings one page of a group's queue and hands it out. False: there is no more, or nobody to take it.
    async fn drain_page(&self, filter: &str) -> bool {
        let Some((number, first)) = self.next_to_drain(filter) else { return false };
        let more = self.drain_page_from(filter, number, first).await;
        if !more && let Some(group) = self.groups.0.lock().get_mut(filter) {
            group.queue.draining = false;
        }
        more
    }

    /// False: it cannot be read, or will not be written.
    async fn drain_page_from(&self, filter: &str, number: SessionNumber, first: u64) -> bool {
        let limits = self.limits.load_full();
        let Ok(page) = self.store.page(number, Sequence(first), PAGE_ENTRIES, PAGE_BYTES).await else { return false };
        let page: Vec<_> = page.into_iter().map(|(sequence, entry)| (sequence.0, entry)).collect();
        // What is handed out has to be in the members' queues, durably, before it leaves this one: twice is better than never.
        let mut wakes = Wakes::since(self.moment());
        for (_, entry) in &page {
            self.hand_to_group(filter, &entry.message, &limits, &mut wakes);
        }
        let waits = wakes.waits.take();
        wakes.wake_all();
        if waits.wait(&*self.store).await.is_err() {
            return false;
        }
        let mut groups = self.groups.0.lock();
        let Some(GroupState { queue, .. }) = groups.get_mut(filter) else { return false };
        // Another queue, when all members had left meanwhile and others came.
        if queue.number == Some(number) {
            queue.hand_out(&page, &mut StoreBacklog::of(&*self.store, number));
        }
        true
    }

    /// A message whose member left goes to another, or waits in the group's queue.
    pub fn rehome(&self, orphan: Orphan) {
        let limits = self.limits.load();
        let mut wakes = Wakes::since(self.moment());
        self.hand_to_group(&orphan.filter, &orphan.message, &limits, &mut wakes);
        wakes.wake_all();
    }

    /// A message of the Shared Subscription `filter` goes to a member, or waits in the group's queue; what has to be durable is in `wakes`.
    pub(crate) fn hand_to_group(&self, filter: &str, message: &Arc<Message>, limits: &Limits, wakes: &mut Wakes) {
        let group =
            topic::check_filter(filter).ok().and_then(|parsed| self.subscriptions.read().group(parsed.share_name?, parsed.filter).cloned());
        let Some(group) = group else {
            self.metrics.dropped(Dropped::NoSubscribers, 1);
            return;
        };
        let Some((member, mut state)) = self.pick_locked(&group, limits, 0) else {
            self.enqueue_for_group(&group, message.clone(), limits, &mut wakes.waits);
            return;
        };
        let client = &member.subscriber;
        let qos = message.qos().min(member.options.qos);
        let retain = message.retain() && member.options.retain_as_published;
        let share = state.session.share_of(filter).map_or(0, |subscription| subscription.share);
        let identifier = member.options.subscription_identifier;
        let manner = Manner { qos, retain, identifiers: identifier.as_slice(), share };
        self.deliver_kept(client, &mut state, message, manner, limits, &mut wakes.waits);
        self.settle(client, &mut state, limits, wakes);
    }

    /// Delivers a message that is already a shared value. True: accepted.
    pub(crate) fn deliver_kept(
        &self,
        client: &ClientRef,
        state: &mut State,
        message: &Arc<Message>,
        manner: Manner<'_>,
        limits: &Limits,
        waits: &mut Waits,
    ) -> bool {
        use bucketmq_session::Delivered;
        let mut backlog = StoreBacklog::new(self, client);
        let outcome = state.session.deliver(
            self.wall_ms(),
            &Delivery {
                topic: message.topic(),
                payload: message.payload(),
                forward: message.properties(),
                expires_at: message.expires_at(),
                qos: manner.qos,
                retain: manner.retain,
                identifiers: manner.identifiers,
                share: manner.share,
                message: &|| message.clone(),
            },
            &queue_limits(limits),
            &mut backlog,
            buffers::spare,
        );
        backlog.wait_in(waits);
        match outcome {
            Delivered::Sent => {
                self.metrics.sent(bucketmq_packet::PacketType::Publish, 1);
                self.metrics.message_delivered(manner.qos, 1);
                true
            }
            Delivered::Queued | Delivered::QueuedDropping(_) => {
                self.metrics.message_delivered(manner.qos, 1);
                true
            }
            Delivered::Dropped(reason) => {
                self.metrics.dropped(reason.into(), 1);
                false
            }
            Delivered::DroppedDisconnect => {
                self.metrics.dropped(Dropped::QueueFull, 1);
                state.closing.get_or_insert(bucketmq_packet::ReasonCode::QuotaExceeded);
                false
            }
        }
    }
}

/// How a message is delivered to one Session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner<'a> {
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) identifiers: &'a [u32],
    pub(crate) share: u32,
}
