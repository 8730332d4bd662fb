//! Retained messages in the order of their topics.
//!
//! A sorted list in pieces: no node for a level, no second copy of a topic, about 44 bytes for a message beside itself. An exact topic is found by
//! halving; a filter walks along the order and jumps over what it cannot match (see [`order`]). A walk can stop anywhere and go on later from the
//! last topic it looked at, whatever has been set or removed in between.

mod heads;
pub mod order;
mod piece;

use std::cmp::Ordering;
use std::sync::Arc;

use bucketmq_packet::message::Message;
use heads::Heads;
use order::{Step, Walk, compare};
use piece::{PIECE_MAX, Piece};

/// Topics one page looks at when few of them match: at 220 ns each among a million, a page takes half a millisecond.
const LOOKED_AT_MAX: usize = 2048;

/// Retained messages, one for each topic.
#[derive(Debug, Default)]
pub struct Retained {
    pieces: Vec<Piece>,
    /// Of the last topic of each piece.
    ends: Heads,
    len: usize,
    bytes: u64,
}

/// How much one page may take.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    messages: usize,
    bytes: usize,
    topics: usize,
}

impl Budget {
    /// At most `messages` messages, and no more once there are `bytes` of them; at least one.
    pub fn new(messages: usize, bytes: usize) -> Self {
        Self { messages: messages.max(1), bytes: bytes.max(1), topics: LOOKED_AT_MAX }
    }

    /// True when the page is full.
    pub fn is_spent(&self) -> bool {
        self.messages == 0 || self.bytes == 0 || self.topics == 0
    }
}

/// A place: piece, and message in it. The end is the place behind the last piece.
type Place = (usize, usize);

impl Retained {
    /// No messages.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many messages.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Their topics, properties and payloads.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The message of `topic`.
    pub fn get(&self, topic: &str) -> Option<&Arc<Message>> {
        self.find(topic).ok().map(|(piece, at)| &self.pieces[piece].messages()[at])
    }

    /// Makes `message` the one of its topic; the one before comes back [MQTT-3.3.1-5].
    pub fn insert(&mut self, message: Arc<Message>) -> Option<Arc<Message>> {
        self.bytes += message.len() as u64;
        match self.find(message.topic()) {
            Ok((piece, at)) => {
                let before = self.pieces[piece].replace(at, message);
                self.bytes -= before.len() as u64;
                Some(before)
            }
            Err(place) => {
                self.insert_at(place, message);
                self.len += 1;
                None
            }
        }
    }

    /// Removes the message of `topic`.
    pub fn remove(&mut self, topic: &str) -> Option<Arc<Message>> {
        let (piece, at) = self.find(topic).ok()?;
        let message = self.pieces[piece].remove(at);
        self.len -= 1;
        self.bytes -= message.len() as u64;
        let left = self.pieces[piece].len();
        if left == 0 {
            self.pieces.remove(piece);
            self.ends.remove(piece);
        } else if at == left {
            self.end_changed(piece);
        }
        self.join(piece);
        Some(message)
    }

    /// Calls `each` with every message that matches `filter`, in the order of topics.
    pub fn for_each_match(&self, filter: &str, mut each: impl FnMut(&Arc<Message>)) {
        self.walk(filter, None, |message, step| {
            if step == Step::Match {
                each(message);
            }
            true
        });
    }

    /// Appends messages that match `filter` to `out`, those behind the topic `after`, until `budget` is spent. Comes back with the last topic it
    /// looked at when there may be more.
    pub fn page(&self, filter: &str, after: Option<&str>, budget: &mut Budget, out: &mut Vec<Arc<Message>>) -> Option<Box<str>> {
        let last = self.walk(filter, after, |message, step| {
            budget.topics = budget.topics.saturating_sub(1);
            if step == Step::Match {
                budget.messages = budget.messages.saturating_sub(1);
                budget.bytes = budget.bytes.saturating_sub(message.len());
                out.push(message.clone());
            }
            !budget.is_spent()
        })?;
        Some(last.topic().into())
    }

    /// Calls `look` with every message behind the topic `after`, until it says false; the topic of that message comes back.
    pub fn scan(&self, after: Option<&str>, mut look: impl FnMut(&Arc<Message>) -> bool) -> Option<Box<str>> {
        let (mut piece, mut at) = self.behind(after);
        while let Some(messages) = self.pieces.get(piece).map(Piece::messages) {
            if let Some(last) = messages[at..].iter().find(|message| !look(message)) {
                return Some(last.topic().into());
            }
            (piece, at) = (piece + 1, 0);
        }
        None
    }

