//! Ends: of a Network Connection and of a Session. What has to happen outside the locks is collected first and carried out after.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

use bucketmq_packet::topic;
use bucketmq_session::{Orphan, Subscription, Will};
use bucketmq_storage::record::session::Presence;
use bucketmq_storage::{Batch, Position, Sequence, SessionNumber, ShardId};

use crate::broker::Broker;
use crate::client::{Client, ClientRef, Flow, State};
use crate::connection::{Closing, Connection};
use crate::deliver::{PAGE_BYTES, StoreBacklog};
use crate::durable::records;
use crate::publish::BROKER_ITSELF;

/// Entries of an ended Session's queue looked at together.
const RESCUE_ENTRIES: usize = 256;

/// What is left to do when a connection or a Session has ended.
#[must_use = "wakers, Wills and orphans wait for carry_out"]
pub struct Ended {
    waker: Option<Waker>,
    waiters: Vec<Waker>,
    will: Option<Box<Will>>,
    orphans: Vec<Orphan>,
    /// The queue of a Session that is over with messages of Shared Subscriptions in it, and their names by number.
    rescue: Option<(SessionNumber, ShareNames)>,
    /// The change in the bucket that makes it so.
    pub position: Option<(ShardId, Position)>,
    /// Set when the Session is over: it leaves routing, registry and store.
    session: Option<Over>,
}

/// Shared Subscriptions by the number their deliveries carry.
type ShareNames = Vec<(u32, Arc<str>)>;

/// A Session that is over, and the Subscriptions it had.
type Over = (ClientRef, Vec<(Arc<str>, Subscription)>);

impl Ended {
    /// Ends the Session. Its Will, still there, is due now [MQTT-3.1.2-8].
    pub fn end(broker: &Broker, client: &ClientRef, state: &mut State, takes_connection: bool) -> Self {
        state.ended = true;
        if takes_connection {
            // The old connection's task sees that it has been replaced.
            state.epoch += 1;
        }
        client.connected.store(false, Ordering::Relaxed);
        client.due.store(u32::MAX, Ordering::Relaxed);
        client.set_flow(Flow::Open);
        state.walks = Vec::new();
        let orphans = state.session.take_orphans(None, &mut StoreBacklog::new(broker, client));
        state.session.detach();
        let had_will = state.session.will.is_some();
        let mut rescue = None;
        let mut position = None;
        if client.stored || had_will && broker.store.outlives_process() {
            let mut batch = Batch::default();
            if client.stored {
                records::delete_session(&mut batch, client, &state.session);
                let shares = state.session.share_names();
                if shares.is_empty() || state.session.waiting() == 0 {
                    batch.remove_session(client.number);
                } else {
                    rescue = Some((client.number, shares));
                }
            }
            if had_will {
                records::delete_will(&mut batch, client);
            }
            let will = state.session.will.take();
            let written = match will {
                Some(will) => {
                    broker.metrics.wills.add(1);
                    let message = will.message(broker.wall_ms());
                    broker.send_through_outbox(client.shard, batch, std::iter::once(message), BROKER_ITSELF, None)
                }
                None => broker.store.write(client.shard, batch),
            };
            position = Some((client.shard, written));
        }
        let subscriptions = state.session.subscriptions().iter().map(|(filter, subscription)| (filter.clone(), *subscription)).collect();
        Self {
            waker: state.part(),
            waiters: state.take_waiters(),
            will: state.session.will.take(),
            orphans,
            rescue,
            position,
            session: Some((client.clone(), subscriptions)),
        }
    }

    /// The Session goes on with another connection: the old one, if there is one, is cut off; a waiting Will is dropped because the Client
    /// is back in time [MQTT-3.1.3-9]; the Will of a connection that is cut off goes out, unless it would have waited.
    pub fn replace_connection(client: &Client, state: &mut State, broker: &Broker) -> Self {
        let will = state.session.will.take();
        let cut_off = state.session.link().is_some();
        if cut_off {
            broker.metrics.takeovers.add(1);
        }
        state.session.detach();
        state.absent = None;
        state.will_due = None;
        state.expiry_due = None;
        client.set_flow(Flow::Open);
        // The retained messages of a Subscription are promised to the connection that subscribed; the rest of a walk is not repeated.
        state.walks = Vec::new();
        Self {
            waker: state.part(),
            waiters: state.take_waiters(),
            will: will.filter(|will| cut_off && will.delay_interval == 0),
            orphans: Vec::new(),
            rescue: None,
            position: None,
            session: None,
        }
    }

