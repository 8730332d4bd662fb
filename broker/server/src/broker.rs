//! What all connections share: who is there, what is subscribed, what is retained, what is allowed, what is counted.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use bucketmq_access::Access;
use bucketmq_cluster::Confirmation;
use bucketmq_routing::{Matches, Subscriptions};
use bucketmq_storage::record::estate::Estate;
use bucketmq_storage::{MemoryStore, Position, SessionNumber, ShardId, Shards, Store};
use parking_lot::{Mutex, RwLock};

use crate::client::ClientRef;
use crate::config::Limits;
use crate::durable::outbox::Outbox;
use crate::metrics::Metrics;
use crate::moment::Moment;
use crate::registry::Registry;
use crate::shared::Groups;

/// Topics with many subscribers whose matches are remembered for all publishers.
const WIDE_MATCHES_MAX: usize = 64;

/// A topic's matches and the routing generation they belong to.
type Wide = (u64, Arc<Matches<ClientRef>>);

/// The broker.
pub struct Broker {
    started: Instant,
    /// The host's clock then, milliseconds since 1970.
    started_wall_ms: u64,
    /// Limits in force; replaced as a whole on reload.
    pub limits: ArcSwap<Limits>,
    /// Who may do what.
    pub access: Access,
    /// Clients with a Session.
    pub registry: Registry,
    /// Every Subscription.
    pub subscriptions: RwLock<Subscriptions<ClientRef>>,
    /// Changes after every change of `subscriptions`; what was matched before is matched anew.
    pub routing_generation: AtomicU64,
    /// Queues of Shared Subscriptions without a connected member.
    pub groups: Groups,
    /// Whether QoS 1 and 2 may be acknowledged now: what was matched here counts only while nobody else owns the shards.
    pub confirmation: Arc<Confirmation>,
    /// Where queues and retained messages live.
    pub store: Arc<dyn Store>,
    /// Where the queues of Sessions live that end with their connection; the same as `store` when that is memory too.
    pub volatile: Arc<dyn Store>,
    /// Messages on their way between shards, for each publisher shard; none without a bucket.
    pub outboxes: Vec<Outbox>,
    /// Queues of Sessions that were over before this broker, with messages for other members of Shared Subscriptions in them, until
    /// [`Self::start_outboxes`] begins with them.
    pub estates: Mutex<Vec<(SessionNumber, Estate)>>,
    /// By Client Identifier, Sessions that ended a moment ago: after a crash they would be there.
    ends: Mutex<HashMap<Box<str>, (ShardId, Position)>>,
    /// Which shard a Client Identifier belongs to.
    pub shards: Shards,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// This broker, for tasks it starts.
    me: OnceLock<Weak<Broker>>,
    next_number: AtomicU64,
    wide: Mutex<HashMap<String, Wide>>,
    shedding_qos0: AtomicBool,
    shedding_connections: AtomicBool,
    draining: AtomicBool,
}

/// What a broker takes over from the process and from the brokers before it.
pub struct Inherited {
    /// Messages on their way between shards, for each publisher shard; none without a bucket.
    pub outboxes: Vec<Outbox>,
    /// The first number for a new Session.
    pub next_number: u64,
    /// Whether it still owns the shards.
    pub confirmation: Arc<Confirmation>,
    /// Counters that go on.
    pub metrics: Arc<Metrics>,
}

impl Inherited {
    /// Nothing: the first broker of a process without a bucket.
    pub fn nothing() -> Self {
        Self { outboxes: Vec::new(), next_number: 1, confirmation: Arc::new(Confirmation::always()), metrics: Arc::default() }
    }
}

/// The host's clock, milliseconds since 1970.
pub fn host_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

impl Broker {
    /// A broker without Clients.
    pub fn new(limits: Limits, access: Access, store: Arc<dyn Store>, inherited: Inherited) -> Self {
        let Inherited { outboxes, next_number, confirmation, metrics } = inherited;
        let volatile: Arc<dyn Store> = if store.outlives_process() { Arc::new(MemoryStore::new(store.shards())) } else { store.clone() };
        Self {
            // One clock, so that a moment of this broker can be held against the confirmation.
            started: confirmation.base(),
            started_wall_ms: host_ms().saturating_sub(confirmation.base().elapsed().as_millis() as u64),
            confirmation,
            limits: ArcSwap::from_pointee(limits),
            access,
            registry: Registry::default(),
            subscriptions: RwLock::new(Subscriptions::new()),
            routing_generation: AtomicU64::new(1),
            groups: Groups::default(),
            shards: store.shards(),
            store,
            volatile,
            outboxes,
            estates: Mutex::default(),
            ends: Mutex::default(),
            metrics,
            me: OnceLock::new(),
            next_number: AtomicU64::new(next_number),
            wide: Mutex::default(),
            shedding_qos0: AtomicBool::new(false),
            shedding_connections: AtomicBool::new(false),
            draining: AtomicBool::new(false),
        }
    }

