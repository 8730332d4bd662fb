//! What became of the messages: lost, duplicated, reordered, by their sequence numbers.
//!
//! A source is one publisher's stream on one topic; its messages are numbered from 0. MQTT promises order within a source
//! towards one subscriber, and nothing between members of a shared subscription: those have a bitmap in common.

use std::collections::BTreeMap;

/// Sequence numbers of a source that were skipped and may still come: start to end (exclusive).
type Gaps = BTreeMap<u32, u32>;

/// What one subscriber saw of the sources from `first` on.
#[derive(Debug, Default)]
pub struct Ordered {
    first: u32,
    next: Vec<u32>,
    gaps: BTreeMap<u32, Gaps>,
    /// Messages that came again.
    pub duplicated: u64,
    /// Messages that came after a later one.
    pub reordered: u64,
    /// Messages of a source that nobody announced.
    pub strange: u64,
}

impl Ordered {
    /// Expects `count` sources from number `first` on.
    pub fn new(first: u32, count: usize) -> Ordered {
        Ordered { first, next: vec![0; count], ..Ordered::default() }
    }

    /// Notes a message.
    #[inline]
    pub fn record(&mut self, source: u32, sequence: u32) {
        match self.next.get_mut(source.wrapping_sub(self.first) as usize) {
            Some(next) if *next == sequence => *next += 1,
            Some(_) => self.unexpected(source, sequence),
            None => self.strange += 1,
        }
    }

    #[cold]
    fn unexpected(&mut self, source: u32, sequence: u32) {
        let next = &mut self.next[(source - self.first) as usize];
        if sequence > *next {
            self.gaps.entry(source).or_default().insert(*next, sequence);
            *next = sequence + 1;
            return;
        }
        let gaps = self.gaps.entry(source).or_default();
        match gaps.range(..=sequence).next_back().map(|(&start, &end)| (start, end)) {
            Some((start, end)) if sequence < end => {
                self.reordered += 1;
                gaps.remove(&start);
                if start < sequence {
                    gaps.insert(start, sequence);
                }
                if sequence + 1 < end {
                    gaps.insert(sequence + 1, end);
                }
            }
            _ => self.duplicated += 1,
        }
    }

    /// How many messages are missing when the sources sent what `published` says (by source number).
    pub fn lost(&self, published: &[u64]) -> u64 {
        let open: u64 = self.gaps.values().flatten().map(|(start, end)| u64::from(end - start)).sum();
        let tail: u64 = (self.next.iter().zip(&published[self.first as usize..]))
            .map(|(&next, &published)| published.saturating_sub(u64::from(next)))
            .sum();
        open + tail
    }
}

/// What the members of a shared subscription saw together.
#[derive(Debug, Default)]
pub struct Together {
    seen: Vec<Vec<u64>>,
    /// Messages that came to two members, or twice to one.
    pub duplicated: u64,
}

impl Together {
    /// Notes a message.
    #[inline]
    pub fn record(&mut self, source: u32, sequence: u32) {
        let source = source as usize;
        if self.seen.len() <= source {
            self.seen.resize_with(source + 1, Vec::new);
        }
        let (word, bit) = (sequence as usize / 64, 1u64 << (sequence % 64));
        let seen = &mut self.seen[source];
        if seen.len() <= word {
            seen.resize((word + 1).next_power_of_two(), 0);
        }
        self.duplicated += u64::from(seen[word] & bit != 0);
        seen[word] |= bit;
    }

    /// Adds what another thread's members saw.
    pub fn merge(&mut self, other: &Together) {
        self.duplicated += other.duplicated;
        for (source, theirs) in other.seen.iter().enumerate() {
            if self.seen.len() <= source {
                self.seen.resize_with(source + 1, Vec::new);
            }
            let mine = &mut self.seen[source];
            mine.resize(mine.len().max(theirs.len()), 0);
            for (mine, theirs) in mine.iter_mut().zip(theirs) {
                self.duplicated += u64::from((*mine & theirs).count_ones());
                *mine |= theirs;
            }
        }
    }

    /// How many messages nobody saw when the sources sent what `published` says.
    pub fn lost(&self, published: &[u64]) -> u64 {
        let seen: u64 = self.seen.iter().flatten().map(|word| u64::from(word.count_ones())).sum();
        published.iter().sum::<u64>().saturating_sub(seen)
    }
}

/// Order within one member of a shared subscription: only going back counts, gaps are other members' messages.
#[derive(Debug, Default)]
pub struct Ascending {
    next: Vec<u32>,
    /// Messages that came after a later one of their source.
    pub reordered: u64,
}

impl Ascending {
    /// Notes a message.
    #[inline]
    pub fn record(&mut self, source: u32, sequence: u32) {
        let source = source as usize;
        if self.next.len() <= source {
            self.next.resize(source + 1, 0);
        }
        let next = &mut self.next[source];
        if sequence < *next {
            self.reordered += 1;
        } else {
            *next = sequence + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered(sequences: &[u32]) -> Ordered {
        let mut ordered = Ordered::new(1, 1);
        for &sequence in sequences {
            ordered.record(1, sequence);
        }
        ordered
    }

    #[test]
    fn sequences_tell_lost_duplicated_and_reordered_apart() {
        // sequences, published, lost, duplicated, reordered
        let table: &[(&[u32], u64, u64, u64, u64)] = &[
            (&[0, 1, 2], 3, 0, 0, 0),
            (&[0, 1], 3, 1, 0, 0),
            (&[], 3, 3, 0, 0),
            (&[0, 2], 3, 1, 0, 0),
            (&[0, 2, 1], 3, 0, 0, 1),
            (&[0, 0, 1, 2], 3, 0, 1, 0),
            (&[0, 5, 3, 3, 1, 2, 4], 6, 0, 1, 4),
            (&[9, 4, 4, 0], 10, 7, 1, 2),
        ];
        for &(sequences, published, lost, duplicated, reordered) in table {
            let seen = ordered(sequences);
            assert_eq!((seen.lost(&[0, published]), seen.duplicated, seen.reordered), (lost, duplicated, reordered), "{sequences:?}");
        }
    }

    #[test]
    fn message_of_an_unknown_source_is_strange() {
        let mut seen = Ordered::new(1, 1);
        seen.record(0, 0);
        seen.record(2, 0);
        assert_eq!(seen.strange, 2);
    }

    #[test]
    fn members_of_a_shared_subscription_complete_each_other() {
        let (mut left, mut right) = (Together::default(), Together::default());
        left.record(0, 0);
        left.record(0, 130);
        right.record(0, 1);
        right.record(1, 0);
        right.record(0, 130);
        left.merge(&right);
        assert_eq!((left.lost(&[131, 1]), left.duplicated), (128, 1));
    }

    #[test]
    fn member_sees_only_going_back_as_reordered() {
        let mut seen = Ascending::default();
        for sequence in [0, 4, 9, 5, 10] {
            seen.record(3, sequence);
        }
        assert_eq!(seen.reordered, 1);
    }
}
