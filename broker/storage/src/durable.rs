//! A store in a bucket: each shard is one SlateDB database under `shards/NN/`.
//!
//! A change is taken at once and goes to the bucket with its shard's next batch ([`shard`]); queues are read back in pages and are not in
//! memory; retained messages are in memory and in the bucket. What was durable is there again after any crash.

mod ahead;
pub(crate) mod clock;
mod cut;
mod damage;
mod growth;
mod inbound;
mod index;
mod outbox;
mod pages;
mod pending;
pub(crate) mod settings;
mod shard;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bucketmq_packet::message::{Message, QueueEntry};
use object_store::ObjectStore;
use object_store::path::Path;
use slatedb::Db;
use slatedb::config::ScanOptions;
use slatedb::db_cache::SplitCache;
use slatedb::db_cache::moka::{MokaCache, MokaCacheOptions};
use thiserror::Error;
use tokio::task::JoinHandle;

use crate::batch::{Batch, Change};
use crate::memory::MemoryStore;
use crate::record::cursor::Cursor;
use crate::record::estate::Estate;
use crate::record::format::Format;
use crate::record::group::Group;
use crate::record::growth::Growth;
use crate::record::inbound::Inbound;
use crate::record::outbox::{Chunk, OutboxNumber, Row};
use crate::record::retained::Retained;
use crate::record::session::Session;
use crate::record::{DecodeError, Record};
use crate::root::{Root, RootError};
use crate::shard::{ShardId, Shards};
use crate::store::{
    BoxFuture, DurableError, Position, QueueUsage, ReadError, RetainedCursor, RetainedFull, RetainedLimit, RetainedPage, RetainedUsage,
    Sequence, SessionNumber, Store, Usage,
};
use clock::Clock;
pub use cut::{Cut, CutError};
use damage::Watched;
use pending::Pending;
use shard::Shard;

/// Bytes of blocks that all shards together keep in memory: for rows that are read alone, because a queue is read once.
const BLOCK_CACHE_BYTES: u64 = 2 * 1024 * 1024;
/// Bytes of indexes of tables: some 10 bytes for each KiB of queues, and without them each page costs a request more for each table.
const META_CACHE_BYTES: u64 = 14 * 1024 * 1024;

/// Closing what was opened in vain may take so long: the bucket may be why.
const GIVE_UP_MAX: Duration = Duration::from_secs(5);

/// Bytes asked for at once while all records of a kind are read: with single blocks 6,000 Sessions would take a hundred requests one after the other.
const SCAN_BYTES: usize = 256 * 1024;

/// Keeps everything in a bucket.
pub struct DurableStore {
    shards: Shards,
    parts: Box<[Arc<Shard>]>,
    tasks: Vec<JoinHandle<()>>,
    site: Arc<cut::Site>,
    /// The retained messages; its queues are empty.
    retained: MemoryStore,
}

/// Where a store is and how it is divided.
#[derive(Clone)]
pub struct Place {
    /// The bucket.
    pub bucket: Arc<dyn ObjectStore>,
    /// What the keys of all its objects begin with.
    pub prefix: Path,
    /// Into how many shards the prefix is divided; fixed by who uses it first.
    pub shards: Shards,
}

/// A shard could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The folder of the shards is not known.
    #[error(transparent)]
    Root(#[from] RootError),
    /// The database.
    #[error("shard {shard} cannot be opened")]
    Database {
        /// Which.
        shard: ShardId,
        /// Why.
        #[source]
        source: slatedb::Error,
    },
    /// One of its records.
    #[error("shard {shard} holds what this release cannot read")]
    Record {
        /// Which.
        shard: ShardId,
        /// What.
        #[source]
        source: DecodeError,
    },
    /// It was made for another division or another place.
    #[error(
        "shard {shard}: the database is shard {found} of {count}, format {format}: this broker wants {wanted} shards and knows format {known}"
    )]
    Format {
        /// Which.
        shard: ShardId,
        /// What it says it is.
        found: ShardId,
        /// Of how many.
        count: u16,
        /// Its format.
        format: u32,
        /// How many shards were asked for.
        wanted: u16,
        /// The format this release writes.
        known: u32,
    },
}

impl OpenError {
    /// What is there cannot be read, and no waiting heals it.
    fn is_damage(&self) -> bool {
        match self {
            Self::Database { source, .. } => damage::is_damage_at_opening(source),
            Self::Record { .. } => true,
            Self::Root(_) | Self::Format { .. } => false,
        }
    }
}

