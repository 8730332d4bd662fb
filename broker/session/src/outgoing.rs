//! The sending side at QoS 1 and 2: a window of numbered entries, their handshakes, and what waits behind them.
//!
//! Every message gets the Session's next sequence number when it is accepted; its Packet Identifier derives from that number
//! (sequence mod 65,535, plus 1), so that it is the same whenever the message is sent again [MQTT-4.4.0-1]. The window is bounded by
//! [`WINDOW_ENTRIES_MAX`]; what does not fit goes to the caller's [`Backlog`].

use std::collections::VecDeque;
use std::sync::Arc;

use bucketmq_packet::message::{Message, QueueEntry};
use bucketmq_packet::{PacketIdentifier, QoS};

use crate::backlog::{Backlog, BacklogMeter};
use crate::stored::{BehindWindow, Gate, PageWanted, Stored};

/// Entries in memory per Session, sent or not: 40 bytes each, so 40 KiB of bookkeeping at most.
const WINDOW_ENTRIES_MAX: usize = 1024;
/// The same for Sessions whose Client may have more in flight: the window follows its Receive Maximum up to here.
const WINDOW_ENTRIES_CEILING: usize = 60_000;
/// Distance between the oldest and the newest sequence in the window: below 65,535, so that an identifier is never in use twice [MQTT-2.2.1-3].
const WINDOW_SPAN_MAX: u64 = 65_000;
/// Entries taken from the backlog at a time.
const PAGE_ENTRIES: usize = 256;

/// What happens to a message that finds the queue full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overflow {
    /// The oldest message whose delivery has not begun goes.
    #[default]
    DropOldest,
    /// The new message goes.
    RejectNew,
    /// The Client is disconnected with 0x97, or, when it is not connected, the new message goes.
    Disconnect,
}

/// Bounds of a Session's queue.
#[derive(Debug, Clone, Copy)]
pub struct QueueLimits {
    /// Messages waiting, not counting those in flight.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What to do beyond.
    pub overflow: Overflow,
}

/// What an acknowledgement did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledged {
    /// The handshake is over and the identifier free.
    Finished,
    /// PUBREC was taken: send PUBREL.
    Release,
    /// No handshake with that identifier is at that point.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Delivery has not begun.
    Queued,
    AwaitPuback,
    AwaitPubrec,
    /// PUBREC came, the message is forgotten; PUBREL is repeated on resume, never the PUBLISH [MQTT-4.3.3-6].
    AwaitPubcomp,
    /// Over, dropped or expired; waits for older entries to leave the window.
    Done,
}

/// One numbered message.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) sequence: u64,
    /// None when nobody needs it any more or ever will (expiry 0: it is not sent again).
    pub(crate) message: Option<Arc<Message>>,
    pub(crate) identifiers: Box<[u32]>,
    pub(crate) share: u32,
    pub(crate) state: State,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
}

impl Entry {
    fn bytes(&self) -> u64 {
        self.message.as_ref().map_or(0, |message| message.len() as u64)
    }

    fn from_queue(sequence: u64, entry: QueueEntry) -> Self {
        Self {
            sequence,
            message: Some(entry.message),
            identifiers: entry.identifiers,
            share: entry.share,
            state: State::Queued,
            qos: entry.qos,
            retain: entry.retain,
        }
    }
}

/// The sending side of a Session.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    window: VecDeque<Entry>,
    /// Sequence of the next message to be accepted.
    next_sequence: u64,
    /// Place in the window of the first entry that has not been sent on this connection.
    next: usize,
    /// Sent on this connection and not finished.
    inflight: u32,
    /// Messages and bytes with state `Queued` in the window.
    queued: u64,
    queued_bytes: u64,
    backlog: BacklogMeter,
    /// Largest number of entries the window takes.
    capacity: usize,
    /// Some: the caller's storage holds the window too, and outlives the broker.
    stored: Option<Box<Stored>>,
}

