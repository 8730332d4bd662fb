//! A store in this process's memory. It promises nothing beyond the process: every write counts as durable at once.

use std::collections::VecDeque;
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use hashbrown::HashMap;
use parking_lot::{Mutex, MutexGuard};

use crate::batch::{Batch, Change};
use crate::retained::{Budget, Retained};
use crate::shard::{ShardId, Shards};
use crate::store::{
    BoxFuture, DurableError, Position, QueueUsage, ReadError, RetainedCursor, RetainedFull, RetainedLimit, RetainedPage, RetainedUsage,
    Sequence, SessionNumber, Store, Usage,
};
use bucketmq_packet::message::{Message, QueueEntry};

/// Queues with room for more than this give memory back when it is not used.
const QUEUE_ROOM_KEPT: usize = 64;

/// Keeps everything in memory, each shard under a lock of its own.
#[derive(Debug)]
pub struct MemoryStore {
    shards: Shards,
    parts: Box<[Part]>,
    retained_messages: AtomicU64,
    retained_bytes: AtomicU64,
}

/// One shard; two of them do not share a pair of cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Part(Mutex<Contents>);

#[derive(Debug, Default)]
struct Contents {
    position: u64,
    /// None is empty.
    queues: HashMap<SessionNumber, Queue>,
    queued_messages: u64,
    queued_bytes: u64,
    retained: Retained,
}

#[derive(Debug, Default)]
struct Queue {
    /// Sorted by sequence.
    entries: VecDeque<(Sequence, QueueEntry)>,
    bytes: u64,
}

impl Contents {
    fn advance(&mut self) -> Position {
        self.position += 1;
        Position(self.position)
    }
}

impl Queue {
    fn from(&self, sequence: Sequence) -> usize {
        // Nearly always the beginning is asked for.
        if self.entries.front().is_none_or(|(first, _)| *first >= sequence) {
            return 0;
        }
        self.entries.partition_point(|(known, _)| *known < sequence)
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new(shards: Shards) -> Self {
        Self {
            shards,
            parts: shards.all().map(|_| Part::default()).collect(),
            retained_messages: AtomicU64::new(0),
            retained_bytes: AtomicU64::new(0),
        }
    }

    fn part(&self, shard: ShardId) -> MutexGuard<'_, Contents> {
        self.parts[shard.index()].0.lock()
    }

    /// Removes the retained message of `topic`. True: there was one.
    pub(crate) fn take_retained(&self, topic: &str) -> bool {
        let removed = self.part(self.shards.of(topic)).retained.remove(topic);
        let was_there = removed.is_some();
        self.retained_removed(removed);
        was_there
    }

    /// What has expired at `now` among the next `max_topics` topics, and where to go on.
    pub(crate) fn expired_retained(
        &self,
        from: Option<&RetainedCursor>,
        max_topics: usize,
        now: u64,
    ) -> (Vec<Arc<Message>>, Option<RetainedCursor>) {
        let (first, mut after) = from.map_or((0, None), |cursor| (cursor.shard.0, cursor.after.as_deref()));
        let mut left = max_topics.max(1);
        let mut expired = Vec::new();
        for shard in (first..self.shards.count()).map(ShardId) {
            if left == 0 {
                return (expired, Some(RetainedCursor { shard, after: None }));
            }
            let stopped = self.part(shard).retained.scan(after.take(), |message| {
                if message.is_expired(now) {
                    expired.push(message.clone());
                }
                left -= 1;
                left > 0
            });
            if stopped.is_some() {
                return (expired, Some(RetainedCursor { shard, after: stopped }));
            }
        }
        (expired, None)
    }

    /// Removes the retained message of `topic` if it has expired at `now`: another may have taken its place. True: it was removed.
    pub(crate) fn remove_if_expired(&self, topic: &str, now: u64) -> bool {
        let mut part = self.part(self.shards.of(topic));
        if !part.retained.get(topic).is_some_and(|message| message.is_expired(now)) {
            return false;
        }
        let removed = part.retained.remove(topic);
        part.advance();
        drop(part);
        self.retained_removed(removed);
        true
    }

    fn retained_removed(&self, message: Option<Arc<Message>>) {
        if let Some(message) = message {
            self.retained_messages.fetch_sub(1, Ordering::Relaxed);
            self.retained_bytes.fetch_sub(message.len() as u64, Ordering::Relaxed);
        }
    }
}

impl Store for MemoryStore {
    fn shards(&self) -> Shards {
        self.shards
    }