impl DurableStore {
    /// Opens all shards at `place`, side by side, and makes those that are not there. A shard whose objects are damaged is refused, and the others
    /// are opened all the same.
    pub async fn open(place: &Place) -> Result<Self, OpenError> {
        Self::open_not_before(place, 0).await
    }

    /// The same where somebody wrote until `not_before_ms`, milliseconds since 1970, by a clock that may have been ahead of this host's.
    pub async fn open_not_before(place: &Place, not_before_ms: u64) -> Result<Self, OpenError> {
        let cache = Arc::new(
            SplitCache::new()
                .with_block_cache(Some(Arc::new(MokaCache::new_with_opts(MokaCacheOptions {
                    max_capacity: BLOCK_CACHE_BYTES,
                    ..MokaCacheOptions::default()
                }))))
                .with_meta_cache(Some(Arc::new(MokaCache::new_with_opts(MokaCacheOptions {
                    max_capacity: META_CACHE_BYTES,
                    ..MokaCacheOptions::default()
                })))),
        );
        let retained = MemoryStore::new(place.shards);
        let root = Root::read(place).await?;
        let opening = place.shards.all().map(|shard| {
            let (place, root, cache) = (place.clone(), root.clone(), cache.clone());
            let (bucket, clock) = (Watched::new(place.bucket.clone()), Arc::new(Clock::new(not_before_ms)));
            let opening = bucket.clone();
            let opened = tokio::spawn(async move {
                let db = open_database(&place, &root, shard, Arc::new(opening.clone()), clock.clone(), cache).await?;
                match Box::pin(Contents::read(&db, shard)).await {
                    Ok(contents) => {
                        opening.opened();
                        clock.opened();
                        Ok((db, contents))
                    }
                    Err(error) => {
                        // Nobody is going to use it.
                        let _ = db.close().await;
                        Err(error)
                    }
                }
            });
            (bucket, opened)
        });
        let opening: Vec<_> = opening.collect();
        let (mut parts, mut tasks) = (Vec::new(), Vec::new());
        let mut opening = place.shards.all().zip(opening);
        while let Some((shard, (bucket, opened))) = opening.next() {
            let opened = opened.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
            let (db, contents) = match opened {
                Err(error) if error.is_damage() => {
                    let why = bucket.explain(&error);
                    parts.push(Shard::refused_at_opening(shard, bucket, why));
                    continue;
                }
                Err(error) => {
                    // Whoever opens them next, this process perhaps, would be fenced by what is opened later.
                    let rest = opening.map(|(_, (_, opened))| opened);
                    let _ = tokio::time::timeout(GIVE_UP_MAX, give_up(parts, rest)).await;
                    return Err(error);
                }
                Ok(opened) => opened,
            };
            for message in contents.retained {
                // Limits were kept when it was set.
                let _ = retained.set_retained(message, RetainedLimit::NONE);
            }
            let (part, task) = Shard::start(shard, db, bucket, contents.pending);
            parts.push(part);
            tasks.push(task);
        }
        let site = Arc::new(cut::Site { place: place.clone(), root });
        Ok(Self { shards: place.shards, parts: parts.into(), tasks, site, retained })
    }

    /// Where it is.
    pub fn place(&self) -> &Place {
        &self.site.place
    }

    /// The folder of the shards.
    pub fn root(&self) -> &Root {
        &self.site.root
    }

    /// The shards that cannot be read, and why, with the object's name: nothing of them is served, and nothing written to them is ever durable.
    pub fn refused(&self) -> Vec<(ShardId, String)> {
        self.parts.iter().filter_map(|shard| Some((shard.id, shard.refused()?.to_owned()))).collect()
    }

    /// From now on each shard's log is flushed at most once in `interval`; zero, as it is at first: as soon as the flush before is back.
    pub fn set_min_flush_interval(&self, interval: Duration) {
        for part in &self.parts {
            part.set_min_flush_interval(interval);
        }
    }

