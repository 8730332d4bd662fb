//! All listeners of a broker: bound together or not at all, served, reloaded without dropping a connection, closed.

use std::collections::HashSet;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::task::{JoinHandle, JoinSet};

use crate::accept::{Accepted, Acceptor, Deliver, accept_loop};
use crate::config::{Config, ConfigError, Endpoint, Protocol};
use crate::handle::{ListenerHandle, Totals};
use crate::socket::{self, ListeningSocket, SocketError};
use crate::tls::{CertificateInfo, TlsError, TlsServer};

/// How often certificates and the like are looked at. Kubernetes brings a new Secret within a minute or two, so that this adds nothing one notices; a
/// look is one `stat` per file.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// All listeners of a broker. Clones are the same listeners.
#[derive(Clone, Debug)]
pub struct Listeners {
    inner: Arc<Inner>,
}

struct Inner {
    totals: Arc<Totals>,
    running: Mutex<Vec<Running>>,
    deliver: Mutex<Option<Deliver>>,
    /// One bind, reload or close at a time.
    change: tokio::sync::Mutex<()>,
    watcher: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listeners").field("running", &self.running).finish_non_exhaustive()
    }
}

/// One listener that is bound.
#[derive(Debug)]
struct Running {
    acceptor: Arc<Acceptor>,
    endpoint: Endpoint,
    ipv6_only: bool,
    sockets: Vec<Arc<ListeningSocket>>,
    tasks: Vec<JoinHandle<()>>,
}

/// Why listeners could not be bound or changed. What was in force before still is.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A configuration that cannot be.
    #[error("listener {listener:?}: {source}")]
    Config {
        /// The listener's name.
        listener: String,
        /// Which key and why.
        source: ConfigError,
    },
    /// An address that cannot be listened on.
    #[error("listener {listener:?}: {source}")]
    Socket {
        /// The listener's name.
        listener: String,
        /// Why.
        source: SocketError,
    },
    /// Certificates, keys, CAs or revocation lists that cannot be used.
    #[error("listener {listener:?}: {source}")]
    Tls {
        /// The listener's name.
        listener: String,
        /// Why.
        source: TlsError,
    },
}

/// A listener and where it listens now.
#[derive(Clone, Debug)]
pub struct Bound {
    /// Its name, settings and counters.
    pub handle: Arc<ListenerHandle>,
    /// With the ports that the system chose; empty for a Unix socket.
    pub local_addrs: Vec<SocketAddr>,
    /// The path of a Unix socket.
    pub path: Option<PathBuf>,
}

/// TLS files that are not in force because they cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadFailure {
    /// The listener's name.
    pub listener: String,
    /// What is wrong.
    pub error: String,
}

/// A listener to be: what is new about it is made, and nothing is in force yet.
struct Planned {
    name: String,
    config: Config,
    protocol: Protocol,
    endpoint: Endpoint,
    sockets: Vec<Arc<ListeningSocket>>,
    /// The acceptor that goes on, with its connections.
    kept: Option<Arc<Acceptor>>,
    tls: Option<Arc<TlsServer>>,
}

impl Listeners {
    /// Binds all, or none and says why. Nobody can connect until [`Listeners::serve`].
    pub async fn bind(configs: &[Config], totals: Arc<Totals>) -> Result<Listeners, BindError> {
        let inner = Inner {
            totals,
            running: Mutex::new(Vec::new()),
            deliver: Mutex::new(None),
            change: tokio::sync::Mutex::new(()),
            watcher: Mutex::new(None),
        };
        let listeners = Listeners { inner: Arc::new(inner) };
        listeners.reload(configs).await?;
        Ok(listeners)
    }

