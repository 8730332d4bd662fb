//! QoS 2 messages that were taken from a Client: their Packet Identifiers stand here from PUBREC to PUBCOMP, so that the same PUBLISH, sent again
//! after a crash, is not handed on again [MQTT-4.3.3-10].
//!
//! All of a Session stand in one record: a Client that keeps twenty on their way costs one row for each batch, not forty.

use bucketmq_packet::PacketIdentifier;

use super::{Fault, Kind, Reader, Record, Writer};
use crate::store::SessionNumber;

/// The identifiers in use, ascending; never none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inbound {
    /// They.
    pub ids: Vec<PacketIdentifier>,
}

impl Record for Inbound {
    const KIND: Kind = Kind::Inbound;
    type Key = SessionNumber;

    fn put_key(session: &SessionNumber, out: &mut Writer) {
        out.session(*session);
    }

    fn take_key(input: &mut Reader<'_>) -> Result<SessionNumber, Fault> {
        input.session()
    }

    fn put(&self, out: &mut Writer) {
        for id in &self.ids {
            out.u16(id.get());
        }
    }

    fn bytes_expected(&self) -> usize {
        2 * self.ids.len() + 1
    }

    fn take(_version: u8, input: &mut Reader<'_>) -> Result<Self, Fault> {
        let mut ids: Vec<PacketIdentifier> = Vec::new();
        while !input.is_empty() {
            let id = PacketIdentifier::new(input.u16()?).filter(|id| ids.last().is_none_or(|before| before < id));
            ids.push(id.ok_or(Fault::Invalid("Packet Identifier"))?);
        }
        if ids.is_empty() { Err(Fault::Short) } else { Ok(Self { ids }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::round_trip;

    #[test]
    fn identifiers_come_back() {
        let ids = |ids: &[u16]| Inbound { ids: ids.iter().map(|id| PacketIdentifier::new(*id).expect("not 0")).collect() };
        for known in [ids(&[1]), ids(&[1, 2, 65_535])] {
            round_trip(&SessionNumber(u64::MAX), &known);
        }
        for wrong in [&[1, 0, 0][..], &[1, 0, 2, 0, 2], &[1, 0, 3, 0, 2]] {
            assert_eq!(Inbound::decode(wrong).expect_err("0 is none, and they ascend").fault, Fault::Invalid("Packet Identifier"));
        }
    }
}
