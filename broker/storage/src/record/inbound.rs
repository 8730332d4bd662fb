//! A QoS 2 message that was taken from a Client: its Packet Identifier stands here from PUBREC to PUBCOMP, so that the same PUBLISH, sent again
//! after a crash, is not handed on again [MQTT-4.3.3-10].

use bucketmq_packet::PacketIdentifier;

use super::{Fault, Kind, Reader, Record, Writer};
use crate::store::SessionNumber;

/// The identifier is in use; that is all it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inbound;

impl Record for Inbound {
    const KIND: Kind = Kind::Inbound;
    /// Whose, and which identifier.
    type Key = (SessionNumber, PacketIdentifier);

    fn put_key((session, id): &Self::Key, out: &mut Writer) {
        out.session(*session);
        out.u16(id.get());
    }

    fn take_key(input: &mut Reader<'_>) -> Result<Self::Key, Fault> {
        let session = input.session()?;
        Ok((session, PacketIdentifier::new(input.u16()?).ok_or(Fault::Invalid("Packet Identifier"))?))
    }

    fn put(&self, _out: &mut Writer) {}

    fn take(_version: u8, _input: &mut Reader<'_>) -> Result<Self, Fault> {
        Ok(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::round_trip;

    #[test]
    fn identifiers_come_back() {
        for id in [1, 65_535] {
            round_trip(&(SessionNumber(u64::MAX), PacketIdentifier::new(id).expect("not 0")), &Inbound);
        }
        let mut key = Inbound::key(&(SessionNumber(1), PacketIdentifier::new(1).expect("not 0")));
        *key.last_mut().expect("it has an identifier") = 0;
        assert_eq!(Inbound::decode_key(&key).expect_err("0 is none").fault, Fault::Invalid("Packet Identifier"));
    }
}
