//! One Client as the broker holds it: its Session under one short lock, and the few atomics others look at without it.

use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::task::Waker;

use bucketmq_access::Principal;
use bucketmq_packet::ReasonCode;
use bucketmq_session::Session;
use bucketmq_storage::{SessionNumber, ShardId};
use parking_lot::{Mutex, MutexGuard};

use crate::moment::Moment;
use crate::retained::RetainedWalk;

/// How a Client takes what is published to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Flow {
    /// There is room.
    Open = 0,
    /// Its output is full: publishers are held for up to [`crate::publish::HOLD_MS_MAX`] milliseconds.
    Full = 1,
    /// It stayed full that long: QoS 0 is dropped at once until its output has drained.
    Lagging = 2,
}

/// What stands under a Client's lock.
#[derive(Debug)]
pub struct State {
    /// The protocol state.
    pub session: Session,
    /// Counts Network Connections: a connection task whose number is older has been taken over.
    pub epoch: u32,
    /// Set by whoever wants the Network Connection closed; the task sends it in DISCONNECT.
    pub closing: Option<ReasonCode>,
    /// True once the Session has ended: nobody may add to it.
    pub ended: bool,
    /// Who the Client was, while it is away: a right that is withdrawn meanwhile is withdrawn from its Session.
    pub absent: Option<Box<Principal>>,
    /// When the oldest message in the output was read.
    pub output_since: Option<Moment>,
    /// The connection task has been woken and has not looked yet.
    scheduled: bool,
    waker: Option<Waker>,
    /// Publishers held by this Client's full output.
    waiters: Vec<Waker>,
    /// Retained messages still to be sent to new Subscriptions.
    pub walks: Vec<RetainedWalk>,
    /// Seconds since the broker's start at which the Will is due; only while disconnected.
    pub will_due: Option<u32>,
    /// The same for the Session's end.
    pub expiry_due: Option<u32>,
}

/// A Client with a Session.
#[derive(Debug)]
pub struct Client {
    // The sweeper reads these four for every Client; they stand together.
    /// Seconds since the broker's start when the last packet came.
    pub last_seen: AtomicU32,
    /// One and a half times the Keep Alive, in seconds; 0: none [MQTT-3.1.2-22].
    pub keep_alive_limit: AtomicU32,
    /// Seconds since the broker's start at which a disconnected Session has something due; `u32::MAX`: nothing.
    pub due: AtomicU32,
    flow: AtomicU8,
    /// Counts the times its output had room again.
    drained: AtomicU32,
    /// True while a Network Connection is there.
    pub connected: AtomicBool,
    /// Client Identifier.
    pub id: Box<str>,
    /// Who the Session belongs to; nobody else may resume it.
    pub owner: Option<Arc<str>>,
    /// The shard of the Client Identifier.
    pub shard: ShardId,
    /// The Session's number in storage, never reused while the broker runs.
    pub number: SessionNumber,
    /// True when the Session outlives the broker.
    pub stored: bool,
    /// Messages of its own in the outbox that have not been applied: what it publishes goes behind them.
    pub rows: AtomicU32,
    /// So many rows were in the outbox of its shard before this Session: what a Session of the same Client before it published is among them, and
    /// what this one publishes goes behind that.
    pub rows_before: u64,
    state: Mutex<State>,
}

impl Client {
    /// A new Client without a connection.
    pub fn new(id: &str, owner: Option<Arc<str>>, shard: ShardId, number: SessionNumber, session: Session, stored: bool) -> Self {
        Self {
            last_seen: AtomicU32::new(0),
            keep_alive_limit: AtomicU32::new(0),
            due: AtomicU32::new(u32::MAX),
            flow: AtomicU8::new(Flow::Open as u8),
            drained: AtomicU32::new(0),
            connected: AtomicBool::new(false),
            id: id.into(),
            owner,
            shard,
            number,
            stored,
            rows: AtomicU32::new(0),
            rows_before: 0,
            state: Mutex::new(State {
                session,
                epoch: 0,
                closing: None,
                ended: false,
                absent: None,
                output_since: None,
                scheduled: false,
                waker: None,
                waiters: Vec::new(),
                walks: Vec::new(),
                will_due: None,
                expiry_due: None,
            }),
        }
    }

    /// The state. Held for microseconds, never across an await, and never two at a time.
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// How it takes messages just now.
    #[inline]
    pub fn flow(&self) -> Flow {
        match self.flow.load(Ordering::Relaxed) {
            0 => Flow::Open,
            1 => Flow::Full,
            _ => Flow::Lagging,
        }
    }

    /// How often its output has had room again: a publisher that waits sees whether anything moves.
    pub fn drained(&self) -> u32 {
        self.drained.load(Ordering::Relaxed)
    }

    /// Says how it takes messages.
    pub fn set_flow(&self, flow: Flow) {
        if flow == Flow::Open {
            self.drained.fetch_add(1, Ordering::Relaxed);
        }
        self.flow.store(flow as u8, Ordering::Relaxed);
    }

    /// A packet came at `second` since the broker's start.
    #[inline]
    pub fn seen(&self, second: u32) {
        if self.last_seen.load(Ordering::Relaxed) != second {
            self.last_seen.store(second, Ordering::Relaxed);
        }
    }

    /// Asks the connection task to close with `reason_code`.
    pub fn close(&self, reason_code: ReasonCode) {
        let waker = {
            let mut state = self.lock();
            if state.session.link().is_none() || state.closing.is_some() {
                return;
            }
            state.closing = Some(reason_code);
            state.schedule()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl State {
    /// Marks the connection task as woken; the waker to call comes back unless it had been woken already.
    #[inline]
    pub fn schedule(&mut self) -> Option<Waker> {
        if self.scheduled {
            return None;
        }
        let waker = self.waker.clone()?;
        self.scheduled = true;
        Some(waker)
    }

    /// The connection task looks: from now on it wants to be woken again by `waker`.
    #[inline]
    pub fn arrive(&mut self, waker: &Waker) {
        self.scheduled = false;
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            self.waker = Some(waker.clone());
        }
    }

    /// Forgets a connection that is being replaced or has ended, what was to close it included; its waker comes back.
    pub fn part(&mut self) -> Option<Waker> {
        self.closing = None;
        self.scheduled = false;
        self.output_since = None;
        self.waker.take()
    }

    /// A held publisher wants to know when there is room.
    pub fn wait_for_room(&mut self, waker: &Waker) {
        if !self.waiters.iter().any(|known| known.will_wake(waker)) {
            self.waiters.push(waker.clone());
        }
    }

    /// The held publishers, to be woken.
    pub fn take_waiters(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.waiters)
    }
}

/// A Client as a key: equal when it is the same Session.
#[derive(Debug, Clone)]
pub struct ClientRef(pub Arc<Client>);

impl Deref for ClientRef {
    type Target = Client;
    #[inline]
    fn deref(&self) -> &Client {
        &self.0
    }
}

impl PartialEq for ClientRef {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for ClientRef {}

impl Hash for ClientRef {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number.0.hash(state);
    }
}
