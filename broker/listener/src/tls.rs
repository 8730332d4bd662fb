//! TLS as a byte stream that keeps no buffers while it is idle.
//!
//! rustls is driven by its unbuffered API: ciphertext is read into one large buffer per worker thread, decrypted there and copied to the reader; what a
//! write makes of its data goes from such a buffer to the socket. A connection owns bytes only while a record is incomplete, the reader's buffer was too
//! small, or the peer does not take what was written. Besides the memory it saves system calls: one read takes up to 64 KiB, where the buffered API
//! reads 4 KiB.

mod identity;
mod resolver;
mod server;

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::ServerConfig;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus, WriteTraffic};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::config::{IdentityField, TlsVersion};

pub use identity::CertificateInfo;
pub(crate) use server::TlsServer;
pub use server::{TlsError, check_tls_files};

/// What one read takes from the socket at most, together with an incomplete record from before.
const READ: usize = 64 * 1024;
/// What one write encrypts at most: four records.
const WRITE: usize = 64 * 1024;
/// Header, content type and tag of a record are 22 bytes in TLS 1.3 and 29 in 1.2.
const RECORD_OVERHEAD: usize = 64;
const MAX_RECORD: usize = 16 * 1024;
/// What may wait for its rest: a record is at most 16 KiB and a bit, a handshake message may be more. It leaves room to read.
const MAX_INCOMPLETE: usize = 48 * 1024;
/// How little is worth reading at once into a buffer smaller than it.
const MIN_READ: usize = 4 * 1024;

thread_local! {
    static CIPHERTEXT_IN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static CIPHERTEXT_OUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static PLAINTEXT_OUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What a TLS handshake told about the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    /// The version spoken; None: TLS ended at a proxy that did not tell.
    pub version: Option<TlsVersion>,
    /// The host name that the Client asked for.
    pub server_name: Option<Box<str>>,
    /// What the listener's `identity` names of the Client's verified certificate.
    pub identity: Option<Box<str>>,
    /// The subject of the Client's verified certificate.
    pub subject: Option<Box<str>>,
    /// The handshake took up an earlier TLS session.
    pub resumed: bool,
}

/// The server's side of TLS over `S`.
///
/// To be read and written by one task: reading also writes what is left of earlier writes.
pub struct TlsStream<S> {
    stream: S,
    connection: UnbufferedServerConnection,
    /// The beginning of a record whose rest has not come.
    incomplete: Vec<u8>,
    /// Decrypted bytes that the reader had no room for, from `plaintext_at` on.
    plaintext: Vec<u8>,
    plaintext_at: usize,
    /// Encrypted bytes that the socket did not take, from `outgoing_at` on.
    outgoing: Vec<u8>,
    outgoing_at: usize,
    server_name: Option<Box<str>>,
    input_ended: bool,
    failed: bool,
}

impl<S: std::fmt::Debug> std::fmt::Debug for TlsStream<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsStream").field("stream", &self.stream).field("failed", &self.failed).finish_non_exhaustive()
    }
}

/// What rustls waits for.
enum Step {
    /// More bytes from the peer.
    Handshake,
    /// The handshake is done; what was asked to be written was written.
    Open(usize),
    /// Both sides said that they close.
    Closed,
}

impl<S> TlsStream<S> {
    fn new(stream: S, config: Arc<ServerConfig>) -> Result<TlsStream<S>, rustls::Error> {
        Ok(TlsStream {
            stream,
            connection: UnbufferedServerConnection::new(config)?,
            incomplete: Vec::new(),
            plaintext: Vec::new(),
            plaintext_at: 0,
            outgoing: Vec::new(),
            outgoing_at: 0,
            server_name: None,
            input_ended: false,
            failed: false,
        })
    }

