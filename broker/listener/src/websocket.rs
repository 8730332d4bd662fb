//! WebSocket as a byte stream. Control Packets travel in binary frames and need not be aligned with them [MQTT-6.0.0-2], so that a reader sees one
//! stream of bytes and a writer makes one frame of each write.
//!
//! Nothing is buffered: frames are decoded in the reader's own buffer and written from the writer's. What an idle connection keeps is this struct of
//! some 200 bytes, where the WebSocket crates keep 4 KiB and more.

pub mod frame;
pub mod upgrade;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use frame::{Control, Decoder, FrameError, MAX_CONTROL, Opcode};

const CLOSE_NORMAL: u16 = 1000;

/// A WebSocket after its handshake, seen from the server.
///
/// To be read and written by one task: reading also writes pongs and the answer to a close.
#[derive(Debug)]
pub struct WebSocket<S> {
    stream: S,
    decoder: Decoder,
    /// Bytes that the client sent right behind its handshake.
    early: Vec<u8>,
    input: Input,
    /// The header of the frame being written, from `header_at` to `header_end`.
    header: [u8; 10],
    header_at: u8,
    header_end: u8,
    /// Payload that the frame being written still lacks. Its length is told before, therefore later writes fill it first.
    frame_left: usize,
    /// A control frame being written, or to be written when the frame before it is complete.
    control: Option<Box<ControlOut>>,
    /// The latest ping that came while `control` was taken; answering the latest is enough (RFC 6455, 5.5.3).
    next_pong: Option<Box<ControlOut>>,
    close_queued: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    Open,
    Failed(FrameError),
    Ended,
}

#[derive(Debug)]
struct ControlOut {
    bytes: [u8; 2 + MAX_CONTROL],
    at: u8,
    end: u8,
}

impl ControlOut {
    fn new(opcode: Opcode, payload: &[u8]) -> Box<ControlOut> {
        let mut bytes = [0; 2 + MAX_CONTROL];
        let payload = &payload[..payload.len().min(MAX_CONTROL)];
        let (header, used) = frame::encode_header(opcode, payload.len() as u64);
        bytes[..used].copy_from_slice(&header[..used]);
        bytes[used..used + payload.len()].copy_from_slice(payload);
        Box::new(ControlOut { bytes, at: 0, end: (used + payload.len()) as u8 })
    }
}

impl<S> WebSocket<S> {
    /// Takes over `stream` after the handshake, with what came behind the request.
    pub fn new(stream: S, early: Vec<u8>) -> WebSocket<S> {
        WebSocket {
            stream,
            decoder: Decoder::default(),
            early,
            input: Input::Open,
            header: [0; 10],
            header_at: 0,
            header_end: 0,
            frame_left: 0,
            control: None,
            next_pong: None,
            close_queued: false,
        }
    }

    /// What the frames travel in.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// Queues a close frame, unless one is. It replaces a pong that nobody needs any more.
    fn queue_close(&mut self, code: u16) {
        if self.close_queued {
            return;
        }
        self.close_queued = true;
        let close = ControlOut::new(Opcode::Close, &code.to_be_bytes());
        match &self.control {
            Some(control) if control.at > 0 => self.next_pong = Some(close),
            _ => self.control = Some(close),
        }
    }

    fn in_frame(&self) -> bool {
        self.frame_left > 0 || self.header_at < self.header_end
    }

    /// Decodes what stands in `bytes` and returns how much of it is data now.
    fn decode(&mut self, bytes: &mut [u8]) -> usize {
        let (mut close, mut pong) = (None, None);
        let decoded = self.decoder.decode(bytes, |Control { opcode, payload }| match opcode {
            Opcode::Close => close = Some(payload.first_chunk::<2>().map_or(CLOSE_NORMAL, |code| u16::from_be_bytes(*code))),
            Opcode::Ping => pong = Some(ControlOut::new(Opcode::Pong, payload)),
            _ => {}
        });
        if let Some(pong) = pong.filter(|_| !self.close_queued) {
            match &self.control {
                Some(control) if control.at > 0 => self.next_pong = Some(pong),
                _ => self.control = Some(pong),
            }
        }
        if let Some(error) = decoded.error {
            self.input = Input::Failed(error);
            self.queue_close(error.close_code());
        } else if let Some(code) = close {
            self.input = Input::Ended;
            self.queue_close(code);
        }
        decoded.data
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Writes control frames that wait, where one may stand.
    fn poll_control(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.in_frame() {
            return Poll::Ready(Ok(()));
        }
        while let Some(control) = &mut self.control {
            let rest = &control.bytes[control.at.into()..control.end.into()];
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => control.at += n as u8,
            }
            if control.at == control.end {
                self.control = self.next_pong.take();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once from the stream, or what came early, into the unfilled part of `buf`. Returns how many bytes; 0 is the end.
    fn poll_raw(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        if !self.early.is_empty() {
            let n = self.early.len().min(buf.remaining());
            buf.put_slice(&self.early[..n]);
            self.early.drain(..n);
            if self.early.is_empty() {
                self.early = Vec::new();
            }
            return Poll::Ready(Ok(n));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        Poll::Ready(Ok(buf.filled().len() - before))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.control.is_some() {
                // Data that is there is read all the same when the peer takes no pongs.
                if let Poll::Ready(Err(error)) = this.poll_control(cx) {
                    return Poll::Ready(Err(error));
                }
                if !this.in_frame() && this.control.is_none() {
                    let _ = Pin::new(&mut this.stream).poll_flush(cx)?;
                }
            }
            match this.input {
                Input::Open => {}
                Input::Failed(error) => return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error))),
                Input::Ended => return Poll::Ready(Ok(())),
            }
            if buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            let start = buf.filled().len();
            if ready!(this.poll_raw(cx, buf))? == 0 {
                this.input = Input::Ended;
                return Poll::Ready(Ok(()));
            }
            let data = this.decode(&mut buf.filled_mut()[start..]);
            buf.set_filled(start + data);
            if data > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if !this.in_frame() {
            ready!(this.poll_control(cx))?;
            if this.close_queued {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            // [MQTT-6.0.0-1] One binary frame for all that is written at once.
            let (header, end) = frame::encode_header(Opcode::Binary, data.len() as u64);
            (this.header, this.header_at, this.header_end, this.frame_left) = (header, 0, end as u8, data.len());
        }
        let payload = &data[..data.len().min(this.frame_left)];
        loop {
            let header = &this.header[this.header_at.into()..this.header_end.into()];
            let stream = Pin::new(&mut this.stream);
            let written = if header.is_empty() {
                ready!(stream.poll_write(cx, payload))?
            } else if stream.is_write_vectored() {
                ready!(stream.poll_write_vectored(cx, &[IoSlice::new(header), IoSlice::new(payload)]))?
            } else {
                ready!(stream.poll_write(cx, header))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_header = written.min(header.len());
            this.header_at += of_header as u8;
            let of_payload = written - of_header;
            this.frame_left -= of_payload;
            if of_payload > 0 {
                return Poll::Ready(Ok(of_payload));
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_control(cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.queue_close(CLOSE_NORMAL);
        // Within a frame that was never completed nothing can be said any more.
        ready!(this.poll_control(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
