//! The order topics are kept in, and how a filter walks along it.
//!
//! Topics are compared byte by byte with '/' before every other byte. A topic then stands directly before all topics below it and nothing
//! stands between them, so that whatever a filter cannot match is passed over in one step, in memory as in a sorted object.

use std::cmp::Ordering;

/// Compares two Topic Names in that order.
#[inline]
pub fn compare(a: &str, b: &str) -> Ordering {
    compare_bytes(a.as_bytes(), b.as_bytes())
}

#[inline]
pub(super) fn compare_bytes(a: &[u8], b: &[u8]) -> Ordering {
    // Neighbours share most of their bytes: eight at a time.
    let same = 8 * a.chunks_exact(8).zip(b.chunks_exact(8)).take_while(|(a, b)| a == b).count();
    let differ = a[same..].iter().zip(&b[same..]).find(|(a, b)| a != b);
    differ.map_or(a.len().cmp(&b.len()), |(a, b)| rank(*a).cmp(&rank(*b)))
}

/// No topic has a NUL byte [MQTT-4.7.3-2], so the rank before all others is free for '/'.
#[inline]
pub(super) fn rank(byte: u8) -> u8 {
    if byte == b'/' { 0 } else { byte }
}

/// What a filter says of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It matches; go on with the next topic.
    Match,
    /// It does not match; go on with the next topic.
    Next,
    /// It does not match, nor does any topic before [`Walk::target`].
    Seek,
    /// Neither this topic nor any behind it matches.
    End,
}

/// A filter on its way along the topics.
#[derive(Debug)]
pub struct Walk<'a> {
    filter: &'a str,
    levels: Vec<&'a str>,
    target: String,
}

impl<'a> Walk<'a> {
    /// A walk for `filter`.
    pub fn new(filter: &'a str) -> Self {
        Self { filter, levels: filter.split('/').collect(), target: String::new() }
    }

    /// Where the first topic that may match can stand.
    pub fn start(&self) -> &'a str {
        let literal = self.filter.find(['+', '#']).map_or(self.filter, |wildcard| &self.filter[..wildcard]);
        // "a/#" matches "a", which stands before "a/".
        literal.strip_suffix('/').unwrap_or(literal)
    }

    /// Where to go on after [`Step::Seek`].
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Looks at `topic`.
    pub fn step(&mut self, topic: &str) -> Step {
        // [MQTT-4.7.2-1] A filter that begins with a wildcard does not match a name that begins with $.
        if topic.starts_with('$') && self.filter.starts_with(['+', '#']) {
            return self.seek("%", "");
        }
        let bytes = topic.as_bytes();
        // Where the next level of the topic begins; one more than its length when all are used.
        let mut from = 0;
        for wanted in &self.levels {
            if *wanted == "#" {
                // [MQTT-4.7.1-2] It stands for the parent as well as for all below.
                return Step::Match;
            }
            if from > bytes.len() {
                return Step::Next;
            }
            let end = bytes[from..].iter().position(|byte| *byte == b'/').map_or(bytes.len(), |length| from + length);
            let order = if *wanted == "+" { Ordering::Equal } else { bytes[from..end].cmp(wanted.as_bytes()) };
            match order {
                Ordering::Equal => from = end + 1,
                Ordering::Less => return self.seek(&topic[..from], wanted),
                Ordering::Greater if from == 0 => return Step::End,
                Ordering::Greater => return self.seek(&topic[..from - 1], BEHIND),
            }
        }
        if from > bytes.len() { Step::Match } else { self.seek(&topic[..from - 1], BEHIND) }
    }

    fn seek(&mut self, topic: &str, then: &str) -> Step {
        self.target.clear();
        self.target.push_str(topic);
        self.target.push_str(then);
        Step::Seek
    }
}

/// After a topic this passes over it and over all topics below it.
const BEHIND: &str = "\u{1}";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_topic_stands_directly_before_those_below_it() {
        let sorted = ["", "/", "/a", "$SYS", "a", "a/", "a//b", "a/b", "a/b/c", "a/b!", "a/c", "a\u{1}", "a!", "a!/b", "a0", "aa", "b"];
        for pair in sorted.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compare(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
    }

    #[test]
    fn a_walk_begins_at_the_first_topic_that_may_match() {
        for (filter, first) in [("a/b", "a/b"), ("a/b/#", "a/b"), ("a/+/b", "a"), ("#", ""), ("+/a", ""), ("/+", ""), ("a//#", "a/")] {
            assert_eq!(Walk::new(filter).start(), first, "{filter}");
        }
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_the_levels(a in "[ab/!]{0,20}", b in "[ab/!]{0,20}") {
            prop_assert_eq!(compare(&a, &b), a.split('/').cmp(b.split('/')));
        }
    }
}