    /// What the records travel in.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// What the handshake told.
    pub(crate) fn info(&mut self, field: IdentityField) -> TlsInfo {
        let certificate = self.connection.peer_certificates().and_then(|chain| chain.first());
        let (identity, subject) = certificate.map_or((None, None), |certificate| identity::of_client(certificate, field));
        TlsInfo {
            version: match self.connection.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_3) => Some(TlsVersion::Tls13),
                Some(rustls::ProtocolVersion::TLSv1_2) => Some(TlsVersion::Tls12),
                _ => None,
            },
            server_name: self.server_name.take(),
            identity,
            subject,
            resumed: self.connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
        }
    }

    /// Gives rustls `incoming`, hands plaintext to `sink`, collects what rustls itself wants to send, and calls `write` when application data may be
    /// sent. Returns how much of `incoming` is used up.
    fn advance(
        &mut self,
        incoming: &mut [u8],
        mut sink: impl FnMut(&[u8]),
        write: impl FnOnce(WriteTraffic<'_, rustls::server::ServerConnectionData>) -> Result<usize, EncryptError>,
    ) -> io::Result<(usize, Step)> {
        let mut used = 0;
        loop {
            let UnbufferedStatus { mut discard, state } = self.connection.process_tls_records(&mut incoming[used..]);
            let state = match state {
                Ok(state) => state,
                Err(error) => {
                    self.failed = true;
                    // What rustls has to say about it is the next thing that it gives out.
                    if let Ok(ConnectionState::EncodeTlsData(mut data)) = self.connection.process_tls_records(&mut incoming[used..]).state {
                        encode(&mut self.outgoing, |out| data.encode(out));
                    }
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                }
            };
            match state {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                        discard += record.discard;
                        sink(record.payload);
                    }
                }
                ConnectionState::EncodeTlsData(mut data) => encode(&mut self.outgoing, |out| data.encode(out)),
                // It stands in `outgoing`, before everything that comes later.
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::PeerClosed => self.input_ended = true,
                ConnectionState::BlockedHandshake => return Ok((used + discard, Step::Handshake)),
                ConnectionState::Closed => return Ok((used + discard, Step::Closed)),
                ConnectionState::WriteTraffic(traffic) => {
                    let written = write(traffic).map_err(|error| io::Error::other(error.to_string()))?;
                    return Ok((used + discard, Step::Open(written)));
                }
                // Early data is off, and a later rustls might know more states.
                _ => return Err(io::Error::other("an unexpected state of TLS")),
            }
            used += discard;
        }
    }

    /// Keeps the bytes of an incomplete record, and no memory when there are none.
    fn keep_incomplete(&mut self, rest: &[u8]) -> io::Result<()> {
        if rest.len() > MAX_INCOMPLETE {
            self.failed = true;
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a TLS message that is too long"));
        }
        self.incomplete = rest.to_vec();
        Ok(())
    }

    /// Moves plaintext that waits to `buf`.
    fn take_plaintext(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let waiting = &self.plaintext[self.plaintext_at..];
        if waiting.is_empty() {
            return false;
        }
        let n = waiting.len().min(buf.remaining());
        buf.put_slice(&waiting[..n]);
        self.plaintext_at += n;
        if self.plaintext_at == self.plaintext.len() {
            (self.plaintext, self.plaintext_at) = (Vec::new(), 0);
        }
        true
    }
}

