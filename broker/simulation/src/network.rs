//! Network Connections between simulated Clients and a broker: bytes take time, come in pieces, may be cut off, and may vanish without a word.
//!
//! Bytes of one direction keep their order, as in TCP. The broker's end is a stream its connection tasks read and write; the Client's end is
//! looked at by the world once a step.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::random::Dice;
use crate::reality;

/// Bytes under way in one direction before the writer has to wait: what a socket's buffers hold.
const WINDOW: usize = 64 * 1024;

/// How the network treats bytes.
#[derive(Debug, Clone, Copy)]
pub struct Manners {
    /// Milliseconds a piece is under way.
    pub latency_ms: (u64, u64),
    /// Largest piece.
    pub piece: usize,
}

#[derive(Debug, Default)]
struct Pipe {
    /// Pieces and when they arrive.
    under_way: VecDeque<(u64, Vec<u8>)>,
    arrived: VecDeque<u8>,
    bytes: usize,
    /// The writer has closed: the reader sees the end when all has arrived and it is that time.
    ends_at: Option<u64>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    fn push(&mut self, data: &[u8], manners: &Manners, dice: &mut Dice) {
        let now = reality::now_ms();
        for piece in data.chunks(manners.piece.max(1)) {
            let earliest = self.under_way.back().map_or(0, |(at, _)| *at);
            let at = (now + dice.between(manners.latency_ms).max(1)).max(earliest);
            self.bytes += piece.len();
            self.under_way.push_back((at, piece.to_vec()));
        }
    }

    fn arrive(&mut self, now: u64) {
        let mut news = self.ends_at.is_some_and(|at| at <= now);
        while self.under_way.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, piece)) = self.under_way.pop_front() else { break };
            self.arrived.extend(piece);
            news = true;
        }
        if news && let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    fn take(&mut self, max: usize) -> Vec<u8> {
        let count = max.min(self.arrived.len());
        self.bytes -= count;
        if count > 0
            && let Some(writer) = self.writer.take()
        {
            writer.wake();
        }
        self.arrived.drain(..count).collect()
    }

    fn is_over(&self, now: u64) -> bool {
        self.arrived.is_empty() && self.under_way.is_empty() && self.ends_at.is_some_and(|at| at <= now)
    }
}

#[derive(Debug)]
struct Link {
    to_broker: Pipe,
    to_client: Pipe,
    manners: Manners,
    dice: Dice,
    /// Reset at this time: nothing of what is under way arrives, and both ends see an error.
    reset_at: Option<u64>,
    /// Nothing arrives any more, and nobody is told.
    silent: bool,
}

/// A Network Connection, as the world and the Client hold it.
#[derive(Debug, Clone)]
pub struct Wire(Arc<Mutex<Link>>);

/// What the Client sees of its end.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    /// Bytes, perhaps none.
    Bytes(Vec<u8>),
    /// The broker has closed, or the connection was reset.
    Over,
}

impl Wire {
    /// A connection, and the broker's end of it.
    pub fn new(manners: Manners, dice: Dice) -> (Self, BrokerEnd) {
        let link = Link { to_broker: Pipe::default(), to_client: Pipe::default(), manners, dice, reset_at: None, silent: false };
        let wire = Self(Arc::new(Mutex::new(link)));
        (wire.clone(), BrokerEnd(wire))
    }

    /// Lets everything arrive whose time has come.
    pub fn step(&self, now: u64) {
        let mut link = self.0.lock();
        if link.silent {
            return;
        }
        if link.reset_at.is_some_and(|at| at <= now) {
            for waker in [link.to_broker.reader.take(), link.to_client.writer.take()].into_iter().flatten() {
                waker.wake();
            }
            return;
        }
        link.to_broker.arrive(now);
        link.to_client.arrive(now);
    }

    /// The Client writes.
    pub fn write(&self, data: &[u8]) {
        let mut link = self.0.lock();
        let Link { to_broker, manners, dice, .. } = &mut *link;
        to_broker.push(data, manners, dice);
    }

    /// The Client reads.
    pub fn read(&self) -> Seen {
        let now = reality::now_ms();
        let mut link = self.0.lock();
        if link.silent {
            return Seen::Bytes(Vec::new());
        }
        if link.reset_at.is_some_and(|at| at <= now) || link.to_client.is_over(now) {
            return Seen::Over;
        }
        Seen::Bytes(link.to_client.take(usize::MAX))
    }

    /// The Client closes: what it has written still arrives.
    pub fn close(&self) {
        let mut link = self.0.lock();
        let last = link.to_broker.under_way.back().map_or(0, |(at, _)| *at);
        let at = last.max(reality::now_ms() + link.manners.latency_ms.0.max(1));
        link.to_broker.ends_at.get_or_insert(at);
    }

    /// The connection is reset now: what is under way is lost, and both ends learn it.
    pub fn reset(&self) {
        let mut link = self.0.lock();
        link.reset_at.get_or_insert(reality::now_ms());
    }

    /// From now on nothing arrives at either end, and nobody is told.
    pub fn fall_silent(&self) {
        self.0.lock().silent = true;
    }

    /// True when neither end can hear anything more.
    pub fn is_dead(&self) -> bool {
        let link = self.0.lock();
        link.silent || link.reset_at.is_some() || Arc::strong_count(&self.0) == 1
    }
}

/// The broker's end.
#[derive(Debug)]
pub struct BrokerEnd(Wire);

impl BrokerEnd {
    fn broken(link: &Link) -> Option<io::Error> {
        link.reset_at.filter(|at| !link.silent && *at <= reality::now_ms()).map(|_| io::ErrorKind::ConnectionReset.into())
    }
}

impl AsyncRead for BrokerEnd {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut link = self.0.0.lock();
        if let Some(error) = Self::broken(&link) {
            return Poll::Ready(Err(error));
        }
        let data = link.to_broker.take(buffer.remaining());
        if data.is_empty() && (link.silent || !link.to_broker.is_over(reality::now_ms())) {
            link.to_broker.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        buffer.put_slice(&data);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for BrokerEnd {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let mut link = self.0.0.lock();
        if let Some(error) = Self::broken(&link) {
            return Poll::Ready(Err(error));
        }
        let room = WINDOW.saturating_sub(link.to_client.bytes);
        if room == 0 {
            link.to_client.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let count = room.min(data.len());
        let Link { to_client, manners, dice, .. } = &mut *link;
        to_client.push(&data[..count], manners, dice);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.end_of_broker();
        Poll::Ready(Ok(()))
    }
}

impl Wire {
    fn end_of_broker(&self) {
        let mut link = self.0.lock();
        let last = link.to_client.under_way.back().map_or(0, |(at, _)| *at);
        let at = last.max(reality::now_ms() + link.manners.latency_ms.0.max(1));
        link.to_client.ends_at.get_or_insert(at);
    }
}

impl Drop for BrokerEnd {
    fn drop(&mut self) {
        self.0.end_of_broker();
    }
}