/// What [`Outgoing::poll`] wants sent next.
pub(crate) enum Next<'a> {
    Publish {
        id: PacketIdentifier,
        dup: bool,
        entry: &'a mut Entry,
    },
    Release(PacketIdentifier),
    /// Nothing to send, or the quota is used up.
    Idle,
}

fn identifier(sequence: u64) -> PacketIdentifier {
    PacketIdentifier::new((sequence % 65_535) as u16 + 1).expect("1 to 65,535")
}

impl Outgoing {
    /// From now on every message is appended to the caller's storage, also when it is sent at once, and removed when its delivery is over.
    pub(crate) fn store(&mut self) {
        self.stored = Some(Box::default());
    }

    /// A queue found in the storage: its next sequence, how far it may have been sent, what waits in it from `backlog.first` on, and the
    /// sequences for which PUBREC has come.
    pub(crate) fn found(next: u64, sent: u64, backlog: BacklogMeter, released: Vec<u64>) -> Self {
        let stored = Some(Box::new(Stored::found(sent, released)));
        Self { next_sequence: next.max(sent), backlog, stored, ..Self::default() }
    }

    /// True when the caller's storage holds everything.
    #[inline]
    pub(crate) fn is_stored(&self) -> bool {
        self.stored.is_some()
    }

    /// True when something is to be permitted before the next message may go.
    pub(crate) fn wants_gate(&self) -> bool {
        let Some(stored) = &self.stored else { return false };
        let blocked = self.window.get(self.next).is_some_and(|entry| !self.permitted(entry));
        blocked || stored.runs_low(self.next_sequence)
    }

    /// Asks for permission to send what is there and some more.
    pub(crate) fn ask(&mut self, backlog: &mut dyn Backlog) -> Option<Gate> {
        let (gate, cursor) = self.stored.as_mut()?.ask(self.next_sequence);
        if let Some(cursor) = cursor {
            backlog.sent(cursor);
        }
        Some(gate)
    }

    /// What was asked for holds.
    pub(crate) fn open_gate(&mut self, gate: Gate) {
        if let Some(stored) = &mut self.stored {
            stored.open(gate);
        }
    }

    /// True when the entry may be sent: always again, and for the first time when the storage is that far.
    fn permitted(&self, entry: &Entry) -> bool {
        entry.state != State::Queued
            || self.stored.as_ref().is_none_or(|stored| stored.permits(entry.sequence, entry.qos == QoS::ExactlyOnce))
    }

    /// The connection is gone: what was not sent goes back to the storage it is in, and the storage learns how far sending came.
    pub(crate) fn suspend(&mut self, backlog: &mut dyn Backlog) {
        let Some(stored) = &mut self.stored else { return };
        while let Some(entry) = self.window.back()
            && entry.state == State::Queued
        {
            let Some(entry) = self.window.pop_back() else { break };
            self.queued -= 1;
            self.queued_bytes -= entry.bytes();
            self.backlog.first = entry.sequence;
            self.backlog.entries += 1;
            self.backlog.bytes += entry.bytes();
        }
        let end = self.window.back().map_or(stored.trimmed, |entry| entry.sequence + 1);
        backlog.sent(stored.close(end));
        self.next = self.next.min(self.window.len());
        self.window.shrink_to(self.window.len() * 2);
        self.settle(backlog);
    }

    /// Tells the storage what is over.
    pub(crate) fn settle(&mut self, backlog: &mut dyn Backlog) {
        let Some(stored) = &mut self.stored else { return };
        if stored.told == stored.trimmed {
            return;
        }
        stored.told = stored.trimmed;
        backlog.remove_through(stored.trimmed - 1);
        let over = stored.released.partition_point(|sequence| *sequence < stored.trimmed);
        for sequence in stored.released.drain(..over) {
            backlog.completed(sequence);
        }
    }

