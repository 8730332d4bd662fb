//! One term: from owning the shards to giving them up.

use std::convert::Infallible;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use bucketmq_access::Access;
use bucketmq_admin::ReadinessToken;
use bucketmq_bucket::Bucket;
use bucketmq_cluster::{Confirmation, Ending, Held, Wait};
use bucketmq_listener::{Listeners, Totals};
use bucketmq_packet::ReasonCode;
use bucketmq_storage::DurableError;
use tokio::task::JoinSet;
use tracing::{error, info};

use super::reload::Stamp;
use super::{LOST, Next, Process, Serving, tell_systemd};
use crate::broker::Broker;
use crate::config::Loaded;
use crate::durable::condition::{self, Reporter};
use crate::durable::open::{State, error_chain};
use crate::durable::snapshots::Snapshots;
use crate::durable::watch::Watch;
use crate::metrics::Metrics;
use crate::{connect, memory, sweeper, sys_topics};

/// Connected Clients get this long to take DISCONNECT when the broker stops.
const DRAIN: Duration = Duration::from_secs(10);
/// Who was fenced while it opened the shards knows after this time that they are another one's: it reads every second.
const LOST_KNOWN: Duration = Duration::from_millis(1500);
/// The longest pause before a request that failed is made again, and some.
const BETWEEN_REQUESTS: Duration = Duration::from_secs(3);
/// How often files are looked at for changes.
const WATCH: Duration = Duration::from_secs(2);
/// Retained messages looked at for expiry each [`WATCH`].
const EXPIRE_TOPICS: usize = 4096;

/// A broker that serves.
pub(super) struct Term<'a> {
    pub(super) process: &'a mut Process,
    pub(super) broker: Arc<Broker>,
    pub(super) listeners: Listeners,
    pub(super) state: Arc<State>,
    held: Option<Held>,
    /// Ends with the term.
    _tasks: JoinSet<()>,
}

/// Why a term ends.
enum Why {
    /// SIGTERM or Ctrl-C.
    Told,
    /// Another member was promised the shards.
    Asked,
    /// A shard takes no more writes.
    Failed(DurableError),
    /// Another member has the shards already.
    Lost(String),
}

