//! What a shard knows of one queue without reading it: where it begins and ends, how much is in it, and which chunks hold its oldest part.
//!
//! A chunk can only be deleted by its key, its last sequence, so the keys of the chunks that will go next are kept: those written since the
//! queue was empty, or read since the shard was opened, up to [`CHUNKS_KNOWN_MAX`]. Beyond them a chunk has to be looked for.

use std::collections::VecDeque;

use crate::record::cursor::Cursor;
use crate::store::Sequence;

/// Chunks known per queue: 24 bytes each and 8 for each entry, so 128 KiB for a queue of full chunks.
const CHUNKS_KNOWN_MAX: usize = 256;

/// A stored chunk.
#[derive(Debug)]
pub(crate) struct Known {
    /// Its key.
    pub(crate) last: Sequence,
    /// Distance from `last` and bytes of each entry that is still wanted, oldest first.
    entries: VecDeque<(u32, u32)>,
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
        Self { head, next, sent, messages, bytes, known: VecDeque::new(), known_to: None, more: messages > 0 }
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
        if self.more || self.known.len() >= CHUNKS_KNOWN_MAX {
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
        if !self.more || !follows || self.known_to.is_some_and(|known_to| last <= known_to) || self.known.len() >= CHUNKS_KNOWN_MAX {
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
        let entries = entries.map(|(sequence, bytes)| ((last.0 - sequence.0) as u32, bytes)).collect();
        self.known.push_back(Known { last, entries });
        self.known_to = Some(last);
    }

    /// Everything up to and with `through` is over.
    pub(crate) fn remove_through(&mut self, through: Sequence) -> Removal {
        let mut removal = Removal::default();
        if through < self.head {
            return removal;
        }
        while let Some(chunk) = self.known.front_mut() {
            while let Some((distance, bytes)) = chunk.entries.front()
                && chunk.last.0 - u64::from(*distance) <= through.0
            {
                self.messages -= 1;
                self.bytes -= u64::from(*bytes);
                chunk.entries.pop_front();
            }
            if chunk.last > through && !chunk.entries.is_empty() {
                break;
            }
            removal.chunks.push(chunk.last);
            self.known.pop_front();
        }
        let beyond = self.known_to.map_or(self.head, |known_to| Sequence(known_to.0 + 1));
        if self.more && through >= beyond {
            removal.look_for = Some((beyond, through));
            self.known_to = Some(through);
            self.more = through.0 + 1 < self.next.0;
        }
        self.head = Sequence(through.0 + 1);
        removal
    }

    /// A chunk that was looked for is over: so many entries and bytes.
    pub(crate) fn found_over(&mut self, messages: u64, bytes: u64) {
        self.messages = self.messages.saturating_sub(messages);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// The entry `sequence` alone is over. True: its chunk has to be written without it.
    pub(crate) fn remove(&mut self, sequence: Sequence) -> bool {
        if sequence < self.head || sequence >= self.next {
            return false;
        }
        if let Some(chunk) = self.known.iter_mut().find(|chunk| chunk.last >= sequence) {
            let distance = (chunk.last.0 - sequence.0) as u32;
            let Some(place) = chunk.entries.iter().position(|(known, _)| *known == distance) else { return false };
            let Some((_, bytes)) = chunk.entries.remove(place) else { return false };
            self.messages -= 1;
            self.bytes -= u64::from(bytes);
            return true;
        }
        self.more
    }

    /// The oldest stored entry still wanted, as far as is known.
    pub(crate) fn first(&self) -> Option<Sequence> {
        let known =
            self.known.iter().find_map(|chunk| chunk.entries.front().map(|(distance, _)| Sequence(chunk.last.0 - u64::from(*distance))));
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
        self.known.iter().rev().find_map(|chunk| chunk.entries.back().map(|(distance, _)| Sequence(chunk.last.0 - u64::from(*distance))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(from: u64, to: u64) -> Vec<(Sequence, u32)> {
        (from..to).map(|sequence| (Sequence(sequence), 10)).collect()
    }

    fn stored(chunks: &[(u64, u64)]) -> QueueIndex {
        let mut index = QueueIndex::default();
        for (from, to) in chunks {
            index.next = Sequence(*to);
            index.stored(&entries(*from, *to));
        }
        index
    }

    #[test]
    fn chunks_that_are_over_are_named_and_the_rest_is_counted() {
        let mut index = stored(&[(0, 10), (10, 15), (20, 21)]);
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
        index.found_over(16, 160);
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
    fn only_so_many_chunks_are_known() {
        let chunks: Vec<_> = (0..400).map(|chunk| (chunk, chunk + 1)).collect();
        let mut index = stored(&chunks);
        let removal = index.remove_through(Sequence(299));
        assert_eq!((removal.chunks.len(), removal.look_for), (256, Some((Sequence(256), Sequence(299)))));
        index.found_over(44, 440);
        assert_eq!((index.messages, index.last()), (100, Some(Sequence(399))));
    }
}
