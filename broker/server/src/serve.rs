//! Start order, reload and shutdown of the whole broker.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use bucketmq_access::Access;
use bucketmq_admin::{Certificate, Health};
use bucketmq_listener::{Listeners, Totals};
use bucketmq_packet::ReasonCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use crate::broker::Broker;
use crate::config::{Loaded, LogHandle, keep_until_restart, restart_needed};
use crate::metrics::{Exporter, GaugeSet};
use crate::{connect, durable, gauges, memory, sweeper, sys_topics};

/// Exit code of a broker that has lost its shards to another, or to a bucket that refuses to be written: try again later (`EX_TEMPFAIL`).
const LOST: u8 = 75;
/// Connected Clients get this long to take DISCONNECT when the broker stops.
const DRAIN: Duration = Duration::from_secs(10);
/// How often files are looked at for changes.
const WATCH: Duration = Duration::from_secs(2);
/// How often the runtime shows that it is alive.
const BEAT: Duration = Duration::from_secs(1);
/// Retained messages looked at for expiry each [`WATCH`].
const EXPIRE_TOPICS: usize = 4096;

/// Runs the broker until SIGTERM or Ctrl-C and says how that went.
pub fn run(loaded: Loaded, log: LogHandle) -> ExitCode {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(files) => info!(files, "open files allowed"),
        Err(error) => warn!(error = %error, "the number of open files could not be raised"),
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(error = %error, "the runtime does not start");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(serve(loaded, log)) {
        Ok(code) => code,
        Err(error) => {
            error!(error = %format!("{error:#}"), "the broker stops");
            ExitCode::FAILURE
        }
    }
}

/// A broker that is up.
struct Server {
    broker: Arc<Broker>,
    listeners: Listeners,
    health: Arc<Health>,
    loaded: Loaded,
    log: LogHandle,
    /// How the last reload of the configuration or the users went.
    config_reload: Result<(), String>,
    users_reload: Result<(), String>,
    /// TLS files could not be used at the last look.
    tls_failed: bool,
}

async fn serve(loaded: Loaded, log: LogHandle) -> anyhow::Result<ExitCode> {
    let config = &loaded.config;
    let health = Health::new();
    let starting = health.awaiting("listeners");
    let access = Access::load(&config.access)?;
    let admin = bucketmq_admin::Server::bind(&config.admin).await.context("the admin address cannot be used")?;
    let totals = Totals::new(u64::from(config.limits.max_connections), u64::from(config.limits.max_connection_rate));
    let listeners = Listeners::bind(&config.listeners, totals).await?;
    let state = Arc::new(durable::open::open(&config.bucket).await?);
    let broker = Arc::new(state.broker(config.limits.clone(), access).await?);
    broker.know();
    broker.start_outboxes();
    // What expired while no broker was there is gone before anybody can ask for it.
    sweeper::sweep(&broker);
    let (stop_admin, admin_stopped) = oneshot::channel::<()>();
    let admin_task = match admin {
        None => None,
        Some(admin) => {
            let registry = prometheus::Registry::new();
            Exporter::new(broker.metrics.clone()).register(&registry)?;
            state.register(&registry)?;
            let gauges = GaugeSet::register(&registry)?;
            let (broker, listeners) = (broker.clone(), listeners.clone());
            let on_gather = Arc::new(move || gauges.set(&gauges::read(&broker, &listeners)));
            let shutdown = async move {
                let _ = admin_stopped.await;
            };
            Some(tokio::spawn(admin.serve(registry, health.clone(), env!("CARGO_PKG_VERSION"), on_gather, shutdown)))
        }
    };

    tokio::spawn(sweeper::run(broker.clone()));
    tokio::spawn(memory::run(broker.clone(), listeners.totals().clone()));
    if !config.sys_topics.interval.is_zero() {
        tokio::spawn(sys_topics::run(broker.clone(), config.sys_topics.interval));
    }
    tokio::spawn(durable::watch::run(state.clone(), health.clone()));
    let serving = broker.clone();
    listeners.serve(move |accepted| connect::serve(serving.clone(), accepted));
    health.set_config_hash(loaded.hash());
    let mut server = Server { broker, listeners, health, loaded, log, config_reload: Ok(()), users_reload: Ok(()), tls_failed: false };
    server.report();
    // Who sees that it is ready sees everything else in the same answer.
    drop(starting);
    tell_systemd(&[sd_notify::NotifyState::Ready]);
    info!(version = env!("CARGO_PKG_VERSION"), "ready");
    let lost = tokio::select! {
        stopped = server.until_told_to_stop() => { stopped?; None }
        error = state.failed() => Some(error),
    };
    tell_systemd(&[sd_notify::NotifyState::Stopping]);
    if let Some(error) = &lost {
        error!(error = %error_chain(error), "this broker writes to the bucket no more: it gives its Clients up and ends");
    }
    server.drain().await;
    let closed = state.close().await;
    let _ = stop_admin.send(());
    if let Some(task) = admin_task {
        let _ = tokio::time::timeout(Duration::from_secs(2), task).await;
    }
    if lost.is_some() {
        return Ok(ExitCode::from(LOST));
    }
    closed.context("the last changes could not be written to the bucket")?;
    info!("stopped");
    Ok(ExitCode::SUCCESS)
}

fn error_chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn tell_systemd(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(error = %error, "systemd was not told");
    }
}

