//! The bytes between a test and the broker: over TCP, or inside WebSocket frames.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::websocket::WebSocket;

/// An open Network Connection.
#[derive(Debug)]
pub enum Stream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// MQTT in binary WebSocket frames.
    WebSocket(Box<WebSocket>),
}

impl Stream {
    /// Connects to `address`, which is `host:port` or `ws://host:port/path`.
    pub fn connect(address: &str, wait: Duration) -> io::Result<Self> {
        if address.starts_with("ws://") {
            return Ok(Self::WebSocket(Box::new(WebSocket::connect(address, wait)?)));
        }
        Ok(Self::Tcp(tcp(address, wait)?))
    }

    /// Sends all of `bytes`.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes),
            Self::WebSocket(socket) => socket.send_binary(bytes),
        }
    }

    /// Reads what is there within `timeout` into `buffer`: `Some(0)` is the end, `None` that nothing came.
    pub fn read(&mut self, buffer: &mut Vec<u8>, timeout: Duration) -> io::Result<Option<usize>> {
        match self {
            Self::Tcp(stream) => read_some(stream, buffer, timeout),
            Self::WebSocket(socket) => socket.read(buffer, timeout),
        }
    }

    /// Sends no more, and lets the broker know by the end of the stream alone.
    pub fn end(&self) {
        let stream = match self {
            Self::Tcp(stream) => stream,
            Self::WebSocket(socket) => socket.tcp(),
        };
        // A connection the broker has closed already has ended.
        let _ = stream.shutdown(std::net::Shutdown::Write);
    }
}

/// A TCP connection with a connect deadline.
pub fn tcp(address: &str, wait: Duration) -> io::Result<TcpStream> {
    let resolved = address.to_socket_addrs()?.next().ok_or_else(|| io::Error::other("address resolves to nothing"))?;
    let stream = TcpStream::connect_timeout(&resolved, wait)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(wait))?;
    Ok(stream)
}

/// One read with a timeout. A reset is an end like any other.
pub fn read_some(stream: &mut TcpStream, buffer: &mut Vec<u8>, timeout: Duration) -> io::Result<Option<usize>> {
    stream.set_read_timeout(Some(timeout.max(Duration::from_millis(1))))?;
    let mut chunk = [0; 65_536];
    match stream.read(&mut chunk) {
        Ok(length) => {
            buffer.extend_from_slice(&chunk[..length]);
            Ok(Some(length))
        }
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => Ok(None),
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => Ok(Some(0)),
            _ => Err(error),
        },
    }
}
