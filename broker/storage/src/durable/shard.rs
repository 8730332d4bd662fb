//! One shard: its database, what it has taken and not written, and the task that writes.
//!
//! Changes collect in [`Pending`]. The task writes them as one batch and flushes the log: at once when somebody waits and the flush before is
//! back, otherwise after [`FLUSH_INTERVAL`]; an idle shard writes nothing. So there is one PUT in flight at most, and under load it carries more
//! instead of being followed sooner.
//!
//! A shard that cannot be read is refused: it takes nothing, nothing of it becomes durable, and the others go on.

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use slatedb::config::{FlushOptions, FlushType};
use slatedb::{CloseReason, Db, DbStatus, WriteBatch};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::warn;

use super::cut::{Apart, Order};
use super::damage::{Watched, is_damage};
use super::pages::{Wishes, next_chunk};
use super::pending::{Batch, Pending, Rows};
use super::settings::{FLUSH_INTERVAL, LOG_OBJECTS_MAX};
use crate::record::cursor::Cursor;
use crate::record::queue::{Chunk, Queued};
use crate::record::{Kind, Record};
use crate::shard::ShardId;
use crate::store::{DurableError, ReadError, Sequence, SessionNumber};

/// Rows deleted in one batch when a queue ends.
const DELETES_MAX: usize = 1024;

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
        let task = tokio::spawn(Writer { shard: shard.clone(), db, dirty_since: None, log_objects: 0 }.run());
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
            writing_since: Mutex::new(None),
            wakers: Mutex::default(),
            progress: watch::Sender::new(Progress::default()),
            wanted: Mutex::new(Wanted::default()),
            wake: Notify::new(),
            wishes: Mutex::default(),
        })
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

    /// Entries that a queue still counted are over. The cursor in `rows` did not know of them; the one in memory may already be ahead of it.
    fn found_over<'a>(&self, session: SessionNumber, over: impl Iterator<Item = &'a Queued>, rows: &mut Rows) -> Result<(), ReadError> {
        let (messages, bytes) = over.fold((0, 0), |(messages, bytes), entry| (messages + 1, bytes + u64::from(entry.bytes())));
        self.pending.lock().found_over(session, messages, bytes);
        if let Some(Some(value)) = rows.get_mut(&Cursor::key(&session)) {
            let cursor = Cursor::decode(value).map_err(|error| self.unreadable(error))?;
            let (messages, bytes) = (cursor.messages.saturating_sub(messages), cursor.bytes.saturating_sub(bytes));
            *value = Cursor { messages, bytes, ..cursor }.encode();
        }
        Ok(())
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

/// The database was closed by itself.
#[derive(Debug, thiserror::Error)]
#[error("{}", match .0 {
    CloseReason::Fenced => "detected newer DB client: another process has opened the database",
    _ => "the database gave up",
})]
struct Lost(CloseReason);

/// Waits until the database is closed.
async fn closed(status: &mut watch::Receiver<DbStatus>) -> CloseReason {
    match status.wait_for(|status| status.close_reason.is_some()).await {
        Ok(status) => status.close_reason.unwrap_or(CloseReason::Clean),
        // The shard holds the database, so it is there.
        Err(_) => CloseReason::Clean,
    }
}

/// What is written next.
struct Taken {
    batch: Option<Batch>,
    /// Of the last change in it, or before it.
    position: u64,
    bytes: u64,
    /// Follows it.
    order: Option<Order>,
}

struct Writer {
    shard: Arc<Shard>,
    db: Db,
    dirty_since: Option<Instant>,
    /// Written to the log since the memtable was.
    log_objects: u32,
}

