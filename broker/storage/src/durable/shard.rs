//! One shard: its database, what it has taken and not written, and how far it has come.
//!
//! Changes collect in [`Pending`], and the task ([`writer`]) takes them from there.
//!
//! A shard that cannot be read is refused: it takes nothing, nothing of it becomes durable, and the others go on.

mod writer;

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use slatedb::Db;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::warn;

use super::damage::{Watched, is_damage};
use super::pages::Wishes;
use super::pending::Pending;
use crate::shard::ShardId;
use crate::store::{DurableError, ReadError};
use writer::Writer;

type Cause = Arc<dyn Error + Send + Sync>;

/// How far a shard has come.
#[derive(Debug, Clone, Default)]
struct Progress {
    /// In the database, perhaps only in memory: what is read from here on has it.
    written: u64,
    /// In the bucket.
    durable: u64,
    /// Why it goes no further.
    failed: Option<Cause>,
}

/// A shard that is open.
pub(crate) struct Shard {
    pub(crate) id: ShardId,
    /// None when it could not be opened.
    db: Option<Db>,
    bucket: Watched,
    /// Why it is refused.
    refused: OnceLock<String>,
    pub(crate) pending: Mutex<Pending>,
    /// Held for reading while changes are made that belong together, for writing while they are taken.
    pub(crate) together: RwLock<()>,
    progress: watch::Sender<Progress>,
    /// Bytes that wait for the next batch.
    pub(crate) unwritten: AtomicU64,
    /// Bytes in the database that are not in the bucket.
    pub(crate) unflushed: AtomicU64,
    /// From the beginning of one flush of the log to that of the next, at least; nanoseconds.
    min_flush_interval: AtomicU64,
    /// When the write that is under way began.
    writing_since: Mutex<Option<Instant>>,
    /// Tasks to be woken when a change is durable.
    wakers: Mutex<Vec<(u64, Waker)>>,
    /// The newest change somebody waits for: in the database, in the bucket.
    wanted: Mutex<Wanted>,
    wake: Notify,
    /// Pages of its queues that somebody wants.
    pub(super) wishes: Mutex<Wishes>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Wanted {
    written: u64,
    durable: u64,
    close: bool,
}

/// The cause of a failure, as an error of its own.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Shared(Cause);

impl Shard {
    /// A shard over an open database, and its task.
    pub(crate) fn start(id: ShardId, db: Db, bucket: Watched, pending: Pending) -> (Arc<Self>, tokio::task::JoinHandle<()>) {
        let shard = Self::new(id, Some(db.clone()), bucket, pending);
        let task = tokio::spawn(Writer::new(shard.clone(), db).run());
        (shard, task)
    }

    /// A shard that cannot be read, and why.
    pub(crate) fn refused_at_opening(id: ShardId, bucket: Watched, why: String) -> Arc<Self> {
        let shard = Self::new(id, None, bucket, Pending::default());
        shard.refuse(why);
        shard
    }

    fn new(id: ShardId, db: Option<Db>, bucket: Watched, pending: Pending) -> Arc<Self> {
        Arc::new(Self {
            id,
            db,
            bucket,
            refused: OnceLock::new(),
            pending: Mutex::new(pending),
            together: RwLock::new(()),
            unwritten: AtomicU64::new(0),
            unflushed: AtomicU64::new(0),
            min_flush_interval: AtomicU64::new(0),
            writing_since: Mutex::new(None),
            wakers: Mutex::default(),
            progress: watch::Sender::new(Progress::default()),
            wanted: Mutex::new(Wanted::default()),
            wake: Notify::new(),
            wishes: Mutex::default(),
        })
    }

    /// At least so long from the beginning of one flush of the log to that of the next.
    pub(crate) fn set_min_flush_interval(&self, interval: Duration) {
        self.min_flush_interval.store(interval.as_nanos() as u64, Ordering::Relaxed);
        // It may be waiting for the end of a longer one.
        self.wake.notify_one();
    }

    /// Why this shard is refused, if it is.
    pub(crate) fn refused(&self) -> Option<&str> {
        self.refused.get().map(String::as_str)
    }

    fn refuse(&self, why: String) {
        let mut pending = self.pending.lock();
        if self.refused.set(why).is_ok() {
            // What is not durable was not acknowledged.
            pending.take();
            pending.apart = None;
            self.unwritten.store(0, Ordering::Relaxed);
            self.unflushed.store(0, Ordering::Relaxed);
        }
    }

    fn refusal(&self) -> Option<ReadError> {
        self.refused().map(|why| self.unreadable(Refused(why.to_owned())))
    }

    /// The database, unless the shard is refused.
    pub(crate) fn db(&self) -> Result<&Db, ReadError> {
        match (self.refusal(), &self.db) {
            (None, Some(db)) => Ok(db),
            (refusal, _) => Err(refusal.unwrap_or_else(|| self.unreadable(Closed))),
        }
    }

    /// A failed read; what no waiting heals makes the shard refused.
    pub(super) fn judge(&self, error: ReadError) -> ReadError {
        if is_damage(&*error.source) {
            self.refuse(self.bucket.explain(&*error.source));
        }
        error
    }

    /// The last change. Of a shard that is refused none is ever durable.
    pub(crate) fn position(&self) -> u64 {
        if self.refused().is_some() { NEVER } else { self.pending.lock().position }
    }

