//! Queues and retained messages, by shard, behind one narrow trait.
//!
//! [`Store`] is what the broker asks for everything that does not live in a connected Session's window. [`memory::MemoryStore`] keeps it in
//! this process. Every implementation passes the same tests, `suite`.

pub mod batch;
pub mod durable;
pub mod memory;
pub mod offline;
pub mod record;
pub mod retained;
pub mod root;
pub mod shard;
pub mod store;
#[cfg(any(test, feature = "suite"))]
pub mod suite;

pub use batch::Batch;
pub use bucketmq_packet::message::{Message, QueueEntry};
pub use durable::DurableStore;
pub use memory::MemoryStore;
pub use retained::Retained;
pub use root::Root;
pub use shard::{ShardCountError, ShardId, Shards};
pub use store::{
    BoxFuture, DurableError, Position, QueueUsage, ReadError, RetainedCursor, RetainedFull, RetainedLimit, RetainedPage, RetainedUsage,
    Sequence, SessionNumber, Store, Usage,
};