    /// The page of the backlog that is wanted and was not at hand.
    pub(crate) fn page_wanted(&self) -> Option<PageWanted> {
        if self.stored.is_none() || self.backlog.entries == 0 || self.next < self.window.len() || !self.fits(self.backlog.first) {
            return None;
        }
        let max_entries = (self.capacity - self.window.len()).min(PAGE_ENTRIES);
        Some(PageWanted { from: self.backlog.first, max_entries, next_sequence: self.next_sequence })
    }

    /// Takes the page that was wanted.
    pub(crate) fn accept_wanted(&mut self, wanted: PageWanted, mut page: Vec<(u64, QueueEntry)>, backlog: &mut dyn Backlog) {
        let first = self.backlog.first;
        // Some may have made room for newer ones meanwhile.
        page.retain(|(sequence, _)| *sequence >= first);
        if page.is_empty() {
            // The storage is the truth: there is nothing but what came after the question.
            let since = self.next_sequence - wanted.next_sequence;
            let entries = self.backlog.entries.min(since);
            let bytes = if entries == 0 { 0 } else { self.backlog.bytes };
            self.backlog = BacklogMeter { first: first.max(wanted.next_sequence), entries, bytes };
            return;
        }
        self.accept_page(page, backlog);
        if self.backlog.entries == 0 && self.backlog.first < self.next_sequence {
            // More than the meter knows of.
            self.backlog.entries = 1;
        }
    }

    /// A Network Connection took over: everything unfinished is sent again, oldest first [MQTT-4.4.0-1] [MQTT-4.6.0-1].
    pub(crate) fn restart(&mut self, receive_maximum: u16) {
        self.next = 0;
        self.inflight = 0;
        self.capacity = (usize::from(receive_maximum) * 2).clamp(WINDOW_ENTRIES_MAX, WINDOW_ENTRIES_CEILING);
    }

    /// What stands in the storage only.
    pub(crate) fn behind_window(&self) -> BehindWindow {
        BehindWindow { from: self.backlog.first, begun: self.stored.as_ref().map_or(0, |stored| stored.maybe_sent) }
    }

    /// Messages accepted and not begun, window and backlog together.
    pub(crate) fn waiting(&self) -> u64 {
        self.queued + self.backlog.entries
    }

