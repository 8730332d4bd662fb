//! Sockets in: TCP, TLS, WebSocket and Unix sockets, the PROXY protocol before them, limits and certificates.
//!
//! The road of a connection: [`Listeners`] binds what the [`Config`]s say; an accept loop takes a connection, counts it against the limits and, where
//! there is a handshake, gives it a task until `connect_timeout`; what comes out is [`Accepted`]: a [`Transport`] of plain MQTT bytes, who is at the
//! other end, and a [`ConnectionPermit`] that holds its place until it is dropped.
//!
//! Promises: an idle connection keeps no buffer, whatever it travels in; nothing a peer sends grows memory beyond a bound named beside it; certificates,
//! CAs and revocation lists are renewed when their files change, without dropping a connection, and a bad file leaves the good one in force.
//!
//! [`proxy::parse`], [`websocket::frame::Decoder`] and [`websocket::upgrade::parse`] are pure, for tests and fuzzing.

mod accept;
pub mod config;
mod handle;
mod listeners;
pub mod proxy;
mod rate;
mod socket;
mod tls;
mod transport;
pub mod websocket;

pub use accept::Accepted;
pub use config::{Config, ConfigError, Protocol};
pub use handle::{ConnectionPermit, Counters, ListenerHandle, Refusal, Totals};
pub use listeners::{BindError, Bound, Listeners, ReloadFailure};
pub use rate::Rate;
pub use socket::SocketError;
pub use tls::{CertificateInfo, TlsError, TlsInfo, TlsStream, check_tls_files};
pub use transport::{Stream, Transport, WebSocketCarrier};