    /// Begins to accept; each connection is served by a task of its own that runs `on_accepted`. Returns at once. An error when an address was taken
    /// since it was bound.
    pub fn serve<F, Fut>(&self, on_accepted: F) -> Result<(), BindError>
    where
        F: Fn(Accepted) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let deliver: Deliver = Arc::new(move |accepted| {
            tokio::spawn(on_accepted(accepted));
        });
        {
            let mut running = self.inner.running.lock();
            for running in running.iter() {
                let listener = running.acceptor.handle.name();
                running
                    .sockets
                    .iter()
                    .try_for_each(|socket| socket.open())
                    .map_err(|source| BindError::Socket { listener: listener.into(), source })?;
            }
            *self.inner.deliver.lock() = Some(deliver.clone());
            running.iter_mut().for_each(|running| running.start(&deliver));
        }
        let inner = Arc::downgrade(&self.inner);
        let watcher = tokio::spawn(async move {
            loop {
                tokio::time::sleep(WATCH_INTERVAL).await;
                let Some(inner) = inner.upgrade() else { return };
                refresh(inner.tls_servers(), false).await;
            }
        });
        if let Some(before) = self.inner.watcher.lock().replace(watcher) {
            before.abort();
        }
        Ok(())
    }

    /// Makes the listeners those of `configs`: new ones are bound, missing ones stop accepting, changed settings hold for the next connections, TLS files
    /// are read again. Open connections stay in any case. Everything new is made before anything changes; an error leaves all as it was.
    pub async fn reload(&self, configs: &[Config]) -> Result<(), BindError> {
        let _one_at_a_time = self.inner.change.lock().await;
        let planned = self.plan(configs).await?;
        let deliver = self.inner.deliver.lock().clone();
        for planned in planned.iter().filter(|_| deliver.is_some()) {
            let opened = planned.sockets.iter().try_for_each(|socket| socket.open());
            opened.map_err(|source| BindError::Socket { listener: planned.name.clone(), source })?;
        }
        let unchanged_tls = {
            let mut running = self.inner.running.lock();
            let mut before = std::mem::take(&mut *running);
            let mut unchanged_tls = Vec::new();
            for planned in planned {
                let kept = planned.kept.as_ref().and_then(|kept| before.iter().position(|old| Arc::ptr_eq(&old.acceptor, kept)));
                match kept.map(|at| before.swap_remove(at)) {
                    Some(old) => {
                        old.acceptor.handle.set_config(planned.config);
                        match planned.tls {
                            Some(tls) => old.acceptor.tls.store(Some(tls)),
                            None => unchanged_tls.extend(old.acceptor.tls.load_full()),
                        }
                        running.push(old);
                    }
                    None => running.push(planned.begin(&self.inner.totals, deliver.as_ref())),
                }
            }
            before.iter().for_each(Running::stop);
            unchanged_tls
        };
        refresh(unchanged_tls, true).await;
        Ok(())
    }

    /// Reads all TLS files again, whether they seem changed or not. What cannot be used is in [`Listeners::failures`].
    pub async fn reload_certificates(&self) {
        refresh(self.inner.tls_servers(), true).await;
    }

    /// The listeners as they are now, in the order of the configuration.
    pub fn bound(&self) -> Vec<Bound> {
        let bound = |running: &Running| Bound {
            handle: running.acceptor.handle.clone(),
            local_addrs: running.sockets.iter().filter_map(|socket| socket.local_addr()).collect(),
            path: running.sockets.iter().find_map(|socket| match &**socket {
                ListeningSocket::Unix { path, .. } => Some(path.clone()),
                ListeningSocket::Tcp { .. } => None,
            }),
        };
        self.inner.running.lock().iter().map(bound).collect()
    }

    /// The first address of the listener called `name`.
    pub fn local_addr(&self, name: &str) -> Option<SocketAddr> {
        self.bound().into_iter().find(|bound| bound.handle.name() == name)?.local_addrs.first().copied()
    }

    /// The certificates in force.
    pub fn certificates(&self) -> Vec<CertificateInfo> {
        self.inner.tls_servers().iter().flat_map(|server| server.certificates()).collect()
    }

    /// TLS files that changed and cannot be used; the ones before are in force.
    pub fn failures(&self) -> Vec<ReloadFailure> {
        let running = self.inner.running.lock();
        let failure = |running: &Running| {
            let error = running.acceptor.tls.load().as_ref()?.failure()?;
            Some(ReloadFailure { listener: running.acceptor.handle.name().to_owned(), error })
        };
        running.iter().filter_map(failure).collect()
    }

    /// The limits over all listeners.
    pub fn totals(&self) -> &Arc<Totals> {
        &self.inner.totals
    }

    /// Stops accepting and gives addresses and paths back. Open connections stay; handshakes that are under way come to nothing.
    pub async fn close(&self) {
        let _one_at_a_time = self.inner.change.lock().await;
        if let Some(watcher) = self.inner.watcher.lock().take() {
            watcher.abort();
        }
        *self.inner.deliver.lock() = None;
        let running = std::mem::take(&mut *self.inner.running.lock());
        running.iter().for_each(Running::stop);
        for task in running.into_iter().flat_map(|running| running.tasks) {
            // Aborted; its end gives back the socket.
            let _ = task.await;
        }
    }

    /// Checks `configs` and makes all that is new about them.
    async fn plan(&self, configs: &[Config]) -> Result<Vec<Planned>, BindError> {
        let names = names(configs)?;
        let mut planned: Vec<Planned> = Vec::with_capacity(configs.len());
        for (name, config) in names.into_iter().zip(configs) {
            let config_error = |source| BindError::Config { listener: name.clone(), source };
            config.validate().map_err(config_error)?;
            let address = config.address().map_err(config_error)?;
            let (kept, sockets) = self.sockets_for(&name, config, address.protocol, &address.endpoint);
            let sockets = match sockets {
                Some(sockets) => sockets,
                None => {
                    socket::bind(&address.endpoint, config).await.map_err(|source| BindError::Socket { listener: name.clone(), source })?
                }
            };
            let same_tls = kept.as_ref().is_some_and(|kept| kept.tls.load().as_ref().is_some_and(|tls| tls.is_for(config)));
            let tls = match address.protocol.is_tls() && !same_tls {
                false => None,
                true => {
                    let (listener, config) = (name.clone(), config.clone());
                    let loading = tokio::task::spawn_blocking(move || TlsServer::load(&listener, &config));
                    let loaded = loading.await.expect("loading files does not panic and is not aborted");
                    Some(Arc::new(loaded.map_err(|source| BindError::Tls { listener: name.clone(), source })?))
                }
            };
            let (config, protocol, endpoint) = (config.clone(), address.protocol, address.endpoint);
            planned.push(Planned { name, config, protocol, endpoint, sockets, kept, tls });
        }
        Ok(planned)
    }

    /// What goes on being used: a listener of the same name that speaks the same at the same place, or at least the sockets of whoever is there.
    fn sockets_for(
        &self,
        name: &str,
        config: &Config,
        protocol: Protocol,
        endpoint: &Endpoint,
    ) -> (Option<Arc<Acceptor>>, Option<Vec<Arc<ListeningSocket>>>) {
        let running = self.inner.running.lock();
        let mut there = running.iter().filter(|running| running.endpoint == *endpoint && running.ipv6_only == config.ipv6_only);
        let same = |running: &&Running| {
            let handle = &running.acceptor.handle;
            handle.name() == name && handle.protocol() == protocol
        };
        if let Some(kept) = there.clone().find(same) {
            return (Some(kept.acceptor.clone()), Some(kept.sockets.clone()));
        }
        // Two listeners on port 0 are at two places.
        let one_place = !matches!(endpoint, Endpoint::Ip { port: 0, .. });
        (None, there.next().filter(|_| one_place).map(|running| running.sockets.clone()))
    }
}

