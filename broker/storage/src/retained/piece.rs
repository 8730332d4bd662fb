//! A stretch of neighbouring retained messages.
//!
//! Beside each message stand the eight bytes of its topic that come after what all topics here begin with. Searching looks at those, which lie
//! side by side, and at a message only to make sure: the difference between one read from memory and eight.

use std::cmp::Ordering;
use std::sync::Arc;

use super::order::{compare, rank};
use bucketmq_packet::message::Message;

/// Messages in one piece: inserting moves half of it, 3 KiB. Small in tests, so that pieces split and join there all the time.
pub(super) const PIECE_MAX: usize = if cfg!(test) { 8 } else { 256 };

/// Up to [`PIECE_MAX`] messages in the order of their topics, at least one.
#[derive(Debug)]
pub(super) struct Piece {
    /// This many bytes are the same in all topics here.
    shared: usize,
    heads: Vec<u64>,
    messages: Vec<Arc<Message>>,
}

impl Piece {
    pub(super) fn new(message: Arc<Message>) -> Self {
        Self { shared: message.topic().len(), heads: vec![0], messages: vec![message] }
    }

    #[inline]
    pub(super) fn messages(&self) -> &[Arc<Message>] {
        &self.messages
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    #[inline]
    pub(super) fn first(&self) -> &str {
        self.messages[0].topic()
    }

    #[inline]
    pub(super) fn last(&self) -> &str {
        self.messages[self.messages.len() - 1].topic()
    }

    /// Where `topic` is, or where it would be inserted.
    pub(super) fn find(&self, topic: &str) -> Result<usize, usize> {
        // Between first and last, a topic begins with what both begin with.
        match compare(topic, self.first()) {
            Ordering::Less => return Err(0),
            Ordering::Equal => return Ok(0),
            Ordering::Greater => {}
        }
        match compare(topic, self.last()) {
            Ordering::Less => {}
            Ordering::Equal => return Ok(self.len() - 1),
            Ordering::Greater => return Err(self.len()),
        }
        let head = head(topic, self.shared);
        let from = self.heads.partition_point(|known| *known < head);
        let to = from + self.heads[from..].partition_point(|known| *known == head);
        let among = self.messages[from..to].binary_search_by(|message| compare(message.topic(), topic));
        among.map(|at| from + at).map_err(|at| from + at)
    }

    pub(super) fn replace(&mut self, at: usize, message: Arc<Message>) -> Arc<Message> {
        std::mem::replace(&mut self.messages[at], message)
    }

    pub(super) fn insert(&mut self, at: usize, message: Arc<Message>) {
        let head = head(message.topic(), self.shared);
        let is_end = at == 0 || at == self.len();
        self.heads.insert(at, head);
        self.messages.insert(at, message);
        // Only a new first or last topic can have less in common with the others.
        if is_end && common(self.first(), self.last()) < self.shared {
            self.renew();
        }
    }

    /// False: that was the last one, and the piece must go.
    pub(super) fn remove(&mut self, at: usize) -> (Arc<Message>, bool) {
        self.heads.remove(at);
        (self.messages.remove(at), !self.messages.is_empty())
    }

    /// Keeps the first half; the other one comes back.
    pub(super) fn split(&mut self) -> Self {
        let messages = self.messages.split_off(self.len() / 2);
        let mut behind = Self { shared: 0, heads: Vec::new(), messages };
        self.renew();
        behind.renew();
        behind
    }

    /// Takes in the piece that follows.
    pub(super) fn append(&mut self, behind: Self) {
        self.messages.extend(behind.messages);
        self.renew();
    }

    fn renew(&mut self) {
        self.shared = common(self.first(), self.last());
        self.heads.clear();
        self.heads.extend(self.messages.iter().map(|message| head(message.topic(), self.shared)));
    }
}

/// Eight bytes from `from` on, as a number with the order of the topics; ends count as '/', so that equal numbers say nothing.
#[inline]
fn head(topic: &str, from: usize) -> u64 {
    let rest = topic.as_bytes().get(from..).unwrap_or_default();
    let mut bytes = [0; 8];
    for (place, byte) in bytes.iter_mut().zip(rest) {
        *place = rank(*byte);
    }
    u64::from_be_bytes(bytes)
}

/// How many bytes both begin with.
fn common(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count()
}
