//! A WebSocket client that frames exactly as a test asks (RFC 6455, client side).

use std::io::{self, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::stream::{read_some, tcp};

/// The key of RFC 6455 section 1.3; its accept value is known, so no hash is computed here.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Opcode of a continuation, text, binary, close, ping and pong frame.
#[allow(missing_docs, reason = "the names are RFC 6455's")]
pub mod opcode {
    pub const CONTINUATION: u8 = 0x0;
    pub const TEXT: u8 = 0x1;
    pub const BINARY: u8 = 0x2;
    pub const CLOSE: u8 = 0x8;
    pub const PING: u8 = 0x9;
    pub const PONG: u8 = 0xA;
}

/// An upgraded connection.
#[derive(Debug)]
pub struct WebSocket {
    stream: TcpStream,
    /// Bytes of frames that are not whole yet.
    input: Vec<u8>,
    /// The subprotocol the Server selected.
    pub subprotocol: Option<String>,
    /// Opcodes of all data frames that came.
    pub data_opcodes: Vec<u8>,
    /// Payloads of pongs that came.
    pub pongs: Vec<Vec<u8>>,
}

impl WebSocket {
    /// Upgrades, offering the subprotocol `mqtt`.
    pub fn connect(url: &str, wait: Duration) -> io::Result<Self> {
        Self::connect_offering(url, "mqtt", wait)
    }

    /// Upgrades, offering these subprotocols.
    pub fn connect_offering(url: &str, subprotocols: &str, wait: Duration) -> io::Result<Self> {
        let rest = url.trim_start_matches("ws://");
        let (host, path) = rest.find('/').map_or((rest, "/"), |at| (&rest[..at], &rest[at..]));
        let mut stream = tcp(host, wait)?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {subprotocols}\r\n\r\n"
        );
        stream.write_all(request.as_bytes())?;
        let (head, input) = read_head(&mut stream, wait)?;
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap_or_default();
        if status.split(' ').nth(1) != Some("101") {
            return Err(io::Error::other(format!("upgrade refused: {status}")));
        }
        let header = |name: &str| {
            head.split("\r\n")
                .filter_map(|line| line.split_once(':'))
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.trim().to_owned())
        };
        if header("Sec-WebSocket-Accept").as_deref() != Some(ACCEPT) {
            return Err(io::Error::other("wrong Sec-WebSocket-Accept"));
        }
        Ok(Self { stream, input, subprotocol: header("Sec-WebSocket-Protocol"), data_opcodes: Vec::new(), pongs: Vec::new() })
    }

    /// The connection underneath.
    pub fn tcp(&self) -> &TcpStream {
        &self.stream
    }

    /// One whole binary frame.
    pub fn send_binary(&mut self, payload: &[u8]) -> io::Result<()> {
        self.send_frame(true, opcode::BINARY, payload)
    }

    /// One frame as it is asked for, masked.
    pub fn send_frame(&mut self, last: bool, opcode: u8, payload: &[u8]) -> io::Result<()> {
        let mask = [0x5A, 0x13, 0xC7, 0x88];
        let mut frame = vec![u8::from(last) << 7 | opcode];
        match payload.len() {
            length @ 0..=125 => frame.push(0x80 | length as u8),
            length @ 126..=65_535 => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&(length as u16).to_be_bytes());
            }
            length => {
                frame.push(0x80 | 127);
                frame.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.stream.write_all(&frame)
    }

    /// Payload bytes of data frames, as [`crate::stream::Stream::read`]; a close frame is the end.
    pub fn read(&mut self, buffer: &mut Vec<u8>, timeout: Duration) -> io::Result<Option<usize>> {
        let deadline = Instant::now() + timeout;
        loop {
            let before = buffer.len();
            while let Some((opcode, payload, length)) = whole_frame(&self.input) {
                self.input.drain(..length);
                match opcode {
                    opcode::CLOSE => return Ok(Some(0)),
                    opcode::PONG => self.pongs.push(payload),
                    opcode::PING => self.send_frame(true, opcode::PONG, &payload)?,
                    _ => {
                        self.data_opcodes.push(opcode);
                        buffer.extend_from_slice(&payload);
                    }
                }
            }
            if buffer.len() > before {
                return Ok(Some(buffer.len() - before));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            if read_some(&mut self.stream, &mut self.input, left)? == Some(0) {
                return Ok(Some(0));
            }
        }
    }
}

fn read_head(stream: &mut TcpStream, wait: Duration) -> io::Result<(String, Vec<u8>)> {
    let mut input = Vec::new();
    let deadline = Instant::now() + wait;
    loop {
        if let Some(end) = input.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = input.split_off(end + 4);
            return Ok((String::from_utf8_lossy(&input).into_owned(), rest));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || read_some(stream, &mut input, left)? == Some(0) {
            return Err(io::Error::other("no answer to the upgrade"));
        }
    }
}

/// Opcode, payload and whole length of the frame at the front.
fn whole_frame(input: &[u8]) -> Option<(u8, Vec<u8>, usize)> {
    let (first, second) = (*input.first()?, *input.get(1)?);
    let (length, head) = match second & 0x7F {
        126 => (usize::from(u16::from_be_bytes(input.get(2..4)?.try_into().ok()?)), 4),
        127 => (usize::try_from(u64::from_be_bytes(input.get(2..10)?.try_into().ok()?)).ok()?, 10),
        length => (usize::from(length), 2),
    };
    let payload = input.get(head..head + length)?;
    Some((first & 0x0F, payload.to_vec(), head + length))
}
