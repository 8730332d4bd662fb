//! What a shard knows of one queue without reading it: where it begins and ends, how much is in it, and the entries that will go next.
//!
//! A chunk can only be deleted by its key, its last sequence, so the entries of the oldest chunks are kept: of those that a Client is being sent,
//! written or read, up to [`KNOWN_MAX`]. Of a queue whose Client is away only the first few are, because queues shall not be in memory. Beyond what
//! is known a chunk has to be looked for.

use std::collections::{BTreeMap, VecDeque};

use crate::record::cursor::Cursor;
use crate::store::Sequence;

/// Entries known per queue: 16 bytes each, so 64 KiB.
const KNOWN_MAX: usize = 4096;
/// With so many known, a chunk that nobody was sent yet is not remembered: 128 bytes for each queue whose Client is away, and the chunk before that.
const UNSENT_KNOWN_MAX: usize = 8;

/// So many are learnt when a chunk has to be looked for, so that this is seldom.
const LEARNT_MAX: usize = 256;

/// A stored entry that is still wanted, or the last one of a chunk.
#[derive(Debug, Clone, Copy)]
struct Known {
    sequence: Sequence,
    bytes: u32,
    /// Its sequence is the key of its chunk.
    is_last: bool,
    /// Only here for that.
    is_over: bool,
}

/// One queue.
#[derive(Debug, Default)]
pub(crate) struct QueueIndex {
    /// Everything before it is over.
    pub(crate) head: Sequence,
    /// One more than the newest entry ever.
    pub(crate) next: Sequence,
    /// Everything before it may have been sent.
    pub(crate) sent: Sequence,
    /// Stored entries still wanted.
    pub(crate) messages: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    known: VecDeque<Known>,
    /// Chunks up to and with this one are known.
    known_to: Option<Sequence>,
    /// There are chunks beyond the known ones.
    more: bool,
    /// Entries beyond the known ones, and beyond what is over, that went alone; so many at most as a Client has in flight. True: the queue counts
    /// them no more. Until their chunk has been read nobody knows their bytes, and not even whether they are there.
    #[expect(clippy::box_collection, reason = "24 bytes of nothing in each queue otherwise")]
    gone: Option<Box<BTreeMap<Sequence, bool>>>,
}

/// What a removal leaves to do in the database.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Removal {
    /// Chunks that are over.
    pub(crate) chunks: Vec<Sequence>,
    /// Chunks to be looked for: from the first of these to the second, both included.
    pub(crate) look_for: Option<(Sequence, Sequence)>,
}

impl QueueIndex {
    /// A queue found when the shard was opened: nothing of it is known.
    pub(crate) fn found(cursor: Cursor) -> Self {
        let Cursor { head, next, sent, messages, bytes } = cursor;
        Self { head, next, sent, messages, bytes, more: messages > 0, ..Self::default() }
    }

    /// Where the queue stands, as it is stored.
    pub(crate) fn cursor(&self) -> Cursor {
        let Self { head, next, sent, messages, bytes, .. } = *self;
        Cursor { head, next, sent, messages, bytes }
    }

    /// A chunk goes to the database, behind all others: the sequence and the bytes of each entry.
    pub(crate) fn stored(&mut self, entries: &[(Sequence, u32)]) {
        self.messages += entries.len() as u64;
        self.bytes += entries.iter().map(|(_, bytes)| u64::from(*bytes)).sum::<u64>();
        let is_sent = entries.first().is_some_and(|(first, _)| *first < self.sent);
        if self.more || self.known.len() >= if is_sent { KNOWN_MAX } else { UNSENT_KNOWN_MAX } {
            self.more = true;
            return;
        }
        self.know(entries.iter().copied());
    }