impl Writer {
    async fn run(mut self) {
        let shard = self.shard.clone();
        let mut status = self.db.subscribe();
        let mut flush = None;
        // (number of the last change, sequence in the database, bytes) of batches that are not durable yet.
        let mut unflushed: Vec<(u64, u64, u64)> = Vec::new();
        loop {
            let wanted = *shard.wanted.lock();
            if wanted.close {
                return;
            }
            let progress = shard.progress.borrow().clone();
            if progress.failed.is_some() || shard.refused().is_some() {
                return;
            }
            let (dirty, is_apart) = {
                let pending = shard.pending.lock();
                (!pending.is_empty(), pending.apart.is_some())
            };
            if (dirty || is_apart) && self.dirty_since.is_none() {
                self.dirty_since = Some(Instant::now());
            }
            let due = self.dirty_since.map(|since| since + FLUSH_INTERVAL);
            let hurry = wanted.durable > progress.durable;
            let flush_now = flush.is_none() && (hurry || due.is_some_and(|due| due <= Instant::now()));
            if is_apart || wanted.written > progress.written || flush_now {
                shard.writing_since.lock().get_or_insert_with(Instant::now);
                let written = self.write().await;
                if flush.is_none() && !flush_now {
                    *shard.writing_since.lock() = None;
                }
                match written {
                    Ok((position, sequence, bytes)) => {
                        if let Some(sequence) = sequence {
                            unflushed.push((position, sequence, bytes));
                        }
                        shard.count_unflushed(&unflushed);
                        shard.advance(|progress| {
                            progress.written = position;
                            if unflushed.is_empty() {
                                progress.durable = progress.durable.max(position);
                            }
                        });
                    }
                    Err(error) => return self.give_up(error),
                }
                if flush_now {
                    // Also when nothing was left to write: it would be due for ever.
                    self.dirty_since = None;
                    flush = (!unflushed.is_empty()).then(|| Box::pin(self.flush()));
                    *shard.writing_since.lock() = flush.is_some().then(Instant::now);
                }
                continue;
            }
            tokio::select! {
                () = shard.wake.notified() => {}
                // Also a shard that has nothing to write has to know that it is lost: its broker still acknowledges what touches no shard.
                reason = closed(&mut status) => match reason {
                    CloseReason::Clean => return,
                    reason => return self.fail(Lost(reason)),
                },
                () = sleep_until(due), if flush.is_none() && due.is_some() => {}
                outcome = poll(&mut flush), if flush.is_some() => {
                    flush = None;
                    *shard.writing_since.lock() = None;
                    if let Err(error) = outcome {
                        return self.give_up(WriteError::Database(error));
                    }
                    let reached = self.db.status().durable_seq;
                    let durable = unflushed.iter().filter(|(_, sequence, _)| *sequence <= reached).map(|(position, ..)| *position).max();
                    unflushed.retain(|(_, sequence, _)| *sequence > reached);
                    shard.count_unflushed(&unflushed);
                    let all = unflushed.is_empty();
                    shard.advance(|progress| {
                        progress.durable = if all { progress.written } else { progress.durable.max(durable.unwrap_or(0)) };
                    });
                }
            }
        }
    }

    /// Damage concerns this shard alone; everything else, another writer above all, this process.
    fn give_up(&self, error: WriteError) {
        let shard = &self.shard;
        *shard.writing_since.lock() = None;
        let damage = match &error {
            WriteError::Database(error) => is_damage(error).then(|| shard.bucket.explain(error)),
            WriteError::Read(error) => is_damage(&*error.source).then(|| shard.bucket.explain(&*error.source)),
        };
        match damage {
            Some(why) => shard.refuse(why),
            None => self.fail(error),
        }
    }

    fn fail(&self, error: impl Error + Send + Sync + 'static) {
        warn!(shard = %self.shard.id, error = %error, "shard takes no more writes");
        self.shard.advance(|progress| progress.failed = Some(Arc::new(error)));
    }

    /// Flushes the log, and now and then the memtable.
    fn flush(&mut self) -> impl Future<Output = Result<(), slatedb::Error>> + use<> {
        self.log_objects += 1;
        let all = self.log_objects >= LOG_OBJECTS_MAX;
        if all {
            self.log_objects = 0;
        }
        let db = self.db.clone();
        async move {
            db.flush_with_options(FlushOptions { flush_type: FlushType::Wal }).await?;
            if all {
                // Nobody waits for this one.
                tokio::spawn(async move {
                    if let Err(error) = db.flush_with_options(FlushOptions { flush_type: FlushType::MemTable }).await {
                        warn!(error = %error, "memtable not written yet");
                    }
                });
            }
            Ok(())
        }
    }

    /// Writes what comes next into the database's memory: number of its last change, the database's sequence when there was something, bytes.
    async fn write(&mut self) -> Result<(u64, Option<u64>, u64), WriteError> {
        let Taken { batch, position, bytes, order } = self.take();
        let sequence = self.write_batch(batch).await?;
        if let Some(order) = order {
            order.carry_out(&self.db).await;
        }
        Ok((position, sequence, bytes))
    }

