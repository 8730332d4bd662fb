//! Which Subscriptions match a Topic Name.
//!
//! Pure: no I/O, no clock, no lock. [`Subscriptions`] is generic over the handle of a subscriber, so that the broker keeps its Clients in it and
//! tests keep numbers. A filter without a wildcard is one entry of a hash table, found by hashing the whole Topic Name once; only filters with a
//! wildcard stand in a trie, walked without recursion. What matches is written into a [`Matches`] whose memory is reused.
//!
//! Retained messages are looked up the other way round (one filter, many names) and live where they are stored: `bucketmq_storage::Retained`.

mod filters;
mod generation;
mod group;
mod identifiers;
mod matches;
mod options;
mod subscribers;
mod subscriptions;
mod trie;

pub use generation::Generation;
pub use group::{Group, Member, Strategy};
pub use identifiers::Identifiers;
pub use matches::{Matched, Matches};
pub use options::Options;
pub use subscriptions::Subscriptions;
