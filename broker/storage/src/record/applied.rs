//! How far a shard has applied the outbox of another; written in the batch that stores what it applied, so that a row is never applied twice.

use super::outbox::OutboxNumber;
use super::{Fault, Kind, Reader, Record, Writer};
use crate::shard::ShardId;

/// The last row taken from one publisher shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// Its number.
    pub number: OutboxNumber,
}

impl Record for Applied {
    const KIND: Kind = Kind::Applied;
    /// The publisher's shard.
    type Key = ShardId;

    fn put_key(shard: &ShardId, out: &mut Writer) {
        out.u16(shard.0);
    }

    fn take_key(input: &mut Reader<'_>) -> Result<ShardId, Fault> {
        Ok(ShardId(input.u16()?))
    }

    fn put(&self, out: &mut Writer) {
        self.number.put(out);
    }

    fn take(_version: u8, input: &mut Reader<'_>) -> Result<Self, Fault> {
        Ok(Self { number: OutboxNumber::take(input)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::round_trip;

    #[test]
    fn a_mark_comes_back() {
        round_trip(&ShardId(1023), &Applied { number: OutboxNumber { epoch: 1, counter: 2 } });
    }
}