    /// Bytes of the same.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        self.queued_bytes + self.backlog.bytes
    }

    /// True when something is to be sent, for the first time or again.
    pub(crate) fn has_unsent(&self) -> bool {
        self.next < self.window.len() || self.backlog.entries > 0
    }

    pub(crate) fn inflight(&self) -> u32 {
        self.inflight
    }

    /// True when a new message may be sent at once: nothing waits before it and the quota allows it [MQTT-3.3.4-9].
    #[inline]
    pub(crate) fn open(&self, receive_maximum: u16) -> bool {
        self.next == self.window.len()
            && self.stored.as_ref().is_none_or(|stored| stored.permits(self.next_sequence, false))
            && self.inflight < u32::from(receive_maximum)
            && self.backlog.entries == 0
            && self.fits(self.next_sequence)
    }

    #[inline]
    fn fits(&self, sequence: u64) -> bool {
        self.window.len() < self.capacity && self.window.front().is_none_or(|oldest| sequence - oldest.sequence < WINDOW_SPAN_MAX)
    }

    /// The sequence the next accepted message gets.
    #[inline]
    pub(crate) fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Records a message that goes out at once and gives its identifier. Only when [`Self::open`].
    #[inline]
    pub(crate) fn begin(&mut self, entry: Entry) -> PacketIdentifier {
        let id = identifier(entry.sequence);
        self.next_sequence = entry.sequence + 1;
        self.window.push_back(entry);
        self.next += 1;
        self.inflight += 1;
        id
    }

    /// Puts a message in the queue. `linked`: a connection is there, so the window is used; otherwise the backlog.
    /// Err: it (or, for `DropOldest`, an older one) was dropped; the count of dropped messages comes back.
    pub(crate) fn enqueue(
        &mut self,
        entry: QueueEntry,
        linked: bool,
        limits: &QueueLimits,
        backlog: &mut dyn Backlog,
    ) -> Result<(), Refused> {
        let bytes = entry.message.len() as u64;
        let mut dropped = 0;
        while self.waiting() + 1 > limits.messages || self.waiting_bytes() + bytes > limits.bytes {
            match limits.overflow {
                // What is larger than the whole queue finds no room, whoever goes.
                Overflow::DropOldest if self.has_droppable() && bytes <= limits.bytes && limits.messages > 0 => {
                    self.drop_oldest(backlog);
                    dropped += 1;
                }
                Overflow::DropOldest | Overflow::RejectNew => return Err(Refused::New),
                Overflow::Disconnect => return Err(Refused::Disconnect),
            }
        }
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        if linked && self.backlog.entries == 0 && self.fits(sequence) {
            if self.stored.is_some() {
                backlog.append(sequence, entry.clone());
            }
            self.queued += 1;
            self.queued_bytes += bytes;
            self.window.push_back(Entry::from_queue(sequence, entry));
        } else {
            if self.backlog.entries == 0 {
                self.backlog.first = sequence;
            }
            backlog.append(sequence, entry);
            self.backlog.entries += 1;
            self.backlog.bytes += bytes;
        }
        if dropped > 0 { Err(Refused::Older(dropped)) } else { Ok(()) }
    }

    /// Something waits whose delivery cannot have begun, in an earlier life of the broker either.
    fn has_droppable(&self) -> bool {
        self.queued > 0 || self.backlog.entries > 0 && self.stored.as_ref().is_none_or(|stored| self.backlog.first >= stored.maybe_sent)
    }

    fn drop_oldest(&mut self, backlog: &mut dyn Backlog) {
        if self.queued > 0
            && let Some(entry) = self.window.iter_mut().skip(self.next).find(|entry| entry.state == State::Queued)
        {
            self.queued -= 1;
            self.queued_bytes -= entry.bytes();
            entry.state = State::Done;
            entry.message = None;
            self.trim();
            return;
        }
        let at_hand = if self.stored.is_some() { None } else { backlog.page(self.backlog.first, 1) };
        let Some(oldest) = at_hand.and_then(|mut page| page.pop()) else {
            // Not at hand: forget the position; its bytes are unknown, so the meter loses its average.
            self.backlog.bytes -= self.backlog.bytes / self.backlog.entries.max(1);
            self.backlog.entries = self.backlog.entries.saturating_sub(1);
            self.backlog.first += 1;
            if self.window.is_empty() {
                backlog.remove_through(self.backlog.first - 1);
            }
            return;
        };
        backlog.remove_through(oldest.0);
        self.backlog.entries -= 1;
        self.backlog.bytes = self.backlog.bytes.saturating_sub(oldest.1.message.len() as u64);
        self.backlog.first = oldest.0 + 1;
    }

    /// Brings a page of the backlog into the window when there is room for it.
    pub(crate) fn refill(&mut self, backlog: &mut dyn Backlog) {
        if self.backlog.entries == 0 || self.next < self.window.len() || !self.fits(self.backlog.first) {
            return;
        }
        let room = (self.capacity - self.window.len()).min(PAGE_ENTRIES);
        let Some(page) = backlog.page(self.backlog.first, room) else { return };
        self.accept_page(page, backlog);
    }

    /// Takes a page the caller brought.
    pub(crate) fn accept_page(&mut self, mut page: Vec<(u64, QueueEntry)>, backlog: &mut dyn Backlog) {
        let Some((first, _)) = page.first() else {
            // Nothing is there although the meter says so: the caller's storage is the truth.
            self.backlog = BacklogMeter::default();
            return;
        };
        self.backlog.first = *first;
        // Only what keeps the span: the rest stays where it is.
        let oldest = self.window.front().map_or(*first, |entry| entry.sequence);
        page.retain(|(sequence, _)| sequence - oldest < WINDOW_SPAN_MAX);
        let Some(last) = page.last().map(|(sequence, _)| *sequence) else { return };
        for (sequence, entry) in page {
            let bytes = entry.message.len() as u64;
            self.backlog.entries = self.backlog.entries.saturating_sub(1);
            self.backlog.bytes = self.backlog.bytes.saturating_sub(bytes);
            let mut entry = Entry::from_queue(sequence, entry);
            entry.state = self.state_of(&entry);
            match entry.state {
                State::Queued => {
                    self.queued += 1;
                    self.queued_bytes += bytes;
                }
                State::AwaitPubcomp => entry.message = None,
                _ => {}
            }
            self.window.push_back(entry);
        }
        self.backlog.first = last + 1;
        if self.stored.is_none() {
            backlog.remove_through(last);
        }
    }

    /// How far the delivery of an entry that comes from the storage is.
    fn state_of(&self, entry: &Entry) -> State {
        match (&self.stored, entry.qos) {
            (Some(stored), QoS::ExactlyOnce) if stored.is_released(entry.sequence) => State::AwaitPubcomp,
            (Some(stored), QoS::ExactlyOnce) if entry.sequence < stored.maybe_sent => State::AwaitPubrec,
            (Some(stored), QoS::AtLeastOnce) if entry.sequence < stored.maybe_sent => State::AwaitPuback,
            _ => State::Queued,
        }
    }

    /// The next packet this side should send. A `Publish` counts as sent once `sent` is called for it.
    pub(crate) fn poll(&mut self, receive_maximum: u16) -> Next<'_> {
        while self.next < self.window.len() {
            let place = self.next;
            let id = identifier(self.window[place].sequence);
            match self.window[place].state {
                State::Done => self.next += 1,
                State::AwaitPubcomp => {
                    self.next += 1;
                    // Counted, so that a Client never sees more unfinished handshakes than it granted.
                    self.inflight += 1;
                    return Next::Release(id);
                }
                _ if self.inflight >= u32::from(receive_maximum) => return Next::Idle,
                _ if !self.permitted(&self.window[place]) => return Next::Idle,
                state => {
                    return Next::Publish { id, dup: state != State::Queued, entry: &mut self.window[place] };
                }
            }
        }
        Next::Idle
    }

    /// The entry that `poll` showed has been encoded. `keep`: it may have to be sent again on another connection.
    pub(crate) fn sent(&mut self, keep: bool) {
        let entry = &mut self.window[self.next];
        if entry.state == State::Queued {
            self.queued -= 1;
            self.queued_bytes -= entry.bytes();
            // QoS 0 in the queue of a Session that was away is over once sent.
            entry.state = match entry.qos {
                QoS::AtMostOnce => State::Done,
                QoS::AtLeastOnce => State::AwaitPuback,
                QoS::ExactlyOnce => State::AwaitPubrec,
            };
        }
        if entry.state == State::Done || !keep {
            entry.message = None;
        }
        if entry.state != State::Done {
            self.inflight += 1;
        }
        self.next += 1;
        self.trim();
    }

    /// The entry that `poll` showed is not sent at all: expired [MQTT-3.3.2-5] or too large for the Client [MQTT-3.1.2-25].
    pub(crate) fn skip(&mut self) {
        let entry = &mut self.window[self.next];
        if entry.state == State::Queued {
            self.queued -= 1;
            self.queued_bytes -= entry.bytes();
        }
        entry.state = State::Done;
        entry.message = None;
        self.next += 1;
        self.trim();
    }

    #[inline]
    fn place_of(&self, id: PacketIdentifier) -> Option<usize> {
        // The distance of the identifiers, modulo 65,535, is the distance of the sequences, because the span is smaller than that.
        let first = self.window.front()?.sequence;
        let wanted = u64::from(id.get()) - 1;
        let distance = (wanted + 65_535 - first % 65_535) % 65_535;
        let sequence = first + distance;
        let place = match self.window.get(distance as usize) {
            // Without gaps, the rule, the distance is the place.
            Some(entry) if entry.sequence == sequence => distance as usize,
            _ => self.window.binary_search_by_key(&sequence, |entry| entry.sequence).ok()?,
        };
        (place < self.next).then_some(place)
    }

    fn finish(&mut self, place: usize) {
        let entry = &mut self.window[place];
        entry.state = State::Done;
        entry.message = None;
        self.inflight = self.inflight.saturating_sub(1);
        if place == 0 {
            self.trim();
        }
    }

    fn trim(&mut self) {
        while let Some(entry) = self.window.front()
            && entry.state == State::Done
        {
            if let Some(stored) = &mut self.stored {
                stored.trimmed = entry.sequence + 1;
            }
            self.window.pop_front();
            self.next = self.next.saturating_sub(1);
        }
        // An idle Session keeps no window.
        if self.window.is_empty() && self.window.capacity() > 256 {
            self.window = VecDeque::new();
        }
    }

    /// PUBACK [MQTT-4.3.2-3]; an error code ends the delivery all the same [MQTT-4.4.0-2].
    #[inline]
    pub(crate) fn puback(&mut self, id: PacketIdentifier) -> Acknowledged {
        match self.place_of(id) {
            Some(place) if self.window[place].state == State::AwaitPuback => {
                self.finish(place);
                Acknowledged::Finished
            }
            _ => Acknowledged::Unknown,
        }
    }

    /// PUBREC [MQTT-4.3.3-4]; `refused` when it carries an error code, which ends the delivery [MQTT-4.3.3-4] [MQTT-4.4.0-2].
    pub(crate) fn pubrec(&mut self, id: PacketIdentifier, refused: bool, backlog: &mut dyn Backlog) -> Acknowledged {
        match self.place_of(id) {
            Some(place) if self.window[place].state == State::AwaitPubrec => {
                if refused {
                    self.finish(place);
                    return Acknowledged::Finished;
                }
                // [MQTT-4.3.3-6] From here on the PUBLISH is never sent again.
                self.window[place].state = State::AwaitPubcomp;
                self.window[place].message = None;
                let sequence = self.window[place].sequence;
                if self.stored.as_mut().is_some_and(|stored| stored.release(sequence)) {
                    backlog.released(sequence);
                }
                Acknowledged::Release
            }
            Some(place) if self.window[place].state == State::AwaitPubcomp && !refused => Acknowledged::Release,
            _ => Acknowledged::Unknown,
        }
    }

    /// PUBCOMP.
    pub(crate) fn pubcomp(&mut self, id: PacketIdentifier) -> Acknowledged {
        match self.place_of(id) {
            Some(place) if self.window[place].state == State::AwaitPubcomp => {
                self.finish(place);
                Acknowledged::Finished
            }
            _ => Acknowledged::Unknown,
        }
    }

    /// Takes out the entries that came through a Shared Subscription for which `leaves` holds and whose delivery may go to another member:
    /// not begun, or, with `begun`, QoS 1 not acknowledged. QoS 2 in delivery stays with this Client [MQTT-4.8.2-4].
    pub(crate) fn take_shared(&mut self, begun: bool, backlog: &mut dyn Backlog, leaves: impl Fn(u32) -> bool) -> Vec<(u32, Arc<Message>)> {
        let mut taken = Vec::new();
        for place in 0..self.window.len() {
            let entry = &mut self.window[place];
            let free = entry.state == State::Queued || begun && entry.state == State::AwaitPuback;
            if entry.share == 0 || !free || !leaves(entry.share) {
                continue;
            }
            let Some(message) = entry.message.take() else { continue };
            if entry.state == State::Queued {
                self.queued -= 1;
                self.queued_bytes -= message.len() as u64;
            } else if place < self.next {
                self.inflight = self.inflight.saturating_sub(1);
            }
            entry.state = State::Done;
            if self.stored.is_some() {
                backlog.remove(entry.sequence);
            }
            taken.push((entry.share, message));
        }
        self.trim();
        self.take_shared_from(backlog, leaves, &mut taken);
        taken
    }

    /// The same for what waits behind the window.
    fn take_shared_from(&mut self, backlog: &mut dyn Backlog, leaves: impl Fn(u32) -> bool, taken: &mut Vec<(u32, Arc<Message>)>) {
        let mut from = self.backlog.first;
        while self.backlog.entries > 0 {
            // What is not at hand stays with this Client.
            let Some(page) = backlog.page(from, PAGE_ENTRIES) else { return };
            let Some((last, _)) = page.last() else { return };
            from = last + 1;
            for (sequence, entry) in page {
                // [MQTT-4.8.2-5] QoS 2 that may have been sent stays, too.
                let begun = entry.qos == QoS::ExactlyOnce && sequence < self.behind_window().begun;
                if entry.share == 0 || begun || !leaves(entry.share) {
                    continue;
                }
                backlog.remove(sequence);
                self.backlog.entries = self.backlog.entries.saturating_sub(1);
                self.backlog.bytes = self.backlog.bytes.saturating_sub(entry.message.len() as u64);
                taken.push((entry.share, entry.message));
            }
        }
    }

    /// Entries in the window.
    pub(crate) fn window_len(&self) -> usize {
        self.window.len()
    }

    /// The Shared Subscriptions that entries of the window came through, more than once each.
    pub(crate) fn shares(&self) -> impl Iterator<Item = u32> {
        self.window.iter().filter(|entry| entry.state != State::Done).map(|entry| entry.share)
    }
}

