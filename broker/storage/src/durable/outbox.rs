//! One shard's rows of the outbox: those that came since the last batch, and how many of each record are still wanted.

use std::collections::BTreeMap;

use super::pending::Rows;
use crate::record::Record;
use crate::record::outbox::{CHUNK_BYTES_MAX, CHUNK_ROWS_MAX, Chunk, OutboxNumber, Row};

/// A record that is in the database.
#[derive(Debug)]
struct Written {
    last: OutboxNumber,
    /// Rows that are not done with.
    wanted: usize,
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    added: Vec<(OutboxNumber, Row)>,
    /// By the number of their first row.
    written: BTreeMap<OutboxNumber, Written>,
}

impl Outbox {
    /// A record that was found when the shard was opened. What of it was done with is not known: all of it is offered again.
    pub(super) fn found(&mut self, chunk: &Chunk) {
        if let (Some((first, _)), Some((last, _))) = (chunk.rows.first(), chunk.rows.last()) {
            self.written.insert(*first, Written { last: *last, wanted: chunk.rows.len() });
        }
    }

    /// Nothing was added.
    pub(super) fn is_empty(&self) -> bool {
        self.added.is_empty()
    }

    /// Adds a row behind all others.
    pub(super) fn add(&mut self, number: OutboxNumber, row: Row) {
        self.added.push((number, row));
    }

    /// The row `number` is done with. The key of its record comes back when nothing of that is wanted any more.
    pub(super) fn done(&mut self, number: OutboxNumber) -> Option<OutboxNumber> {
        let Some((first, record)) = self.written.range_mut(..=number).next_back().filter(|(_, record)| number <= record.last) else {
            self.added.retain(|(added, _)| *added != number);
            return None;
        };
        record.wanted = record.wanted.saturating_sub(1);
        if record.wanted > 0 {
            return None;
        }
        let first = *first;
        self.written.remove(&first);
        Some(first)
    }

    /// Puts what was added into `rows`.
    pub(super) fn take(&mut self, rows: &mut Rows) {
        let mut added = std::mem::take(&mut self.added).into_iter().peekable();
        while let Some(first) = added.next() {
            let (number, epoch) = (first.0, first.0.epoch);
            let mut bytes = first.1.message.len();
            let mut chunk = Chunk { rows: vec![first] };
            while chunk.rows.len() < CHUNK_ROWS_MAX
                && let Some(next) = added.next_if(|(number, row)| number.epoch == epoch && bytes + row.message.len() <= CHUNK_BYTES_MAX)
            {
                bytes += next.1.message.len();
                chunk.rows.push(next);
            }
            self.found(&chunk);
            rows.insert(Chunk::key(&number), Some(chunk.encode()));
        }
    }
}

#[cfg(test)]
mod tests {
    use bucketmq_packet::QoS;
    use bucketmq_packet::message::Message;

    use super::*;
    use crate::record::outbox::Target;
    use crate::store::SessionNumber;

    fn number(counter: u64) -> OutboxNumber {
        OutboxNumber { epoch: 1, counter }
    }

    fn row(bytes: usize) -> Row {
        let message = Message::new("t", &vec![7; bytes], b"", QoS::ExactlyOnce, false, None);
        Row { target: Target::Shards(Vec::new()), publisher: SessionNumber(1), message }
    }

    fn taken(outbox: &mut Outbox) -> Vec<(u64, usize)> {
        let mut rows = Rows::default();
        outbox.take(&mut rows);
        let mut taken: Vec<_> = rows
            .iter()
            .map(|(key, value)| {
                let chunk = Chunk::decode(value.as_ref().expect("a record")).expect("decodes");
                (Chunk::decode_key(key).expect("decodes").counter, chunk.rows.len())
            })
            .collect();
        taken.sort_unstable();
        taken
    }

    #[test]
    fn a_record_goes_when_all_of_its_rows_are_done_with() {
        let mut outbox = Outbox::default();
        (0..3).for_each(|counter| outbox.add(number(counter), row(9)));
        assert_eq!(taken(&mut outbox), [(0, 3)]);
        outbox.add(number(3), row(9));
        outbox.add(number(4), row(9));
        assert_eq!(outbox.done(number(4)), None);
        assert_eq!(taken(&mut outbox), [(3, 1)], "what never was written needs no record");
        assert_eq!((outbox.done(number(1)), outbox.done(number(0)), outbox.done(number(3))), (None, None, Some(number(3))));
        assert_eq!(outbox.done(number(2)), Some(number(0)));
        assert_eq!(outbox.done(number(2)), None, "once only");
        assert!(taken(&mut outbox).is_empty());
    }

    #[test]
    fn a_record_has_so_many_rows_and_bytes_and_no_more() {
        let mut outbox = Outbox::default();
        (0..300).for_each(|counter| outbox.add(number(counter), row(9)));
        assert_eq!(taken(&mut outbox), [(0, CHUNK_ROWS_MAX), (256, 44)]);
        (300..303).for_each(|counter| outbox.add(number(counter), row(40_000)));
        outbox.add(OutboxNumber { epoch: 2, counter: 0 }, row(1));
        outbox.add(OutboxNumber { epoch: 2, counter: 1 }, row(100_000));
        assert_eq!(taken(&mut outbox), [(0, 1), (1, 1), (300, 1), (301, 1), (302, 1)]);
    }
}
