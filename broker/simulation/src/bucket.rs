//! A bucket that is slow, fails, loses answers, and does what was asked long after it said that it had not.
//!
//! One [`Bucket`] is what all brokers of a world share; each gets its own [`Road`] to it, which may be blocked. A request that is under way when its
//! broker dies, or gives it up, is done, is done later, or is not done at all, as the seed decides.

mod road;

use std::sync::Arc;

use futures_util::FutureExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, Result};
use parking_lot::Mutex;

use crate::random::Dice;
use crate::reality;
use crate::trace::Trace;

pub use road::Road;

/// How the bucket behaves in fair weather.
#[derive(Debug, Clone, Copy)]
pub struct Manners {
    /// Milliseconds for a write.
    pub write_ms: (u64, u64),
    /// Milliseconds for a read.
    pub read_ms: (u64, u64),
    /// Of a thousand requests so many take [`Self::slow_ms`].
    pub slow_per_mille: u64,
    /// Milliseconds for a slow one.
    pub slow_ms: (u64, u64),
    /// Of a thousand requests so many fail without having been done.
    pub error_per_mille: u64,
    /// Of a thousand writes so many are done, but the answer is an error.
    pub lost_per_mille: u64,
    /// Of a thousand writes so many answer with an error and are done seconds later.
    pub late_per_mille: u64,
}

/// A time during which requests do not go through.
#[derive(Debug, Clone, Copy)]
pub struct Outage {
    /// From, in simulated milliseconds.
    pub from: u64,
    /// To.
    pub to: u64,
    /// Requests get no answer until it is over; otherwise an error.
    pub hangs: bool,
}

/// A write that is done later than whoever asked for it believes.
#[derive(Debug)]
pub(crate) struct Late {
    at: u64,
    write: Write,
}

/// A request that changes something.
#[derive(Debug, Clone)]
pub(crate) enum Write {
    Put(Path, PutPayload, Box<PutOptions>),
    Delete(Path),
}

#[derive(Debug)]
struct State {
    dice: Dice,
    late: Vec<Late>,
    manners: Manners,
    outages: Vec<Outage>,
    requests: u64,
}

/// The bucket.
#[derive(Debug, Clone)]
pub struct Bucket {
    objects: Arc<InMemory>,
    state: Arc<Mutex<State>>,
    trace: Trace,
    /// Planted: conditions of writes are not looked at.
    ignores_conditions: bool,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Done,
    /// Not done, and said so.
    Failed,
    /// Done, and said that it was not.
    AnswerLost,
    /// Done this much later, and said that it was not.
    Late(u64),
}

/// Milliseconds after which a write that is late is done.
const LATE_MS: (u64, u64) = (50, 8_000);

impl Bucket {
    /// An empty bucket.
    pub fn new(seed: u64, manners: Manners, outages: Vec<Outage>, ignores_conditions: bool, trace: Trace) -> Self {
        let state = State { dice: Dice::new(seed, "bucket"), late: Vec::new(), manners, outages, requests: 0 };
        Self { objects: Arc::default(), state: Arc::new(Mutex::new(state)), trace, ignores_conditions }
    }

    /// From now on the weather is fair: no errors, no outages, nothing slow.
    pub fn calm(&self) {
        let mut state = self.state.lock();
        state.outages.clear();
        let manners = &mut state.manners;
        (manners.slow_per_mille, manners.error_per_mille, manners.lost_per_mille, manners.late_per_mille) = (0, 0, 0, 0);
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.state.lock().requests
    }

    /// Does what is late and due.
    pub fn step(&self, now: u64) {
        let due: Vec<Late> = self.state.lock().late.extract_if(.., |late| late.at <= now).collect();
        for Late { write, .. } in due {
            let outcome = self.apply(&write);
            self.trace.note(format_args!("bucket: late {} {}", write, if outcome.is_ok() { "done" } else { "refused" }));
        }
    }

    /// The memory behind it answers at once.
    fn apply(&self, write: &Write) -> Result<Option<object_store::PutResult>> {
        let outcome = match write {
            Write::Put(path, payload, options) => {
                let mut options = PutOptions::clone(options);
                if self.ignores_conditions {
                    options.mode = PutMode::Overwrite;
                }
                self.objects.put_opts(path, payload.clone(), options).now_or_never().map(|put| put.map(Some))
            }
            Write::Delete(path) => self.objects.delete(path).now_or_never().map(|deleted| deleted.map(|()| None)),
        };
        outcome.expect("memory answers at once")
    }

    fn outage(&self) -> Option<Outage> {
        let now = reality::now_ms();
        self.state.lock().outages.iter().find(|outage| (outage.from..outage.to).contains(&now)).copied()
    }

    /// Milliseconds until a request is done and from there to its answer, and what becomes of it.
    fn draw(&self, writes: bool) -> (u64, u64, Fate) {
        let mut state = self.state.lock();
        state.requests += 1;
        let State { dice, manners, .. } = &mut *state;
        let whole = match (dice.per_mille(manners.slow_per_mille), writes) {
            (true, _) => dice.between(manners.slow_ms),
            (false, true) => dice.between(manners.write_ms),
            (false, false) => dice.between(manners.read_ms),
        };
        let there = dice.between((0, whole));
        let fate = match dice.below(1000) {
            drawn if drawn < manners.error_per_mille => Fate::Failed,
            drawn if writes && drawn < manners.error_per_mille + manners.lost_per_mille => Fate::AnswerLost,
            drawn if writes && drawn < manners.error_per_mille + manners.lost_per_mille + manners.late_per_mille => {
                Fate::Late(dice.between(LATE_MS))
            }
            _ => Fate::Done,
        };
        (there, whole - there, fate)
    }

    /// A write whose asker is gone before it was done: at once, later, or never.
    fn orphan(&self, write: Write) {
        let now = reality::now_ms();
        let (chance, delay) = {
            let mut state = self.state.lock();
            (state.dice.below(4), state.dice.between(LATE_MS))
        };
        match chance {
            0 => self.trace.note(format_args!("bucket: {write} of nobody is not done")),
            1 => {
                let outcome = self.apply(&write);
                self.trace.note(format_args!("bucket: {write} of nobody {}", if outcome.is_ok() { "done" } else { "refused" }));
            }
            _ => self.postpone(now + delay, write),
        }
    }

    fn postpone(&self, at: u64, write: Write) {
        self.trace.note(format_args!("bucket: {write} will be done at {at}"));
        self.state.lock().late.push(Late { at, write });
    }
}

impl std::fmt::Display for Write {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Put(path, payload, options) => {
                let mode = match options.mode {
                    PutMode::Overwrite => "put",
                    PutMode::Create => "create",
                    PutMode::Update(_) => "update",
                };
                write!(formatter, "{mode} {path} ({} B)", payload.content_length())
            }
            Self::Delete(path) => write!(formatter, "delete {path}"),
        }
    }
}
