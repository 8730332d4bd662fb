//! Messages waiting for one Session, or for a Shared Subscription, in chunks: what came in one batch stands in one record, so that a queue
//! costs a fraction of a row, and later of a tombstone, for each message.
//!
//! A chunk's key carries its *last* sequence: whoever looks for what follows a sequence finds the chunk that holds it first.

use std::sync::Arc;

use bucketmq_packet::message::{Message, QueueEntry};

use super::{Fault, Kind, MESSAGE_EXTRA, Reader, Record, Writer, wire};
use crate::store::{Sequence, SessionNumber};

/// Entries in one chunk.
pub const CHUNK_ENTRIES_MAX: usize = 64;
/// Bytes of messages after which a chunk is full.
pub const CHUNK_BYTES_MAX: usize = 64 * 1024;

const RETAIN: u8 = 1 << 2;
const IDENTIFIERS: u8 = 1 << 3;
const SHARE: u8 = 1 << 4;
const ELSEWHERE: u8 = 1 << 5;
const FLAGS: u8 = 0x3F;

/// A message of a chunk, or where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// In the chunk.
    Here(Arc<Message>),
    /// In the payload row of this number, because several Sessions of the shard wait for it.
    Elsewhere(u64),
}

/// One message of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// Its place.
    pub sequence: Sequence,
    /// What it says.
    pub content: Content,
    /// Subscription Identifiers of all matching Subscriptions.
    pub identifiers: Box<[u32]>,
    /// The Shared Subscription it came through, by the Session's number; 0: none.
    pub share: u32,
    /// QoS it is delivered with.
    pub qos: bucketmq_packet::QoS,
    /// RETAIN as the Client shall see it.
    pub retain: bool,
}

impl Queued {
    /// `entry` at `sequence`, with its message.
    pub fn new(sequence: Sequence, entry: QueueEntry) -> Self {
        let QueueEntry { message, identifiers, share, qos, retain } = entry;
        Self { sequence, content: Content::Here(message), identifiers, share, qos, retain }
    }

    /// Bytes of its message; 0 when that is elsewhere.
    pub fn bytes(&self) -> u32 {
        match &self.content {
            Content::Here(message) => message.len() as u32,
            Content::Elsewhere(_) => 0,
        }
    }

    /// The entry, when its message is here.
    pub fn entry(&self) -> Option<QueueEntry> {
        let Content::Here(message) = &self.content else { return None };
        let (identifiers, share) = (self.identifiers.clone(), self.share);
        Some(QueueEntry { message: message.clone(), identifiers, share, qos: self.qos, retain: self.retain })
    }
}

/// Some messages of a queue, oldest first; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// They.
    pub entries: Vec<Queued>,
}

impl Record for Chunk {
    const KIND: Kind = Kind::Queue;
    /// Whose queue, and the sequence of the last entry.
    type Key = (SessionNumber, Sequence);

    fn put_key((session, last): &Self::Key, out: &mut Writer) {
        out.session(*session);
        out.sequence(*last);
    }

    fn take_key(input: &mut Reader<'_>) -> Result<Self::Key, Fault> {
        Ok((input.session()?, input.sequence()?))
    }

    fn put(&self, out: &mut Writer) {
        // The first sequence whole, the others as distances.
        let mut next = 0;
        for entry in &self.entries {
            let elsewhere = matches!(entry.content, Content::Elsewhere(_));
            let flag = |set: bool, flag: u8| if set { flag } else { 0 };
            out.u8(entry.qos as u8
                | flag(entry.retain, RETAIN)
                | flag(!entry.identifiers.is_empty(), IDENTIFIERS)
                | flag(entry.share > 0, SHARE)
                | flag(elsewhere, ELSEWHERE));
            out.varint(entry.sequence.0 - next);
            next = entry.sequence.0 + 1;
            if !entry.identifiers.is_empty() {
                out.varint(entry.identifiers.len() as u64);
                for identifier in &*entry.identifiers {
                    out.varint((*identifier).into());
                }
            }
            if entry.share > 0 {
                out.varint(entry.share.into());
            }
            match &entry.content {
                Content::Here(message) => out.message(message),
                Content::Elsewhere(number) => out.u64(*number),
            }
        }
    }

    fn bytes_expected(&self) -> usize {
        self.entries.iter().map(|entry| entry.bytes() as usize + MESSAGE_EXTRA + 4 * entry.identifiers.len()).sum::<usize>() + 1
    }

    fn take(_version: u8, input: &mut Reader<'_>) -> Result<Self, Fault> {
        let mut entries = Vec::new();
        let mut next = 0_u64;
        while !input.is_empty() {
            let flags = input.u8()?;
            if flags & !FLAGS != 0 {
                return Err(Fault::Invalid("queue flags"));
            }
            let sequence = next.checked_add(input.varint()?).ok_or(Fault::Invalid("sequence"))?;
            next = sequence.checked_add(1).ok_or(Fault::Invalid("sequence"))?;
            let mut identifiers = Vec::new();
            if flags & IDENTIFIERS != 0 {
                for _ in 0..input.varint()? {
                    identifiers.push(input.varint32("Subscription Identifier")?);
                }
            }
            let share = if flags & SHARE == 0 { 0 } else { input.varint32("share")? };
            let content = if flags & ELSEWHERE == 0 { Content::Here(input.message()?) } else { Content::Elsewhere(input.u64()?) };
            entries.push(Queued {
                sequence: Sequence(sequence),
                content,
                identifiers: identifiers.into(),
                share,
                qos: wire::qos(flags & 3)?,
                retain: flags & RETAIN != 0,
            });
        }
        if entries.is_empty() { Err(Fault::Short) } else { Ok(Self { entries }) }
    }
}

#[cfg(test)]
mod tests {
    use bucketmq_packet::QoS;
    use proptest::prelude::*;

    use super::*;
    use crate::record::round_trip;

    fn queued() -> impl Strategy<Value = (u32, bool, Vec<u8>, Vec<u32>, u32, u8, bool)> {
        (1..1000_u32, any::<bool>(), any::<Vec<u8>>(), proptest::collection::vec(1..300_u32, 0..3), 0..3_u32, 0..3_u8, any::<bool>())
    }

    proptest! {
        #[test]
        fn a_chunk_comes_back(first: u32, entries in proptest::collection::vec(queued(), 1..20)) {
            let mut sequence = u64::from(first);
            let entries: Vec<_> = entries.into_iter().map(|(gap, here, payload, identifiers, share, qos, retain)| {
                sequence += u64::from(gap);
                let qos = QoS::try_from(qos).unwrap();
                let message = Message::new("a/b", &payload, b"\x01\x01", qos, retain, payload.first().map(|byte| u64::from(*byte) << 33));
                let content = if here { Content::Here(message) } else { Content::Elsewhere(sequence << 20) };
                Queued { sequence: Sequence(sequence), content, identifiers: identifiers.into(), share, qos, retain }
            }).collect();
            round_trip(&(SessionNumber(7), Sequence(sequence)), &Chunk { entries });
        }

        #[test]
        fn no_bytes_make_a_chunk_panic(bytes: Vec<u8>) {
            let _ = Chunk::decode(&bytes);
        }
    }
}