    fn outlives_process(&self) -> bool {
        false
    }

    fn append(&self, session: SessionNumber, sequence: Sequence, entry: QueueEntry) -> Position {
        let bytes = entry.message.len() as u64;
        let mut part = self.part(session.shard());
        let queue = part.queues.entry(session).or_default();
        debug_assert!(queue.entries.back().is_none_or(|(last, _)| *last < sequence), "sequences only grow");
        queue.entries.push_back((sequence, entry));
        queue.bytes += bytes;
        part.queued_messages += 1;
        part.queued_bytes += bytes;
        part.advance()
    }

    fn try_page(
        &self,
        session: SessionNumber,
        from: Sequence,
        max_entries: usize,
        max_bytes: usize,
    ) -> Option<Vec<(Sequence, QueueEntry)>> {
        let part = self.part(session.shard());
        let Some(queue) = part.queues.get(&session) else { return Some(Vec::new()) };
        let from = queue.from(from);
        let mut page = Vec::with_capacity(max_entries.min(queue.entries.len() - from));
        let mut bytes = 0;
        for (sequence, entry) in queue.entries.range(from..).take(max_entries) {
            bytes += entry.message.len();
            if bytes > max_bytes && !page.is_empty() {
                break;
            }
            page.push((*sequence, entry.clone()));
        }
        Some(page)
    }

