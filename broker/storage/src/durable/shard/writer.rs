//! The task of a shard, which writes what the shard has taken.
//!
//! It writes changes as one batch and flushes the log: at once when somebody waits and the flush before is back, otherwise after [`FLUSH_INTERVAL`];
//! an idle shard writes nothing. So there is one PUT in flight at most, and under load it carries more instead of being followed sooner. Who wants to
//! pay for fewer of them sets how long from one to the next it takes at least.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use slatedb::config::{FlushOptions, FlushType};
use slatedb::{CloseReason, Db, DbStatus, WriteBatch};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

use super::Shard;
use crate::durable::cut::{Apart, Order};
use crate::durable::damage::is_damage;
use crate::durable::pages::next_chunk;
use crate::durable::pending::{Batch, Rows};
use crate::durable::settings::{FLUSH_INTERVAL, LOG_OBJECTS_MAX};
use crate::record::cursor::Cursor;
use crate::record::queue::Chunk;
use crate::record::{Kind, Record};
use crate::store::{ReadError, Sequence, SessionNumber};

/// Rows deleted in one batch when a queue ends.
const DELETES_MAX: usize = 1024;

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

/// The task of one shard.
pub(super) struct Writer {
    shard: Arc<Shard>,
    db: Db,
    dirty_since: Option<Instant>,
    /// Written to the log since the memtable was.
    log_objects: u32,
}

impl Writer {
    pub(super) fn new(shard: Arc<Shard>, db: Db) -> Self {
        Self { shard, db, dirty_since: None, log_objects: 0 }
    }

    /// Until the shard is closed, refused, or takes no more writes.
    pub(super) async fn run(mut self) {
        let shard = self.shard.clone();
        let mut status = self.db.subscribe();
        let mut flush = None;
        let mut last_flush: Option<Instant> = None;
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
            let hurry = wanted.durable > progress.durable;
            let now = Instant::now();
            let pause = Duration::from_nanos(shard.min_flush_interval.load(Ordering::Relaxed));
            let due = if hurry { Some(now) } else { self.dirty_since.map(|since| since + FLUSH_INTERVAL) };
            let due = due.map(|due| last_flush.map_or(due, |last| due.max(last + pause)));
            let flush_now = flush.is_none() && due.is_some_and(|due| due <= now);
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
                    last_flush = Some(now);
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
        let Some(Batch { mut rows, work }) = batch else { return Ok(None) };
        for (session, from, to) in work.look_for {
            let mut found = shard.rows((session, from), (session, Sequence(u64::MAX))).await?;
            while let Some((_, chunk)) = next_chunk(shard, &mut found).await? {
                let over = chunk.entries.iter().filter(|entry| (from..=to).contains(&entry.sequence));
                let (messages, bytes) = shard.pending.lock().found_over(session, over);
                self.correct_cursor(session, messages, bytes, &mut rows)?;
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
            shard.pending.lock().looked_for(session, to);
        }
        for (session, sequence) in work.holes {
            let mut found = shard.rows((session, sequence), (session, Sequence(u64::MAX))).await?;
            let Some(row) = found.next().await.map_err(|error| shard.unreadable(error))? else { continue };
            // Two entries of one chunk may go at the same time.
            let value = rows.get(&row.key[..]).cloned().unwrap_or_else(|| Some(row.value.to_vec()));
            let Some(value) = value else { continue };
            let mut chunk = Chunk::decode(&value).map_err(|error| shard.unreadable(error))?;
            if let Some(entry) = chunk.entries.extract_if(.., |entry| entry.sequence == sequence).next()
                && shard.pending.lock().count_gone(session, &entry)
            {
                self.correct_cursor(session, 1, u64::from(entry.bytes()), &mut rows)?;
            }
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

    /// Entries that a queue still counted are over. The cursor in `rows` did not know of them; the one in memory may already be ahead of it.
    fn correct_cursor(&self, session: SessionNumber, messages: u64, bytes: u64, rows: &mut Rows) -> Result<(), ReadError> {
        if let Some(Some(value)) = rows.get_mut(&Cursor::key(&session)) {
            let cursor = Cursor::decode(value).map_err(|error| self.shard.unreadable(error))?;
            let (messages, bytes) = (cursor.messages.saturating_sub(messages), cursor.bytes.saturating_sub(bytes));
            *value = Cursor { messages, bytes, ..cursor }.encode();
        }
        Ok(())
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