    /// A chunk was read by somebody who began at `from`. It is worth knowing when it follows the last known one.
    pub(crate) fn read(&mut self, from: Sequence, entries: impl ExactSizeIterator<Item = (Sequence, u32)> + Clone) {
        let follows = match self.known_to {
            Some(known_to) => from.0 <= known_to.0 + 1,
            None => from <= self.head,
        };
        let Some((last, _)) = entries.clone().last() else { return };
        if !self.more || !follows || self.known_to.is_some_and(|known_to| last <= known_to) || self.known.len() >= KNOWN_MAX {
            return;
        }
        let head = self.head;
        self.know(entries.filter(|(sequence, _)| *sequence >= head));
        if last.0 + 1 >= self.next.0 {
            self.more = false;
        }
    }

    fn know(&mut self, entries: impl Iterator<Item = (Sequence, u32)> + Clone) {
        let Some((last, _)) = entries.clone().last() else { return };
        for (sequence, bytes) in entries {
            let is_last = sequence == last;
            // The chunk may have been read before it was written without them.
            let is_over = self.is_gone(sequence);
            if is_over {
                self.count_gone(sequence, bytes);
            }
            if is_last || !is_over {
                self.known.push_back(Known { sequence, bytes, is_last, is_over });
            }
        }
        self.known_to = Some(last);
    }

    fn is_gone(&self, sequence: Sequence) -> bool {
        self.gone.as_ref().is_some_and(|gone| gone.contains_key(&sequence))
    }

    /// An entry that went alone was there. True: the queue had counted it until now.
    pub(crate) fn count_gone(&mut self, sequence: Sequence, bytes: u32) -> bool {
        match self.gone.as_mut().and_then(|gone| gone.get_mut(&sequence)) {
            Some(is_counted) if !*is_counted => *is_counted = true,
            _ => return false,
        }
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(u64::from(bytes));
        true
    }

    /// Whether it pays to read another chunk while one is looked for.
    pub(crate) fn wants_more(&self) -> bool {
        self.more && self.known.len() < LEARNT_MAX
    }

    /// Everything up to and with `through` is over.
    pub(crate) fn remove_through(&mut self, through: Sequence) -> Removal {
        let mut removal = Removal::default();
        if through < self.head {
            return removal;
        }
        // Also the rest of a chunk of which nothing is wanted any more.
        while let Some(entry) = self.known.front()
            && (entry.sequence <= through || entry.is_over)
        {
            if !entry.is_over {
                self.messages -= 1;
                self.bytes -= u64::from(entry.bytes);
            }
            if entry.is_last {
                removal.chunks.push(entry.sequence);
            }
            self.known.pop_front();
        }
        if self.known.is_empty() {
            // A queue that was long keeps no memory for it.
            self.known = VecDeque::new();
        }
        let beyond = self.known_to.map_or(self.head, |known_to| Sequence(known_to.0 + 1));
        if self.more && through >= beyond {
            removal.look_for = Some((beyond, through));
            self.known_to = Some(through);
            self.more = through.0 + 1 < self.next.0;
        }
        self.head = Sequence(through.0 + 1);
        if removal.look_for.is_none() {
            self.forget_gone(through);
        }
        removal
    }

    /// What went alone has gone with everything else.
    pub(crate) fn forget_gone(&mut self, through: Sequence) {
        if let Some(gone) = &mut self.gone {
            **gone = gone.split_off(&Sequence(through.0.saturating_add(1)));
            if gone.is_empty() {
                self.gone = None;
            }
        }
    }

    /// An entry of a chunk that was looked for is over. True: the queue had counted it until now.
    pub(crate) fn found_over(&mut self, sequence: Sequence, bytes: u32) -> bool {
        if self.is_gone(sequence) {
            return self.count_gone(sequence, bytes);
        }
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(u64::from(bytes));
        true
    }

