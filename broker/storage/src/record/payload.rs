//! A message that several Sessions of the shard wait for stands once; each queue names it by its number.
//!
//! It goes when as many queues have let go of it as there were. Both records are written by the one owner of the shard, whole.

use std::sync::Arc;

use bucketmq_packet::message::Message;

use super::{Fault, Kind, Reader, Record, Writer};

/// A message and how many queues name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// Queue entries that named it when it was written.
    pub references: u32,
    /// The message.
    pub message: Arc<Message>,
}

impl Record for Payload {
    const KIND: Kind = Kind::Payload;
    /// Its number, never used twice in a shard.
    type Key = u64;

    fn put_key(number: &u64, out: &mut Writer) {
        out.u64(*number);
    }

    fn take_key(input: &mut Reader<'_>) -> Result<u64, Fault> {
        input.u64()
    }

    fn put(&self, out: &mut Writer) {
        out.varint(self.references.into());
        out.message(&self.message);
    }

    fn take(_version: u8, input: &mut Reader<'_>) -> Result<Self, Fault> {
        Ok(Self { references: input.varint32("references")?, message: input.message()? })
    }
}

/// How many of a payload's queue entries are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Released {
    /// So many.
    pub count: u32,
}

impl Record for Released {
    const KIND: Kind = Kind::Released;
    /// The payload's number.
    type Key = u64;

    fn put_key(number: &u64, out: &mut Writer) {
        out.u64(*number);
    }

    fn take_key(input: &mut Reader<'_>) -> Result<u64, Fault> {
        input.u64()
    }

    fn put(&self, out: &mut Writer) {
        out.varint(self.count.into());
    }

    fn take(_version: u8, input: &mut Reader<'_>) -> Result<Self, Fault> {
        Ok(Self { count: input.varint32("count")? })
    }
}

#[cfg(test)]
mod tests {
    use bucketmq_packet::QoS;

    use super::*;
    use crate::record::round_trip;

    #[test]
    fn payloads_come_back() {
        let message = Message::new("a", &[7; 3000], b"", QoS::ExactlyOnce, true, Some(u64::MAX - 1));
        round_trip(&u64::MAX, &Payload { references: 10_000, message });
        round_trip(&1, &Released { count: 9_999 });
    }
}
