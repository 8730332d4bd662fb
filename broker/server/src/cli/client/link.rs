//! The Network Connection of a Client: bytes over TCP, TLS or a Unix socket, bare or in WebSocket frames.

use std::io;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UnixStream, lookup_host};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::error::ClientError;
use super::options::{Place, Settings};

/// All handshakes together: longer than lost packets take, shorter than a person's patience.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes asked for at a time.
const READ_SIZE: usize = 64 * 1024;

/// Anything bytes go through.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// An open Network Connection.
pub enum Link {
    /// As they come.
    Bytes(Box<dyn Stream>),
    /// In binary frames [MQTT-6.0.0-1].
    WebSocket(Box<WebSocketStream<Box<dyn Stream>>>),
}

impl Link {
    /// Connects and does the handshakes of TLS and WebSocket.
    pub async fn open(settings: &Settings) -> Result<Self, ClientError> {
        let timed_out = |_| {
            let source = io::Error::from(io::ErrorKind::TimedOut);
            ClientError::Connect { address: settings.place.to_string(), source }
        };
        tokio::time::timeout(HANDSHAKE_TIMEOUT, Self::connect(settings)).await.map_err(timed_out)?
    }

    async fn connect(settings: &Settings) -> Result<Self, ClientError> {
        let failed = |source| ClientError::Connect { address: settings.place.to_string(), source };
        let (stream, host): (Box<dyn Stream>, &str) = match &settings.place {
            Place::Unix(path) => (Box::new(UnixStream::connect(path).await.map_err(failed)?), "localhost"),
            Place::Tcp(host, port) => (Box::new(tcp(host, *port, settings).await?), host),
        };
        let stream: Box<dyn Stream> = match &settings.tls {
            None => stream,
            Some(options) => {
                let name = ServerName::try_from(host.to_owned()).map_err(|error| ClientError::Tls(error.to_string()))?;
                let connector = TlsConnector::from(options.config()?);
                Box::new(connector.connect(name, stream).await.map_err(|error| ClientError::Tls(error.to_string()))?)
            }
        };
        let Some(path) = &settings.websocket else { return Ok(Self::Bytes(stream)) };
        let websocket = |error: Error| ClientError::WebSocket(error.to_string());
        let scheme = if settings.tls.is_some() { "wss" } else { "ws" };
        let authority = match &settings.place {
            Place::Tcp(host, port) if host.contains(':') => format!("[{host}]:{port}"),
            place => place.to_string(),
        };
        let mut request = format!("{scheme}://{authority}{path}").into_client_request().map_err(websocket)?;
        // [MQTT-6.0.0-3]
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("mqtt"));
        let (stream, _) = tokio_tungstenite::client_async(request, stream).await.map_err(websocket)?;
        Ok(Self::WebSocket(Box::new(stream)))
    }

    /// Appends what has come to `input`; false at the end. Nothing is lost when the future is dropped.
    pub async fn receive(&mut self, input: &mut Vec<u8>) -> io::Result<bool> {
        match self {
            Self::Bytes(stream) => {
                input.reserve(READ_SIZE);
                Ok(stream.read_buf(input).await? > 0)
            }
            Self::WebSocket(stream) => loop {
                match stream.next().await {
                    Some(Ok(Message::Binary(bytes))) => {
                        input.extend_from_slice(&bytes);
                        return Ok(true);
                    }
                    // [MQTT-6.0.0-1] MQTT comes in binary frames only.
                    Some(Ok(Message::Text(_))) => return Err(io::Error::new(io::ErrorKind::InvalidData, "text frame")),
                    Some(Ok(Message::Close(_))) | None => return Ok(false),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(io_error(error)),
                }
            },
        }
    }

    /// Sends all of `output` and empties it. When the future is dropped, `output` holds what was not sent.
    pub async fn send(&mut self, output: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Bytes(stream) => {
                while !output.is_empty() {
                    let sent = stream.write(output).await?;
                    output.drain(..sent);
                }
                stream.flush().await
            }
            Self::WebSocket(stream) => stream.send(Message::Binary(std::mem::take(output).into())).await.map_err(io_error),
        }
    }

    /// Says that nothing more comes.
    pub async fn close(&mut self) -> io::Result<()> {
        match self {
            Self::Bytes(stream) => stream.shutdown().await,
            Self::WebSocket(stream) => SinkExt::close(stream.as_mut()).await.map_err(io_error),
        }
    }
}

async fn tcp(host: &str, port: u16, settings: &Settings) -> Result<TcpStream, ClientError> {
    let address = || settings.place.to_string();
    let found = lookup_host((host, port)).await.map_err(|source| ClientError::Lookup { host: host.to_owned(), source })?;
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "no address");
    for remote in found {
        let connected = async {
            let socket = if remote.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            if let Some(local) = settings.bind {
                socket.bind((local, 0).into())?;
            }
            let stream = socket.connect(remote).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        match connected.await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(ClientError::Connect { address: address(), source: last })
}

fn io_error(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        other => io::Error::other(other),
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}
