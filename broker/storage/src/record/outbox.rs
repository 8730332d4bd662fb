//! A message on its way from one shard to others: QoS 2 and a due Will from the shard of their publisher, what a member of a Shared Subscription
//! leaves from the shard of that member. It is what PUBREC promises: durable here, it reaches every target, in the order of its number, whatever
//! dies in between; for Subscriptions that are not shared it does so once.
//!
//! What came in one batch stands in one record, and goes with it: a row of the database, and later a tombstone, for many messages.

use std::sync::Arc;

use bucketmq_packet::message::Message;

use super::{Fault, Kind, MESSAGE_EXTRA, Reader, Record, Writer};
use crate::shard::ShardId;
use crate::store::SessionNumber;

/// The order of rows of one publisher shard: the epoch of its opening, then a counter from 0 in it. An epoch never comes back, so neither does
/// a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct OutboxNumber {
    /// Of the shard's opening.
    pub epoch: u64,
    /// In that epoch.
    pub counter: u64,
}

impl OutboxNumber {
    pub(super) fn put(self, out: &mut Writer) {
        out.u64(self.epoch);
        out.u64(self.counter);
    }

    pub(super) fn take(input: &mut Reader<'_>) -> Result<Self, Fault> {
        Ok(Self { epoch: input.u64()?, counter: input.u64()? })
    }
}

/// Where a row goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// To the Sessions of these shards whose Subscriptions match when it is applied.
    Shards(Vec<ShardId>),
    /// To a member of the Shared Subscription, or into its queue when none is connected: another member had it and left.
    Group {
        /// The filter as subscribed, `$share/{name}/` included.
        filter: String,
    },
}

/// One message on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Where to.
    pub target: Target,
    /// Who published it, for No Local; 0: the broker itself.
    pub publisher: SessionNumber,
    /// What.
    pub message: Arc<Message>,
}

/// Rows in one record.
pub const CHUNK_ROWS_MAX: usize = 256;
/// Bytes of messages after which a record is full.
pub const CHUNK_BYTES_MAX: usize = 64 * 1024;

/// Rows of one epoch, in the order of their numbers; never none. The key is the number of the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// They.
    pub rows: Vec<(OutboxNumber, Row)>,
}

impl Record for Chunk {
    const KIND: Kind = Kind::Outbox;
    type Key = OutboxNumber;

    fn put_key(number: &OutboxNumber, out: &mut Writer) {
        number.put(out);
    }

    fn take_key(input: &mut Reader<'_>) -> Result<OutboxNumber, Fault> {
        OutboxNumber::take(input)
    }

    fn put(&self, out: &mut Writer) {
        let Some((first, _)) = self.rows.first() else { return };
        first.put(out);
        let mut next = first.counter;
        for (number, row) in &self.rows {
            debug_assert!(number.epoch == first.epoch && number.counter >= next, "numbers of one epoch only grow");
            out.varint(number.counter - next);
            next = number.counter + 1;
            row.put(out);
        }
    }

    fn bytes_expected(&self) -> usize {
        self.rows.iter().map(|(_, row)| row.message.len() + MESSAGE_EXTRA + 11).sum::<usize>() + 17
    }

    fn take(_version: u8, input: &mut Reader<'_>) -> Result<Self, Fault> {
        let OutboxNumber { epoch, counter: mut next } = OutboxNumber::take(input)?;
        let mut rows = Vec::new();
        while !input.is_empty() {
            let counter = next.checked_add(input.varint()?).ok_or(Fault::Invalid("outbox number"))?;
            next = counter.checked_add(1).ok_or(Fault::Invalid("outbox number"))?;
            rows.push((OutboxNumber { epoch, counter }, Row::take(input)?));
        }
        if rows.is_empty() { Err(Fault::Short) } else { Ok(Self { rows }) }
    }
}

impl Row {
    fn put(&self, out: &mut Writer) {
        match &self.target {
            Target::Shards(shards) => {
                out.u8(0);
                out.varint(shards.len() as u64);
                for shard in shards {
                    out.u16(shard.0);
                }
            }
            Target::Group { filter } => {
                out.u8(1);
                out.bytes(filter.as_bytes());
            }
        }
        out.session(self.publisher);
        out.message(&self.message);
    }

    fn take(input: &mut Reader<'_>) -> Result<Self, Fault> {
        let target = match input.u8()? {
            0 => {
                let count = input.varint()?;
                Target::Shards((0..count).map(|_| input.u16().map(ShardId)).collect::<Result<_, _>>()?)
            }
            1 => Target::Group { filter: input.string("Topic Filter")?.to_owned() },
            _ => return Err(Fault::Invalid("target")),
        };
        Ok(Self { target, publisher: input.session()?, message: input.message()? })
    }
}

#[cfg(test)]
mod tests {
    use bucketmq_packet::QoS;

    use super::*;
    use crate::record::round_trip;

    #[test]
    fn rows_come_back_and_sort_by_epoch_then_counter() {
        let message = Message::new("a", b"payload", b"", QoS::ExactlyOnce, false, None);
        let targets =
            [Target::Shards(vec![]), Target::Shards(vec![ShardId(0), ShardId(1023)]), Target::Group { filter: "$share/g/a/#".to_owned() }];
        let number = |counter| OutboxNumber { epoch: 3, counter };
        let row = |target| Row { target, publisher: SessionNumber(1), message: message.clone() };
        for target in targets.clone() {
            round_trip(&number(u64::MAX - 1), &Chunk { rows: vec![(number(u64::MAX - 1), row(target))] });
        }
        let rows = [7, 8, 300].into_iter().zip(targets).map(|(counter, target)| (number(counter), row(target)));
        round_trip(&number(7), &Chunk { rows: rows.collect() });
        let key = |epoch, counter| Chunk::key(&OutboxNumber { epoch, counter });
        assert!(key(1, u64::MAX) < key(2, 0) && key(2, 0) < key(2, 1));
    }

    #[test]
    fn a_count_that_the_bytes_do_not_hold_is_refused_at_once() {
        let number = [0; 16];
        let bytes: Vec<u8> = [1].into_iter().chain(number).chain([0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F]).collect();
        assert_eq!(Chunk::decode(&bytes).expect_err("it ends there").fault, Fault::Short);
        assert_eq!(Chunk::decode(&bytes[..17]).expect_err("there is none").fault, Fault::Short);
    }
}
