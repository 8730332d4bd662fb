//! Ends: of a Network Connection and of a Session. What has to happen outside the locks is collected first and carried out after.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

use bucketmq_packet::{PacketIdentifier, Publish, PublishProperties, QoS, topic};
use bucketmq_session::{Orphan, Subscription, Will};

use crate::broker::Broker;
use crate::client::{Client, ClientRef, Flow, State};
use crate::connection::{Closing, Connection};
use crate::deliver::StoreBacklog;

/// What is left to do when a connection or a Session has ended.
#[must_use = "wakers, Wills and orphans wait for carry_out"]
pub struct Ended {
    waker: Option<Waker>,
    waiters: Vec<Waker>,
    will: Option<Box<Will>>,
    orphans: Vec<Orphan>,
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
        let orphans = state.session.take_orphans(None, &mut StoreBacklog::new(broker, client));
        state.session.detach();
        let subscriptions = state.session.subscriptions().iter().map(|(filter, subscription)| (filter.clone(), *subscription)).collect();
        Self {
            waker: state.part(),
            waiters: state.take_waiters(),
            will: state.session.will.take(),
            orphans,
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
            session: None,
        }
    }

    /// Does it, without any lock held.
    pub fn carry_out(self, broker: &Broker) {
        let Self { waker, waiters, will, orphans, session } = self;
        for waker in waker.into_iter().chain(waiters) {
            waker.wake();
        }
        if let Some((client, subscriptions)) = session {
            if !subscriptions.is_empty() {
                forget_subscriptions(broker, &client, &subscriptions);
            }
            broker.registry.remove(&client);
            broker.store.remove_session(client.number);
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
    broker.publish_own(
        &Publish {
            dup: false,
            qos: will.qos,
            retain: will.retain,
            topic: &will.topic,
            packet_id: (will.qos != QoS::AtMostOnce).then(|| PacketIdentifier::new(1).expect("1 is not 0")),
            properties: PublishProperties {
                message_expiry_interval: will.message_expiry_interval,
                forward: (&*will.forward).into(),
                ..PublishProperties::default()
            },
            payload: &will.payload,
        },
        None,
    );
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
            if matches!(closing, Closing::Disconnect { with_will: false }) {
                // [MQTT-3.14.4-3] [MQTT-3.1.2-10]
                state.session.will = None;
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
        state.session.detach();
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
            }
        }
        let due = [state.will_due, state.expiry_due].into_iter().flatten().min().unwrap_or(u32::MAX);
        client.due.store(due, Ordering::Relaxed);
        // What another member of a Shared Subscription can take now does not wait for this Client.
        let orphans = if self.terms.broker.groups.has_others(state) {
            state.session.take_orphans(None, &mut StoreBacklog::new(&self.terms.broker, client))
        } else {
            Vec::new()
        };
        Ended { waker: state.part(), waiters: state.take_waiters(), will, orphans, session: None }
    }
}

impl Broker {
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
                Ended { waker: None, waiters: Vec::new(), will: state.session.will.take(), orphans: Vec::new(), session: None }
            } else {
                return;
            }
        };
        farewell.carry_out(self);
    }
}