impl Inner {
    fn tls_servers(&self) -> Vec<Arc<TlsServer>> {
        self.running.lock().iter().filter_map(|running| running.acceptor.tls.load_full()).collect()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Nobody is left who could close: the sockets go with the tasks that hold them.
        self.running.lock().iter().for_each(Running::stop);
        if let Some(watcher) = self.watcher.lock().take() {
            watcher.abort();
        }
    }
}

impl Planned {
    fn begin(self, totals: &Arc<Totals>, deliver: Option<&Deliver>) -> Running {
        let ipv6_only = self.config.ipv6_only;
        let acceptor = Acceptor {
            handle: ListenerHandle::new(self.name, self.protocol, self.config, totals.clone()),
            totals: totals.clone(),
            tls: ArcSwapOption::new(self.tls),
            closed: AtomicBool::new(false),
        };
        let mut running =
            Running { acceptor: Arc::new(acceptor), endpoint: self.endpoint, ipv6_only, sockets: self.sockets, tasks: Vec::new() };
        if let Some(deliver) = deliver {
            running.start(deliver);
        }
        running
    }
}

impl Running {
    fn start(&mut self, deliver: &Deliver) {
        self.tasks.drain(..).for_each(|task| task.abort());
        for socket in &self.sockets {
            self.tasks.push(tokio::spawn(accept_loop(socket.clone(), self.acceptor.clone(), deliver.clone())));
        }
        let endpoint = self.sockets.first().and_then(|socket| socket.local_addr());
        let endpoint = endpoint.map_or_else(|| self.endpoint.to_string(), |address| address.to_string());
        let handle = &self.acceptor.handle;
        tracing::info!(listener = handle.name(), protocol = handle.protocol().label(), endpoint, "listening");
    }

    fn stop(&self) {
        self.acceptor.closed.store(true, Ordering::Relaxed);
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Looks at files where blocking does no harm.
async fn refresh(servers: Vec<Arc<TlsServer>>, force: bool) {
    let mut looks = JoinSet::new();
    for server in servers {
        looks.spawn_blocking(move || server.refresh(force));
    }
    looks.join_all().await;
}

/// A name for each listener. Those that say none and would be called alike are numbered; two that say the same are refused.
fn names(configs: &[Config]) -> Result<Vec<String>, BindError> {
    let mut taken = HashSet::new();
    for config in configs.iter().filter(|config| !config.name.is_empty()) {
        if !taken.insert(config.name.clone()) {
            let source = ConfigError::new("name", "is taken by another listener");
            return Err(BindError::Config { listener: config.name.clone(), source });
        }
    }
    let mut names = Vec::with_capacity(configs.len());
    for config in configs {
        let name = config.name().into_owned();
        if !config.name.is_empty() || taken.insert(name.clone()) {
            names.push(name);
            continue;
        }
        let numbered = (2..).map(|number| format!("{name}-{number}")).find(|numbered| !taken.contains(numbered));
        let numbered = numbered.expect("there are more numbers than listeners");
        taken.insert(numbered.clone());
        names.push(numbered);
    }
    Ok(names)
}