    /// What is written next: what a snapshot has set apart, which is older, or all that is pending.
    fn take(&self) -> Taken {
        let shard = &self.shard;
        let _together = shard.together.write();
        let mut pending = shard.pending.lock();
        if let Some(Apart { batch, position, bytes, order }) = pending.apart.take() {
            return Taken { batch, position, bytes, order: Some(order) };
        }
        let bytes = pending.bytes();
        let batch = pending.take();
        shard.unwritten.store(0, Ordering::Relaxed);
        // They are in the database in a moment.
        shard.unflushed.fetch_add(bytes, Ordering::Relaxed);
        Taken { batch, position: pending.position, bytes, order: None }
    }

    /// The database's sequence behind `batch`; `None` when there was nothing to write.
    async fn write_batch(&self, batch: Option<Batch>) -> Result<Option<u64>, WriteError> {
        let shard = &self.shard;
        let Some(Batch { mut rows, work, .. }) = batch else { return Ok(None) };
        for (session, from, to) in work.look_for {
            let mut found = shard.rows((session, from), (session, Sequence(u64::MAX))).await?;
            while let Some((_, chunk)) = next_chunk(shard, &mut found).await? {
                shard.found_over(session, chunk.entries.iter().filter(|entry| (from..=to).contains(&entry.sequence)), &mut rows)?;
                let Some(last) = chunk.entries.last().map(|entry| entry.sequence) else { continue };
                if last > to {
                    // What goes next has not to be looked for again.
                    if !shard.pending.lock().learn(session, Sequence(to.0.saturating_add(1)), &chunk) {
                        break;
                    }
                    continue;
                }
                rows.insert(Chunk::key(&(session, last)), None);
            }
        }
        for (session, sequence) in work.holes {
            let mut found = shard.rows((session, sequence), (session, Sequence(u64::MAX))).await?;
            let Some(row) = found.next().await.map_err(|error| shard.unreadable(error))? else { continue };
            // Two entries of one chunk may go at the same time.
            let value = rows.get(&row.key[..]).cloned().unwrap_or_else(|| Some(row.value.to_vec()));
            let Some(value) = value else { continue };
            let mut chunk = Chunk::decode(&value).map_err(|error| shard.unreadable(error))?;
            chunk.entries.retain(|entry| entry.sequence != sequence);
            rows.insert(row.key.to_vec(), (!chunk.entries.is_empty()).then(|| chunk.encode()));
        }
        let mut last = None;
        for session in work.ended {
            last = self.end(session).await?.or(last);
        }
        if !rows.is_empty() {
            let mut writes = WriteBatch::new();
            for (key, value) in rows {
                match value {
                    Some(value) => writes.put_bytes(Bytes::from(key), Bytes::from(value)),
                    None => writes.delete(key),
                }
            }
            last = Some(self.db.write(writes).await?.seqnum());
        }
        Ok(last)
    }

    /// Deletes a queue and what belongs to it, in pieces: what a crash leaves has no Session and is deleted when the shard is opened.
    async fn end(&self, session: SessionNumber) -> Result<Option<u64>, WriteError> {
        let mut last = None;
        let number = session.0.to_be_bytes();
        for kind in [Kind::Queue, Kind::Handshake, Kind::Inbound, Kind::Cursor] {
            let prefix = [kind.prefix(), &number].concat();
            let mut rows = self.db.scan_prefix(&prefix, ..).await?;
            let mut writes = WriteBatch::new();
            let mut count = 0;
            while let Some(row) = rows.next().await? {
                writes.delete(&row.key);
                count += 1;
                if count == DELETES_MAX {
                    last = Some(self.db.write(std::mem::take(&mut writes)).await?.seqnum());
                    count = 0;
                }
            }
            if count > 0 {
                last = Some(self.db.write(writes).await?.seqnum());
            }
        }
        Ok(last)
    }
}

/// A batch that could not be written.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error(transparent)]
    Database(#[from] slatedb::Error),
    #[error("{}", .0.source)]
    Read(#[from] ReadError),
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

async fn poll<F: Future + Unpin>(future: &mut Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
