//! The narrow trait between the broker and whatever keeps its queues and retained messages.
//!
//! Writes are taken at once and answer with a [`Position`]; whether they can still be lost is asked with [`Store::durable`] and awaited with
//! [`Store::wait_durable`], which is also where a failed write shows. Reads that need no waiting have a `try_` form; the others are futures.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use thiserror::Error;

use crate::batch::Batch;
use crate::shard::{ShardId, Shards};
use bucketmq_packet::message::{Message, QueueEntry};

/// A future a trait object can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A Session, or the queue of a Shared Subscription, as it stands in keys: its shard in the highest 16 bits, below them a number that is not
/// used twice in that shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionNumber(pub u64);

impl SessionNumber {
    const SHARD_SHIFT: u32 = 48;

    /// The `counter`th Session of `shard`. A shard that makes a million Sessions a second runs out after nine years.
    #[inline]
    pub const fn new(shard: ShardId, counter: u64) -> Self {
        Self(((shard.0 as u64) << Self::SHARD_SHIFT) | (counter & ((1 << Self::SHARD_SHIFT) - 1)))
    }

    /// What tells it from others of its shard.
    #[inline]
    pub const fn counter(self) -> u64 {
        self.0 & ((1 << Self::SHARD_SHIFT) - 1)
    }

    /// Where its queue is kept.
    #[inline]
    pub const fn shard(self) -> ShardId {
        ShardId((self.0 >> Self::SHARD_SHIFT) as u16)
    }
}

/// A place in a queue. Sequences of one queue only grow and may have gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Sequence(pub u64);

/// How far the writes of one shard have come; grows with every write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

/// What one queue holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueUsage {
    /// The oldest entry.
    pub first: Option<Sequence>,
    /// The newest.
    pub last: Option<Sequence>,
    /// How many.
    pub messages: u64,
    /// Topics, properties and payloads, as if no message were shared.
    pub bytes: u64,
}

/// What the whole store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Queues with at least one entry.
    pub queues: u64,
    /// Entries of all queues.
    pub queued_messages: u64,
    /// Their topics, properties and payloads, as if no message were shared.
    pub queued_bytes: u64,
    /// Retained messages.
    pub retained: RetainedUsage,
}

/// What is retained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RetainedUsage {
    /// How many.
    pub messages: u64,
    /// Their topics, properties and payloads.
    pub bytes: u64,
}

/// Bounds of what is retained. Writers in different shards look at the same totals without waiting for each other, so each of them may go
/// beyond by one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetainedLimit {
    /// Messages.
    pub messages: u64,
    /// Topics, properties and payloads.
    pub bytes: u64,
}

impl RetainedLimit {
    /// No bounds.
    pub const NONE: Self = Self { messages: u64::MAX, bytes: u64::MAX };
}

/// There is no room for another retained message; a topic that has one still keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RetainedFull {
    /// By number.
    #[error("as many retained messages as allowed")]
    Messages,
    /// By size.
    #[error("as many bytes of retained messages as allowed")]
    Bytes,
}

/// Some of the retained messages that match a filter.
#[derive(Debug, Default)]
pub struct RetainedPage {
    /// Ordered by topic within each shard. Expired ones are among them until [`Store::expire_retained`] finds them.
    pub messages: Vec<Arc<Message>>,
    /// Where to go on; `None`: that was all. There may be more even when `messages` is empty, because the search is bounded too.
    pub next: Option<RetainedCursor>,
}

/// Where a walk over retained messages goes on. It stays good whatever is set or removed in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetainedCursor {
    pub(crate) shard: ShardId,
    /// The last topic looked at in that shard.
    pub(crate) after: Option<Box<str>>,
}

/// Something could not be read.
#[derive(Debug, Error)]
#[error("shard {shard} cannot be read")]
pub struct ReadError {
    /// Of which shard.
    pub shard: ShardId,
    /// Why.
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}

/// Writes will not become durable here: the shard is lost to this process.
#[derive(Debug, Error)]
#[error("shard {shard} takes no more writes")]
pub struct DurableError {
    /// Which shard.
    pub shard: ShardId,
    /// Why.
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}

/// Queues and retained messages. Methods that are not futures never block longer than a short lock.
pub trait Store: Send + Sync {
    /// How the store is divided.
    fn shards(&self) -> Shards;

    /// True when what is written here outlives this process.
    fn outlives_process(&self) -> bool;

    /// Puts `entry` into the queue of `session`. Sequences of one queue only grow.
    fn append(&self, session: SessionNumber, sequence: Sequence, entry: QueueEntry) -> Position;

