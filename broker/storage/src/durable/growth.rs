//! Which queues of a shard have only grown since their cursor was written: one record for each batch instead of a cursor for each queue.

use std::ops::Range;

use hashbrown::HashSet;

use super::pending::Rows;
use crate::record::Record;
use crate::record::growth::{Grown, Growth};
use crate::store::SessionNumber;

/// Bytes of such records in a shard before the cursors are written instead: so much more is read when it is opened.
const BYTES_MAX: usize = 128 * 1024;
/// And so many records.
const RECORDS_MAX: u64 = 1024;

#[derive(Debug, Default)]
pub(super) struct Growths {
    /// Numbers of the records in the database.
    records: Range<u64>,
    bytes: usize,
    /// Whom they name.
    queues: HashSet<SessionNumber>,
    /// Those of them that are gone since the last batch.
    ended: Vec<SessionNumber>,
}

impl Growths {
    /// A record that was found when the shard was opened; they come in their order.
    pub(super) fn found(&mut self, number: u64, record: &Growth) {
        if self.records.is_empty() {
            self.records.start = number;
        }
        self.records.end = number + 1;
        self.bytes += record.encode().len();
        self.queues.extend(record.queues.iter().map(|queue| queue.session));
    }

    /// The queue is gone, whatever records say that it grew.
    pub(super) fn end(&mut self, session: SessionNumber) {
        if self.queues.remove(&session) {
            self.ended.push(session);
        }
    }

    /// Puts a record of what a batch made `grown` into `rows`.
    pub(super) fn put(&mut self, grown: impl IntoIterator<Item = Grown>, rows: &mut Rows) {
        let mut queues: Vec<Grown> = self.ended.drain(..).map(Grown::ended).collect();
        for queue in grown {
            self.queues.insert(queue.session);
            queues.push(queue);
        }
        if queues.is_empty() {
            return;
        }
        queues.sort_by_key(|queue| queue.session);
        let value = Growth { queues }.encode();
        self.bytes += value.len();
        rows.insert(Growth::key(&self.records.end), Some(value));
        self.records.end += 1;
    }

    /// The queues whose cursors have to be written now, because there are records enough; these go.
    pub(super) fn settle(&mut self, rows: &mut Rows) -> HashSet<SessionNumber> {
        if self.bytes < BYTES_MAX && self.records.end - self.records.start < RECORDS_MAX {
            return HashSet::new();
        }
        for number in self.records.clone() {
            rows.insert(Growth::key(&number), None);
        }
        self.records.start = self.records.end;
        self.bytes = 0;
        std::mem::take(&mut self.queues)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Sequence;

    fn grown(session: u64) -> Grown {
        Grown { session: SessionNumber(session), next: Sequence(5), messages: 5, bytes: 50 }
    }

    #[test]
    fn records_are_numbered_on_and_give_way_to_cursors_when_there_are_enough() {
        let mut growths = Growths::default();
        growths.found(7, &Growth { queues: vec![grown(1)] });
        growths.found(8, &Growth { queues: vec![grown(1), grown(4)] });
        let mut rows = Rows::default();
        growths.put([grown(9), grown(2)], &mut rows);
        growths.put([], &mut rows);
        assert!(growths.settle(&mut rows).is_empty());
        assert_eq!(rows.drain().collect::<Vec<_>>(), [(Growth::key(&9), Some(Growth { queues: vec![grown(2), grown(9)] }.encode()))]);
        growths.end(SessionNumber(4));
        growths.end(SessionNumber(5));
        growths.put([], &mut rows);
        let ended = Growth { queues: vec![Grown::ended(SessionNumber(4))] };
        assert_eq!(rows.drain().collect::<Vec<_>>(), [(Growth::key(&10), Some(ended.encode()))], "nobody has been told that 5 grew");
        growths.put((100..40_000).map(grown), &mut rows);
        let settled = growths.settle(&mut rows);
        assert!([1, 2, 9, 100, 39_999].into_iter().all(|session| settled.contains(&SessionNumber(session))));
        assert!(!settled.contains(&SessionNumber(4)), "it is gone");
        assert_eq!(rows.len(), 5);
        assert!(rows.values().all(Option::is_none), "what was put in this very batch goes too");
        growths.put([grown(1)], &mut rows);
        assert!(rows[&Growth::key(&12)].is_some(), "a number never comes back");
    }

    #[test]
    fn many_small_records_are_enough_too() {
        let mut growths = Growths::default();
        let mut rows = Rows::default();
        for _ in 0..RECORDS_MAX {
            assert!(growths.settle(&mut rows).is_empty());
            growths.put([grown(3)], &mut rows);
        }
        assert_eq!(growths.settle(&mut rows).len(), 1);
    }
}
