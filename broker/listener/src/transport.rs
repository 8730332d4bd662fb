//! A Network Connection as a stream of bytes, whatever it travels in. Plain TCP is the hot path: one comparison away, nothing boxed.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::tls::TlsStream;
use crate::websocket::WebSocket;

/// A Network Connection.
///
/// To be read and written by one task. A write that returned may still be partly with the transport: `poll_flush` tells when the system has it, and
/// every read pushes it, too.
#[derive(Debug)]
pub enum Transport {
    /// Plain TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TLS.
    Tls(Box<TlsStream<TcpStream>>),
    /// WebSocket, over TCP or TLS.
    WebSocket(Box<WebSocket<WebSocketCarrier>>),
    /// A stream that is no socket: what the simulation connects its Clients with.
    Stream(Box<dyn Stream>),
}

/// A stream of bytes in both directions that is no socket.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + std::fmt::Debug {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + std::fmt::Debug> Stream for S {}

/// What a WebSocket travels in.
#[derive(Debug)]
pub enum WebSocketCarrier {
    /// Plain TCP.
    Tcp(TcpStream),
    /// TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl WebSocketCarrier {
    fn tcp(&self) -> &TcpStream {
        match self {
            WebSocketCarrier::Tcp(stream) => stream,
            WebSocketCarrier::Tls(stream) => stream.get_ref(),
        }
    }
}

impl Transport {
    /// The TCP socket under it; None for a Unix socket and for what is no socket.
    pub fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Transport::Tcp(stream) => Some(stream),
            Transport::Unix(_) | Transport::Stream(_) => None,
            Transport::Tls(stream) => Some(stream.get_ref()),
            Transport::WebSocket(stream) => Some(stream.get_ref().tcp()),
        }
    }

    /// The address that the peer connected to.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.tcp()?.local_addr().ok()
    }
}

/// Calls a method of the stream inside.
macro_rules! dispatch {
    ($self:expr, $kind:ident { $($variant:ident),+ }, $stream:ident => $call:expr) => {
        match $self {
            $($kind::$variant($stream) => $call,)+
        }
    };
}

impl AsyncRead for Transport {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        dispatch!(self.get_mut(), Transport { Tcp, Unix, Tls, WebSocket, Stream }, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Transport {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        dispatch!(self.get_mut(), Transport { Tcp, Unix, Tls, WebSocket, Stream }, stream => Pin::new(stream).poll_write(cx, data))
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        dispatch!(self.get_mut(), Transport { Tcp, Unix, Tls, WebSocket, Stream }, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        dispatch!(self.get_mut(), Transport { Tcp, Unix, Tls, WebSocket, Stream }, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

impl AsyncRead for WebSocketCarrier {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        dispatch!(self.get_mut(), WebSocketCarrier { Tcp, Tls }, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for WebSocketCarrier {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        dispatch!(self.get_mut(), WebSocketCarrier { Tcp, Tls }, stream => Pin::new(stream).poll_write(cx, data))
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        dispatch!(self.get_mut(), WebSocketCarrier { Tcp, Tls }, stream => Pin::new(stream).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        dispatch!(self.get_mut(), WebSocketCarrier { Tcp, Tls }, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        dispatch!(self.get_mut(), WebSocketCarrier { Tcp, Tls }, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transport_stays_small_because_every_connection_task_holds_one() {
        assert!(size_of::<Transport>() <= 48, "{}", size_of::<Transport>());
        assert!(size_of::<WebSocket<WebSocketCarrier>>() <= 208, "{}", size_of::<WebSocket<WebSocketCarrier>>());
    }
}