    /// Entries of the queue from `from` on, oldest first: at most `max_entries` and at most `max_bytes` of messages, but the first in any case.
    /// Empty: there are none. `None`: they are not at hand, ask [`page`](Self::page).
    fn try_page(&self, session: SessionNumber, from: Sequence, max_entries: usize, max_bytes: usize)
    -> Option<Vec<(Sequence, QueueEntry)>>;

    /// The same, waiting for the entries to come.
    fn page(
        &self,
        session: SessionNumber,
        from: Sequence,
        max_entries: usize,
        max_bytes: usize,
    ) -> BoxFuture<'_, Result<Vec<(Sequence, QueueEntry)>, ReadError>>;

    /// Removes every entry up to and with `sequence`.
    fn remove_through(&self, session: SessionNumber, sequence: Sequence) -> Position;
    /// Forgets the entry `sequence` alone; nothing when it is not there.
    fn remove(&self, session: SessionNumber, sequence: Sequence) -> Position;

    /// Removes the queue as a whole.
    fn remove_session(&self, session: SessionNumber) -> Position;

    /// Makes all changes of `batch`, which are all of `shard`, in their order, kept or lost together.
    fn write(&self, shard: ShardId, batch: Batch) -> Position;

    /// What the queue holds.
    fn queue(&self, session: SessionNumber) -> QueueUsage;

    /// Makes `message` the retained message of its topic [MQTT-3.3.1-5]; the position is in the shard of that topic. A message with an empty
    /// payload is not retained but removes: see [`remove_retained`](Self::remove_retained) [MQTT-3.3.1-6] [MQTT-3.3.1-7].
    fn set_retained(&self, message: Arc<Message>, limit: RetainedLimit) -> Result<Position, RetainedFull>;

    /// Removes the retained message of `topic`, if there is one.
    fn remove_retained(&self, topic: &str) -> Position;

    /// Removes what has expired at `now`, milliseconds since 1970, among the next `max_topics` topics, whatever they begin with
    /// [MQTT-3.3.2-5]. Comes back with where to go on; `None`: all were looked at.
    fn expire_retained(&self, from: Option<&RetainedCursor>, max_topics: usize, now: u64) -> Option<RetainedCursor>;

    /// How much is retained; cheap enough to ask for every message.
    fn retained_usage(&self) -> RetainedUsage;

    /// Retained messages that match `filter`, from the cursor on or from the beginning: at most `max_messages` and about `max_bytes`, but always
    /// some progress. `None`: they are not at hand, ask [`retained_page`](Self::retained_page).
    fn try_retained_page(&self, filter: &str, from: Option<&RetainedCursor>, max_messages: usize, max_bytes: usize)
    -> Option<RetainedPage>;

    /// The same, waiting for the messages to come.
    fn retained_page<'a>(
        &'a self,
        filter: &'a str,
        from: Option<&'a RetainedCursor>,
        max_messages: usize,
        max_bytes: usize,
    ) -> BoxFuture<'a, Result<RetainedPage, ReadError>>;

    /// Every write of `shard` up to here survives whatever happens to this process, as far as this store can promise that.
    fn durable(&self, shard: ShardId) -> Position;

    /// The last change of `shard`, durable or not: what was made before this call is at or before it.
    fn position(&self, shard: ShardId) -> Position;

    /// Makes all changes `work` makes in `shard` kept or lost together. `work` must not wait for anything but short locks, and whoever holds a
    /// lock that `work` takes must not call this.
    fn together(&self, shard: ShardId, work: &mut dyn FnMut());

    /// Ready when `position` of `shard` is durable, or never will be; otherwise the task of `context` is woken when it is.
    fn poll_durable(&self, shard: ShardId, position: Position, context: &mut Context<'_>) -> Poll<Result<(), DurableError>>;

    /// Waits until `position` of `shard` is durable.
    fn wait_durable(&self, shard: ShardId, position: Position) -> BoxFuture<'_, Result<(), DurableError>>;

    /// True when the shard cannot be read: nothing of it is served, and nothing written to it is ever durable.
    fn is_refused(&self, _shard: ShardId) -> bool {
        false
    }

    /// Bytes of changes that are in this process only: nobody has asked the bucket to take them, or it has not said that it did.
    fn unwritten_bytes(&self) -> u64 {
        0
    }

    /// The shard whose write has been under way longest, and how long: what a bucket that does not answer looks like.
    fn slowest_write(&self) -> Option<(ShardId, Duration)> {
        None
    }

    /// What the store holds, for metrics: it visits every shard.
    fn usage(&self) -> Usage;
}
