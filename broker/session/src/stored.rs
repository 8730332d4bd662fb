//! What a Session whose queue outlives the broker remembers about it: how far it may send, and what the storage still has to be told.

/// Sequences that may be sent before the next cursor is durable: a Session that sends 40,000 messages a second never waits for a cursor that takes 100 ms.
const BLOCK: u64 = 8192;

/// Two permissions to send, asked for together: they hold once everything written before is durable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gate {
    /// Everything before it may be sent.
    pub(crate) sent: u64,
    /// QoS 2 before it may be sent: its entries are durable.
    pub(crate) offered: u64,
}

/// A queue page the Session wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageWanted {
    /// The first sequence.
    pub from: u64,
    /// Entries at most.
    pub max_entries: usize,
    /// What the next sequence was when the page was wanted: nothing of it can be missing before.
    pub(crate) next_sequence: u64,
}

/// The part of a queue that is in the storage only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BehindWindow {
    /// Where it begins.
    pub from: u64,
    /// Entries before it may have been sent before the broker started.
    pub begun: u64,
}

/// The bookkeeping of a stored queue.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    /// The cursor last written: everything before it may be sent once that is durable.
    asked: u64,
    /// What is permitted.
    gate: Gate,
    /// Entries before it may have been sent before the broker started: they go out with DUP 1 [MQTT-3.3.1-1].
    pub(crate) maybe_sent: u64,
    /// QoS 2 deliveries found beyond their PUBREC when the broker started, and those that got there since: each has a record. Sorted.
    pub(crate) released: Vec<u64>,
    /// Everything before it has left the window.
    pub(crate) trimmed: u64,
    /// What of it the storage knows.
    pub(crate) told: u64,
}

impl Stored {
    /// A queue found in the storage: so far it may have been sent.
    pub(crate) fn found(maybe_sent: u64, mut released: Vec<u64>) -> Self {
        released.sort_unstable();
        Self { maybe_sent, released, asked: maybe_sent, ..Self::default() }
    }

    /// The entry may go to the Client.
    pub(crate) fn permits(&self, sequence: u64, qos2: bool) -> bool {
        sequence < self.gate.sent && (!qos2 || sequence < self.gate.offered)
    }

    /// True when half of the block is used up, so that the next one should be asked for.
    pub(crate) fn runs_low(&self, next_sequence: u64) -> bool {
        next_sequence + BLOCK / 2 > self.gate.sent
    }

    /// The permissions to ask for now, and the cursor to be written for them when it has to be.
    pub(crate) fn ask(&mut self, next_sequence: u64) -> (Gate, Option<u64>) {
        let cursor = (next_sequence + BLOCK / 2 > self.asked).then(|| {
            self.asked = next_sequence + BLOCK;
            self.asked
        });
        (Gate { sent: self.asked, offered: next_sequence }, cursor)
    }

    /// What was asked for holds.
    pub(crate) fn open(&mut self, gate: Gate) {
        self.gate.sent = self.gate.sent.max(gate.sent.min(self.asked));
        self.gate.offered = self.gate.offered.max(gate.offered);
    }

    /// Nothing is sent any more: the cursor to be written, exact.
    pub(crate) fn close(&mut self, sent: u64) -> u64 {
        let sent = sent.max(self.maybe_sent);
        self.asked = sent;
        self.gate.sent = sent;
        sent
    }

    /// PUBREC came for `sequence`. True: that is new.
    pub(crate) fn release(&mut self, sequence: u64) -> bool {
        match self.released.binary_search(&sequence) {
            Ok(_) => false,
            Err(place) => {
                self.released.insert(place, sequence);
                true
            }
        }
    }

    /// True when PUBREC has come for `sequence`.
    pub(crate) fn is_released(&self, sequence: u64) -> bool {
        self.released.binary_search(&sequence).is_ok()
    }
}

#[cfg(test)]
mod tests;