    /// Writes `batch`, which puts something else into the place of the Will's record, and the Will that is due, if there is one, with it: a crash
    /// keeps both or neither.
    pub fn write_with(&mut self, broker: &Broker, client: &Client, batch: Batch) {
        self.will = broker.write_sending_will(client, batch, self.will.take());
    }

    /// Does it, without any lock held.
    pub fn carry_out(self, broker: &Broker) {
        let Self { waker, waiters, will, orphans, rescue, position: _, session } = self;
        for waker in waker.into_iter().chain(waiters) {
            waker.wake();
        }
        if let Some((client, subscriptions)) = session {
            if !subscriptions.is_empty() {
                forget_subscriptions(broker, &client, &subscriptions);
            }
            broker.registry.remove(&client);
            if !client.stored {
                broker.volatile.remove_session(client.number);
            }
        }
        if let (Some((number, shares)), Some(broker)) = (rescue, broker.me()) {
            tokio::spawn(async move { broker.rescue(number, &shares).await });
        }
        for orphan in orphans {
            broker.rehome(orphan);
        }
        if let Some(will) = will {
            publish_will(broker, &will);
        }
    }
}

fn forget_subscriptions(broker: &Broker, client: &ClientRef, subscriptions: &[(Arc<str>, Subscription)]) {
    broker.route(|routes| {
        for (filter, _) in subscriptions {
            let Ok(parsed) = topic::check_filter(filter) else { continue };
            match parsed.share_name {
                Some(share) => routes.unsubscribe_shared(share, parsed.filter, client),
                None => routes.unsubscribe(parsed.filter, client),
            };
        }
    });
    for (filter, _) in subscriptions.iter().filter(|(_, subscription)| subscription.share > 0) {
        broker.groups.leave(filter, &*broker.store);
    }
}

/// Publishes a Will as the broker's own message.
fn publish_will(broker: &Broker, will: &Will) {
    broker.metrics.wills.add(1);
    broker.publish_own(&will.message(broker.wall_ms()));
}

impl Connection {
    /// The Network Connection is over: the Session ends with it, or waits for the next.
    pub(crate) fn leave(&mut self, closing: &Closing) {
        let broker = self.terms.broker.clone();
        let farewell = {
            let mut state = self.terms.client.lock();
            if state.epoch != self.terms.epoch || state.ended {
                return;
            }
            if matches!(closing, Closing::Disconnect { with_will: false }) && state.session.will.take().is_some() {
                // [MQTT-3.14.4-3] [MQTT-3.1.2-10]
                broker.forget_will(&self.terms.client);
            }
            if state.session.is_transient() { Ended::end(&broker, &self.terms.client, &mut state, false) } else { self.suspend(&mut state) }
        };
        farewell.carry_out(&broker);
    }

