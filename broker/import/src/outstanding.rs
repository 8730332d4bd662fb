//! What was written and may not be durable yet: bounded, and waited for in the end.

use std::collections::HashMap;

use bucketmq_storage::{DurableError, DurableStore, Position, ShardId, Store};

/// What a record costs beside what is in it, about.
pub const RECORD_BYTES: usize = 128;

/// Writes whose end is awaited when there are too many of them.
#[derive(Debug)]
pub struct Outstanding {
    /// What has to be durable in the end.
    positions: HashMap<ShardId, Position>,
    bytes: usize,
    bytes_max: usize,
}

impl Outstanding {
    /// Lets about `bytes_max` bytes wait in memory.
    pub fn new(bytes_max: usize) -> Self {
        Self { positions: HashMap::new(), bytes: 0, bytes_max }
    }

    /// Notes a write of `bytes` bytes, and waits when too much waits.
    pub async fn wrote(&mut self, store: &DurableStore, shard: ShardId, position: Position, bytes: usize) -> Result<(), DurableError> {
        self.positions.insert(shard, position);
        self.bytes += bytes;
        if self.bytes >= self.bytes_max {
            self.settle(store).await?;
        }
        Ok(())
    }

    /// Waits until everything written so far is durable. Shard by shard, and they write side by side: each is already about it.
    pub async fn settle(&mut self, store: &DurableStore) -> Result<(), DurableError> {
        for (shard, position) in self.positions.drain() {
            store.wait_durable(shard, position).await?;
        }
        self.bytes = 0;
        Ok(())
    }
}