impl Process {
    /// Waits for the shards, serves, and gives them up. `starting` is held until something else says what is awaited.
    pub(super) async fn term(&mut self, starting: Option<ReadinessToken>) -> anyhow::Result<Next> {
        let awaiting_listeners = self.health.awaiting("listeners");
        self.health.set_draining(false);
        drop(starting);
        let config = &self.loaded.config;
        let totals = Totals::new(u64::from(config.limits.max_connections), u64::from(config.limits.max_connection_rate));
        let listeners = Listeners::bind(&config.listeners, totals).await?;
        let confirmation = Arc::new(if self.bucket.is_some() { Confirmation::pending() } else { Confirmation::always() });
        let access = Access::load(&config.access)?;
        match self.claim_prefix().await {
            Ok(true) => {}
            Ok(false) => return Ok(self.stopped_early()),
            Err(error) => return self.unusable(error),
        }
        let held = match self.own(&confirmation).await {
            Ok(Some(held)) => held,
            Ok(None) => return Ok(self.stopped_early()),
            Err(error) => return self.unusable(error),
        };
        let bucket = self.bucket.as_ref().map(|(bucket, _)| bucket);
        let timeout = self.loaded.config.bucket.request_timeout;
        let opened = tokio::select! {
            opened = open(&self.loaded, access, bucket.zip(held.as_ref()), &confirmation, &self.metrics) => Some(opened),
            never = watch_opening(&mut self.report, bucket, timeout) => match never {},
            signal = self.stop.told() => {
                info!(signal, "stopped before the shards were open");
                None
            }
        };
        let (state, broker) = match opened {
            Some(Ok(opened)) => opened,
            failed => {
                let lost = match held {
                    Some(held) => give_back(held, failed.is_some()).await,
                    None => None,
                };
                return match (failed, lost) {
                    (Some(Err(error)), Some(to)) => {
                        error!(owner = to, error = %format!("{error:#}"), "another broker took the bucket while this one opened it: it ends");
                        Ok(Next::Exit(ExitCode::from(LOST)))
                    }
                    (Some(Err(error)), None) => self.unusable(error),
                    _ => Ok(self.stopped_early()),
                };
            }
        };
        if let Some(url) = state.url() {
            self.report.fine(condition::opening(url));
        }
        let tasks = self.start_tasks(&broker, &state, &listeners);
        let serving = broker.clone();
        listeners.serve(move |accepted| connect::serve(serving.clone(), accepted))?;
        self.health.set_config(self.loaded.hash(), &self.loaded.config.revision);
        self.serving.store(Some(Arc::new(Serving { broker: broker.clone(), listeners: listeners.clone() })));
        let mut term = Term { process: self, broker, listeners, state, held, _tasks: tasks };
        term.report();
        // Who sees that it is ready sees everything else in the same answer.
        drop(awaiting_listeners);
        tell_systemd(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status("serving")]);
        info!(version = env!("CARGO_PKG_VERSION"), "ready");
        let why = term.serve().await;
        term.end(why).await
    }

    fn stopped_early(&self) -> Next {
        self.health.set_draining(true);
        Next::Exit(ExitCode::SUCCESS)
    }

    /// Waits until the shards are ours; `None`: told to stop. Without a bucket there are none.
    async fn own(&mut self, confirmation: &Arc<Confirmation>) -> anyhow::Result<Option<Option<Held>>> {
        let Some((bucket, ownership)) = &mut self.bucket else { return Ok(Some(None)) };
        if self.kept_waiting {
            ownership.kept_waiting_since(self.started);
        }
        let url = bucket.url();
        let mut token = None;
        let (health, report) = (self.health.clone(), &mut self.report);
        let (mut waited_for, mut has_failed) = (String::new(), false);
        let mut on_wait = |wait: Wait<'_>| {
            let member = match wait {
                Wait::Bucket(error) => {
                    has_failed = true;
                    return report.trouble(condition::of_error(url, error), &error_chain(error));
                }
                Wait::For(member) => member,
            };
            has_failed = false;
            report.fine(condition::healthy(url));
            if waited_for == member {
                return;
            }
            member.clone_into(&mut waited_for);
            info!(owner = member, "another broker owns the bucket: waiting for it");
            token.get_or_insert_with(|| health.awaiting("ownership"));
            health.set_owner(Some(member));
            // It lives, and it may have to wait for as long as its owner lives.
            let status = format!("waiting for {member}, which owns the bucket");
            tell_systemd(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status(&status)]);
        };
        let taken = tokio::select! {
            held = ownership.take(confirmation.clone(), &mut on_wait) => Some(Some(held?)),
            signal = self.stop.told() => {
                info!(signal, "stopped before this broker owned the bucket");
                None
            }
        };
        self.health.set_owner(None);
        if has_failed {
            // It answers again.
            self.report.fine(condition::opening(url));
        }
        Ok(taken)
    }

    fn start_tasks(&self, broker: &Arc<Broker>, state: &Arc<State>, listeners: &Listeners) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        broker.start_outboxes(&mut tasks);
        // What expired while no broker was there is gone before anybody can ask for it.
        sweeper::sweep(broker);
        tasks.spawn(sweeper::run(broker.clone()));
        tasks.spawn(memory::run(broker.clone(), listeners.totals().clone()));
        let interval = self.loaded.config.sys_topics.interval;
        if !interval.is_zero() {
            tasks.spawn(sys_topics::run(broker.clone(), interval));
        }
        if let Some(snapshots) = Snapshots::new(state, self.loaded.config.bucket.snapshots.clone(), self.metrics.clone()) {
            tasks.spawn(snapshots.run());
        }
        tasks.spawn(Watch::new(state.clone(), broker.clone(), self.health.clone()).run());
        tasks
    }
}

