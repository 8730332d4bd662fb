//! Where a queue begins, and how far its messages may have been sent.

use super::{Fault, Kind, Reader, Record, Writer};
use crate::store::{Sequence, SessionNumber};

/// Two places in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor {
    /// Everything before it is over: acknowledged, dropped or expired.
    pub head: Sequence,
    /// Everything before it may have been sent: after a crash it goes out with DUP 1 [MQTT-3.3.1-1]. New messages are numbered from here.
    pub sent: Sequence,
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
        out.varint(self.head.0);
        out.varint(self.sent.0);
    }

    fn take(_version: u8, input: &mut Reader<'_>) -> Result<Self, Fault> {
        Ok(Self { head: Sequence(input.varint()?), sent: Sequence(input.varint()?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::round_trip;

    #[test]
    fn a_cursor_comes_back() {
        for (head, sent) in [(0, 0), (1, 1_000_000), (u64::MAX, u64::MAX)] {
            round_trip(&SessionNumber(3), &Cursor { head: Sequence(head), sent: Sequence(sent) });
        }
    }
}
