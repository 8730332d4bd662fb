//! Sockets and the epoll instance that watches them. Edge-triggered: whoever is told reads or writes until nothing more goes.

use std::io::{self, Read, Write};
use std::mem;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use socket2::{Domain, Protocol, Socket, Type};

use crate::tls;

/// How many events one call fetches.
const EVENTS: usize = 1024;

/// An epoll instance and the events of its last wait.
pub struct Poller {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl Poller {
    /// A new instance.
    pub fn new() -> io::Result<Poller> {
        Ok(Poller { epoll: epoll::create(CreateFlags::CLOEXEC)?, events: Vec::with_capacity(EVENTS) })
    }

    /// Watches a socket; its events carry `token`. Closing the socket ends the watch.
    pub fn add(&self, socket: impl AsFd, token: u64) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(token), flags)?)
    }

    /// Waits for events, at most for `timeout`; `Duration::ZERO` only looks.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        let timeout = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: i64::from(timeout.subsec_nanos()) };
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// How many events the last wait brought.
    #[inline]
    pub fn count(&self) -> usize {
        self.events.len()
    }

    /// Token of event number `at`, and whether the socket may have become writable.
    #[inline]
    pub fn event(&self, at: usize) -> (u64, bool) {
        let event = self.events[at];
        let (flags, data) = (event.flags, event.data);
        (data.u64(), flags.contains(EventFlags::OUT))
    }
}

/// A Network Connection, not blocking.
#[derive(Debug)]
pub enum Stream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// TLS over it.
    Tls(Box<tls::TlsStream>),
}

impl Stream {
    /// Whether a read that did not fill its buffer has emptied the socket. TLS may hold a record back.
    #[inline]
    pub fn short_read_is_last(&self) -> bool {
        matches!(self, Stream::Tcp(_))
    }

    fn tcp(&self) -> &TcpStream {
        match self {
            Stream::Tcp(stream) => stream,
            Stream::Tls(stream) => stream.get_ref(),
        }
    }

    /// Ends the connection with a reset instead of a farewell.
    pub fn reset(self) {
        // Where it fails the connection just ends politely.
        let _ = socket2::SockRef::from(self.tcp()).set_linger(Some(Duration::ZERO));
    }

    /// Says that nothing more will be sent.
    pub fn shut_down_writing(&self) {
        let _ = self.tcp().shutdown(Shutdown::Write);
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tcp().as_fd()
    }
}

impl Read for Stream {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Tls(stream) => stream.write(bytes),
        }
    }

    #[inline]
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Tcp(_) => Ok(()),
            Stream::Tls(stream) => stream.flush(),
        }
    }
}

/// What is not yet written to a connection.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    written: usize,
    /// TLS has taken bytes that the socket has not.
    held: bool,
}

impl Outbox {
    /// Whether everything is with the kernel.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && !self.held
    }

    /// Adds bytes to be written by the next flush.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Writes what waits. True when nothing is left, false when the socket takes no more now.
    #[inline]
    pub fn flush(&mut self, stream: &mut Stream) -> io::Result<bool> {
        while self.written < self.bytes.len() {
            match stream.write(&self.bytes[self.written..]) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        match stream.flush() {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.held = true;
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        self.held = false;
        self.written = 0;
        self.bytes.clear();
        if self.bytes.capacity() > 1 << 20 {
            drop(mem::take(&mut self.bytes));
        }
        Ok(true)
    }

    /// Writes `bytes` after what waits, straight from where they are as far as the socket takes them.
    #[inline]
    pub fn send(&mut self, bytes: &[u8], stream: &mut Stream) -> io::Result<bool> {
        if !self.is_empty() {
            self.push(bytes);
            return self.flush(stream);
        }
        let written = loop {
            match stream.write(bytes) {
                Ok(written) => break written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break 0,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        };
        if written == bytes.len() && stream.short_read_is_last() {
            return Ok(true);
        }
        self.push(&bytes[written..]);
        self.flush(stream)
    }
}

/// Where connections go to, and how.
#[derive(Clone, Debug)]
pub struct Target {
    /// The broker.
    pub address: SocketAddr,
    /// TLS, and the name the certificate must bear.
    pub tls: Option<tls::Client>,
    /// How many source addresses of 127.0.0.0/8 to use in turn; 0 leaves the choice to the kernel.
    pub sources: u32,
    /// Size of the send buffer in bytes; None leaves it to the kernel.
    pub send_buffer: Option<usize>,
}

impl Target {
    /// Begins connection number `number`. It is there as soon as epoll says the socket is writable.
    pub fn connect(&self, number: u64) -> io::Result<Stream> {
        let socket = Socket::new(Domain::for_address(self.address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        if let Some(size) = self.send_buffer {
            socket.set_send_buffer_size(size)?;
        }
        if self.sources > 0 && self.address.ip().is_loopback() && self.address.is_ipv4() {
            let source = number % u64::from(self.sources);
            let source = Ipv4Addr::from_bits(Ipv4Addr::new(127, 0, 1, 1).to_bits() + source as u32);
            socket.set_reuse_address(true)?;
            socket.bind(&SocketAddr::from((source, 0)).into())?;
        }
        match socket.connect(&self.address.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        let stream = TcpStream::from(socket);
        match &self.tls {
            None => Ok(Stream::Tcp(stream)),
            Some(client) => Ok(Stream::Tls(Box::new(client.stream(stream)?))),
        }
    }
}
