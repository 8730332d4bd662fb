//! Where a queue begins, and how far its messages may have been sent.

use super::{Fault, Kind, Reader, Record, Writer};
use crate::store::{Sequence, SessionNumber};

/// Places in a queue, and how much is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor {
    /// Everything before it is over: acknowledged, dropped or expired.
    pub head: Sequence,
    /// One more than the newest entry ever.
    pub next: Sequence,
    /// Everything before it may have been sent: after a crash it goes out with DUP 1 [MQTT-3.3.1-1]. New messages are numbered from here.
    pub sent: Sequence,
    /// Entries from `head` on that are not over.
    pub messages: u64,
    /// Bytes of their topics, properties and payloads.
    pub bytes: u64,
}

impl Record for Cursor {
    const KIND: Kind = Kind::Cursor;
    type Key = SessionNumber;

    fn put_key(session: &SessionNumber, out: &mut Writer) {
        out.session(*session);
    }

    fn take_key(input: &mut Reader<'_>) -> Result<SessionNumber, Fault> {
        input.session()
    }

    fn put(&self, out: &mut Writer) {
        for value in [self.head.0, self.next.0, self.sent.0, self.messages, self.bytes] {
            out.varint(value);
        }
    }

    fn take(_version: u8, input: &mut Reader<'_>) -> Result<Self, Fault> {
        Ok(Self {
            head: Sequence(input.varint()?),
            next: Sequence(input.varint()?),
            sent: Sequence(input.varint()?),
            messages: input.varint()?,
            bytes: input.varint()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::round_trip;

    #[test]
    fn a_cursor_comes_back() {
        for (small, large) in [(0, 0), (1, 1_000_000), (u64::MAX, u64::MAX)] {
            let cursor = Cursor { head: Sequence(small), next: Sequence(large), sent: Sequence(large), messages: small, bytes: large };
            round_trip(&SessionNumber(3), &cursor);
        }
    }
}
