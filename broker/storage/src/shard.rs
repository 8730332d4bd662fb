//! Which shard a key belongs to.
//!
//! The choice is stored with everything that is stored, so it never changes: XXH3 (64 bit, seed 0, default secret) of the key's UTF-8 bytes,
//! its lowest bits. A test holds it to known values.

use std::fmt;

use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

/// Shards a bucket is divided into unless its first user says otherwise.
pub const SHARD_COUNT_DEFAULT: u16 = 16;
/// Most shards: a shard costs memory and requests even when idle.
pub const SHARD_COUNT_MAX: u16 = 1024;

/// A shard, 0 to the number of shards minus 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

impl ShardId {
    /// As the place in an array with an element for each shard.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:02}", self.0)
    }
}

/// How many shards there are; fixed when a bucket prefix is first used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shards {
    count: u16,
}

/// The number of shards is not one there can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{0} shards: must be a power of two from 1 to {SHARD_COUNT_MAX}")]
pub struct ShardCountError(pub u16);

impl Shards {
    /// `count` shards.
    pub const fn new(count: u16) -> Result<Self, ShardCountError> {
        if count.is_power_of_two() && count <= SHARD_COUNT_MAX { Ok(Self { count }) } else { Err(ShardCountError(count)) }
    }

    /// How many.
    #[inline]
    pub const fn count(self) -> u16 {
        self.count
    }

    /// The shard of a Client Identifier or of a retained message's topic.
    #[inline]
    pub fn of(self, key: &str) -> ShardId {
        ShardId(xxh3_64(key.as_bytes()) as u16 & (self.count - 1))
    }

    /// All of them.
    pub fn all(self) -> impl Iterator<Item = ShardId> {
        (0..self.count).map(ShardId)
    }
}

impl Default for Shards {
    fn default() -> Self {
        Self { count: SHARD_COUNT_DEFAULT }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stays_in_its_shard_for_ever() {
        // The empty key pins the algorithm to its published test vector; the others pin our use of it.
        assert_eq!(xxh3_64(b""), 0x2d06_8005_38d3_94c2);
        let golden = [("", 194), ("a", 543), ("client-1", 878), ("sensors/kitchen/temperature", 928), ("\u{e9}\u{4e16}", 447)];
        for (key, of_1024) in golden {
            for count in [1, 2, 16, 256, 1024] {
                assert_eq!(Shards::new(count).unwrap().of(key), ShardId(of_1024 & (count - 1)), "{key} of {count}");
            }
        }
    }

    #[test]
    fn keys_spread_over_all_shards() {
        let shards = Shards::default();
        let mut counts = [0; SHARD_COUNT_DEFAULT as usize];
        for number in 0..16_000 {
            counts[shards.of(&format!("client-{number}")).index()] += 1;
        }
        assert!(counts.iter().all(|count| (850..1_150).contains(count)), "{counts:?}");
    }

    #[test]
    fn only_powers_of_two_are_taken() {
        for count in [1, 2, 16, 1024] {
            assert_eq!(Shards::new(count).unwrap().all().count(), usize::from(count));
        }
        for count in [0, 3, 24, 2048] {
            assert_eq!(Shards::new(count), Err(ShardCountError(count)));
        }
    }
}