    /// Waits until a shard takes no more writes, and says why: whoever else is writing there now has taken all of them, or soon will.
    pub async fn failed(&self) -> DurableError {
        let mut waiting: Vec<_> = self.parts.iter().map(|shard| Box::pin(shard.failed())).collect();
        std::future::poll_fn(|context| {
            let failed = waiting.iter_mut().find_map(|shard| match shard.as_mut().poll(context) {
                Poll::Ready(error) => Some(error),
                Poll::Pending => None,
            });
            failed.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Writes what there is and closes all shards, side by side. The first failure comes back; the others are closed all the same.
    pub async fn close(&self) -> Result<(), DurableError> {
        let closing: Vec<_> = self.parts.iter().cloned().map(|shard| tokio::spawn(async move { shard.close().await })).collect();
        let mut outcome = Ok(());
        for closed in closing {
            let closed = closed.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
            outcome = outcome.and(closed);
        }
        for task in &self.tasks {
            task.abort();
        }
        outcome
    }

    /// All records of one kind in `shard`, everything written so far included, ordered by key. For kinds whose records are few enough to be
    /// held in memory: queues are read with [`Store::page`].
    pub async fn records<R: Record>(&self, shard: ShardId) -> Result<Vec<(R::Key, R)>, ReadError> {
        let part = self.part(shard);
        part.settle().await?;
        scan(part.db()?, shard).await.map_err(|error| part.unreadable(error))
    }

    /// The rows in the outbox of `shard`, oldest first, everything written so far included.
    pub async fn outbox(&self, shard: ShardId) -> Result<Vec<(OutboxNumber, Row)>, ReadError> {
        Ok(self.records::<Chunk>(shard).await?.into_iter().flat_map(|(_, chunk)| chunk.rows).collect())
    }

    /// Where the queue stands: also what may have been sent, which [`Store::queue`] does not tell.
    pub fn cursor(&self, session: SessionNumber) -> Cursor {
        self.part(session.shard()).pending.lock().cursor(session)
    }

    fn part(&self, shard: ShardId) -> &Arc<Shard> {
        &self.parts[shard.index()]
    }

    fn change<T>(&self, shard: ShardId, change: impl FnOnce(&mut Pending) -> T) -> (T, Position) {
        let (outcome, position) = self.part(shard).change(change);
        (outcome, Position(position))
    }
}

/// Closes what was opened and opens no more.
async fn give_up(parts: Vec<Arc<Shard>>, rest: impl Iterator<Item = JoinHandle<Result<(Db, Contents), OpenError>>>) {
    let rest: Vec<_> = rest.collect();
    rest.iter().for_each(JoinHandle::abort);
    for opened in rest {
        if let Ok(Ok((db, _))) = opened.await {
            let _ = db.close().await;
        }
    }
    for part in parts {
        let _ = part.close().await;
    }
}

/// The broker's figures about itself are published anew by every process and are no state.
fn is_figure(topic: &str) -> bool {
    topic.starts_with("$SYS/")
}

async fn open_database(
    place: &Place,
    root: &Root,
    shard: ShardId,
    bucket: Arc<dyn ObjectStore>,
    clock: Arc<Clock>,
    cache: Arc<SplitCache>,
) -> Result<Db, OpenError> {
    let failed = |source| OpenError::Database { shard, source };
    let db = Db::builder(root.shard(place, shard), bucket)
        .with_settings(settings::settings(shard))
        .with_system_clock(clock)
        .with_segment_extractor(Arc::new(settings::ByKind))
        .with_db_cache(cache, u64::from(shard.0))
        .build()
        .await
        .map_err(failed)?;
    let key = Format::key(&());
    match db.get(&key).await.map_err(failed)? {
        None => {
            let made_by = env!("CARGO_PKG_VERSION").to_owned();
            let format = Format { version: Format::CURRENT, shards: place.shards, shard, made_by };
            db.put(&key, format.encode()).await.map_err(failed)?;
            db.flush().await.map_err(failed)?;
        }
        Some(value) => {
            let format = Format::decode(&value).map_err(|source| OpenError::Record { shard, source })?;
            if format.version != Format::CURRENT || format.shards != place.shards || format.shard != shard {
                return Err(OpenError::Format {
                    shard,
                    found: format.shard,
                    count: format.shards.count(),
                    format: format.version,
                    wanted: place.shards.count(),
                    known: Format::CURRENT,
                });
            }
        }
    }
    Ok(db)
}

/// What is read when a shard is opened.
struct Contents {
    pending: Pending,
    retained: Vec<Arc<Message>>,
}

impl Contents {
    async fn read(db: &Db, shard: ShardId) -> Result<Self, OpenError> {
        // Side by side: each waits for the bucket.
        let (sessions, groups, estates, cursors, growths, inbound, outbox, retained) = tokio::try_join!(
            scan::<Session>(db, shard),
            scan::<Group>(db, shard),
            scan::<Estate>(db, shard),
            scan::<Cursor>(db, shard),
            scan::<Growth>(db, shard),
            scan::<Inbound>(db, shard),
            scan::<Chunk>(db, shard),
            scan::<Retained>(db, shard),
        )?;
        let mut pending = Pending::default();
        let sessions = sessions.into_iter().map(|(_, session)| session.number);
        let groups = groups.into_iter().map(|(_, group)| group.number);
        let estates = estates.into_iter().map(|(number, _)| number);
        let known: HashSet<SessionNumber> = sessions.chain(groups).chain(estates).collect();
        let mut cursors: HashMap<SessionNumber, Cursor> = cursors.into_iter().collect();
        for grown in growths.iter().flat_map(|(_, growth)| &growth.queues) {
            grown.bring(&mut cursors);
        }
        pending.found_growth(&growths);
        for (session, identifiers) in inbound {
            pending.found_identifiers(session, identifiers);
        }
        for (_, chunk) in outbox {
            pending.found_outbox(&chunk);
        }
        for (session, cursor) in cursors {
            pending.found(session, cursor);
            if !known.contains(&session) {
                // Its Session ended, and the crash came before all of it was deleted.
                pending.end(session);
                pending.advance();
            }
        }
        let retained = retained.into_iter().map(|(_, record)| record.message).collect();
        Ok(Self { pending, retained })
    }
}

/// All records of one kind.
async fn scan<R: Record>(db: &Db, shard: ShardId) -> Result<Vec<(R::Key, R)>, OpenError> {
    let failed = |source| OpenError::Database { shard, source };
    let wrong = |source| OpenError::Record { shard, source };
    let options = ScanOptions::default().with_read_ahead_bytes(SCAN_BYTES);
    let mut rows = db.scan_prefix_with_options(R::KIND.prefix(), .., &options).await.map_err(failed)?;
    let mut records = Vec::new();
    while let Some(row) = rows.next().await.map_err(failed)? {
        records.push((R::decode_key(&row.key).map_err(wrong)?, R::decode(&row.value).map_err(wrong)?));
    }
    Ok(records)
}

impl Store for DurableStore {
    fn shards(&self) -> Shards {
        self.shards
    }

    fn outlives_process(&self) -> bool {
        true
    }

    fn append(&self, session: SessionNumber, sequence: Sequence, entry: QueueEntry) -> Position {
        self.change(session.shard(), |pending| pending.append(session, sequence, entry)).1
    }

    fn try_page(
        &self,
        session: SessionNumber,
        _from: Sequence,
        _max_entries: usize,
        _max_bytes: usize,
    ) -> Option<Vec<(Sequence, QueueEntry)>> {
        (self.queue(session).messages == 0).then(Vec::new)
    }

    fn page(
        &self,
        session: SessionNumber,
        from: Sequence,
        max_entries: usize,
        max_bytes: usize,
    ) -> BoxFuture<'_, Result<Vec<(Sequence, QueueEntry)>, ReadError>> {
        Box::pin(self.part(session.shard()).page(session, from, max_entries, max_bytes))
    }

    fn remove_through(&self, session: SessionNumber, sequence: Sequence) -> Position {
        self.change(session.shard(), |pending| pending.remove_through(session, sequence)).1
    }

    fn remove(&self, session: SessionNumber, sequence: Sequence) -> Position {
        self.change(session.shard(), |pending| pending.remove(session, sequence)).1
    }

    fn remove_session(&self, session: SessionNumber) -> Position {
        self.change(session.shard(), |pending| pending.end(session)).1
    }

    fn write(&self, shard: ShardId, batch: Batch) -> Position {
        let Batch { rows, changes } = batch;
        let write = |pending: &mut Pending| {
            for (key, value) in rows {
                pending.row(key, value);
            }
            for change in changes {
                match change {
                    Change::Append(session, sequence, entry) => pending.append(session, sequence, entry),
                    Change::RemoveThrough(session, sequence) => pending.remove_through(session, sequence),
                    Change::Remove(session, sequence) => pending.remove(session, sequence),
                    Change::Sent(session, sent) => pending.sent(session, sent),
                    Change::End(session) => pending.end(session),
                    Change::Begin(session, id) => pending.begin(session, id),
                    Change::Finish(session, id) => pending.finish(session, id),
                    Change::Send(number, row) => pending.send(number, row),
                    Change::Done(number) => pending.done(number),
                    Change::Applied(publisher, number) => pending.applied(publisher, number),
                }
            }
        };
        self.change(shard, write).1
    }

    fn queue(&self, session: SessionNumber) -> QueueUsage {
        self.part(session.shard()).pending.lock().usage(session)
    }

    fn set_retained(&self, message: Arc<Message>, limit: RetainedLimit) -> Result<Position, RetainedFull> {
        let topic = message.topic().to_owned();
        let (outcome, position) = self.change(self.shards.of(&topic), |pending| {
            self.retained.set_retained(message.clone(), limit)?;
            if !is_figure(&topic) {
                pending.row(Retained::key(&topic), Some(Retained { message }.encode()));
            }
            Ok(())
        });
        outcome.map(|()| position)
    }

    fn remove_retained(&self, topic: &str) -> Position {
        let change = |pending: &mut Pending| {
            if self.retained.take_retained(topic) && !is_figure(topic) {
                pending.row(Retained::key(&topic.to_owned()), None);
            }
        };
        self.change(self.shards.of(topic), change).1
    }

    fn expire_retained(&self, from: Option<&RetainedCursor>, max_topics: usize, now: u64) -> Option<RetainedCursor> {
        let (expired, next) = self.retained.expired_retained(from, max_topics, now);
        for message in expired {
            let topic = message.topic().to_owned();
            self.change(self.shards.of(&topic), |pending| {
                if self.retained.remove_if_expired(&topic, now) {
                    pending.row(Retained::key(&topic), None);
                }
            });
        }
        next
    }

    fn retained_usage(&self) -> RetainedUsage {
        self.retained.retained_usage()
    }

    fn try_retained_page(
        &self,
        filter: &str,
        from: Option<&RetainedCursor>,
        max_messages: usize,
        max_bytes: usize,
    ) -> Option<RetainedPage> {
        self.retained.try_retained_page(filter, from, max_messages, max_bytes)
    }

    fn retained_page<'a>(
        &'a self,
        filter: &'a str,
        from: Option<&'a RetainedCursor>,
        max_messages: usize,
        max_bytes: usize,
    ) -> BoxFuture<'a, Result<RetainedPage, ReadError>> {
        self.retained.retained_page(filter, from, max_messages, max_bytes)
    }

