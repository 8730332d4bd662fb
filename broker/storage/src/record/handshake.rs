//! A QoS 2 delivery beyond its PUBLISH: from PUBREC on the message is never sent again [MQTT-4.3.3-6], whatever dies in between.

use super::{Fault, Kind, Reader, Record, Writer};
use crate::store::{Sequence, SessionNumber};

/// How far a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Handshake {
    /// PUBREC came: PUBREL is due until PUBCOMP comes.
    Released = 1,
    /// PUBCOMP came, while older entries of the queue are not over.
    Done = 2,
}

impl Record for Handshake {
    const KIND: Kind = Kind::Handshake;
    /// Whose queue, and which entry.
    type Key = (SessionNumber, Sequence);

    fn put_key((session, sequence): &Self::Key, out: &mut Writer) {
        out.session(*session);
        out.sequence(*sequence);
    }

    fn take_key(input: &mut Reader<'_>) -> Result<Self::Key, Fault> {
        Ok((input.session()?, input.sequence()?))
    }

    fn put(&self, out: &mut Writer) {
        out.u8(*self as u8);
    }

    fn take(_version: u8, input: &mut Reader<'_>) -> Result<Self, Fault> {
        match input.u8()? {
            1 => Ok(Self::Released),
            2 => Ok(Self::Done),
            _ => Err(Fault::Invalid("state")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::round_trip;

    #[test]
    fn handshakes_come_back() {
        for handshake in [Handshake::Released, Handshake::Done] {
            round_trip(&(SessionNumber(1), Sequence(2)), &handshake);
        }
        assert_eq!(Handshake::decode(&[1, 3]).expect_err("there is no third").fault, Fault::Invalid("state"));
    }
}
