//! Queues that have only grown since their cursor was written. A million messages for Sessions whose Clients are away would otherwise write a
//! million cursors: instead what one batch brought to how many queues stands in one record, until there are so many of these that the cursors
//! are written and they go.
//!
//! A cursor whose `next` is not before the growth's was written later and knows of it.

use std::collections::HashMap;

use super::cursor::Cursor;
use super::{Fault, Kind, Reader, Record, Writer};
use crate::store::{Sequence, SessionNumber};

/// One queue as it was when its batch was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grown {
    /// Whose.
    pub session: SessionNumber,
    /// One more than its newest entry.
    pub next: Sequence,
    /// Entries that were not over.
    pub messages: u64,
    /// Bytes of their topics, properties and payloads.
    pub bytes: u64,
}

impl Grown {
    /// The queue is gone: what was said of it before does not hold.
    pub fn ended(session: SessionNumber) -> Self {
        Self { session, next: Sequence(0), messages: 0, bytes: 0 }
    }

    /// Brings the queue's cursor among `cursors` up to this, unless it knows more.
    pub fn bring(&self, cursors: &mut HashMap<SessionNumber, Cursor>) {
        if self.next == Sequence(0) {
            cursors.remove(&self.session);
            return;
        }
        let cursor = cursors.entry(self.session).or_default();
        if self.next > cursor.next {
            *cursor = Cursor { next: self.next, messages: self.messages, bytes: self.bytes, ..*cursor };
        }
    }
}

/// The queues that one batch made grow, by ascending number; never none. The key counts these records up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Growth {
    /// They.
    pub queues: Vec<Grown>,
}

impl Record for Growth {
    const KIND: Kind = Kind::Growth;
    type Key = u64;

    fn put_key(number: &u64, out: &mut Writer) {
        out.u64(*number);
    }

    fn take_key(input: &mut Reader<'_>) -> Result<u64, Fault> {
        input.u64()
    }

    fn put(&self, out: &mut Writer) {
        // The first number whole, the others as distances.
        let mut last = 0;
        for Grown { session, next, messages, bytes } in &self.queues {
            for value in [session.0 - last, next.0, *messages, *bytes] {
                out.varint(value);
            }
            last = session.0;
        }
    }

    fn bytes_expected(&self) -> usize {
        11 * self.queues.len() + 10
    }

    fn take(_version: u8, input: &mut Reader<'_>) -> Result<Self, Fault> {
        let (mut queues, mut last) = (Vec::new(), 0_u64);
        while !input.is_empty() {
            last = last.checked_add(input.varint()?).ok_or(Fault::Invalid("queue"))?;
            let (next, messages, bytes) = (Sequence(input.varint()?), input.varint()?, input.varint()?);
            queues.push(Grown { session: SessionNumber(last), next, messages, bytes });
        }
        if queues.is_empty() { Err(Fault::Short) } else { Ok(Self { queues }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::round_trip;

    #[test]
    fn growth_comes_back() {
        let grown = |session, next| Grown { session: SessionNumber(session), next: Sequence(next), messages: next / 2, bytes: next * 300 };
        round_trip(&7, &Growth { queues: vec![grown(0, 1)] });
        round_trip(&u64::MAX, &Growth { queues: vec![grown(5, 100), grown(6, 1_000_000), grown(u64::MAX, 3)] });
    }

    #[test]
    fn a_cursor_that_was_written_later_knows_more() {
        let grown = Grown { session: SessionNumber(1), next: Sequence(10), messages: 4, bytes: 40 };
        let before = Cursor { head: Sequence(6), next: Sequence(9), sent: Sequence(1), messages: 3, bytes: 30 };
        let bring = |grown: Grown, cursor: Option<Cursor>| {
            let mut cursors: HashMap<_, _> = cursor.map(|cursor| (grown.session, cursor)).into_iter().collect();
            grown.bring(&mut cursors);
            cursors.get(&grown.session).copied()
        };
        assert_eq!(bring(grown, Some(before)), Some(Cursor { next: Sequence(10), messages: 4, bytes: 40, ..before }));
        assert_eq!(bring(grown, None), Some(Cursor { next: Sequence(10), messages: 4, bytes: 40, ..Cursor::default() }));
        let after = Cursor { head: Sequence(8), next: Sequence(10), messages: 2, bytes: 20, ..before };
        assert_eq!(bring(grown, Some(after)), Some(after));
        assert_eq!(bring(Grown::ended(grown.session), Some(before)), None);
    }
}
