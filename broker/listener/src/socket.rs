//! Listening sockets: made with every option said aloud, and cleaned up. A socket is shared by reference, so that a reload that keeps the address keeps
//! the socket and its backlog.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::config::{Config, Endpoint, SocketMode};

/// A Network Connection whose peer vanished is noticed after 5 minutes of silence and 3 of asking, also when its Client asked for no keep alive. The
/// count is said aloud, because the system's own, 9 on Linux, would ask for 9 minutes. While something is under way to the peer the system repeats
/// that instead of asking, and gives up after its own time.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(300)).with_interval(Duration::from_secs(60)).with_retries(3);

/// A socket that has its address, or a path that is free. Until [`ListeningSocket::open`] nobody can connect: a broker that waits for its turn refuses
/// connections instead of letting them hang.
#[derive(Debug)]
pub(crate) enum ListeningSocket {
    Tcp { bound: Mutex<Option<Socket>>, backlog: u32, listener: OnceLock<TcpListener>, local_addr: SocketAddr },
    Unix { path: PathBuf, mode: SocketMode, backlog: u32, listener: OnceLock<(UnixListener, SocketFile)> },
}

/// A connection that was accepted.
pub(crate) enum Incoming {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

/// Why a listener could not listen.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The host name has no address.
    #[error("cannot resolve {host:?}")]
    Resolve {
        /// The name as configured.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// The system refused.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address or path.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// Another process listens on the path.
    #[error("{} is in use: somebody listens there", path.display())]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// Something that is no socket has the path.
    #[error("{} exists and is no socket; it is not removed", path.display())]
    NoSocket {
        /// The path.
        path: PathBuf,
    },
}

impl ListeningSocket {
    /// Lets Clients connect from now on; their connections wait in the backlog. Nothing when it does already.
    pub(crate) fn open(&self) -> Result<(), SocketError> {
        match self {
            ListeningSocket::Tcp { bound, backlog, listener, local_addr } => {
                let Some(socket) = bound.lock().take() else { return Ok(()) };
                let listen = || {
                    socket.listen(i32::try_from(*backlog).unwrap_or(i32::MAX))?;
                    TcpListener::from_std(socket.into())
                };
                let _ = listener.set(listen().map_err(|source| SocketError::Listen { address: local_addr.to_string(), source })?);
            }
            ListeningSocket::Unix { path, mode, backlog, listener } => {
                if listener.get().is_none() {
                    let _ = listener.set(listen_unix(path, *mode, *backlog)?);
                }
            }
        }
        Ok(())
    }

    /// The next connection; waits for ever when the socket is not open.
    pub(crate) async fn accept(&self) -> io::Result<Incoming> {
        match self {
            ListeningSocket::Tcp { listener, .. } => match listener.get() {
                Some(listener) => listener.accept().await.map(|(stream, peer)| Incoming::Tcp(stream, peer)),
                None => std::future::pending().await,
            },
            ListeningSocket::Unix { listener, .. } => match listener.get() {
                Some((listener, _)) => listener.accept().await.map(|(stream, _)| Incoming::Unix(stream)),
                None => std::future::pending().await,
            },
        }
    }

    /// The address, with the port that the system chose.
    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            ListeningSocket::Tcp { local_addr, .. } => Some(*local_addr),
            ListeningSocket::Unix { .. } => None,
        }
    }
}