    /// The Session waits without a connection; its clocks start.
    fn suspend(&self, state: &mut State) -> Ended {
        let client = &self.terms.client;
        let second = self.terms.broker.second();
        let expiry = state.session.expiry_interval;
        client.connected.store(false, Ordering::Relaxed);
        client.set_flow(Flow::Open);
        state.walks = Vec::new();
        state.absent = Some(Box::new(self.terms.principal.clone()));
        let broker = &self.terms.broker;
        state.session.suspend(&mut StoreBacklog::new(broker, client));
        let mut batch = Batch::default();
        if client.stored {
            records::put_session(&mut batch, client, &state.session, Presence::Away(broker.wall_ms()));
        }
        // `u32::MAX` never expires (5.0 3.1.2.11.2).
        state.expiry_due = (expiry != u32::MAX).then(|| second.saturating_add(expiry));
        let mut will = None;
        if let Some(waiting) = &state.session.will {
            // [MQTT-3.1.2-8] After the delay or with the Session's end, whichever comes first.
            let delay = waiting.delay_interval.min(expiry);
            if delay == 0 {
                will = state.session.will.take();
            } else {
                state.will_due = Some(second.saturating_add(delay));
                if client.stored {
                    let due_at = broker.wall_ms().saturating_add(u64::from(delay) * 1000);
                    records::put_will(&mut batch, client, waiting, Some(due_at));
                }
            }
        }
        if client.stored {
            will = broker.write_with_will(client, batch, will);
        }
        let due = [state.will_due, state.expiry_due].into_iter().flatten().min().unwrap_or(u32::MAX);
        client.due.store(due, Ordering::Relaxed);
        // What another member of a Shared Subscription can take now does not wait for this Client.
        let orphans = if self.terms.broker.groups.has_others(state) {
            state.session.take_orphans(None, &mut StoreBacklog::new(&self.terms.broker, client))
        } else {
            Vec::new()
        };
        Ended { waker: state.part(), waiters: state.take_waiters(), will, orphans, rescue: None, position: None, session: None }
    }
}

impl Broker {
    /// Writes `batch`, and a Will that is due with it: out of its record and into the outbox. Without a bucket it comes back.
    fn write_with_will(&self, client: &Client, mut batch: Batch, will: Option<Box<Will>>) -> Option<Box<Will>> {
        if will.is_some() {
            records::delete_will(&mut batch, client);
        }
        self.write_sending_will(client, batch, will)
    }

    /// The same when `batch` says itself what becomes of the record.
    fn write_sending_will(&self, client: &Client, batch: Batch, will: Option<Box<Will>>) -> Option<Box<Will>> {
        match will {
            Some(will) if self.store.outlives_process() => {
                self.metrics.wills.add(1);
                let message = will.message(self.wall_ms());
                self.send_through_outbox(client.shard, batch, std::iter::once(message), BROKER_ITSELF, None);
                None
            }
            will => {
                self.store.write(client.shard, batch);
                will
            }
        }
    }

    /// The Will of `client` is void.
    fn forget_will(&self, client: &Client) {
        if self.store.outlives_process() {
            let mut batch = Batch::default();
            records::delete_will(&mut batch, client);
            self.store.write(client.shard, batch);
        }
    }

    /// The messages of Shared Subscriptions in the queue `number` of a Session that is over go to other members; then the queue goes.
    async fn rescue(&self, number: SessionNumber, shares: &[(u32, Arc<str>)]) {
        let mut from = Sequence(0);
        while let Ok(page) = self.store.page(number, from, RESCUE_ENTRIES, PAGE_BYTES).await {
            let Some((last, _)) = page.last() else { break };
            from = Sequence(last.0 + 1);
            for (_, entry) in page {
                if let Some((_, filter)) = shares.iter().find(|(share, _)| *share == entry.share) {
                    self.rehome(Orphan { filter: filter.clone(), message: entry.message });
                }
            }
        }
        self.store.remove_session(number);
    }

    /// A disconnected Session has something due at `second`: its Will, its end, or both.
    pub fn fall_due(&self, client: &ClientRef, second: u32) {
        let farewell = {
            let mut state = client.lock();
            if state.ended || state.session.link().is_some() {
                return;
            }
            if state.expiry_due.is_some_and(|due| due <= second) {
                Ended::end(self, client, &mut state, false)
            } else if state.will_due.is_some_and(|due| due <= second) {
                state.will_due = None;
                client.due.store(state.expiry_due.unwrap_or(u32::MAX), Ordering::Relaxed);
                let mut will = state.session.will.take();
                if client.stored {
                    will = self.write_with_will(client, Batch::default(), will);
                }
                Ended { waker: None, waiters: Vec::new(), will, orphans: Vec::new(), rescue: None, position: None, session: None }
            } else {
                return;
            }
        };
        farewell.carry_out(self);
    }
}
