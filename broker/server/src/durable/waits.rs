//! What an answer has to wait for: in each shard the newest change it rests on.

use std::task::{Context, Poll};

use bucketmq_storage::{DurableError, Position, ShardId, Store};

/// Changes, the newest of each shard; few shards, so a list.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Waits(Vec<(ShardId, Position)>);

impl Waits {
    /// One change.
    pub fn one(shard: ShardId, position: Position) -> Self {
        Self(vec![(shard, position)])
    }

    /// Also this one.
    #[inline]
    pub fn add(&mut self, shard: ShardId, position: Position) {
        match self.0.iter_mut().find(|(known, _)| *known == shard) {
            Some((_, newest)) => *newest = position.max(*newest),
            None => self.0.push((shard, position)),
        }
    }

    /// Also all of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (shard, position) in &other.0 {
            self.add(*shard, *position);
        }
    }

    /// All but what is of `shard`.
    pub fn without(mut self, shard: ShardId) -> Self {
        self.0.retain(|(other, _)| *other != shard);
        self
    }

    /// True when there is nothing to wait for.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes all out, keeping the memory only when there was nothing.
    #[inline]
    pub fn take(&mut self) -> Self {
        if self.0.is_empty() { Self::default() } else { std::mem::take(self) }
    }

    /// Forgets what is durable already. True: nothing is left.
    pub fn is_durable(&mut self, store: &dyn Store) -> bool {
        self.0.retain(|(shard, position)| store.durable(*shard) < *position);
        self.0.is_empty()
    }

    /// Ready when all is durable, or some of it never will be; otherwise the task of `context` is woken for the next look.
    pub fn poll(&mut self, store: &dyn Store, context: &mut Context<'_>) -> Poll<Result<(), DurableError>> {
        while let Some((shard, position)) = self.0.last() {
            match store.poll_durable(*shard, *position, context) {
                Poll::Ready(Ok(())) => {
                    self.0.pop();
                }
                other => return other,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The same for a task that looks again and again: it leaves its waker once for each change, which `registered` remembers.
    pub fn poll_once(
        &mut self,
        store: &dyn Store,
        context: &mut Context<'_>,
        registered: &mut Option<(ShardId, Position)>,
    ) -> Poll<Result<(), DurableError>> {
        if let Some((shard, position)) = registered
            && self.0.last() == Some(&(*shard, *position))
            && store.durable(*shard) < *position
        {
            return Poll::Pending;
        }
        let outcome = self.poll(store, context);
        *registered = if outcome.is_pending() { self.0.last().copied() } else { None };
        outcome
    }

    /// Waits until all is durable.
    pub async fn wait(mut self, store: &dyn Store) -> Result<(), DurableError> {
        std::future::poll_fn(|context| self.poll(store, context)).await
    }
}