/// Takes the addresses of all that `endpoint` means: one path, one address, or every address of a host name.
pub(crate) async fn bind(endpoint: &Endpoint, config: &Config) -> Result<Vec<Arc<ListeningSocket>>, SocketError> {
    let (host, port) = match endpoint {
        Endpoint::Unix(path) => {
            remove_stale(path)?;
            let (path, mode, backlog) = (path.clone(), config.mode, config.backlog);
            return Ok(vec![Arc::new(ListeningSocket::Unix { path, mode, backlog, listener: OnceLock::new() })]);
        }
        Endpoint::Ip { host, port } => (host, *port),
    };
    let resolve_error = |source| SocketError::Resolve { host: host.clone(), source };
    let mut addresses: Vec<IpAddr> = match host.parse() {
        Ok(address) => vec![address],
        Err(_) => tokio::net::lookup_host((host.as_str(), port)).await.map_err(resolve_error)?.map(|address| address.ip()).collect(),
    };
    addresses.dedup();
    if addresses.is_empty() {
        return Err(resolve_error(io::ErrorKind::NotFound.into()));
    }
    let mut sockets: Vec<Arc<ListeningSocket>> = Vec::with_capacity(addresses.len());
    let mut failed = None;
    for address in addresses {
        // Every address of a name gets the port that the system chose for the first.
        let port = sockets.first().and_then(|socket| socket.local_addr()).map_or(port, |first| first.port());
        match bind_tcp(SocketAddr::new(address, port), config.ipv6_only, config.backlog) {
            Ok(socket) => sockets.push(Arc::new(socket)),
            // `[::]` is every address of both kinds, so on a machine whose kernel knows no IPv6 it is every address there is.
            Err(source) if knows_no_ipv6(&source) && address == Ipv6Addr::UNSPECIFIED && !config.ipv6_only => {
                let address = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
                let socket = bind_tcp(address, false, config.backlog);
                let socket = socket.map_err(|source| SocketError::Listen { address: address.to_string(), source })?;
                tracing::info!(host, "this machine knows no IPv6: listening on all IPv4 addresses");
                sockets.push(Arc::new(socket));
            }
            // `localhost` is also ::1, which a machine without IPv6 has not.
            Err(source) if matches!(source.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported) => {
                failed = Some((address, source));
            }
            Err(source) => return Err(SocketError::Listen { address: SocketAddr::new(address, port).to_string(), source }),
        }
    }
    match failed {
        Some((address, source)) if sockets.is_empty() => {
            Err(SocketError::Listen { address: SocketAddr::new(address, port).to_string(), source })
        }
        Some((address, error)) => {
            tracing::warn!(host, %address, %error, "one address of the name cannot be listened on");
            Ok(sockets)
        }
        None => Ok(sockets),
    }
}

/// The kernel was started without IPv6 (EAFNOSUPPORT).
fn knows_no_ipv6(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EAFNOSUPPORT)
}

fn bind_tcp(address: SocketAddr, ipv6_only: bool, backlog: u32) -> io::Result<ListeningSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if let SocketAddr::V6(v6) = address {
        // Said aloud, because the system's default differs and is configurable. Only [::] can mean IPv4 too.
        socket.set_only_v6(ipv6_only || *v6.ip() != Ipv6Addr::UNSPECIFIED)?;
    }
    // A restarted broker gets its port back while old connections linger in TIME_WAIT.
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit both from the listening one on Linux, which spares two system calls per connection. No delay: batching is ours.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&KEEPALIVE)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    let local_addr = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok(ListeningSocket::Tcp { bound: Mutex::new(Some(socket)), backlog, listener: OnceLock::new(), local_addr })
}

/// What an accepted socket does not inherit outside of Linux.
pub(crate) fn configure_accepted(stream: &TcpStream) {
    if !cfg!(target_os = "linux") {
        // The peer may be gone already, which reading will tell.
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(stream).set_tcp_keepalive(&KEEPALIVE);
    }
}

fn listen_unix(path: &Path, mode: SocketMode, backlog: u32) -> Result<(UnixListener, SocketFile), SocketError> {
    let listen_error = |source| SocketError::Listen { address: path.display().to_string(), source };
    remove_stale(path)?;
    let make = || -> io::Result<(UnixListener, SocketFile)> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // Before bind it narrows the permissions with which the file appears, so that nobody slips in before they are set on the file.
        File::from(OwnedFd::from(socket.try_clone()?)).set_permissions(fs::Permissions::from_mode(mode.bits()))?;
        socket.bind(&SockAddr::unix(path)?)?;
        let file = SocketFile::of(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode.bits()))?;
        socket.set_nonblocking(true)?;
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        Ok((UnixListener::from_std(std::os::unix::net::UnixListener::from(OwnedFd::from(socket)))?, file))
    };
    make().map_err(listen_error)
}

/// Removes the socket that a killed process left at `path`.
fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let listen_error = |source| SocketError::Listen { address: path.display().to_string(), source };
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(listen_error)?,
    };
    if !metadata.file_type().is_socket() {
        return Err(SocketError::NoSocket { path: path.to_owned() });
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(listen_error),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(listen_error(error)),
        Ok(_) => Err(SocketError::InUse { path: path.to_owned() }),
    }
}

/// The file of a Unix socket, removed with it unless another one has taken its place.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<SocketFile> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(SocketFile { path: path.to_owned(), identity: (metadata.dev(), metadata.ino()) })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the socket's file could not be removed");
        }
    }
}
