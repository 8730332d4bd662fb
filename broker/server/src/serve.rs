//! The process: what is set up once, and the terms in which it serves. A broker whose bucket another one owns waits for its term; one that was asked
//! to give way ends its term and waits for the next.

mod prefix;
mod reload;
mod term;
mod unusable;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use arc_swap::ArcSwapOption;
use bucketmq_access::Access;
use bucketmq_admin::{BucketReason, Health};
use bucketmq_bucket::Bucket;
use bucketmq_cluster::Ownership;
use bucketmq_listener::Listeners;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use crate::broker::Broker;
use crate::config::{Loaded, LogHandle};
use crate::durable::condition::{self, Reporter};
use crate::durable::open::{open_bucket, ownership};
use crate::gauges;
use crate::metrics::{BucketExporter, Exporter, GaugeSet, Metrics};
use reload::{Outcomes, Stamp};
use unusable::Pauses;

/// Exit code of a broker that has lost its shards to another, or to a bucket that refuses to be written: try again later (`EX_TEMPFAIL`).
const LOST: u8 = 75;
/// How often the runtime shows that it is alive.
const BEAT: Duration = Duration::from_secs(1);
/// What is under way at the admin address gets this long at the end.
const ADMIN_DEADLINE: Duration = Duration::from_secs(2);

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

/// What lasts as long as the process.
struct Process {
    loaded: Loaded,
    log: LogHandle,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    /// Where durable state is kept, if anywhere, and how this broker comes to own it.
    bucket: Option<(Bucket, Ownership)>,
    started: Instant,
    /// The bucket could not be used, or was another owner's, for a while.
    kept_waiting: bool,
    /// Tells how it is until it is served.
    report: Reporter,
    /// The broker of this term.
    serving: Arc<ArcSwapOption<Serving>>,
    stop: Stop,
    hangup: Signal,
    outcomes: Outcomes,
    /// The configuration file that is in force.
    seen: Option<Stamp>,
}

/// What the gauges are read from.
struct Serving {
    broker: Arc<Broker>,
    listeners: Listeners,
}

/// How a term ended.
enum Next {
    /// The process ends.
    Exit(ExitCode),
    /// Somebody else has the shards: the next term begins by waiting.
    Wait,
    /// The bucket cannot be used, for this reason: the next term begins after a pause.
    TryAgain(BucketReason),
}

async fn serve(loaded: Loaded, log: LogHandle) -> anyhow::Result<ExitCode> {
    let health = Health::new();
    let _starting = health.awaiting("bucket");
    let config = &loaded.config;
    // What is wrong with it is told before anything is touched.
    Access::load(&config.access)?;
    let (metrics, serving) = (Arc::<Metrics>::default(), Arc::<ArcSwapOption<Serving>>::default());
    let admin = Admin::start(&loaded, &health, &metrics, &serving).await?;
    tokio::spawn(beat(health.clone()));
    let mut process = Process {
        bucket: None,
        started: Instant::now(),
        kept_waiting: false,
        report: Reporter::new(health.clone()),
        seen: Stamp::of(&loaded),
        loaded,
        log,
        health,
        metrics,
        serving,
        stop: Stop::new()?,
        hangup: signal(SignalKind::hangup())?,
        outcomes: Outcomes::default(),
    };
    let outcome = process.serve(&admin, _starting).await;
    tell_systemd(&[sd_notify::NotifyState::Stopping]);
    admin.stop().await;
    outcome
}

impl Process {
    async fn serve(&mut self, admin: &Admin, starting: bucketmq_admin::ReadinessToken) -> anyhow::Result<ExitCode> {
        let url = &self.loaded.config.bucket.url;
        if url.is_durable() {
            self.report.fine(condition::opening(url));
        }
        let (mut starting, mut pauses) = (Some(starting), Pauses::default());
        loop {
            let next = match self.open(admin).await {
                Ok(true) => self.term(starting.take()).await?,
                Ok(false) => return Ok(ExitCode::SUCCESS),
                Err(error) => self.unusable(error)?,
            };
            match next {
                Next::Exit(code) => return Ok(code),
                Next::Wait => pauses = Pauses::default(),
                Next::TryAgain(reason) => {
                    self.kept_waiting = true;
                    if !self.pause(&mut pauses, reason).await {
                        return Ok(ExitCode::SUCCESS);
                    }
                }
            }
        }
    }

    /// Opens the bucket, unless it is open or there is none; false: told to stop.
    async fn open(&mut self, admin: &Admin) -> anyhow::Result<bool> {
        if self.bucket.is_some() {
            return Ok(true);
        }
        let opening = open_bucket(&self.loaded.config.bucket);
        let bucket = tokio::select! {
            bucket = opening => bucket?,
            signal = self.stop.told() => {
                info!(signal, "stopped before the bucket was open");
                return Ok(false);
            }
        };
        if let Some(bucket) = bucket {
            let ownership = ownership(&bucket, &self.loaded.config.cluster)?;
            admin.show(BucketExporter::new(bucket.requests().clone()))?;
            self.bucket = Some((bucket, ownership));
        }
        Ok(true)
    }
}

/// The signals that end the process.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for SIGTERM or Ctrl-C and says which.
    async fn told(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Health and metrics, from the first moment to the last.
struct Admin {
    registry: prometheus::Registry,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Admin {
    async fn start(
        loaded: &Loaded,
        health: &Arc<Health>,
        metrics: &Arc<Metrics>,
        serving: &Arc<ArcSwapOption<Serving>>,
    ) -> anyhow::Result<Self> {
        let registry = prometheus::Registry::new();
        let server = bucketmq_admin::Server::bind(&loaded.config.admin).await.context("the admin address cannot be used")?;
        let Some(server) = server else { return Ok(Self { registry, running: None }) };
        Exporter::new(metrics.clone()).register(&registry)?;
        let gauges = GaugeSet::register(&registry)?;
        let serving = serving.clone();
        let on_gather = Arc::new(move || {
            let serving = serving.load();
            gauges.set(&serving.as_ref().map(|serving| gauges::read(&serving.broker, &serving.listeners)).unwrap_or_else(gauges::waiting));
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move {
            let _ = stopped.await;
        };
        let task = tokio::spawn(server.serve(registry.clone(), health.clone(), env!("CARGO_PKG_VERSION"), on_gather, shutdown));
        Ok(Self { registry, running: Some((stop, task)) })
    }

    /// Shows the requests to the bucket too.
    fn show(&self, requests: BucketExporter) -> anyhow::Result<()> {
        Ok(requests.register(&self.registry)?)
    }

    async fn stop(self) {
        let Some((stop, task)) = self.running else { return };
        let _ = stop.send(());
        let _ = tokio::time::timeout(ADMIN_DEADLINE, task).await;
    }
}

async fn beat(health: Arc<Health>) {
    let mut beat = tokio::time::interval(BEAT);
    loop {
        beat.tick().await;
        health.beat();
    }
}

fn tell_systemd(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(error = %error, "systemd was not told");
    }
}