/// Why [`Outgoing::enqueue`] could not simply add.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The new message was dropped.
    New,
    /// It was added and this many older ones dropped.
    Older(u64),
    /// The Client is to be disconnected.
    Disconnect,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The backlog may begin with a gap (what was dropped), so that its first entry is farther away than its meter says.
    #[test]
    fn a_page_beyond_the_span_waits_until_the_oldest_is_finished() {
        let mut backlog = crate::VecBacklog::default();
        let mut outgoing = Outgoing::default();
        outgoing.restart(10);
        let held = outgoing.begin(Entry {
            sequence: 0,
            message: None,
            identifiers: Box::default(),
            share: 0,
            state: State::AwaitPuback,
            qos: QoS::AtLeastOnce,
            retain: false,
        });
        let message = Message::new("t", b"a", b"", QoS::AtLeastOnce, false, None);
        let entry = QueueEntry { message, identifiers: Box::default(), share: 0, qos: QoS::AtLeastOnce, retain: false };
        backlog.append(WINDOW_SPAN_MAX + 5, entry);
        outgoing.backlog = BacklogMeter { first: 1, entries: 1, bytes: 2 };
        outgoing.refill(&mut backlog);
        assert_eq!((outgoing.waiting(), outgoing.window.len()), (1, 1));
        assert_eq!(outgoing.puback(held), Acknowledged::Finished);
        outgoing.refill(&mut backlog);
        assert!(matches!(outgoing.poll(10), Next::Publish { .. }));
        assert_eq!((outgoing.waiting(), outgoing.backlog.entries), (1, 0));
    }

    #[test]
    fn an_idle_session_keeps_no_window() {
        let mut outgoing = Outgoing::default();
        outgoing.restart(2_000);
        let ids: Vec<_> = (0..2_000)
            .map(|sequence| {
                assert!(outgoing.open(2_000));
                outgoing.begin(Entry {
                    sequence,
                    message: None,
                    identifiers: Box::default(),
                    share: 0,
                    state: State::AwaitPuback,
                    qos: QoS::AtLeastOnce,
                    retain: false,
                })
            })
            .collect();
        assert!(!outgoing.open(2_000) && outgoing.window.capacity() >= 2_000);
        for id in ids.into_iter().rev() {
            assert_eq!(outgoing.puback(id), Acknowledged::Finished);
        }
        assert_eq!((outgoing.window.capacity(), outgoing.inflight()), (0, 0));
    }
}
