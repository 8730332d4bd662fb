//! From a listening socket to a connection that the broker serves: limits first, then PROXY header, TLS and WebSocket under one deadline.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::config::{Config, Protocol};
use crate::handle::{ConnectionPermit, ListenerHandle, Refusal, Totals};
use crate::proxy;
use crate::socket::{Incoming, ListeningSocket, configure_accepted};
use crate::tls::{TlsInfo, TlsServer, TlsStream};
use crate::transport::{Transport, WebSocketCarrier};
use crate::websocket::WebSocket;
use crate::websocket::upgrade::{Expected, accept_upgrade};

/// How long an accept loop rests when the process is out of file descriptors or memory: long enough to burn nothing, short enough that a Client that
/// waits in the backlog does not notice.
const REST: Duration = Duration::from_millis(100);
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// A connection for the broker to serve.
#[derive(Debug)]
pub struct Accepted {
    /// The bytes.
    pub transport: Transport,
    /// Where it came in.
    pub listener: Arc<ListenerHandle>,
    /// Who connected, as a trusted proxy tells it; IPv4 is never written as IPv6. None for Unix sockets.
    pub remote_addr: Option<SocketAddr>,
    /// What a TLS handshake told, or a trusted proxy about one.
    pub tls: Option<Box<TlsInfo>>,
    /// When the broker closes it unless a whole CONNECT is there: `connect_timeout` after the accept.
    pub connect_deadline: Instant,
    /// Its place under the limits; to be kept until it is closed.
    pub permit: ConnectionPermit,
}

/// What serves connections: called with each one, from the accept loop or a handshake's task.
pub(crate) type Deliver = Arc<dyn Fn(Accepted) + Send + Sync>;

/// What all connections of a listener share before they are served.
#[derive(Debug)]
pub(crate) struct Acceptor {
    pub(crate) handle: Arc<ListenerHandle>,
    pub(crate) totals: Arc<Totals>,
    pub(crate) tls: ArcSwapOption<TlsServer>,
    pub(crate) closed: AtomicBool,
}

/// Why a handshake came to nothing.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
struct HandshakeError {
    refusal: Refusal,
    source: io::Error,
}

impl Refusal {
    fn because(self) -> impl Fn(io::Error) -> HandshakeError {
        move |source| HandshakeError { refusal: self, source }
    }
}

/// Accepts until the task is aborted. It holds nothing across an await that an abort could lose.
pub(crate) async fn accept_loop(socket: Arc<ListeningSocket>, acceptor: Arc<Acceptor>, deliver: Deliver) {
    let mut last_log = None;
    loop {
        match socket.accept().await {
            Ok(incoming) => {
                acceptor.handle.counters.accepted.fetch_add(1, Ordering::Relaxed);
                admit(&acceptor, incoming, &deliver);
                // Over the rate the next ones wait in the backlog.
                let pause = acceptor.handle.connection_rate.take(1).max(acceptor.totals.connection_rate.take(1));
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
            }
            // That one connection is gone already.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => {}
            Err(error) => {
                acceptor.handle.counters.accept_errors.fetch_add(1, Ordering::Relaxed);
                let now = Instant::now();
                if last_log.is_none_or(|last| now - last >= LOG_INTERVAL) {
                    last_log = Some(now);
                    tracing::error!(listener = acceptor.handle.name(), %error, "cannot accept connections, those that come wait");
                }
                tokio::time::sleep(REST).await;
            }
        }
    }
}

/// Delivers what needs no handshake at once and gives everything else a task.
fn admit(acceptor: &Arc<Acceptor>, incoming: Incoming, deliver: &Deliver) {
    let handle = &acceptor.handle;
    let permit = match handle.admit() {
        Ok(permit) => permit,
        Err(refusal) => {
            handle.refuse(refusal);
            tracing::debug!(listener = handle.name(), reason = refusal.label(), "connection refused");
            return;
        }
    };
    let config = handle.config();
    let connect_deadline = Instant::now() + config.connect_timeout;
    let (transport, remote_addr) = match incoming {
        Incoming::Unix(stream) => (Transport::Unix(stream), None),
        Incoming::Tcp(stream, peer) => {
            configure_accepted(&stream);
            let peer = canonical(peer);
            if handle.protocol() != Protocol::Tcp || speaks_for_others(&config, peer) {
                let connection = Connection { stream, peer, connect_deadline, permit };
                tokio::spawn(handshake(acceptor.clone(), config, connection, deliver.clone()));
                return;
            }
            (Transport::Tcp(stream), Some(peer))
        }
    };
    deliver(Accepted { transport, listener: handle.clone(), remote_addr, tls: None, connect_deadline, permit });
}

