//! Changes of one shard that are kept or lost together.

use bucketmq_packet::message::QueueEntry;

use crate::record::Record;
use crate::store::{Sequence, SessionNumber};

/// Changes to be made at once with [`Store::write`](crate::Store::write): records, and queues of the same shard.
#[derive(Debug, Default)]
pub struct Batch {
    pub(crate) rows: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    pub(crate) queues: Vec<QueueChange>,
}

/// A change of one queue.
#[derive(Debug)]
pub(crate) enum QueueChange {
    Append(SessionNumber, Sequence, QueueEntry),
    RemoveThrough(SessionNumber, Sequence),
    Remove(SessionNumber, Sequence),
    Sent(SessionNumber, Sequence),
    End(SessionNumber),
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
        self.queues.push(QueueChange::Append(session, sequence, entry));
        self
    }

    /// As [`Store::remove_through`](crate::Store::remove_through).
    pub fn remove_through(&mut self, session: SessionNumber, sequence: Sequence) -> &mut Self {
        self.queues.push(QueueChange::RemoveThrough(session, sequence));
        self
    }

    /// As [`Store::remove`](crate::Store::remove).
    pub fn remove(&mut self, session: SessionNumber, sequence: Sequence) -> &mut Self {
        self.queues.push(QueueChange::Remove(session, sequence));
        self
    }

    /// Everything before `sent` may have been sent from now on: after a crash it goes out with DUP 1 [MQTT-3.3.1-1].
    pub fn sent(&mut self, session: SessionNumber, sent: Sequence) -> &mut Self {
        self.queues.push(QueueChange::Sent(session, sent));
        self
    }

    /// As [`Store::remove_session`](crate::Store::remove_session).
    pub fn remove_session(&mut self, session: SessionNumber) -> &mut Self {
        self.queues.push(QueueChange::End(session));
        self
    }
}
