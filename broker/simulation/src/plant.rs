//! Bugs planted from outside, to see that the simulation finds them: the code of the broker does not know of them.

use std::sync::Arc;
use std::task::{Context, Poll};

use bucketmq::durable::outbox::Outbox;
use bucketmq_packet::message::{Message, QueueEntry};
use bucketmq_storage::record::applied::Applied;
use bucketmq_storage::record::outbox::OutboxNumber;
use bucketmq_storage::{
    Batch, BoxFuture, DurableError, DurableStore, Position, QueueUsage, ReadError, RetainedCursor, RetainedFull, RetainedLimit,
    RetainedPage, RetainedUsage, Sequence, SessionNumber, ShardId, Shards, Store, Usage,
};

/// What is planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Plant {
    /// What is written counts as durable at once: acknowledgements go out too early.
    EarlyAcknowledgement,
    /// The bucket does not look at the conditions of writes: two brokers write the same shard.
    LostFence,
    /// The outbox of a broker that starts numbers its rows from the beginning again.
    ReusedNumber,
    /// Sessions of a broker that starts are numbered from the beginning again.
    ReusedSession,
}

impl Plant {
    /// The name in arguments.
    pub fn name(self) -> &'static str {
        match self {
            Self::EarlyAcknowledgement => "early-acknowledgement",
            Self::LostFence => "lost-fence",
            Self::ReusedNumber => "reused-number",
            Self::ReusedSession => "reused-session",
        }
    }

    /// The store as the broker sees it.
    pub fn store(planted: Option<Self>, store: Arc<DurableStore>) -> Arc<dyn Store> {
        if planted == Some(Self::EarlyAcknowledgement) { Arc::new(Early(store)) } else { store }
    }

    /// The first number of a new Session.
    pub fn next_number(planted: Option<Self>, right: u64) -> u64 {
        if planted == Some(Self::ReusedSession) { 1 } else { right }
    }

    /// The outboxes with which a broker starts.
    pub async fn outboxes(planted: Option<Self>, store: &DurableStore, right: Vec<Outbox>) -> anyhow::Result<Vec<Outbox>> {
        if planted != Some(Self::ReusedNumber) {
            return Ok(right);
        }
        let count = usize::from(store.shards().count());
        let mut marks = vec![vec![OutboxNumber::default(); count]; count];
        let mut outboxes = Vec::new();
        for target in store.shards().all() {
            for (publisher, applied) in store.records::<Applied>(target).await? {
                marks[publisher.index()][target.index()] = applied.number;
            }
        }
        for publisher in store.shards().all() {
            let rows = store.outbox(publisher).await?;
            outboxes.push(Outbox::new(1, rows, std::mem::take(&mut marks[publisher.index()])));
        }
        Ok(outboxes)
    }
}

/// A store that takes everything for durable.
struct Early(Arc<DurableStore>);

impl Store for Early {
    fn durable(&self, _: ShardId) -> Position {
        Position(u64::MAX)
    }

    fn poll_durable(&self, _: ShardId, _: Position, _: &mut Context<'_>) -> Poll<Result<(), DurableError>> {
        Poll::Ready(Ok(()))
    }

    fn wait_durable(&self, _: ShardId, _: Position) -> BoxFuture<'_, Result<(), DurableError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn shards(&self) -> Shards {
        self.0.shards()
    }

    fn outlives_process(&self) -> bool {
        self.0.outlives_process()
    }

    fn append(&self, session: SessionNumber, sequence: Sequence, entry: QueueEntry) -> Position {
        self.0.append(session, sequence, entry)
    }

    fn try_page(&self, session: SessionNumber, from: Sequence, entries: usize, bytes: usize) -> Option<Vec<(Sequence, QueueEntry)>> {
        self.0.try_page(session, from, entries, bytes)
    }

    fn page(
        &self,
        session: SessionNumber,
        from: Sequence,
        entries: usize,
        bytes: usize,
    ) -> BoxFuture<'_, Result<Vec<(Sequence, QueueEntry)>, ReadError>> {
        self.0.page(session, from, entries, bytes)
    }

    fn remove_through(&self, session: SessionNumber, sequence: Sequence) -> Position {
        self.0.remove_through(session, sequence)
    }

    fn remove(&self, session: SessionNumber, sequence: Sequence) -> Position {
        self.0.remove(session, sequence)
    }

    fn remove_session(&self, session: SessionNumber) -> Position {
        self.0.remove_session(session)
    }

    fn write(&self, shard: ShardId, batch: Batch) -> Position {
        self.0.write(shard, batch)
    }

    fn queue(&self, session: SessionNumber) -> QueueUsage {
        self.0.queue(session)
    }

    fn set_retained(&self, message: Arc<Message>, limit: RetainedLimit) -> Result<Position, RetainedFull> {
        self.0.set_retained(message, limit)
    }

    fn remove_retained(&self, topic: &str) -> Position {
        self.0.remove_retained(topic)
    }

    fn expire_retained(&self, from: Option<&RetainedCursor>, topics: usize, now: u64) -> Option<RetainedCursor> {
        self.0.expire_retained(from, topics, now)
    }

    fn retained_usage(&self) -> RetainedUsage {
        self.0.retained_usage()
    }

    fn try_retained_page(&self, filter: &str, from: Option<&RetainedCursor>, messages: usize, bytes: usize) -> Option<RetainedPage> {
        self.0.try_retained_page(filter, from, messages, bytes)
    }

    fn retained_page<'a>(
        &'a self,
        filter: &'a str,
        from: Option<&'a RetainedCursor>,
        messages: usize,
        bytes: usize,
    ) -> BoxFuture<'a, Result<RetainedPage, ReadError>> {
        self.0.retained_page(filter, from, messages, bytes)
    }

    fn position(&self, shard: ShardId) -> Position {
        self.0.position(shard)
    }

    fn together(&self, shard: ShardId, work: &mut dyn FnMut()) {
        self.0.together(shard, work);
    }

    fn unwritten_bytes(&self) -> u64 {
        self.0.unwritten_bytes()
    }

    fn usage(&self) -> Usage {
        self.0.usage()
    }
}
