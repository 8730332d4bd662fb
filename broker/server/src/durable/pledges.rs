//! Acknowledgements a connection owes and may not send yet, in the order of what they acknowledge [MQTT-4.6.0-2] [MQTT-4.6.0-3] [MQTT-4.6.0-4].

use std::collections::VecDeque;
use std::task::{Context, Poll};

use bucketmq_storage::{DurableError, Position, ShardId, Store};

use super::waits::Waits;

#[derive(Debug)]
struct Pledge {
    bytes: usize,
    /// QoS 1 PUBLISHes it answers: they count against the Receive Maximum until then [MQTT-3.3.4-7].
    publishes: usize,
    waits: Waits,
}

/// Encoded acknowledgements and what each of them waits for.
#[derive(Debug, Default)]
pub struct Pledges {
    bytes: VecDeque<u8>,
    pledges: VecDeque<Pledge>,
    publishes: usize,
    /// The change whose being durable wakes the task.
    registered: Option<(ShardId, Position)>,
}

impl Pledges {
    /// True when nothing is owed.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.pledges.is_empty()
    }

    /// QoS 1 PUBLISHes that are not acknowledged.
    #[inline]
    pub fn publishes(&self) -> usize {
        self.publishes
    }

    /// Bytes of the acknowledgements.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Owes the packets `encode` appends, which answer so many QoS 1 PUBLISHes, until `waits` is durable.
    pub fn owe(&mut self, waits: Waits, publishes: usize, packets: &[u8]) {
        self.bytes.extend(packets);
        self.publishes += publishes;
        self.pledges.push_back(Pledge { bytes: packets.len(), publishes, waits });
    }

    /// What the acknowledgements of QoS 1 wait for outside of `shard`.
    pub fn outside(&self, shard: ShardId) -> Waits {
        let mut waits = Waits::default();
        for pledge in self.pledges.iter().filter(|pledge| pledge.publishes > 0) {
            waits.merge(&pledge.waits);
        }
        waits.without(shard)
    }

    /// Appends to `out` what may be sent now; for the rest the task of `context` is woken.
    pub fn poll(&mut self, store: &dyn Store, context: &mut Context<'_>, out: &mut Vec<u8>) -> Result<(), DurableError> {
        while let Some(first) = self.pledges.front_mut() {
            match first.waits.poll_once(store, context, &mut self.registered) {
                Poll::Ready(outcome) => outcome?,
                Poll::Pending => return Ok(()),
            }
            let Some(Pledge { bytes, publishes, .. }) = self.pledges.pop_front() else { break };
            out.extend(self.bytes.drain(..bytes));
            self.publishes -= publishes;
        }
        if self.pledges.is_empty() && self.bytes.capacity() > 4096 {
            *self = Self::default();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_outside_of_a_shard_is_what_quality_of_service_1_waits_for_there() {
        let (own, other) = (ShardId(1), ShardId(2));
        let mut pledges = Pledges::default();
        let mut both = Waits::one(own, Position(3));
        both.add(other, Position(4));
        pledges.owe(both, 2, &[0x40; 8]);
        pledges.owe(Waits::one(other, Position(9)), 0, &[0x50; 4]);
        pledges.owe(Waits::one(own, Position(5)), 1, &[0x40; 4]);
        assert_eq!(pledges.outside(own), Waits::one(other, Position(4)));
        assert_eq!(Pledges::default().outside(own), Waits::default());
    }
}