/// Appends what `encode` makes to `out`.
fn encode(out: &mut Vec<u8>, mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>) {
    let start = out.len();
    if let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) = encode(&mut []) {
        out.resize(start + required_size, 0);
        let written = encode(&mut out[start..]).unwrap_or(0);
        out.truncate(start + written);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream<S> {
    /// The handshake. The caller limits the time.
    pub(crate) async fn accept(stream: S, config: Arc<ServerConfig>) -> io::Result<TlsStream<S>> {
        let mut this = TlsStream::new(stream, config).map_err(io::Error::other)?;
        let result = std::future::poll_fn(|cx| this.poll_handshake(cx)).await;
        if let Err(error) = result {
            // The alert says to the peer what was wrong; whether it takes it does not matter.
            let _ = std::future::poll_fn(|cx| Poll::Ready(this.poll_outgoing(cx))).await;
            return Err(error);
        }
        Ok(this)
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_outgoing(cx))?;
            if !self.connection.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            let result = self.poll_incoming(cx, &mut ReadBuf::new(&mut []), READ);
            // Also after an error, so that nothing is left for the next connection.
            if let Some(name) = resolver::take_server_name() {
                self.server_name = Some(name);
            }
            if ready!(result)? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Reads once and decrypts, to `buf` and what does not fit to `plaintext`. Returns how much ciphertext came; 0 is the end.
    fn poll_incoming(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>, limit: usize) -> Poll<io::Result<usize>> {
        CIPHERTEXT_IN.with_borrow_mut(|scratch| {
            scratch.resize(READ, 0);
            let before = self.incomplete.len();
            scratch[..before].copy_from_slice(&self.incomplete);
            let end = READ.min(before + limit);
            let mut read = ReadBuf::new(&mut scratch[before..end]);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
            let came = read.filled().len();
            if came == 0 {
                return Poll::Ready(Ok(0));
            }
            let incoming = &mut scratch[..before + came];
            let mut beyond = Vec::new();
            let sink = |payload: &[u8]| {
                let (fits, rest) = payload.split_at(payload.len().min(buf.remaining()));
                buf.put_slice(fits);
                beyond.extend_from_slice(rest);
            };
            let (used, step) = self.advance(incoming, sink, |_| Ok(0))?;
            // Only ever empty here: nothing is read while plaintext waits.
            self.plaintext.append(&mut beyond);
            if matches!(step, Step::Closed) {
                self.input_ended = true;
            }
            if self.input_ended {
                self.incomplete = Vec::new();
            } else {
                self.keep_incomplete(&incoming[used..])?;
            }
            Poll::Ready(Ok(came))
        })
    }

    /// Sends what waits to be sent.
    fn poll_outgoing(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.outgoing_at < self.outgoing.len() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &self.outgoing[self.outgoing_at..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.outgoing_at += n,
            }
        }
        if !self.outgoing.is_empty() {
            (self.outgoing, self.outgoing_at) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }

    /// Encrypts by `write` into a buffer of `room` bytes and sends the result, or keeps what the socket does not take.
    fn encrypt(
        &mut self,
        cx: &mut Context<'_>,
        room: usize,
        write: impl FnOnce(WriteTraffic<'_, rustls::server::ServerConnectionData>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> io::Result<()> {
        CIPHERTEXT_OUT.with_borrow_mut(|scratch| {
            if scratch.len() < room {
                scratch.resize(room, 0);
            }
            // rustls may still hold on to the bytes of an incomplete message, therefore it gets them again.
            let mut incoming = std::mem::take(&mut self.incomplete);
            let mut plaintext = std::mem::take(&mut self.plaintext);
            let result = self.advance(&mut incoming, |payload| plaintext.extend_from_slice(payload), |traffic| write(traffic, scratch));
            self.plaintext = plaintext;
            let (used, step) = result?;
            incoming.drain(..used);
            self.incomplete = incoming;
            let Step::Open(written) = step else {
                return Err(io::ErrorKind::BrokenPipe.into());
            };
            let mut rest = &scratch[..written];
            // What rustls itself had to say (a key update) goes first.
            if self.poll_outgoing(cx)?.is_ready() {
                while !rest.is_empty() {
                    match Pin::new(&mut self.stream).poll_write(cx, rest) {
                        Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                        Poll::Ready(Ok(n)) => rest = &rest[n..],
                        Poll::Ready(Err(error)) => return Err(error),
                        Poll::Pending => break,
                    }
                }
            }
            self.outgoing.extend_from_slice(rest);
            Ok(())
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.outgoing_at < this.outgoing.len() {
            // What is left of a write goes out also when its writer only reads now. Data that is there is read in any case.
            let _ = this.poll_outgoing(cx)?;
        }
        if buf.remaining() == 0 || this.take_plaintext(buf) {
            return Poll::Ready(Ok(()));
        }
        if this.failed {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let start = buf.filled().len();
        while !this.input_ended && buf.filled().len() == start {
            // Plaintext is never longer than its ciphertext: what is asked for mostly fits.
            let limit = buf.remaining().max(MIN_READ);
            let came = match this.poll_incoming(cx, buf, limit) {
                // Data before a wrong record is delivered; the error comes with the next read.
                Poll::Ready(Err(_)) if buf.filled().len() > start => return Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) => {
                    let _ = this.poll_outgoing(cx);
                    return Poll::Ready(Err(error));
                }
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(came)) => came,
            };
            if came == 0 {
                // Many Clients end without a close_notify. What they cut off is found by MQTT, whose packets tell their length.
                this.input_ended = true;
            }
            if this.outgoing_at < this.outgoing.len() {
                let _ = this.poll_outgoing(cx)?;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
    /// Takes data as soon as all that was written before is with the system. As with any buffered writer, only a flush tells that this is, too.
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.failed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(this.poll_outgoing(cx))?;
        let data = &data[..data.len().min(WRITE)];
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let room = data.len() + data.len().div_ceil(MAX_RECORD) * RECORD_OVERHEAD;
        this.encrypt(cx, room, |mut traffic, out| traffic.encrypt(data, out))?;
        Poll::Ready(Ok(data.len()))
    }

    /// Gathers what is small into one record; a WebSocket frame's header goes with its payload.
    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        PLAINTEXT_OUT.with_borrow_mut(|plaintext| {
            plaintext.clear();
            for slice in slices {
                let room = MAX_RECORD - plaintext.len();
                plaintext.extend_from_slice(&slice[..slice.len().min(room)]);
            }
            self.poll_write(cx, plaintext)
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_outgoing(cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_outgoing(cx))?;
        if !this.failed {
            // Once: rustls makes nothing of a second close_notify. It queues the first, and the second call fetches that.
            for _ in 0..2 {
                match this.encrypt(cx, RECORD_OVERHEAD, |mut traffic, out| traffic.queue_close_notify(out)) {
                    // The peer has closed, too.
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                    other => other?,
                }
            }
            ready!(this.poll_outgoing(cx))?;
        }
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
