//! Retained messages in the order of their topics.
//!
//! A sorted list in pieces: no node for a level, no second copy of a topic, 22 bytes for a message beside itself. An exact topic is found by
//! halving; a filter walks along the order and jumps over what it cannot match (see [`order`]). A walk can stop anywhere and go on later from the
//! last topic it looked at, whatever has been set or removed in between.

pub mod order;

use std::cmp::Ordering;
use std::sync::Arc;

use crate::message::Message;
use order::{Step, compare};

/// Messages in one piece: inserting moves half of it, 2 KiB.
const PIECE_MAX: usize = 256;
/// Topics one page looks at when few of them match: bounds the time a page takes to a fraction of a millisecond.
const LOOKED_AT_MAX: usize = 4096;

/// Retained messages, one for each topic.
#[derive(Debug, Default)]
pub struct Retained {
    /// None is empty.
    pieces: Vec<Vec<Arc<Message>>>,
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
        self.find(topic).ok().map(|(piece, at)| &self.pieces[piece][at])
    }

    /// Makes `message` the one of its topic; the one before comes back [MQTT-3.3.1-5].
    pub fn insert(&mut self, message: Arc<Message>) -> Option<Arc<Message>> {
        self.bytes += message.len() as u64;
        match self.find(message.topic()) {
            Ok((piece, at)) => {
                let before = std::mem::replace(&mut self.pieces[piece][at], message);
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
        self.settle(piece);
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
        while let Some(messages) = self.pieces.get(piece) {
            if let Some(last) = messages[at..].iter().find(|message| !look(message)) {
                return Some(last.topic().into());
            }
            (piece, at) = (piece + 1, 0);
        }
        None
    }

    /// Calls `look` with every message that cannot be jumped over, until it says false; that message comes back.
    fn walk(&self, filter: &str, after: Option<&str>, mut look: impl FnMut(&Arc<Message>, Step) -> bool) -> Option<&Arc<Message>> {
        let mut target = String::new();
        let mut place = match after {
            None => self.seek((0, 0), order::start(filter)),
            Some(_) => self.behind(after),
        };
        loop {
            let message = self.pieces.get(place.0)?.get(place.1)?;
            let step = order::step(filter, message.topic(), &mut target);
            if step == Step::End {
                return None;
            }
            if !look(message, step) {
                return Some(message);
            }
            place = self.tidy((place.0, place.1 + 1));
            if step == Step::Seek {
                place = self.seek(place, &target);
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
        let before = |message: &Arc<Message>| compare(message.topic(), topic) == Ordering::Less;
        let Some(piece) = self.pieces.get(from.0) else { return from };
        if !before(&piece[from.1]) {
            return from;
        }
        let piece = from.0 + self.pieces[from.0..].partition_point(|piece| piece.last().is_some_and(before));
        let Some(messages) = self.pieces.get(piece) else { return (piece, 0) };
        (piece, messages.partition_point(before))
    }

    /// Where `topic` is, or where it would be inserted: in a piece or behind the last message of the last one.
    fn find(&self, topic: &str) -> Result<Place, Place> {
        let before = |message: &Arc<Message>| compare(message.topic(), topic) == Ordering::Less;
        let piece = self.pieces.partition_point(|piece| piece.last().is_some_and(before));
        let Some(messages) = self.pieces.get(piece) else {
            return Err(self.pieces.last().map_or((0, 0), |last| (self.pieces.len() - 1, last.len())));
        };
        messages.binary_search_by(|message| compare(message.topic(), topic)).map(|at| (piece, at)).map_err(|at| (piece, at))
    }

    /// Turns the place behind the end of a piece into the beginning of the next.
    fn tidy(&self, (piece, at): Place) -> Place {
        if self.pieces.get(piece).is_some_and(|messages| at >= messages.len()) { (piece + 1, 0) } else { (piece, at) }
    }

    fn insert_at(&mut self, (piece, at): Place, message: Arc<Message>) {
        let is_last = piece + 1 >= self.pieces.len();
        let Some(messages) = self.pieces.get_mut(piece) else {
            self.pieces.push(vec![message]);
            return;
        };
        if messages.len() < PIECE_MAX {
            messages.insert(at, message);
        } else if is_last && at == PIECE_MAX {
            // Topics that come in order leave full pieces behind.
            self.pieces.push(vec![message]);
        } else {
            let mut behind = messages.split_off(PIECE_MAX / 2);
            if at <= PIECE_MAX / 2 {
                messages.insert(at, message);
            } else {
                behind.insert(at - PIECE_MAX / 2, message);
            }
            self.pieces.insert(piece + 1, behind);
        }
    }

    /// After a removal: an empty piece goes, small neighbours become one.
    fn settle(&mut self, piece: usize) {
        if self.pieces[piece].is_empty() {
            self.pieces.remove(piece);
        } else if let Some(behind) = self.pieces.get(piece + 1)
            && self.pieces[piece].len() + behind.len() <= PIECE_MAX / 2
        {
            let behind = self.pieces.remove(piece + 1);
            self.pieces[piece].extend(behind);
        }
        if self.pieces.len() < self.pieces.capacity() / 4 {
            self.pieces.shrink_to(self.pieces.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests;
