//! What a shard has taken and not yet written to its database: rows, and the changes of queues.
//!
//! Everything in it goes to the database in one batch, so whatever is done under one lock is kept or lost together.

use std::collections::VecDeque;

use bucketmq_packet::PacketIdentifier;
use bucketmq_packet::message::QueueEntry;
use hashbrown::{HashMap, HashSet};

use super::cut::Apart;
use super::growth::Growths;
use super::inbound::Identifiers;
use super::index::QueueIndex;
use super::outbox::Outbox;
use crate::record::Record;
use crate::record::applied::Applied;
use crate::record::cursor::Cursor;
use crate::record::growth::{Grown, Growth};
use crate::record::inbound::Inbound;
use crate::record::outbox::{self, OutboxNumber, Row};
use crate::record::queue::{CHUNK_BYTES_MAX, CHUNK_ENTRIES_MAX, Chunk, Queued};
use crate::shard::ShardId;
use crate::store::{QueueUsage, Sequence, SessionNumber};

/// So many removals back it is looked for one that a new one continues: some Sessions at once, and never a long search.
const LOOK_BACK: usize = 16;

/// Rows by key; `None` deletes.
pub(crate) type Rows = HashMap<Vec<u8>, Option<Vec<u8>>>;

/// A queue with what has been added to it since the last batch.
#[derive(Debug, Default)]
struct Queue {
    index: QueueIndex,
    added: VecDeque<(Sequence, QueueEntry)>,
    added_bytes: u64,
    /// More has happened to it since the last batch than that it grew, so that its cursor has to be written.
    is_moved: bool,
}

/// One shard's changes, and what it knows of its queues.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// Number of the last change.
    pub(crate) position: u64,
    rows: Rows,
    /// Each on its own: the table has room for twice as many as there are.
    queues: HashMap<SessionNumber, Box<Queue>>,
    changed: HashSet<SessionNumber>,
    growths: Growths,
    identifiers: Identifiers,
    outbox: Outbox,
    /// The last row applied here from the outbox of each shard, where that has changed.
    applied: Vec<(ShardId, OutboxNumber)>,
    work: Work,
    /// Bytes of messages and rows that no batch has taken.
    bytes: u64,
    /// Older than all of that: what a snapshot has set apart.
    pub(super) apart: Option<Apart>,
}

/// Changes that need the database to be read first.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// Chunks to be looked for and deleted: queue, from, through.
    pub(crate) look_for: Vec<(SessionNumber, Sequence, Sequence)>,
    /// Entries to be taken out of their chunks.
    pub(crate) holes: Vec<(SessionNumber, Sequence)>,
    /// Queues to be deleted.
    pub(crate) ended: Vec<SessionNumber>,
}

impl Work {
    /// Everything that is looked for costs a scan of its own, and a Client that acknowledges one by one removes one by one.
    fn look_for(&mut self, session: SessionNumber, from: Sequence, to: Sequence) {
        let before = self.look_for.iter_mut().rev().take(LOOK_BACK).find(|(known, ..)| *known == session);
        match before {
            Some((.., last)) if last.0 + 1 == from.0 => *last = to,
            _ => self.look_for.push((session, from, to)),
        }
    }

    fn is_empty(&self) -> bool {
        self.look_for.is_empty() && self.holes.is_empty() && self.ended.is_empty()
    }
}

/// What goes to the database together.
#[derive(Debug)]
pub(crate) struct Batch {
    /// To be written.
    pub(crate) rows: Rows,
    /// To be read first.
    pub(crate) work: Work,
}

impl Pending {
    /// Bytes that wait for the next batch.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Counts a change.
    pub(crate) fn advance(&mut self) -> u64 {
        self.position += 1;
        self.position
    }