    /// Makes changes that are kept or lost together; their number comes back.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Pending) -> T) -> (T, u64) {
        if self.refused().is_some() {
            // Nothing of it is kept, and nobody is told that it is.
            return (change(&mut Pending::default()), NEVER);
        }
        let mut pending = self.pending.lock();
        let was_empty = pending.is_empty();
        let outcome = change(&mut pending);
        let position = pending.advance();
        let wake = was_empty && !pending.is_empty();
        self.unwritten.store(pending.bytes(), Ordering::Relaxed);
        drop(pending);
        if wake {
            self.wake.notify_one();
        }
        (outcome, position)
    }

    /// Every change up to here is in the bucket.
    pub(crate) fn durable(&self) -> u64 {
        self.progress.borrow().durable
    }

    /// Waits until the change `position` is in the bucket.
    pub(crate) async fn wait_durable(&self, position: u64) -> Result<(), DurableError> {
        self.want(|wanted| wanted.durable = wanted.durable.max(position));
        self.wait(|progress| progress.durable >= position).await.map_err(|cause| self.lost(cause))
    }

    /// Ready when the change `position` is in the bucket, or never will be; otherwise `waker` is called then.
    pub(crate) fn poll_durable(&self, position: u64, waker: &Waker) -> Poll<Result<(), DurableError>> {
        // With the wakers locked, so that progress made from here on finds this one.
        let mut wakers = self.wakers.lock();
        let progress = self.progress.borrow();
        if progress.durable >= position {
            return Poll::Ready(Ok(()));
        }
        if let Some(cause) = &progress.failed {
            return Poll::Ready(Err(self.lost(cause.clone())));
        }
        if self.refused().is_some() {
            // Nothing will ever wake it.
            return Poll::Pending;
        }
        drop(progress);
        wakers.push((position, waker.clone()));
        drop(wakers);
        let mut wanted = self.wanted.lock();
        if wanted.durable < position {
            wanted.durable = position;
            drop(wanted);
            self.wake.notify_one();
        }
        Poll::Pending
    }

    /// How long the write that is under way has taken so far.
    pub(crate) fn writing_for(&self) -> Option<Duration> {
        self.writing_since.lock().map(|since| since.elapsed())
    }

    /// Waits until the shard takes no more writes.
    pub(crate) async fn failed(&self) -> DurableError {
        match self.progress.subscribe().wait_for(|progress| progress.failed.is_some()).await {
            Ok(progress) => self.lost(progress.failed.clone().unwrap_or_else(|| Arc::new(Closed))),
            Err(_) => self.lost(Arc::new(Closed)),
        }
    }

    fn lost(&self, cause: Cause) -> DurableError {
        DurableError { shard: self.id, source: Box::new(Shared(cause)) }
    }

    /// Tells how far the shard has come, and wakes whom that concerns.
    fn advance(&self, change: impl FnOnce(&mut Progress)) {
        self.progress.send_modify(change);
        let (durable, failed) = {
            let progress = self.progress.borrow();
            (progress.durable, progress.failed.is_some())
        };
        let reached: Vec<Waker> =
            self.wakers.lock().extract_if(.., |(position, _)| failed || *position <= durable).map(|(_, waker)| waker).collect();
        for waker in reached {
            waker.wake();
        }
    }

    /// Waits until everything changed so far can be read from the database.
    pub(crate) async fn settle(&self) -> Result<(), ReadError> {
        if let Some(refusal) = self.refusal() {
            return Err(refusal);
        }
        let position = self.pending.lock().position;
        if self.progress.borrow().written < position {
            self.want(|wanted| wanted.written = wanted.written.max(position));
        }
        self.wait(|progress| progress.written >= position).await.map_err(|cause| self.unreadable(Shared(cause)))
    }

    /// Of the batches that are in the database and not in the bucket.
    fn count_unflushed(&self, batches: &[(u64, u64, u64)]) {
        self.unflushed.store(batches.iter().map(|(.., bytes)| bytes).sum(), Ordering::Relaxed);
    }

    /// Lets the task look.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    fn want(&self, change: impl FnOnce(&mut Wanted)) {
        change(&mut self.wanted.lock());
        self.wake.notify_one();
    }

    async fn wait(&self, reached: impl Fn(&Progress) -> bool) -> Result<(), Cause> {
        let mut progress = self.progress.subscribe();
        match progress.wait_for(|progress| reached(progress) || progress.failed.is_some()).await {
            Ok(progress) if reached(&progress) => Ok(()),
            Ok(progress) => Err(progress.failed.clone().unwrap_or_else(|| Arc::new(Closed))),
            Err(_) => Err(Arc::new(Closed)),
        }
    }

    pub(crate) fn unreadable(&self, cause: impl Error + Send + Sync + 'static) -> ReadError {
        ReadError { shard: self.id, source: Box::new(cause) }
    }

    /// Writes what there is, waits for the bucket, and closes the database.
    pub(crate) async fn close(&self) -> Result<(), DurableError> {
        if self.refused().is_none() {
            let position = self.pending.lock().position;
            self.wait_durable(position).await?;
        }
        self.want(|wanted| wanted.close = true);
        let Some(db) = &self.db else { return Ok(()) };
        match db.close().await {
            Err(error) if self.refused().is_some() => {
                warn!(shard = %self.id, error = %error, "a shard that is refused was not closed properly");
                Ok(())
            }
            closed => closed.map_err(|error| DurableError { shard: self.id, source: Box::new(error) }),
        }
    }
}

/// The position of what is never durable.
const NEVER: u64 = u64::MAX;

/// The shard cannot be read, so nothing of it is used.
#[derive(Debug, thiserror::Error)]
#[error("the shard is refused: {0}")]
struct Refused(String);

/// The shard was closed.
#[derive(Debug, thiserror::Error)]
#[error("the shard is closed")]
struct Closed;