    fn page(
        &self,
        session: SessionNumber,
        from: Sequence,
        max_entries: usize,
        max_bytes: usize,
    ) -> BoxFuture<'_, Result<Vec<(Sequence, QueueEntry)>, ReadError>> {
        Box::pin(ready(Ok(self.try_page(session, from, max_entries, max_bytes).unwrap_or_default())))
    }

    fn remove_through(&self, session: SessionNumber, sequence: Sequence) -> Position {
        let mut part = self.part(session.shard());
        let part = &mut *part;
        let Some(queue) = part.queues.get_mut(&session) else { return part.advance() };
        let mut bytes = 0;
        while let Some((first, entry)) = queue.entries.front()
            && *first <= sequence
        {
            bytes += entry.message.len() as u64;
            queue.entries.pop_front();
            part.queued_messages -= 1;
        }
        queue.bytes -= bytes;
        part.queued_bytes -= bytes;
        let (len, room) = (queue.entries.len(), queue.entries.capacity());
        if len == 0 {
            part.queues.remove(&session);
        } else if room > QUEUE_ROOM_KEPT && len < room / 4 {
            queue.entries.shrink_to(len * 2);
        }
        part.advance()
    }

    fn remove(&self, session: SessionNumber, sequence: Sequence) -> Position {
        let mut part = self.part(session.shard());
        let part = &mut *part;
        if let Some(queue) = part.queues.get_mut(&session)
            && let Ok(place) = queue.entries.binary_search_by_key(&sequence, |(known, _)| *known)
            && let Some((_, entry)) = queue.entries.remove(place)
        {
            let bytes = entry.message.len() as u64;
            queue.bytes -= bytes;
            part.queued_messages -= 1;
            part.queued_bytes -= bytes;
            if queue.entries.is_empty() {
                part.queues.remove(&session);
            }
        }
        part.advance()
    }

    fn remove_session(&self, session: SessionNumber) -> Position {
        let mut part = self.part(session.shard());
        let queue = part.queues.remove(&session);
        if let Some(queue) = &queue {
            part.queued_messages -= queue.entries.len() as u64;
            part.queued_bytes -= queue.bytes;
        }
        let position = part.advance();
        drop(part);
        // A long queue is taken apart without the lock.
        drop(queue);
        position
    }

    fn write(&self, shard: ShardId, batch: Batch) -> Position {
        // Records are for those who come after this process; here is nobody.
        for change in batch.changes {
            match change {
                Change::Append(session, sequence, entry) => self.append(session, sequence, entry),
                Change::RemoveThrough(session, sequence) => self.remove_through(session, sequence),
                Change::Remove(session, sequence) => self.remove(session, sequence),
                Change::Sent(session, _) => self.durable(session.shard()),
                Change::End(session) => self.remove_session(session),
                Change::Begin(..) | Change::Finish(..) | Change::Send(..) | Change::Done(_) | Change::Applied(..) => self.durable(shard),
            };
        }
        self.part(shard).advance()
    }

    fn queue(&self, session: SessionNumber) -> QueueUsage {
        let part = self.part(session.shard());
        part.queues.get(&session).map_or(QueueUsage::default(), |queue| QueueUsage {
            first: queue.entries.front().map(|(sequence, _)| *sequence),
            last: queue.entries.back().map(|(sequence, _)| *sequence),
            messages: queue.entries.len() as u64,
            bytes: queue.bytes,
        })
    }

    fn set_retained(&self, message: Arc<Message>, limit: RetainedLimit) -> Result<Position, RetainedFull> {
        let len = message.len() as u64;
        let mut part = self.part(self.shards.of(message.topic()));
        let messages = self.retained_messages.load(Ordering::Relaxed);
        let bytes = self.retained_bytes.load(Ordering::Relaxed) + len;
        // Only near a limit does it matter what is replaced.
        if messages >= limit.messages || bytes > limit.bytes {
            let before = part.retained.get(message.topic());
            if messages >= limit.messages && before.is_none() {
                return Err(RetainedFull::Messages);
            }
            if bytes > limit.bytes.saturating_add(before.map_or(0, |before| before.len() as u64)) {
                return Err(RetainedFull::Bytes);
            }
        }
        self.retained_messages.fetch_add(1, Ordering::Relaxed);
        self.retained_bytes.fetch_add(len, Ordering::Relaxed);
        let before = part.retained.insert(message);
        self.retained_removed(before);
        Ok(part.advance())
    }

    fn remove_retained(&self, topic: &str) -> Position {
        self.take_retained(topic);
        self.part(self.shards.of(topic)).advance()
    }

    fn expire_retained(&self, from: Option<&RetainedCursor>, max_topics: usize, now: u64) -> Option<RetainedCursor> {
        let (expired, next) = self.expired_retained(from, max_topics, now);
        for message in expired {
            self.remove_if_expired(message.topic(), now);
        }
        next
    }

    fn retained_usage(&self) -> RetainedUsage {
        RetainedUsage { messages: self.retained_messages.load(Ordering::Relaxed), bytes: self.retained_bytes.load(Ordering::Relaxed) }
    }

    fn try_retained_page(
        &self,
        filter: &str,
        from: Option<&RetainedCursor>,
        max_messages: usize,
        max_bytes: usize,
    ) -> Option<RetainedPage> {
        if !filter.contains(['+', '#']) {
            let messages = self.part(self.shards.of(filter)).retained.get(filter).cloned().into_iter().collect();
            return Some(RetainedPage { messages, next: None });
        }
        let (first, mut after) = from.map_or((0, None), |cursor| (cursor.shard.0, cursor.after.as_deref()));
        let mut page = RetainedPage::default();
        let mut budget = Budget::new(max_messages, max_bytes);
        for shard in (first..self.shards.count()).map(ShardId) {
            if budget.is_spent() {
                page.next = Some(RetainedCursor { shard, after: None });
                break;
            }
            let stopped = self.part(shard).retained.page(filter, after.take(), &mut budget, &mut page.messages);
            if stopped.is_some() {
                page.next = Some(RetainedCursor { shard, after: stopped });
                break;
            }
        }
        Some(page)
    }

    fn retained_page<'a>(
        &'a self,
        filter: &'a str,
        from: Option<&'a RetainedCursor>,
        max_messages: usize,
        max_bytes: usize,
    ) -> BoxFuture<'a, Result<RetainedPage, ReadError>> {
        Box::pin(ready(Ok(self.try_retained_page(filter, from, max_messages, max_bytes).unwrap_or_default())))
    }

    fn durable(&self, shard: ShardId) -> Position {
        Position(self.part(shard).position)
    }

    fn position(&self, shard: ShardId) -> Position {
        self.durable(shard)
    }

    fn together(&self, _shard: ShardId, work: &mut dyn FnMut()) {
        work();
    }

    fn poll_durable(&self, _shard: ShardId, _position: Position, _context: &mut Context<'_>) -> Poll<Result<(), DurableError>> {
        Poll::Ready(Ok(()))
    }

    fn wait_durable(&self, _shard: ShardId, _position: Position) -> BoxFuture<'_, Result<(), DurableError>> {
        Box::pin(ready(Ok(())))
    }

    fn usage(&self) -> Usage {
        let mut usage = Usage { retained: self.retained_usage(), ..Usage::default() };
        for part in &self.parts {
            let part = part.0.lock();
            usage.queues += part.queues.len() as u64;
            usage.queued_messages += part.queued_messages;
            usage.queued_bytes += part.queued_bytes;
        }
        usage
    }
}

#[cfg(test)]
mod tests;
