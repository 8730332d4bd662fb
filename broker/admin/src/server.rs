//! The listening socket and its connections, each bounded in number, bytes and time.
//!
//! A peer can hold one of [`Limits::connections_max`] places for [`Limits::connection_lifetime`] plus [`Limits::close_timeout`] at most, whether it
//! says nothing, half a header, or never reads; further ones wait in the kernel's backlog.

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::{AddressError, Config};
use crate::health::Health;
use crate::routes::{self, Broker};

/// Why health and metrics cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// `admin.listen` is no address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The address cannot be listened on.
    #[error("admin.listen: cannot listen on {address}")]
    Listen {
        /// As it stands in the configuration.
        address: String,
        /// What the system said.
        source: io::Error,
    },
}

/// What peers may take. 64 connections of 16 KiB of header are 1 MiB.
#[derive(Clone, Copy, Debug)]
struct Limits {
    connections_max: usize,
    /// hyper answers 431 to what is larger or has more than `headers_max` fields.
    header_bytes_max: usize,
    headers_max: usize,
    /// From one answer, or the start, to the end of the next header; so the time an idle connection is kept, too.
    header_timeout: Duration,
    request_timeout: Duration,
    /// After this the request under way is the last one. Ends peers that never read their answer.
    connection_lifetime: Duration,
    /// For the last request under way.
    close_timeout: Duration,
    /// Waited after a failed accept; usually file descriptors have run out.
    accept_pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 64,
            header_bytes_max: 16 * 1024,
            headers_max: 64,
            header_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(10),
            connection_lifetime: Duration::from_secs(60),
            close_timeout: Duration::from_secs(2),
            accept_pause: Duration::from_millis(100),
        }
    }
}

/// A socket that listens and is not served yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    local_addr: SocketAddr,
    limits: Limits,
}

impl Server {
    /// Listens where `config` says; `None` when it says off.
    pub async fn bind(config: &Config) -> Result<Option<Self>, BindError> {
        let Some(address) = config.address()? else { return Ok(None) };
        let listen = async {
            let listener = TcpListener::bind(&address).await?;
            let local_addr = listener.local_addr()?;
            Ok(Self { listener, local_addr, limits: Limits::default() })
        };
        listen.await.map(Some).map_err(|source| BindError::Listen { address, source })
    }

    /// Where it listens, with the port that was taken for port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until `shutdown`, then for two more seconds at most what is under way. `on_gather` is called before each scrape, one
    /// at a time, to refresh what is not counted as it happens; it runs on a worker, so it must not block.
    ///
    /// Let `shutdown` come after the drain: until then `/readyz` says that the broker is draining.
    pub async fn serve(
        self,
        registry: Registry,
        health: Arc<Health>,
        version: &'static str,
        on_gather: Arc<dyn Fn() + Send + Sync>,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) {
        let Self { listener, local_addr, limits } = self;
        let broker = Broker { registry, health, version, on_gather, gathering: tokio::sync::Mutex::default() };
        let router = routes::router(broker, limits.request_timeout);
        // Never sent to; dropping the sender is the signal.
        let (closing, closed) = watch::channel::<Option<Infallible>>(None);
        let mut connections = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        tracing::info!(%local_addr, "serving health and metrics");
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                Some(ended) = connections.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "an admin connection has failed");
                    }
                }
                accepted = listener.accept(), if connections.len() < limits.connections_max => match accepted {
                    Ok((stream, remote_addr)) => {
                        connections.spawn(connection(stream, remote_addr, router.clone(), closed.clone(), limits));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "admin connection not accepted");
                        tokio::time::sleep(limits.accept_pause).await;
                    }
                },
            }
        }
        drop(listener);
        drop(closing);
        // Each ends within `close_timeout`.
        while connections.join_next().await.is_some() {}
        tracing::debug!(%local_addr, "health and metrics are served no longer");
    }
}

async fn connection(
    stream: TcpStream,
    remote_addr: SocketAddr,
    router: Router,
    mut closed: watch::Receiver<Option<Infallible>>,
    limits: Limits,
) {
    // Without it answers come late, not never.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%remote_addr, %error, "no TCP_NODELAY on an admin connection");
    }
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.header_bytes_max)
        .max_headers(limits.headers_max)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = async {
            tokio::select! {
                _ = closed.changed() => {}
                () = tokio::time::sleep(limits.connection_lifetime) => {}
            }
        } => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(limits.close_timeout, connection).await {
                Ok(result) => result,
                Err(_) => {
                    tracing::debug!(%remote_addr, "admin connection cut while it was under way");
                    return;
                }
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(%remote_addr, %error, "admin connection ended by an error");
    }
}