    fn durable(&self, shard: ShardId) -> Position {
        Position(self.part(shard).durable())
    }

    fn position(&self, shard: ShardId) -> Position {
        Position(self.part(shard).position())
    }

    fn together(&self, shard: ShardId, work: &mut dyn FnMut()) {
        let _together = self.part(shard).together.read();
        work();
    }

    fn poll_durable(&self, shard: ShardId, position: Position, context: &mut Context<'_>) -> Poll<Result<(), DurableError>> {
        self.part(shard).poll_durable(position.0, context.waker())
    }

    fn wait_durable(&self, shard: ShardId, position: Position) -> BoxFuture<'_, Result<(), DurableError>> {
        Box::pin(self.part(shard).wait_durable(position.0))
    }

    fn is_refused(&self, shard: ShardId) -> bool {
        self.part(shard).refused().is_some()
    }

    fn unwritten_bytes(&self) -> u64 {
        let bytes = |shard: &Arc<Shard>| shard.unwritten.load(Ordering::Relaxed) + shard.unflushed.load(Ordering::Relaxed);
        self.parts.iter().map(bytes).sum()
    }

    fn slowest_write(&self) -> Option<(ShardId, Duration)> {
        self.parts.iter().filter_map(|shard| Some((shard.id, shard.writing_for()?))).max_by_key(|(_, since)| *since)
    }

    fn usage(&self) -> Usage {
        let mut usage = Usage { retained: self.retained_usage(), ..Usage::default() };
        for part in &self.parts {
            let (queues, messages, bytes) = part.pending.lock().totals();
            usage.queues += queues;
            usage.queued_messages += messages;
            usage.queued_bytes += bytes;
        }
        usage
    }
}

#[cfg(test)]
mod tests;
