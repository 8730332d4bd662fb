//! What lives as long as a listener or one of its connections: settings the broker reads, counters, and the count against the limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio::time::Instant;

use crate::accept::Accepted;
use crate::config::{Config, Protocol};
use crate::rate::Rate;
use crate::transport::{Stream, Transport};

/// A listener as its connections see it. Cheap to keep: one per listener, shared.
#[derive(Debug)]
pub struct ListenerHandle {
    name: String,
    protocol: Protocol,
    config: ArcSwap<Config>,
    totals: Arc<Totals>,
    connections: AtomicU64,
    /// PUBLISH packets over all Clients of the listener; the broker takes and pauses.
    pub messages_rate: Rate,
    /// Bytes over all Clients of the listener; the broker takes and pauses.
    pub bytes_rate: Rate,
    pub(crate) connection_rate: Rate,
    /// What happened here so far.
    pub counters: Counters,
}

impl ListenerHandle {
    pub(crate) fn new(name: String, protocol: Protocol, config: Config, totals: Arc<Totals>) -> Arc<ListenerHandle> {
        let handle = ListenerHandle {
            name,
            protocol,
            config: ArcSwap::from_pointee(Config::new("")),
            totals,
            connections: AtomicU64::new(0),
            messages_rate: Rate::default(),
            bytes_rate: Rate::default(),
            connection_rate: Rate::default(),
            counters: Counters::default(),
        };
        handle.set_config(config);
        Arc::new(handle)
    }

    /// A listener without a socket, which takes what [`Self::take`] is given.
    pub fn without_socket(config: Config, totals: Arc<Totals>) -> Arc<ListenerHandle> {
        Self::new(config.name.clone(), Protocol::Tcp, config, totals)
    }

    /// Takes a connection that came through no socket, under the same limits as all others.
    pub fn take(self: &Arc<Self>, stream: Box<dyn Stream>) -> Result<Accepted, Refusal> {
        self.counters.accepted.fetch_add(1, Ordering::Relaxed);
        let permit = self.admit().inspect_err(|refusal| self.refuse(*refusal))?;
        let connect_deadline = Instant::now() + self.config().connect_timeout;
        let transport = Transport::Stream(stream);
        Ok(Accepted { transport, listener: self.clone(), remote_addr: None, tls: None, connect_deadline, permit })
    }

    pub(crate) fn set_config(&self, config: Config) {
        self.messages_rate.set(config.messages_rate.into());
        self.bytes_rate.set(config.bytes_rate.as_u64());
        self.connection_rate.set(config.max_connection_rate.into());
        self.config.store(Arc::new(config));
    }

    /// The name in logs, metrics and access rules.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is spoken here.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The settings in force; a reload replaces them.
    pub fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// Connections that are open now, those in their handshake included.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// A place for one more connection, or why there is none.
    pub(crate) fn admit(self: &Arc<Self>) -> Result<ConnectionPermit, Refusal> {
        let totals = &self.totals;
        if totals.shedding.load(Ordering::Relaxed) {
            return Err(Refusal::Shedding);
        }
        // Taken first and given back on refusal: two accept loops never take the last place both.
        let permit = ConnectionPermit { listener: self.clone() };
        let (here, everywhere) =
            (self.connections.fetch_add(1, Ordering::Relaxed) + 1, totals.connections.fetch_add(1, Ordering::Relaxed) + 1);
        let over = |count: u64, limit: u64| limit != 0 && count > limit;
        if over(everywhere, totals.max_connections.load(Ordering::Relaxed)) {
            return Err(Refusal::TotalConnections);
        }
        if over(here, self.config.load().max_connections.into()) {
            return Err(Refusal::ListenerConnections);
        }
        Ok(permit)
    }

