//! The beginnings of sorted topics, side by side.
//!
//! What all of them begin with is kept once; of each, the sixteen bytes that follow. Searching reads these few neighbouring cache lines instead
//! of a topic somewhere in memory for each comparison, and leaves only those topics to be compared whose sixteen bytes are the same.

use std::cmp::Ordering;
use std::ops::Range;

use super::order::{compare_bytes, rank};

/// The heads of some topics, in their order.
#[derive(Debug, Default)]
pub(super) struct Heads {
    /// Every topic begins with this.
    prefix: Box<[u8]>,
    heads: Vec<u128>,
}

impl Heads {
    /// Of these topics, which are in order.
    pub(super) fn of<'a>(topics: impl DoubleEndedIterator<Item = &'a str> + Clone) -> Self {
        let (Some(first), Some(last)) = (topics.clone().next(), topics.clone().next_back()) else { return Self::default() };
        // What the first and the last have in common, those between them have too.
        let shared = first.bytes().zip(last.bytes()).take_while(|(first, last)| first == last).count();
        let prefix = first.as_bytes()[..shared].into();
        Self { prefix, heads: topics.map(|topic| head(topic, shared)).collect() }
    }

    /// Where `topic` may be: all before the range are before it, all behind the range are behind it.
    #[inline]
    pub(super) fn search(&self, topic: &str) -> Range<usize> {
        if !topic.as_bytes().starts_with(&self.prefix) {
            let end = if compare_bytes(topic.as_bytes(), &self.prefix) == Ordering::Less { 0 } else { self.heads.len() };
            return end..end;
        }
        let head = head(topic, self.prefix.len());
        let from = self.heads.partition_point(|known| *known < head);
        let same = self.heads[from..].partition_point(|known| *known == head);
        from..from + same
    }

    /// Puts `topic` before the one at `at`. False: it begins with something else, and all heads must be made anew.
    #[must_use]
    pub(super) fn insert(&mut self, at: usize, topic: &str) -> bool {
        self.heads.insert(at, head(topic, self.prefix.len()));
        topic.as_bytes().starts_with(&self.prefix)
    }

    /// Puts `topic` in the place of the one at `at`. False: as for [`insert`](Self::insert).
    #[must_use]
    pub(super) fn replace(&mut self, at: usize, topic: &str) -> bool {
        self.heads[at] = head(topic, self.prefix.len());
        topic.as_bytes().starts_with(&self.prefix)
    }

    pub(super) fn remove(&mut self, at: usize) {
        self.heads.remove(at);
    }
}

/// Sixteen bytes from `from` on, as a number with the order of topics; what is missing counts as '/', so that equal heads say nothing.
#[inline]
fn head(topic: &str, from: usize) -> u128 {
    let rest = topic.as_bytes().get(from..).unwrap_or_default();
    let mut head = [0; size_of::<u128>()];
    for (place, byte) in head.iter_mut().zip(rest) {
        *place = rank(*byte);
    }
    u128::from_be_bytes(head)
}
