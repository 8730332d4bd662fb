//! Where messages wait that do not fit a Session's window.

use std::collections::VecDeque;

use bucketmq_packet::message::QueueEntry;

/// Storage of one Session's queue beyond the window in memory. Sequences only grow.
pub trait Backlog {
    /// Adds `entry` behind everything appended before.
    fn append(&mut self, sequence: u64, entry: QueueEntry);
    /// Up to `max_entries` entries from `from` on, oldest first. `None`: not at hand; the caller brings them later.
    fn page(&mut self, from: u64, max_entries: usize) -> Option<Vec<(u64, QueueEntry)>>;
    /// Forgets everything up to and with `sequence`.
    fn remove_through(&mut self, sequence: u64);
    /// Forgets the entry `sequence` alone.
    fn remove(&mut self, sequence: u64);
    /// Everything before `sent` may be sent once this is durable. Only for a Session that is stored.
    fn sent(&mut self, _sent: u64) {}
    /// PUBREC came for the entry `sequence`: from here on it is never sent again [MQTT-4.3.3-6]. Only for a Session that is stored.
    fn released(&mut self, _sequence: u64) {}
    /// The entry `sequence`, once released, is over. Only for a Session that is stored.
    fn completed(&mut self, _sequence: u64) {}
}

/// What a Session knows about its backlog without asking: positions, count and bytes.
#[derive(Debug, Default, Clone, Copy)]
pub struct BacklogMeter {
    /// Sequence of the oldest entry that may still be there.
    pub first: u64,
    /// Entries there.
    pub entries: u64,
    /// Their bytes, topic, payload and properties together.
    pub bytes: u64,
}

/// A backlog in memory, for tests and for callers without storage.
#[derive(Debug, Default)]
pub struct VecBacklog(pub VecDeque<(u64, QueueEntry)>);

impl Backlog for VecBacklog {
    fn append(&mut self, sequence: u64, entry: QueueEntry) {
        self.0.push_back((sequence, entry));
    }

    fn page(&mut self, from: u64, max_entries: usize) -> Option<Vec<(u64, QueueEntry)>> {
        Some(self.0.iter().filter(|(sequence, _)| *sequence >= from).take(max_entries).cloned().collect())
    }

    fn remove_through(&mut self, sequence: u64) {
        while self.0.front().is_some_and(|(first, _)| *first <= sequence) {
            self.0.pop_front();
        }
    }

    fn remove(&mut self, sequence: u64) {
        self.0.retain(|(known, _)| *known != sequence);
    }
}
