//! A stretch of neighbouring retained messages.

use std::sync::Arc;

use bucketmq_packet::message::Message;

use super::heads::Heads;
use super::order::compare;

/// Messages in one piece: inserting moves half of it, 4 KiB. Small in tests, so that pieces split and join there all the time.
pub(super) const PIECE_MAX: usize = if cfg!(test) { 8 } else { 256 };

/// Up to [`PIECE_MAX`] messages in the order of their topics, at least one.
#[derive(Debug)]
pub(super) struct Piece {
    heads: Heads,
    messages: Vec<Arc<Message>>,
}

impl Piece {
    pub(super) fn new(message: Arc<Message>) -> Self {
        Self::of(vec![message])
    }

    fn of(messages: Vec<Arc<Message>>) -> Self {
        Self { heads: Heads::of(messages.iter().map(|message| message.topic())), messages }
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
    pub(super) fn last(&self) -> &str {
        self.messages[self.messages.len() - 1].topic()
    }

    /// Where `topic` is, or where it would be inserted.
    pub(super) fn find(&self, topic: &str) -> Result<usize, usize> {
        let range = self.heads.search(topic);
        let from = range.start;
        let among = self.messages[range].binary_search_by(|message| compare(message.topic(), topic));
        among.map(|at| from + at).map_err(|at| from + at)
    }

    pub(super) fn replace(&mut self, at: usize, message: Arc<Message>) -> Arc<Message> {
        std::mem::replace(&mut self.messages[at], message)
    }

    pub(super) fn insert(&mut self, at: usize, message: Arc<Message>) {
        let fits = self.heads.insert(at, message.topic());
        self.messages.insert(at, message);
        if !fits {
            self.heads = Heads::of(self.messages.iter().map(|message| message.topic()));
        }
    }

    /// The piece may be empty afterwards and must go then.
    pub(super) fn remove(&mut self, at: usize) -> Arc<Message> {
        self.heads.remove(at);
        self.messages.remove(at)
    }

    /// Keeps the first half; the other one comes back.
    pub(super) fn split(&mut self) -> Self {
        let behind = Self::of(self.messages.split_off(self.len() / 2));
        *self = Self::of(std::mem::take(&mut self.messages));
        behind
    }

    /// Takes in the piece that follows.
    pub(super) fn append(&mut self, behind: Self) {
        let mut messages = std::mem::take(&mut self.messages);
        messages.extend(behind.messages);
        *self = Self::of(messages);
    }
}