    /// Calls `look` with every message that cannot be jumped over, until it says false; that message comes back.
    fn walk(&self, filter: &str, after: Option<&str>, mut look: impl FnMut(&Arc<Message>, Step) -> bool) -> Option<&Arc<Message>> {
        let mut walk = Walk::new(filter);
        let mut place = match after {
            None => self.seek((0, 0), walk.start()),
            Some(_) => self.behind(after),
        };
        loop {
            let message = self.pieces.get(place.0)?.messages().get(place.1)?;
            let step = walk.step(message.topic());
            if step == Step::End {
                return None;
            }
            if !look(message, step) {
                return Some(message);
            }
            place = self.tidy((place.0, place.1 + 1));
            if step == Step::Seek {
                place = self.seek(place, walk.target());
            }
        }
    }

    /// The first place behind the topic `after`.
    fn behind(&self, after: Option<&str>) -> Place {
        let Some(after) = after else { return (0, 0) };
        let (piece, at) = self.find(after).map_or_else(|place| place, |(piece, at)| (piece, at + 1));
        self.tidy((piece, at))
    }

    /// The first place from `from` on whose topic is not before `topic`.
    fn seek(&self, from: Place, topic: &str) -> Place {
        // Most steps are short.
        let next = self.pieces.get(from.0).and_then(|piece| piece.messages().get(from.1));
        if next.is_none_or(|message| compare(message.topic(), topic) != Ordering::Less) {
            return from;
        }
        self.tidy(self.find(topic).unwrap_or_else(|place| place))
    }

    /// Where `topic` is, or where it would be inserted: in a piece or behind the last message of the last one.
    fn find(&self, topic: &str) -> Result<Place, Place> {
        let range = self.ends.search(topic);
        let at = range.start + self.pieces[range].partition_point(|piece| compare(piece.last(), topic) == Ordering::Less);
        match self.pieces.get(at) {
            Some(piece) => piece.find(topic).map(|place| (at, place)).map_err(|place| (at, place)),
            None => Err(self.pieces.last().map_or((0, 0), |last| (self.pieces.len() - 1, last.len()))),
        }
    }

    /// Turns the place behind the end of a piece into the beginning of the next.
    fn tidy(&self, (piece, at): Place) -> Place {
        if self.pieces.get(piece).is_some_and(|messages| at >= messages.len()) { (piece + 1, 0) } else { (piece, at) }
    }

    fn insert_at(&mut self, (at_piece, at): Place, message: Arc<Message>) {
        let count = self.pieces.len();
        let Some(piece) = self.pieces.get_mut(at_piece) else {
            self.add_piece(0, Piece::new(message));
            return;
        };
        if piece.len() < PIECE_MAX {
            let is_end = at == piece.len();
            piece.insert(at, message);
            if is_end {
                self.end_changed(at_piece);
            }
        } else if at_piece + 1 == count && at == PIECE_MAX {
            // Topics that come in order leave full pieces behind.
            self.add_piece(count, Piece::new(message));
        } else {
            let mut behind = piece.split();
            if at <= piece.len() {
                piece.insert(at, message);
            } else {
                behind.insert(at - piece.len(), message);
            }
            self.end_changed(at_piece);
            self.add_piece(at_piece + 1, behind);
        }
    }

    /// Small neighbours become one.
    fn join(&mut self, piece: usize) {
        if let [first, second, ..] = &self.pieces[piece.min(self.pieces.len())..]
            && first.len() + second.len() <= PIECE_MAX / 2
        {
            let behind = self.pieces.remove(piece + 1);
            self.pieces[piece].append(behind);
            self.ends.remove(piece);
        }
        if self.pieces.len() < self.pieces.capacity() / 4 {
            self.pieces.shrink_to(self.pieces.len() * 2);
        }
    }

    fn add_piece(&mut self, at: usize, piece: Piece) {
        let fits = self.ends.insert(at, piece.last());
        self.pieces.insert(at, piece);
        if !fits {
            self.renew_ends();
        }
    }

    /// The piece has another last topic than before.
    fn end_changed(&mut self, piece: usize) {
        if !self.ends.replace(piece, self.pieces[piece].last()) {
            self.renew_ends();
        }
    }

    fn renew_ends(&mut self) {
        self.ends = Heads::of(self.pieces.iter().map(Piece::last));
    }
}

#[cfg(test)]
mod tests;