    /// True when there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
            && self.changed.is_empty()
            && self.identifiers.is_empty()
            && self.outbox.is_empty()
            && self.applied.is_empty()
            && self.work.is_empty()
    }

    /// Puts a row, or deletes it.
    pub(crate) fn row(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.bytes += (key.len() + value.as_ref().map_or(0, Vec::len)) as u64;
        self.rows.insert(key, value);
    }

    /// Takes over a queue found when the shard was opened.
    pub(crate) fn found(&mut self, session: SessionNumber, cursor: Cursor) {
        self.queues.entry(session).or_default().index = QueueIndex::found(cursor);
    }

    /// Takes over what was found of queues that have only grown.
    pub(crate) fn found_growth(&mut self, growths: &[(u64, Growth)]) {
        for (number, growth) in growths {
            self.growths.found(*number, growth);
        }
    }

    /// Takes over the Packet Identifiers found of a Session.
    pub(crate) fn found_identifiers(&mut self, session: SessionNumber, identifiers: Inbound) {
        self.identifiers.found(session, identifiers);
    }

    /// Takes over rows found in the outbox.
    pub(crate) fn found_outbox(&mut self, chunk: &outbox::Chunk) {
        self.outbox.found(chunk);
    }

    /// A QoS 2 message has been taken under `id`.
    pub(crate) fn begin(&mut self, session: SessionNumber, id: PacketIdentifier) {
        self.bytes += size_of_val(&id) as u64;
        self.identifiers.begin(session, id);
    }

    /// `id` is free again.
    pub(crate) fn finish(&mut self, session: SessionNumber, id: PacketIdentifier) {
        self.bytes += size_of_val(&id) as u64;
        self.identifiers.finish(session, id);
    }

    /// Adds a row to the outbox.
    pub(crate) fn send(&mut self, number: OutboxNumber, row: Row) {
        self.bytes += row.message.len() as u64;
        self.outbox.add(number, row);
    }

    /// A row of the outbox is done with.
    pub(crate) fn done(&mut self, number: OutboxNumber) {
        if let Some(first) = self.outbox.done(number) {
            self.rows.insert(outbox::Chunk::key(&first), None);
        }
    }

    /// The rows of the outbox of `publisher` up to and with `number` have been applied.
    pub(crate) fn applied(&mut self, publisher: ShardId, number: OutboxNumber) {
        match self.applied.iter_mut().find(|(shard, _)| *shard == publisher) {
            Some((_, last)) => *last = number,
            None => self.applied.push((publisher, number)),
        }
    }

    /// Adds an entry.
    pub(crate) fn append(&mut self, session: SessionNumber, sequence: Sequence, entry: QueueEntry) {
        let queue = self.queues.entry(session).or_default();
        debug_assert!(sequence >= queue.index.next, "sequences only grow");
        queue.index.next = Sequence(sequence.0 + 1);
        queue.added_bytes += entry.message.len() as u64;
        self.bytes += entry.message.len() as u64;
        queue.added.push_back((sequence, entry));
        self.changed.insert(session);
    }

    /// Ends everything up to and with `through`.
    pub(crate) fn remove_through(&mut self, session: SessionNumber, through: Sequence) {
        let Some(queue) = self.queues.get_mut(&session) else { return };
        let through = Sequence(through.0.min(queue.index.next.0.saturating_sub(1)));
        if queue.index.next.0 == 0 || through < queue.index.head {
            return;
        }
        while let Some((sequence, entry)) = queue.added.front()
            && *sequence <= through
        {
            queue.added_bytes -= entry.message.len() as u64;
            queue.added.pop_front();
        }
        let removal = queue.index.remove_through(through);
        for last in removal.chunks {
            self.rows.insert(Chunk::key(&(session, last)), None);
        }
        if let Some((from, to)) = removal.look_for {
            self.work.look_for(session, from, to);
        }
        queue.is_moved = true;
        self.changed.insert(session);
    }

    /// Ends the entry `sequence` alone.
    pub(crate) fn remove(&mut self, session: SessionNumber, sequence: Sequence) {
        let Some(queue) = self.queues.get_mut(&session) else { return };
        if let Ok(place) = queue.added.binary_search_by_key(&sequence, |(known, _)| *known) {
            if let Some((_, entry)) = queue.added.remove(place) {
                queue.added_bytes -= entry.message.len() as u64;
            }
        } else if queue.index.remove(sequence) {
            self.work.holes.push((session, sequence));
        } else {
            return;
        }
        queue.is_moved = true;
        self.changed.insert(session);
    }

    /// Ends the queue.
    pub(crate) fn end(&mut self, session: SessionNumber) {
        // Also without a queue: there may be handshakes.
        self.queues.remove(&session);
        self.changed.remove(&session);
        self.growths.end(session);
        self.identifiers.end(session);
        self.work.look_for.retain(|(number, ..)| *number != session);
        self.work.holes.retain(|(number, _)| *number != session);
        self.work.ended.push(session);
    }

    /// Everything before `sent` may have been sent from now on.
    pub(crate) fn sent(&mut self, session: SessionNumber, sent: Sequence) {
        let queue = self.queues.entry(session).or_default();
        queue.index.sent = sent;
        queue.is_moved = true;
        self.changed.insert(session);
    }

    /// A chunk has been read by somebody who began at `from`.
    pub(crate) fn read(&mut self, session: SessionNumber, from: Sequence, chunk: &Chunk) {
        let Some(queue) = self.queues.get_mut(&session) else { return };
        let sizes = chunk.entries.iter().map(|entry| (entry.sequence, entry.bytes()));
        let counted = queue.index.messages;
        queue.index.read(from, sizes);
        if queue.index.messages != counted {
            // Something in it had gone alone.
            queue.is_moved = true;
            self.changed.insert(session);
        }
    }

    /// A chunk has been read behind those that were looked for, by somebody who began at `from`. True: the next one is worth reading too.
    pub(crate) fn learn(&mut self, session: SessionNumber, from: Sequence, chunk: &Chunk) -> bool {
        self.read(session, from, chunk);
        self.queues.get(&session).is_some_and(|queue| queue.index.wants_more())
    }

    /// Entries of a chunk that had to be looked for are over: how many of them the queue had counted until now, and their bytes.
    pub(crate) fn found_over<'a>(&mut self, session: SessionNumber, entries: impl Iterator<Item = &'a Queued>) -> (u64, u64) {
        let Some(queue) = self.queues.get_mut(&session) else { return (0, 0) };
        let counted = entries.filter(|entry| queue.index.found_over(entry.sequence, entry.bytes()));
        counted.fold((0, 0), |(messages, bytes), entry| (messages + 1, bytes + u64::from(entry.bytes())))
    }

    /// Everything up to and with `through` has been looked for.
    pub(crate) fn looked_for(&mut self, session: SessionNumber, through: Sequence) {
        if let Some(queue) = self.queues.get_mut(&session) {
            queue.index.forget_gone(through);
        }
    }

    /// An entry that went alone was in its chunk. True: the queue had counted it until now.
    pub(crate) fn count_gone(&mut self, session: SessionNumber, entry: &Queued) -> bool {
        self.queues.get_mut(&session).is_some_and(|queue| queue.index.count_gone(entry.sequence, entry.bytes()))
    }

    /// What the queue holds.
    pub(crate) fn usage(&self, session: SessionNumber) -> QueueUsage {
        self.queues.get(&session).map_or(QueueUsage::default(), |queue| queue.usage())
    }

    /// Queues with entries, entries, bytes.
    pub(crate) fn totals(&self) -> (u64, u64, u64) {
        self.queues
            .values()
            .map(|queue| queue.usage())
            .filter(|usage| usage.messages > 0)
            .fold((0, 0, 0), |(queues, messages, bytes), usage| (queues + 1, messages + usage.messages, bytes + usage.bytes))
    }

    /// Where the queue stands, what is not written yet included.
    pub(crate) fn cursor(&self, session: SessionNumber) -> Cursor {
        let Some(queue) = self.queues.get(&session) else { return Cursor::default() };
        let stored = queue.index.cursor();
        Cursor { messages: stored.messages + queue.added.len() as u64, bytes: stored.bytes + queue.added_bytes, ..stored }
    }

    /// Where the queue begins: nobody has to look before it.
    pub(crate) fn head(&self, session: SessionNumber) -> Sequence {
        self.queues.get(&session).map_or(Sequence(0), |queue| queue.index.head)
    }

    /// Takes everything, as the next batch. None: there is nothing.
    pub(crate) fn take(&mut self) -> Option<Batch> {
        if self.is_empty() {
            return None;
        }
        self.bytes = 0;
        let mut rows = std::mem::take(&mut self.rows);
        self.identifiers.take(&mut rows);
        self.outbox.take(&mut rows);
        for (publisher, number) in self.applied.drain(..) {
            rows.insert(Applied::key(&publisher), Some(Applied { number }.encode()));
        }
        let mut grown = Vec::new();
        for session in self.changed.drain() {
            let Some(queue) = self.queues.get_mut(&session) else { continue };
            queue.added_bytes = 0;
            while !queue.added.is_empty() {
                let (chunk, sizes) = next_chunk(&mut queue.added);
                let Some((last, _)) = sizes.last() else { break };
                rows.insert(Chunk::key(&(session, *last)), Some(chunk.encode()));
                queue.index.stored(&sizes);
            }
            // An empty queue gives its memory back.
            queue.added = VecDeque::new();
            let cursor = queue.index.cursor();
            if std::mem::take(&mut queue.is_moved) {
                rows.insert(Cursor::key(&session), Some(cursor.encode()));
            } else {
                grown.push(Grown { session, next: cursor.next, messages: cursor.messages, bytes: cursor.bytes });
            }
        }
        self.growths.put(grown, &mut rows);
        for session in self.growths.settle(&mut rows) {
            let Some(queue) = self.queues.get(&session) else { continue };
            rows.insert(Cursor::key(&session), Some(queue.index.cursor().encode()));
        }
        Some(Batch { rows, work: std::mem::take(&mut self.work) })
    }
}