/// Whether `peer` has to send a PROXY header.
fn speaks_for_others(config: &Config, peer: SocketAddr) -> bool {
    config.proxy_protocol.iter().any(|network| network.contains(peer.ip()))
}

/// IPv4 as IPv4, also when it came in on `[::]`.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    connect_deadline: Instant,
    permit: ConnectionPermit,
}

/// A task of its own that ends with the handshake, so that the task that serves the connection does not carry its size.
async fn handshake(acceptor: Arc<Acceptor>, config: Arc<Config>, connection: Connection, deliver: Deliver) {
    let (handle, peer) = (acceptor.handle.clone(), connection.peer);
    let error = match tokio::time::timeout_at(connection.connect_deadline, negotiate(&acceptor, &config, connection)).await {
        Ok(Ok(accepted)) if !acceptor.closed.load(Ordering::Relaxed) => return deliver(accepted),
        Ok(Ok(_)) => HandshakeError { refusal: Refusal::Closed, source: io::ErrorKind::ConnectionAborted.into() },
        Ok(Err(error)) => error,
        Err(_) => HandshakeError { refusal: Refusal::Timeout, source: io::ErrorKind::TimedOut.into() },
    };
    handle.refuse(error.refusal);
    tracing::debug!(listener = handle.name(), remote_addr = %peer, reason = error.refusal.label(), %error, "handshake failed");
}

async fn negotiate(acceptor: &Acceptor, config: &Config, connection: Connection) -> Result<Accepted, HandshakeError> {
    let Connection { mut stream, peer, connect_deadline, permit } = connection;
    let (mut remote_addr, mut tls) = (peer, None);
    // From all others a header is no beginning of MQTT, TLS or HTTP and fails as such.
    if speaks_for_others(config, peer) {
        let header = proxy::read_header(&mut stream).await.map_err(Refusal::Proxy.because())?;
        remote_addr = header.source.map_or(peer, canonical);
        tls = header.tls.filter(|_| config.proxy_identity).map(|proxied| {
            let version = match proxied.version.as_deref() {
                Some("TLSv1.3") => Some(crate::config::TlsVersion::Tls13),
                Some("TLSv1.2") => Some(crate::config::TlsVersion::Tls12),
                _ => None,
            };
            let info =
                TlsInfo { version, server_name: header.authority, identity: proxied.verified_common_name, subject: None, resumed: false };
            Box::new(info)
        });
    }
    let counters = &acceptor.handle.counters;
    let mut carrier = match acceptor.tls.load_full().filter(|_| acceptor.handle.protocol().is_tls()) {
        None => WebSocketCarrier::Tcp(stream),
        Some(server) => {
            let mut stream = Box::pin(TlsStream::accept(stream, server.config())).await.map_err(Refusal::Tls.because())?;
            let info = stream.info(server.identity_field());
            counters.tls_handshakes.fetch_add(1, Ordering::Relaxed);
            counters.tls_resumptions.fetch_add(info.resumed.into(), Ordering::Relaxed);
            tls = Some(Box::new(info));
            WebSocketCarrier::Tls(Box::new(stream))
        }
    };
    let transport = if acceptor.handle.protocol().is_web_socket() {
        let path = config.web_socket_path();
        let expected = Expected { path: &path, allowed_origins: &config.allowed_origins };
        let early = accept_upgrade(&mut carrier, &expected).await.map_err(Refusal::WebSocket.because())?;
        counters.web_socket_handshakes.fetch_add(1, Ordering::Relaxed);
        Transport::WebSocket(Box::new(WebSocket::new(carrier, early)))
    } else {
        match carrier {
            WebSocketCarrier::Tcp(stream) => Transport::Tcp(stream),
            WebSocketCarrier::Tls(stream) => Transport::Tls(stream),
        }
    };
    Ok(Accepted { transport, listener: acceptor.handle.clone(), remote_addr: Some(remote_addr), tls, connect_deadline, permit })
}
