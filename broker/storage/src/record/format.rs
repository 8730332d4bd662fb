//! What a shard's database is; its first record, written when the bucket prefix is first used.

use super::{Fault, Kind, Reader, Record, Writer};
use crate::shard::{ShardId, Shards};

/// The format of everything else in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    /// Of keys, kinds and segments. A release that does not know it does not touch the database.
    pub version: u32,
    /// How many shards the prefix is divided into; the same in all of them.
    pub shards: Shards,
    /// Which one this is: a database that was copied to the wrong place shows.
    pub shard: ShardId,
    /// The release that made it.
    pub made_by: String,
}

impl Format {
    /// The format this release writes.
    pub const CURRENT: u32 = 1;
}

impl Record for Format {
    const KIND: Kind = Kind::Format;
    type Key = ();

    fn put_key(_key: &(), _out: &mut Writer) {}

    fn take_key(_input: &mut Reader<'_>) -> Result<(), Fault> {
        Ok(())
    }

    fn put(&self, out: &mut Writer) {
        out.u32(self.version);
        out.u16(self.shards.count());
        out.u16(self.shard.0);
        out.bytes(self.made_by.as_bytes());
    }

    fn take(_version: u8, input: &mut Reader<'_>) -> Result<Self, Fault> {
        let version = input.u32()?;
        let shards = Shards::new(input.u16()?).map_err(|_| Fault::Invalid("number of shards"))?;
        let shard = ShardId(input.u16()?);
        if shard.0 >= shards.count() {
            return Err(Fault::Invalid("shard"));
        }
        Ok(Self { version, shards, shard, made_by: input.string("release")?.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::round_trip;

    #[test]
    fn the_format_comes_back() {
        let shards = Shards::new(16).expect("a power of two");
        round_trip(&(), &Format { version: Format::CURRENT, shards, shard: ShardId(15), made_by: "0.1.0".into() });
        let wrong = Format { version: 1, shards, shard: ShardId(16), made_by: String::new() };
        assert_eq!(Format::decode(&wrong.encode()).expect_err("there is no shard 16").fault, Fault::Invalid("shard"));
    }
}
