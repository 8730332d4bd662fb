//! What a Session that is over leaves to the other members of its Shared Subscriptions: its queue, until everything in it that was shared is with
//! somebody else. Without this record the queue of a Session that is over is deleted.

use super::{Fault, Kind, Reader, Record, Writer};
use crate::store::{Sequence, SessionNumber};

/// The queue of a Session that is over, with messages of Shared Subscriptions in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Estate {
    /// What stands before it in the queue is over, or with somebody else.
    pub from: Sequence,
    /// QoS 2 before it may have been sent, and goes to nobody else [MQTT-4.8.2-5].
    pub begun: Sequence,
    /// Shared Subscriptions by the number their messages carry; `$share/{name}/` included.
    pub shares: Vec<(u32, String)>,
}

impl Record for Estate {
    const KIND: Kind = Kind::Estate;
    /// The Session that is over.
    type Key = SessionNumber;

    fn put_key(session: &SessionNumber, out: &mut Writer) {
        out.session(*session);
    }

    fn take_key(input: &mut Reader<'_>) -> Result<SessionNumber, Fault> {
        input.session()
    }

    fn put(&self, out: &mut Writer) {
        out.varint(self.from.0);
        out.varint(self.begun.0);
        out.varint(self.shares.len() as u64);
        for (number, filter) in &self.shares {
            out.varint((*number).into());
            out.bytes(filter.as_bytes());
        }
    }

    fn take(_version: u8, input: &mut Reader<'_>) -> Result<Self, Fault> {
        let (from, begun) = (Sequence(input.varint()?), Sequence(input.varint()?));
        let count = input.varint()?;
        let share = |input: &mut Reader<'_>| Ok((input.varint32("share")?, input.string("Topic Filter")?.to_owned()));
        let shares = (0..count).map(|_| share(input)).collect::<Result<_, _>>()?;
        Ok(Self { from, begun, shares })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::round_trip;

    #[test]
    fn an_estate_comes_back() {
        for shares in [Vec::new(), vec![(1, "$share/g/a/#".to_owned()), (u32::MAX, "$share/h/+".to_owned())]] {
            round_trip(&SessionNumber(12), &Estate { from: Sequence(3), begun: Sequence(u64::MAX), shares });
        }
    }

    #[test]
    fn a_count_that_the_bytes_do_not_hold_is_refused_at_once() {
        assert_eq!(Estate::decode(&[1, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F]).expect_err("it ends there").fault, Fault::Short);
    }
}