impl Term<'_> {
    /// Serves, reloading on SIGHUP and when files change, until there is a reason to stop.
    async fn serve(&mut self) -> Why {
        let mut watch = tokio::time::interval(WATCH);
        let mut expiring = None;
        let state = self.state.clone();
        let mut failed = std::pin::pin!(state.failed());
        loop {
            tokio::select! {
                signal = self.process.stop.told() => {
                    info!(signal, "draining");
                    return Why::Told;
                }
                ending = ended(self.held.as_mut()) => return match ending {
                    Ending::Asked { .. } => Why::Asked,
                    Ending::Lost { to } => Why::Lost(to),
                },
                error = &mut failed => return Why::Failed(error),
                _ = self.process.hangup.recv() => {
                    info!("SIGHUP: reloading");
                    self.process.seen = Stamp::of(&self.process.loaded);
                    self.reload().await;
                    self.listeners.reload_certificates().await;
                    self.report();
                }
                _ = watch.tick() => {
                    self.look_at_files().await;
                    expiring = self.broker.store.expire_retained(expiring.as_ref(), EXPIRE_TOPICS, self.broker.wall_ms());
                }
            }
        }
    }

    /// Gives everything up and says what comes then.
    async fn end(mut self, why: Why) -> anyhow::Result<Next> {
        match &why {
            Why::Failed(error) => {
                let error = error_chain(error);
                error!(error, "this broker writes to the bucket no more: it gives its Clients up and ends");
            }
            Why::Lost(to) => error!(owner = to, "another broker owns the bucket now: this one gives its Clients up and ends"),
            Why::Told | Why::Asked => {}
        }
        self.drain().await;
        let closed = self.state.close().await;
        self.process.serving.store(None);
        match (why, closed) {
            (Why::Failed(_) | Why::Lost(_), _) => Ok(Next::Exit(ExitCode::from(LOST))),
            (Why::Asked, Err(error)) => {
                error!(error = error_chain(&error), "the shards were taken before they were closed: the broker ends");
                Ok(Next::Exit(ExitCode::from(LOST)))
            }
            (Why::Told, Err(error)) => {
                // Frozen for a while, perhaps, and followed by another one before it was told.
                let lost = match self.held.take() {
                    Some(held) => give_back(held, true).await,
                    None => None,
                };
                let Some(to) = lost else { return Err(error).context("the last changes could not be written to the bucket") };
                error!(owner = to, error = error_chain(&error), "another broker owns the bucket now: this one ends");
                Ok(Next::Exit(ExitCode::from(LOST)))
            }
            (why, Ok(())) => {
                if let Some(held) = self.held.take() {
                    held.release().await;
                }
                if matches!(why, Why::Asked) {
                    return Ok(Next::Wait);
                }
                info!("stopped");
                Ok(Next::Exit(ExitCode::SUCCESS))
            }
        }
    }

    /// Stops accepting, tells Clients (DISCONNECT 0x8B), waits for them to a deadline. Their Wills go out as their connections end.
    async fn drain(&self) {
        self.process.health.set_draining(true);
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

/// Tells what keeps the shards from being opened: a request that fails is made again and again.
async fn watch_opening(report: &mut Reporter, bucket: Option<&Bucket>, request_timeout: Duration) -> Infallible {
    match bucket {
        Some(bucket) => report.watch(bucket.url(), bucket.requests(), request_timeout + BETWEEN_REQUESTS).await,
        None => std::future::pending().await,
    }
}

/// Opens the shards and makes a broker of what is found.
async fn open(
    loaded: &Loaded,
    access: Access,
    bucket: Option<(&Bucket, &Held)>,
    confirmation: &Arc<Confirmation>,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<(Arc<State>, Arc<Broker>)> {
    let state = State::open(bucket).await?;
    state.set_min_flush_interval(loaded.config.bucket.min_flush_interval);
    let limits = loaded.config.limits.clone();
    let broker = match state.broker(limits, access, confirmation.clone(), metrics.clone()).await {
        Ok(broker) => Arc::new(broker),
        Err(error) => {
            state.give_up().await;
            return Err(error);
        }
    };
    broker.know();
    Ok((Arc::new(state), broker))
}

/// Lets go of shards that were not opened, or are closed: whoever waits may try at once. Says who has them if opening or closing failed because they
/// were lost.
async fn give_back(mut held: Held, has_failed: bool) -> Option<String> {
    if has_failed && let Ok(Ending::Lost { to }) = tokio::time::timeout(LOST_KNOWN, held.ended()).await {
        return Some(to);
    }
    held.release().await;
    None
}

async fn ended(held: Option<&mut Held>) -> Ending {
    match held {
        Some(held) => held.ended().await,
        None => std::future::pending().await,
    }
}