    /// The entry `sequence` alone is over. True: its chunk has to be written without it.
    pub(crate) fn remove(&mut self, sequence: Sequence) -> bool {
        if sequence < self.head || sequence >= self.next {
            return false;
        }
        if self.known_to.is_some_and(|known_to| sequence <= known_to) {
            let Ok(place) = self.known.binary_search_by_key(&sequence, |entry| entry.sequence) else { return false };
            let entry = &mut self.known[place];
            if entry.is_over {
                return false;
            }
            self.messages -= 1;
            self.bytes -= u64::from(entry.bytes);
            entry.is_over = true;
            if !entry.is_last {
                self.known.remove(place);
            }
            return true;
        }
        self.more && self.gone.get_or_insert_default().insert(sequence, false).is_none()
    }

    /// The oldest stored entry still wanted, as far as is known.
    pub(crate) fn first(&self) -> Option<Sequence> {
        let known = self.known.iter().find(|entry| !entry.is_over).map(|entry| entry.sequence);
        known.or_else(|| (self.messages > 0).then_some(self.head))
    }

    /// The newest stored entry still wanted, as far as is known.
    pub(crate) fn last(&self) -> Option<Sequence> {
        if self.messages == 0 {
            return None;
        }
        if self.more {
            return Some(Sequence(self.next.0.saturating_sub(1)));
        }
        self.known.iter().rev().find(|entry| !entry.is_over).map(|entry| entry.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(from: u64, to: u64) -> Vec<(Sequence, u32)> {
        (from..to).map(|sequence| (Sequence(sequence), 10)).collect()
    }

    fn find_over(index: &mut QueueIndex, from: u64, to: u64) {
        for sequence in from..to {
            assert!(index.found_over(Sequence(sequence), 10));
        }
    }

    /// Everything before `sent` may have been sent.
    fn stored(chunks: &[(u64, u64)], sent: u64) -> QueueIndex {
        let mut index = QueueIndex { sent: Sequence(sent), ..QueueIndex::default() };
        for (from, to) in chunks {
            index.next = Sequence(*to);
            index.stored(&entries(*from, *to));
        }
        index
    }

    #[test]
    fn chunks_that_are_over_are_named_and_the_rest_is_counted() {
        let mut index = stored(&[(0, 10), (10, 15), (20, 21)], 100);
        assert_eq!((index.messages, index.bytes), (16, 160));
        assert_eq!(index.remove_through(Sequence(11)), Removal { chunks: vec![Sequence(9)], look_for: None });
        assert_eq!((index.messages, index.first(), index.last()), (4, Some(Sequence(12)), Some(Sequence(20))));
        assert!(index.remove(Sequence(13)) && !index.remove(Sequence(13)) && !index.remove(Sequence(16)) && !index.remove(Sequence(3)));
        assert_eq!(index.remove_through(Sequence(11)), Removal::default());
        assert_eq!(index.remove_through(Sequence(30)).chunks, [Sequence(14), Sequence(20)]);
        assert_eq!((index.messages, index.bytes, index.first(), index.last()), (0, 0, None, None));
    }

    #[test]
    fn what_was_found_has_to_be_read_or_looked_for() {
        let found = || QueueIndex::found(Cursor { head: Sequence(5), next: Sequence(100), sent: Sequence(0), messages: 95, bytes: 950 });
        let mut index = found();
        assert_eq!(index.remove_through(Sequence(20)), Removal { chunks: vec![], look_for: Some((Sequence(5), Sequence(20))) });
        find_over(&mut index, 5, 21);
        assert_eq!((index.messages, index.more), (79, true));
        let mut index = found();
        index.read(Sequence(5), entries(0, 10).into_iter());
        index.read(Sequence(30), entries(40, 50).into_iter());
        index.read(Sequence(10), entries(10, 20).into_iter());
        assert_eq!(
            index.remove_through(Sequence(24)),
            Removal { chunks: vec![Sequence(9), Sequence(19)], look_for: Some((Sequence(20), Sequence(24))) }
        );
        assert_eq!(index.messages, 80);
        index.read(Sequence(25), entries(20, 100).into_iter());
        assert!(!index.more, "the last chunk is known");
        assert_eq!(index.remove_through(Sequence(99)), Removal { chunks: vec![Sequence(99)], look_for: None });
    }

    #[test]
    fn what_goes_alone_from_a_chunk_that_is_not_known_is_counted_once_whoever_finds_it_first() {
        let found = || {
            let mut index =
                QueueIndex::found(Cursor { head: Sequence(0), next: Sequence(100), sent: Sequence(100), messages: 100, bytes: 1000 });
            assert!(index.remove(Sequence(7)) && !index.remove(Sequence(7)) && index.messages == 100);
            index
        };
        let gone = |index: &mut QueueIndex| index.count_gone(Sequence(7), 10);

        // Its chunk is written without it, then read from before that, then acknowledged.
        let mut index = found();
        assert!(gone(&mut index) && !gone(&mut index) && index.messages == 99);
        index.read(Sequence(0), entries(0, 50).into_iter());
        assert_eq!((index.messages, index.remove_through(Sequence(49)).chunks), (99, vec![Sequence(49)]));
        assert_eq!((index.messages, index.bytes), (50, 500));

        // It is read first.
        let mut index = found();
        index.read(Sequence(0), entries(0, 8).into_iter());
        assert_eq!((index.messages, gone(&mut index), index.remove(Sequence(7))), (99, false, false));
        assert_eq!((index.remove_through(Sequence(6)).chunks, index.messages), (vec![Sequence(7)], 92));

        // All of it is looked for, before and after it was written.
        for is_written in [false, true] {
            let mut index = found();
            if is_written {
                assert!(gone(&mut index));
            }
            assert!(index.remove_through(Sequence(49)).look_for.is_some());
            for sequence in (0..50).filter(|sequence| !is_written || *sequence != 7) {
                index.found_over(Sequence(sequence), 10);
            }
            index.forget_gone(Sequence(49));
            assert_eq!((gone(&mut index), index.messages, index.bytes), (false, 50, 500));
        }
    }

    #[test]
    fn few_chunks_are_known_of_a_queue_whose_client_is_away_and_many_of_what_is_being_sent() {
        let chunks: Vec<_> = (0..400).map(|chunk| (chunk, chunk + 1)).collect();
        let mut index = stored(&chunks, 0);
        let removal = index.remove_through(Sequence(299));
        assert_eq!((removal.chunks.len(), removal.look_for), (8, Some((Sequence(8), Sequence(299)))));
        find_over(&mut index, 8, 300);
        assert_eq!((index.messages, index.last()), (100, Some(Sequence(399))));
        assert!(index.wants_more());
        index.read(Sequence(300), entries(300, 400).into_iter());
        assert!(!index.wants_more(), "that was all");
        assert_eq!(index.remove_through(Sequence(399)).chunks, [Sequence(399)]);

        let mut sent = stored(&chunks, 1000);
        let removal = sent.remove_through(Sequence(399));
        assert_eq!((removal.chunks.len(), removal.look_for), (400, None));
    }

    #[test]
    fn chunk_of_which_nothing_is_wanted_any_more_goes_although_its_last_entry_went_alone() {
        let mut index = stored(&[(0, 3), (3, 5)], 100);
        assert!(index.remove(Sequence(2)) && !index.remove(Sequence(2)) && index.remove(Sequence(1)));
        assert_eq!((index.messages, index.first(), index.last()), (3, Some(Sequence(0)), Some(Sequence(4))));
        assert_eq!(index.remove_through(Sequence(0)).chunks, [Sequence(2)]);
        assert_eq!((index.messages, index.first()), (2, Some(Sequence(3))));
        assert!(index.remove(Sequence(4)));
        assert_eq!(index.remove_through(Sequence(3)).chunks, [Sequence(4)]);
        assert_eq!((index.messages, index.bytes, index.last()), (0, 0, None));
    }
}
