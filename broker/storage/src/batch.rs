//! Changes of one shard that are kept or lost together.

use bucketmq_packet::PacketIdentifier;
use bucketmq_packet::message::QueueEntry;

use crate::record::Record;
use crate::record::outbox::{OutboxNumber, Row};
use crate::shard::ShardId;
use crate::store::{Sequence, SessionNumber};

/// Changes to be made at once with [`Store::write`](crate::Store::write): records, and queues of the same shard.
#[derive(Debug, Default)]
pub struct Batch {
    pub(crate) rows: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    pub(crate) changes: Vec<Change>,
}

/// A change of what stands in records together with others of its kind.
#[derive(Debug)]
pub(crate) enum Change {
    Append(SessionNumber, Sequence, QueueEntry),
    RemoveThrough(SessionNumber, Sequence),
    Remove(SessionNumber, Sequence),
    Sent(SessionNumber, Sequence),
    End(SessionNumber),
    Begin(SessionNumber, PacketIdentifier),
    Finish(SessionNumber, PacketIdentifier),
    Send(OutboxNumber, Row),
    Done(OutboxNumber),
    Applied(ShardId, OutboxNumber),
}

impl Batch {
    /// Puts a record; one with the same key is replaced.
    pub fn put<R: Record>(&mut self, key: &R::Key, record: &R) -> &mut Self {
        self.rows.push((R::key(key), Some(record.encode())));
        self
    }

    /// Deletes a record.
    pub fn delete<R: Record>(&mut self, key: &R::Key) -> &mut Self {
        self.rows.push((R::key(key), None));
        self
    }

    /// As [`Store::append`](crate::Store::append).
    pub fn append(&mut self, session: SessionNumber, sequence: Sequence, entry: QueueEntry) -> &mut Self {
        self.changes.push(Change::Append(session, sequence, entry));
        self
    }

    /// As [`Store::remove_through`](crate::Store::remove_through).
    pub fn remove_through(&mut self, session: SessionNumber, sequence: Sequence) -> &mut Self {
        self.changes.push(Change::RemoveThrough(session, sequence));
        self
    }

    /// As [`Store::remove`](crate::Store::remove).
    pub fn remove(&mut self, session: SessionNumber, sequence: Sequence) -> &mut Self {
        self.changes.push(Change::Remove(session, sequence));
        self
    }

    /// Everything before `sent` may have been sent from now on: after a crash it goes out with DUP 1 [MQTT-3.3.1-1].
    pub fn sent(&mut self, session: SessionNumber, sent: Sequence) -> &mut Self {
        self.changes.push(Change::Sent(session, sent));
        self
    }

    /// As [`Store::remove_session`](crate::Store::remove_session).
    pub fn remove_session(&mut self, session: SessionNumber) -> &mut Self {
        self.changes.push(Change::End(session));
        self
    }

    /// A QoS 2 message was taken from the Client under `id`: it is not handed on again before [`Self::finish`] [MQTT-4.3.3-10].
    pub fn begin(&mut self, session: SessionNumber, id: PacketIdentifier) -> &mut Self {
        self.changes.push(Change::Begin(session, id));
        self
    }

    /// `id` is free again.
    pub fn finish(&mut self, session: SessionNumber, id: PacketIdentifier) -> &mut Self {
        self.changes.push(Change::Finish(session, id));
        self
    }

    /// Puts `row` into the shard's outbox; numbers only grow.
    pub fn send(&mut self, number: OutboxNumber, row: Row) -> &mut Self {
        self.changes.push(Change::Send(number, row));
        self
    }

    /// Every target has the row `number` durably. After a crash it may be offered again all the same, as long as it shares a record with one that not
    /// every target has.
    pub fn done(&mut self, number: OutboxNumber) -> &mut Self {
        self.changes.push(Change::Done(number));
        self
    }

    /// What this shard gets of the rows in the outbox of `publisher` up to and with `number` is in this batch or was in one before it: they are never
    /// applied here again.
    pub fn applied(&mut self, publisher: ShardId, number: OutboxNumber) -> &mut Self {
        self.changes.push(Change::Applied(publisher, number));
        self
    }
}