impl Queue {
    fn usage(&self) -> QueueUsage {
        QueueUsage {
            first: self.index.first().or(self.added.front().map(|(sequence, _)| *sequence)),
            last: self.added.back().map(|(sequence, _)| *sequence).or(self.index.last()),
            messages: self.index.messages + self.added.len() as u64,
            bytes: self.index.bytes + self.added_bytes,
        }
    }
}

/// The next entries that fit one chunk, with sequence and bytes of each.
fn next_chunk(added: &mut VecDeque<(Sequence, QueueEntry)>) -> (Chunk, Vec<(Sequence, u32)>) {
    let mut entries = Vec::with_capacity(added.len().min(CHUNK_ENTRIES_MAX));
    let mut sizes = Vec::with_capacity(entries.capacity());
    let mut total = 0;
    while let Some((sequence, entry)) = added.front() {
        total += entry.message.len();
        // Distances within a chunk fit 32 bits.
        let far = sizes.first().is_some_and(|(first, _): &(Sequence, u32)| sequence.0 - first.0 > u64::from(u32::MAX));
        if !entries.is_empty() && (entries.len() >= CHUNK_ENTRIES_MAX || total > CHUNK_BYTES_MAX || far) {
            break;
        }
        let Some((sequence, entry)) = added.pop_front() else { break };
        sizes.push((sequence, entry.message.len() as u32));
        entries.push(Queued::new(sequence, entry));
    }
    (Chunk { entries }, sizes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removals_that_continue_each_other_are_looked_for_once() {
        let [one, other] = [1, 2].map(|number| SessionNumber::new(ShardId(0), number));
        let mut pending = Pending::default();
        for session in [one, other] {
            let found = Cursor { head: Sequence(0), next: Sequence(1000), sent: Sequence(0), messages: 1000, bytes: 10_000 };
            pending.found(session, found);
        }
        for through in 0..500 {
            pending.remove_through(one, Sequence(through));
            pending.remove_through(other, Sequence(2 * through + 1));
        }
        let batch = pending.take().expect("there is work");
        assert_eq!(batch.work.look_for, [(one, Sequence(0), Sequence(499)), (other, Sequence(0), Sequence(999))]);
    }
}