    /// Lets the broker start tasks of its own.
    pub fn know(self: &Arc<Self>) {
        let _ = self.me.set(Arc::downgrade(self));
    }

    /// This broker, once [`Self::know`] has been called.
    pub fn me(&self) -> Option<Arc<Self>> {
        self.me.get().and_then(Weak::upgrade)
    }

    /// Wall clock, milliseconds since 1970: for everything that outlives the process. It goes on steadily from the start: when the host's clock is set,
    /// nothing expires sooner or later for it.
    #[inline]
    pub fn wall_ms(&self) -> u64 {
        self.started_wall_ms + self.started.elapsed().as_millis() as u64
    }

    /// Whole seconds since the broker's start, on the monotonic clock.
    #[inline]
    pub fn second(&self) -> u32 {
        self.moment().second()
    }

    /// Now, on the monotonic clock.
    #[inline]
    pub fn moment(&self) -> Moment {
        Moment::after(self.started.elapsed())
    }

    /// Time since the start.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// A number no other Session or group queue has, in `shard`.
    pub fn next_number(&self, shard: ShardId) -> SessionNumber {
        SessionNumber::new(shard, self.next_number.fetch_add(1, Ordering::Relaxed))
    }

    /// Rows there were so far in the outbox of `shard`.
    pub fn rows_so_far(&self, shard: ShardId) -> u64 {
        self.outboxes.get(shard.index()).map_or(0, Outbox::made)
    }

    /// The Session of `client_id` is over once `position` of its shard is durable.
    pub fn note_end(&self, client_id: &str, shard: ShardId, position: Position) {
        let mut ends = self.ends.lock();
        if ends.len() == ends.capacity() {
            // Only what a crash can bring back is remembered; with so much room that this is not looked at for every Session.
            ends.retain(|_, (shard, position)| self.store.durable(*shard) < *position);
            let known = ends.len();
            ends.shrink_to(2 * known);
            ends.reserve(known + 1);
        }
        ends.insert(client_id.into(), (shard, position));
    }

    /// The end of a Session of `client_id` that is not durable yet.
    pub fn last_end(&self, client_id: &str) -> Option<(ShardId, Position)> {
        let end = *self.ends.lock().get(client_id)?;
        (self.store.durable(end.0) < end.1).then_some(end)
    }

    /// Everything that matches `topic`. Results with more than `own_max` subscribers are shared between publishers.
    pub fn matches(&self, topic: &str, own_max: usize) -> Arc<Matches<ClientRef>> {
        let generation = self.routing_generation.load(Ordering::Acquire);
        {
            let wide = self.wide.lock();
            if let Some((known, matches)) = wide.get(topic)
                && *known == generation
            {
                return matches.clone();
            }
        }
        let mut matches = Matches::default();
        self.subscriptions.read().matches(topic, &mut matches);
        let matches = Arc::new(matches);
        if matches.plain.len() > own_max {
            let mut wide = self.wide.lock();
            wide.retain(|_, (known, _)| *known == generation);
            if wide.len() >= WIDE_MATCHES_MAX {
                wide.clear();
            }
            wide.insert(topic.into(), (generation, matches.clone()));
        }
        matches
    }

    /// Changes the Subscriptions and lets every publisher know.
    pub fn route<T>(&self, change: impl FnOnce(&mut Subscriptions<ClientRef>) -> T) -> T {
        let mut subscriptions = self.subscriptions.write();
        let outcome = change(&mut subscriptions);
        self.routing_generation.fetch_add(1, Ordering::Release);
        outcome
    }

    /// Lets every connection look at what has changed: the access rules, say.
    pub fn wake_all(&self) {
        let mut wakers = Vec::new();
        self.registry.for_each(|client| wakers.extend(client.lock().schedule()));
        for waker in wakers {
            waker.wake();
        }
    }

    /// True while memory is so short that QoS 0 is dropped.
    #[inline]
    pub fn sheds_qos0(&self) -> bool {
        self.shedding_qos0.load(Ordering::Relaxed)
    }

    /// True while memory is short: new connections are refused.
    pub fn sheds_connections(&self) -> bool {
        self.shedding_connections.load(Ordering::Relaxed)
    }

    /// Sets what is shed.
    pub fn set_shedding(&self, connections: bool, qos0: bool) {
        self.shedding_connections.store(connections, Ordering::Relaxed);
        self.shedding_qos0.store(qos0, Ordering::Relaxed);
    }

    /// True once the broker is stopping.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// The broker is stopping.
    pub fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }
}