impl Server {
    /// Serves, reloading on SIGHUP and when files change, until SIGTERM or SIGINT.
    async fn until_told_to_stop(&mut self) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut watch = tokio::time::interval(WATCH);
        let mut beat = tokio::time::interval(BEAT);
        let mut seen = self.file_stamp();
        let mut expiring = None;
        loop {
            tokio::select! {
                _ = terminate.recv() => { info!("SIGTERM: draining"); return Ok(()); }
                _ = interrupt.recv() => { info!("interrupted: draining"); return Ok(()); }
                _ = hangup.recv() => {
                    info!("SIGHUP: reloading");
                    seen = self.file_stamp();
                    self.reload().await;
                    self.listeners.reload_certificates().await;
                    self.report();
                }
                _ = beat.tick() => self.health.beat(),
                _ = watch.tick() => {
                    let stamp = self.file_stamp();
                    if stamp != seen {
                        seen = stamp;
                        info!("the configuration file has changed: reloading");
                        self.reload().await;
                    } else if self.broker.access.changed_on_disk() {
                        self.reload_users();
                    }
                    self.report();
                    expiring = self.broker.store.expire_retained(expiring.as_ref(), EXPIRE_TOPICS, self.broker.wall_ms());
                }
            }
        }
    }

    /// What tells one version of the configuration file from the next, also when a symbolic link to it is swapped.
    fn file_stamp(&self) -> Option<(u64, u64, Option<SystemTime>)> {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(self.loaded.file.as_ref()?).ok()?;
        Some((metadata.ino(), metadata.len(), metadata.modified().ok()))
    }

    /// Applies the configuration as it is now, all of it or nothing.
    async fn reload(&mut self) {
        let outcome = self.try_reload().await;
        if let Err(error) = &outcome {
            error!(error = %format!("{error:#}"), "reload failed, what was in force stays");
        }
        if outcome.is_ok() {
            // The users were read with it.
            self.users_reload = Ok(());
        }
        self.config_reload = outcome.map_err(|error| format!("{error:#}"));
        self.reloaded();
    }

    /// What failed stays told until that very thing is repaired.
    fn reloaded(&self) {
        self.health.set_last_reload(self.config_reload.clone().and_then(|()| self.users_reload.clone()));
    }

    async fn try_reload(&mut self) -> anyhow::Result<()> {
        let mut new = self.loaded.reload()?;
        let old = &self.loaded.config;
        for key in restart_needed(old, &new.config) {
            warn!(key, "changed, but takes effect only at the next start");
        }
        keep_until_restart(old, &mut new.config);
        // Listeners first: it is the step that can fail for reasons outside the files, and it changes nothing when it does.
        let changed = self.broker.access.reload(&new.config.access)?;
        if let Err(error) = self.listeners.reload(&new.config.listeners).await {
            self.broker.access.reload(&old.access).context("going back to the old access rules")?;
            return Err(error.into());
        }
        self.log.set_level(&new.config.log.level)?;
        self.listeners.totals().set_max_connections(u64::from(new.config.limits.max_connections));
        self.listeners.totals().set_max_connection_rate(u64::from(new.config.limits.max_connection_rate));
        self.broker.limits.store(Arc::new(new.config.limits.clone()));
        self.health.set_config_hash(new.hash());
        self.loaded = new;
        if changed {
            self.broker.access_changed();
        }
        info!("configuration reloaded");
        Ok(())
    }

    fn reload_users(&mut self) {
        let outcome = self.broker.access.reload_users();
        match &outcome {
            Ok(true) => {
                info!(users = self.broker.access.user_count(), "users reloaded");
                self.broker.access_changed();
            }
            Ok(false) => {}
            Err(error) => error!(error = %error, "users not reloaded, those before stay"),
        }
        self.users_reload = outcome.map(|_| ()).map_err(|error| error.to_string());
        self.reloaded();
    }

    /// Tells `/readyz` what is in force.
    fn report(&mut self) {
        self.health.set_users_hash(self.broker.access.hash().map(|hash| hash.to_string()));
        let certificates = self.listeners.certificates().into_iter().map(|certificate| Certificate {
            listener: certificate.listener,
            subject: certificate.subject,
            sha256: certificate.fingerprint,
            not_after: certificate.not_after,
        });
        self.health.set_certificates(certificates.collect());
        match self.listeners.failures().into_iter().next() {
            Some(failure) => {
                self.tls_failed = true;
                self.health.set_last_reload(Err(format!("listener {}: {}", failure.listener, failure.error)));
            }
            // Repaired: from here on the rest counts again.
            None if std::mem::take(&mut self.tls_failed) => self.reloaded(),
            None => {}
        }
    }

    /// Stops accepting, tells Clients (DISCONNECT 0x8B), waits for them to a deadline. Their Wills go out as their connections end.
    async fn drain(&self) {
        self.health.set_draining();
        self.broker.set_draining();
        self.listeners.close().await;
        let connected = || {
            let mut clients = Vec::new();
            self.broker.registry.for_each(|client| {
                if client.connected.load(Ordering::Relaxed) {
                    clients.push(client.clone());
                }
            });
            clients
        };
        for client in connected() {
            client.close(ReasonCode::ServerShuttingDown);
        }
        let deadline = tokio::time::Instant::now() + DRAIN;
        while self.listeners.totals().connections() > 0 && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        info!(connections = self.listeners.totals().connections(), "drained");
    }
}