    pub(crate) fn refuse(&self, reason: Refusal) {
        self.counters.refused[reason as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// One connection's place under the limits; dropping it makes room for the next.
#[derive(Debug)]
pub struct ConnectionPermit {
    listener: Arc<ListenerHandle>,
}

impl ConnectionPermit {
    /// The listener it belongs to.
    pub fn listener(&self) -> &Arc<ListenerHandle> {
        &self.listener
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.listener.connections.fetch_sub(1, Ordering::Relaxed);
        self.listener.totals.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Limits over all listeners, changeable at any time.
#[derive(Debug, Default)]
pub struct Totals {
    max_connections: AtomicU64,
    connections: AtomicU64,
    shedding: AtomicBool,
    pub(crate) connection_rate: Rate,
}

impl Totals {
    /// Limits of connections at one time and of accepts per second; 0 is none.
    pub fn new(max_connections: u64, max_connection_rate: u64) -> Arc<Totals> {
        Arc::new(Totals {
            max_connections: AtomicU64::new(max_connections),
            connection_rate: Rate::new(max_connection_rate),
            ..Totals::default()
        })
    }

    /// Changes the limit of connections at one time; open ones stay.
    pub fn set_max_connections(&self, max: u64) {
        self.max_connections.store(max, Ordering::Relaxed);
    }

    /// Changes the limit of accepts per second.
    pub fn set_max_connection_rate(&self, per_second: u64) {
        self.connection_rate.set(per_second);
    }

    /// Refuses every new connection while true: what the memory watermark does first.
    pub fn set_shedding(&self, shedding: bool) {
        self.shedding.store(shedding, Ordering::Relaxed);
    }

    /// Connections that are open now, on all listeners.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

/// Why a connection was closed before the broker saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Refusal {
    /// `max_connections` of the listener.
    ListenerConnections,
    /// The limit over all listeners.
    TotalConnections,
    /// The broker sheds load.
    Shedding,
    /// A PROXY header that was missing, malformed, or from a peer that is not trusted.
    Proxy,
    /// The TLS handshake failed.
    Tls,
    /// The WebSocket handshake failed: path, origin, subprotocol or form.
    WebSocket,
    /// `connect_timeout` passed during a handshake.
    Timeout,
    /// The listener was closed during a handshake.
    Closed,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Refusal; 8] = [
        Refusal::ListenerConnections,
        Refusal::TotalConnections,
        Refusal::Shedding,
        Refusal::Proxy,
        Refusal::Tls,
        Refusal::WebSocket,
        Refusal::Timeout,
        Refusal::Closed,
    ];

    /// The value of metric labels.
    pub fn label(self) -> &'static str {
        match self {
            Refusal::ListenerConnections => "listener_connections",
            Refusal::TotalConnections => "total_connections",
            Refusal::Shedding => "shedding",
            Refusal::Proxy => "proxy",
            Refusal::Tls => "tls",
            Refusal::WebSocket => "websocket",
            Refusal::Timeout => "timeout",
            Refusal::Closed => "closed",
        }
    }
}

/// What happened on a listener so far. Each counts up only.
#[derive(Debug, Default)]
pub struct Counters {
    pub(crate) accepted: AtomicU64,
    pub(crate) accept_errors: AtomicU64,
    pub(crate) tls_handshakes: AtomicU64,
    pub(crate) tls_resumptions: AtomicU64,
    pub(crate) web_socket_handshakes: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
}

impl Counters {
    /// Connections taken from the system, the refused ones included.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Accepts that failed, mostly for want of file descriptors.
    pub fn accept_errors(&self) -> u64 {
        self.accept_errors.load(Ordering::Relaxed)
    }

    /// TLS handshakes that succeeded; those that failed are [`Refusal::Tls`].
    pub fn tls_handshakes(&self) -> u64 {
        self.tls_handshakes.load(Ordering::Relaxed)
    }

    /// How many of the TLS handshakes took up an earlier TLS session.
    pub fn tls_resumptions(&self) -> u64 {
        self.tls_resumptions.load(Ordering::Relaxed)
    }

    /// WebSocket handshakes that succeeded; those that failed are [`Refusal::WebSocket`].
    pub fn web_socket_handshakes(&self) -> u64 {
        self.web_socket_handshakes.load(Ordering::Relaxed)
    }

    /// Connections closed before the broker saw them.
    pub fn refused(&self, reason: Refusal) -> u64 {
        self.refused[reason as usize].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(max_connections: u32, totals: &Arc<Totals>) -> Arc<ListenerHandle> {
        let config = Config { max_connections, ..Config::new("tcp://127.0.0.1:0") };
        ListenerHandle::new("test".into(), Protocol::Tcp, config, totals.clone())
    }

    #[test]
    fn a_dropped_permit_makes_room_and_a_refusal_takes_none() {
        let totals = Totals::new(3, 0);
        let (first, second) = (listener(2, &totals), listener(0, &totals));
        let permits = [first.admit().unwrap(), first.admit().unwrap()];
        assert_eq!(first.admit().unwrap_err(), Refusal::ListenerConnections);
        let _third = second.admit().unwrap();
        assert_eq!(second.admit().unwrap_err(), Refusal::TotalConnections);
        assert_eq!((first.connections(), second.connections(), totals.connections()), (2, 1, 3));
        drop(permits);
        assert_eq!((first.connections(), totals.connections()), (0, 1));
        totals.set_max_connections(1);
        assert_eq!(second.admit().unwrap_err(), Refusal::TotalConnections);
        totals.set_max_connections(0);
        assert!(first.admit().is_ok());
    }

    #[tokio::test]
    async fn a_stream_without_a_socket_counts_like_a_connection() {
        let config = Config { max_connections: 1, ..Config::new("tcp://127.0.0.1:0") };
        let listener = ListenerHandle::without_socket(config, Totals::new(0, 0));
        let (here, _there) = tokio::io::duplex(64);
        let accepted = listener.take(Box::new(here)).unwrap();
        assert!(matches!(accepted.transport, Transport::Stream(_)));
        let (here, _there) = tokio::io::duplex(64);
        assert_eq!(listener.take(Box::new(here)).unwrap_err(), Refusal::ListenerConnections);
        drop(accepted);
        assert_eq!((listener.connections(), listener.counters.accepted()), (0, 2));
        assert_eq!(listener.counters.refused(Refusal::ListenerConnections), 1);
    }

    #[test]
    fn while_shedding_nobody_is_admitted() {
        let totals = Totals::new(0, 0);
        let listener = listener(0, &totals);
        totals.set_shedding(true);
        assert_eq!(listener.admit().unwrap_err(), Refusal::Shedding);
        totals.set_shedding(false);
        assert!(listener.admit().is_ok());
    }

    #[test]
    fn every_refusal_has_its_own_counter() {
        let listener = listener(0, &Totals::new(0, 0));
        for (at, reason) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, at);
            listener.refuse(reason);
            assert_eq!(listener.counters.refused(reason), 1, "{}", reason.label());
        }
    }
}
