//! Ends: of a Network Connection and of a Session. What has to happen outside the locks is collected first and carried out after.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

use bucketmq_packet::topic;
use bucketmq_session::{BehindWindow, Orphan, Subscription, Will};
use bucketmq_storage::record::estate::Estate;
use bucketmq_storage::record::session::Presence;
use bucketmq_storage::{Batch, Position, Sequence, SessionNumber, ShardId};

use crate::broker::Broker;
use crate::client::{Client, ClientRef, Flow, State};
use crate::connection::{Closing, Connection};
use crate::deliver::{BatchBacklog, StoreBacklog};
use crate::durable::outbox::Letter;
use crate::durable::records;
use crate::publish::BROKER_ITSELF;

/// What is left to do when a connection or a Session has ended.
#[must_use = "wakers, Wills and orphans wait for carry_out"]
pub struct Ended {
    waker: Option<Waker>,
    waiters: Vec<Waker>,
    will: Option<Box<Will>>,
    /// Of a Session that is not stored; what a stored one leaves is in the outbox already.
    orphans: Vec<Orphan>,
    /// The queue of a stored Session that is over, with messages of Shared Subscriptions in it.
    estate: Option<(SessionNumber, Estate)>,
    /// The change in the bucket that makes it so.
    pub position: Option<(ShardId, Position)>,
    /// Set when the Session is over: it leaves routing, registry and store.
    session: Option<Over>,
}

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
        let mut batch = Batch::default();
        let (mut letters, orphans) = broker.take_orphans(client, state, None, &mut batch);
        state.session.detach();
        let had_will = state.session.will.is_some();
        let mut estate = None;
        let mut position = None;
        if client.stored || had_will && broker.store.outlives_process() {
            if client.stored {
                records::delete_session(&mut batch, client, &state.session);
                estate = broker.estate_of(state);
                match &estate {
                    None => batch.remove_session(client.number),
                    Some(estate) => batch.put(&client.number, estate),
                };
            }
            if had_will {
                records::delete_will(&mut batch, client);
            }
            if let Some(will) = state.session.will.take() {
                broker.metrics.wills.add(1);
                letters.push(will.message(broker.wall_ms()).into());
            }
            let written = broker.write_with(client.shard, batch, letters);
            if client.stored {
                broker.note_end(&client.id, client.shard, written);
            }
            position = Some((client.shard, written));
        }
        let subscriptions = state.session.subscriptions().iter().map(|(filter, subscription)| (filter.clone(), *subscription)).collect();
        Self {
            waker: state.part(),
            waiters: state.take_waiters(),
            will: state.session.will.take(),
            orphans,
            estate: estate.map(|estate| (client.number, estate)),
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
            estate: None,
            position: None,
            session: None,
        }
    }

    /// Writes `batch`, which puts something else into the place of the Will's record, and the Will that is due, if there is one, with it: a crash
    /// keeps both or neither.
    pub fn write_with(&mut self, broker: &Broker, client: &Client, batch: Batch) {
        self.will = broker.write_sending_will(client, batch, Vec::new(), self.will.take());
    }

    /// Does it, without any lock held.
    pub fn carry_out(self, broker: &Broker) {
        let Self { waker, waiters, will, orphans, estate, position: _, session } = self;
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
        if let (Some((number, estate)), Some(broker)) = (estate, broker.me()) {
            tokio::spawn(async move { broker.distribute(number, estate).await });
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
        // What another member of a Shared Subscription can take now does not wait for this Client.
        let (letters, orphans) =
            if broker.groups.has_others(state) { broker.take_orphans(client, state, None, &mut batch) } else { Default::default() };
        if client.stored {
            will = broker.write_with_will(client, batch, letters, will);
        }
        let due = [state.will_due, state.expiry_due].into_iter().flatten().min().unwrap_or(u32::MAX);
        client.due.store(due, Ordering::Relaxed);
        Ended { waker: state.part(), waiters: state.take_waiters(), will, orphans, estate: None, position: None, session: None }
    }
}

impl Broker {
    /// Writes `batch` with `letters`, and a Will that is due with it: out of its record and into the outbox. Without a bucket it comes back.
    fn write_with_will(&self, client: &Client, mut batch: Batch, letters: Vec<Letter>, will: Option<Box<Will>>) -> Option<Box<Will>> {
        if will.is_some() {
            records::delete_will(&mut batch, client);
        }
        self.write_sending_will(client, batch, letters, will)
    }

    /// The same when `batch` says itself what becomes of the record.
    fn write_sending_will(
        &self,
        client: &Client,
        batch: Batch,
        mut letters: Vec<Letter>,
        mut will: Option<Box<Will>>,
    ) -> Option<Box<Will>> {
        if self.store.outlives_process()
            && let Some(will) = will.take()
        {
            self.metrics.wills.add(1);
            letters.push(will.message(self.wall_ms()).into());
        }
        self.write_with(client.shard, batch, letters);
        will
    }

    /// Writes `batch`, and `letters` into the outbox of the shard with it.
    pub(crate) fn write_with(&self, shard: ShardId, batch: Batch, letters: Vec<Letter>) -> Position {
        if letters.is_empty() {
            return self.store.write(shard, batch);
        }
        self.send_through_outbox(shard, batch, letters.into_iter(), BROKER_ITSELF, None)
    }

    /// Takes what other members of its Shared Subscriptions, or of `filter` alone, may have out of a Session. Of a stored one it goes out in `batch`, and
    /// the letters have to go with that: a crash keeps both or neither. What comes back beside them is not in the bucket and goes to others at once.
    pub(crate) fn take_orphans(
        &self,
        client: &Client,
        state: &mut State,
        filter: Option<&str>,
        batch: &mut Batch,
    ) -> (Vec<Letter>, Vec<Orphan>) {
        if !client.stored {
            return (Vec::new(), state.session.take_orphans(filter, &mut StoreBacklog::new(self, client)));
        }
        let mut orphans = state.session.take_orphans(filter, &mut BatchBacklog::new(self, client, batch));
        // Of `filter` it still counts as a member.
        let is_member = |of: &str| filter.is_some() || state.session.share_of(of).is_some();
        orphans.retain(|orphan| self.groups.has_another(&orphan.filter, is_member(&orphan.filter)));
        (orphans.into_iter().map(Letter::from).collect(), Vec::new())
    }

    /// What a Session leaves behind its window to other members of Shared Subscriptions.
    fn estate_of(&self, state: &State) -> Option<Estate> {
        if state.session.waiting() == 0 {
            return None;
        }
        let shares = state.session.share_names().into_iter();
        let shares: Vec<_> = shares
            .filter(|(_, filter)| self.groups.has_another(filter, state.session.share_of(filter).is_some()))
            .map(|(number, filter)| (number, filter.to_string()))
            .collect();
        let BehindWindow { from, begun } = state.session.behind_window();
        (!shares.is_empty()).then_some(Estate { from: Sequence(from), begun: Sequence(begun), shares })
    }

    /// The Will of `client` is void.
    fn forget_will(&self, client: &Client) {
        if self.store.outlives_process() {
            let mut batch = Batch::default();
            records::delete_will(&mut batch, client);
            self.store.write(client.shard, batch);
        }
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
                    will = self.write_with_will(client, Batch::default(), Vec::new(), will);
                }
                Ended { waker: None, waiters: Vec::new(), will, orphans: Vec::new(), estate: None, position: None, session: None }
            } else {
                return;
            }
        };
        farewell.carry_out(self);
    }
}
