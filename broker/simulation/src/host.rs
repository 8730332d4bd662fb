//! A machine with one broker on it: the real one, in a runtime of its own, so that a crash takes everything away at once.
//!
//! The order of start and stop is that of `server/src/serve.rs`, without sockets, signals and files.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use bucketmq::broker::{Broker, Inherited};
use bucketmq::config::Limits;
use bucketmq::durable::restore::Restored;
use bucketmq::{connect, sweeper};
use bucketmq_access::Access;
use bucketmq_bucket::Measured;
use bucketmq_listener::{Config as ListenerConfig, ListenerHandle, Totals};
use bucketmq_packet::ReasonCode;
use bucketmq_storage::durable::Place;
use bucketmq_storage::{DurableStore, Shards};
use object_store::path::Path;
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::bucket::{Bucket, Road};
use crate::network::{BrokerEnd, Wire};
use crate::plant::Plant;
use crate::reality;
use crate::trace::Trace;

/// As in `server/src/serve.rs`.
const DRAIN: Duration = Duration::from_secs(10);
const WATCH: Duration = Duration::from_secs(2);
const EXPIRE_TOPICS: usize = 4096;
/// As `request_timeout` of the bucket's configuration.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Messages a queue takes before it drops: more than any run publishes, so that nothing is lost that way.
const QUEUE_MESSAGES: u32 = 1_000_000;

/// Turns of the runtime in a step, each of up to 61 polls of tasks; what is left then waits for the next step, as on a busy machine.
const TURNS: u32 = 6;

/// Where a broker stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// It opens its shards.
    Opening,
    /// It takes connections.
    Serving,
    /// It stops, or gives up: no more connections.
    Leaving,
    /// It is over, and why when that is not because it was told to.
    Over(Option<String>),
}

/// What the world sees of the broker.
struct Inside {
    phase: Phase,
    serving: Option<(Arc<Broker>, Arc<ListenerHandle>)>,
}

/// How a broker is set up.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// Shards of the bucket.
    pub shards: Shards,
    /// Messages in flight to a Client.
    pub max_inflight: u16,
    /// What is planted.
    pub plant: Option<Plant>,
}

/// A machine.
pub struct Host {
    /// The name, such as `a`.
    pub name: String,
    /// Its way to the bucket.
    pub road: Road,
    /// When it was started.
    pub started: u64,
    runtime: Option<Runtime>,
    inside: Arc<Mutex<Inside>>,
    stop: Arc<Notify>,
    wires: Vec<Wire>,
    trace: Trace,
}

impl Host {
    /// Starts a broker on `bucket`.
    pub fn start(name: String, bucket: Bucket, setup: Setup, trace: Trace) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let road = Road::new(bucket, &name);
        let inside = Arc::new(Mutex::new(Inside { phase: Phase::Opening, serving: None }));
        let stop = Arc::new(Notify::new());
        trace.note(format_args!("{name}: starts"));
        let life = {
            let (road, inside, stop) = (road.clone(), inside.clone(), stop.clone());
            async move {
                let outcome = live(road, setup, &inside, &stop).await;
                let mut inside = inside.lock();
                inside.serving = None;
                inside.phase = Phase::Over(outcome.err().map(|error| format!("{error:#}")));
            }
        };
        runtime.spawn(life);
        Ok(Self { name, road, started: reality::now_ms(), runtime: Some(runtime), inside, stop, wires: Vec::new(), trace })
    }

    /// Lets it do what there is to do now. It never sleeps: between two turns tokio looks at its timers, and time does not move.
    pub fn run(&mut self) {
        let Some(runtime) = &self.runtime else { return };
        runtime.block_on(async {
            for _ in 0..TURNS {
                tokio::task::yield_now().await;
            }
        });
    }

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        self.inside.lock().phase.clone()
    }

    /// Takes a connection; None when nobody listens.
    pub fn take(&mut self, wire: &Wire, end: BrokerEnd) -> Option<()> {
        let (broker, listener) = self.inside.lock().serving.clone()?;
        let runtime = self.runtime.as_ref()?;
        let _inside = runtime.enter();
        let accepted = listener.take(Box::new(end)).ok()?;
        runtime.spawn(connect::serve(broker, accepted));
        self.wires.retain(|wire| !wire.is_dead());
        self.wires.push(wire.clone());
        Some(())
    }

    /// Tells it to stop, as SIGTERM does.
    pub fn stop(&self) {
        self.trace.note(format_args!("{}: is told to stop", self.name));
        self.stop.notify_one();
    }

    /// It is gone, without a word to the bucket. `silently`: nor to its Clients, as when the machine dies; otherwise the system closes its sockets.
    pub fn crash(&mut self, silently: bool) {
        self.trace.note(format_args!("{}: crashes{}", self.name, if silently { " silently" } else { "" }));
        for wire in self.wires.drain(..) {
            if silently { wire.fall_silent() } else { wire.reset() }
        }
        // What holds the broker outside of its runtime goes first: its tasks are the last owners.
        self.inside.lock().serving = None;
        drop(self.runtime.take());
        self.inside.lock().phase = Phase::Over(None);
    }
}

fn limits(setup: &Setup) -> Limits {
    Limits { session_queue_messages: QUEUE_MESSAGES, max_inflight: setup.max_inflight, ..Limits::default() }
}

/// The life of a broker, from opening its shards to closing them.
async fn live(road: Road, setup: Setup, inside: &Mutex<Inside>, stop: &Notify) -> anyhow::Result<()> {
    let bucket = Arc::new(Measured::new(road, Arc::default(), REQUEST_TIMEOUT));
    // Nobody asks `own/00` here: a newcomer always takes the shards, and the fence of each shard's database decides. That is the harder case, because
    // a broker that waits for its turn does less at the same time as another one.
    let place = Place { bucket, prefix: Path::default(), shards: setup.shards };
    let store = Arc::new(DurableStore::open(&place).await.context("the shards do not open")?);
    let wall_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    let epochs = vec![0; usize::from(setup.shards.count())];
    let mut restored = Restored::read(&store, &epochs, wall_ms).await?;
    let outboxes = Plant::outboxes(setup.plant, &store, std::mem::take(&mut restored.outboxes)).await?;
    let next_number = Plant::next_number(setup.plant, restored.next_number);
    let access = Access::load(&bucketmq_access::Config::default())?;
    let inherited = Inherited { outboxes, next_number, ..Inherited::nothing() };
    let broker = Broker::new(limits(&setup), access, Plant::store(setup.plant, store.clone()), inherited);
    restored.put_into(&broker, &store);
    let broker = Arc::new(broker);
    broker.know();
    // Ends with this life.
    let mut tasks = JoinSet::new();
    broker.start_outboxes(&mut tasks);
    sweeper::sweep(&broker);
    tasks.spawn(sweeper::run(broker.clone()));
    let totals = Totals::new(0, 0);
    let config =
        ListenerConfig { anonymous: "local".to_owned(), name: "simulated".to_owned(), ..ListenerConfig::new("tcp://127.0.0.1:1883") };
    let listener = ListenerHandle::without_socket(config, totals.clone());
    {
        let mut inside = inside.lock();
        inside.serving = Some((broker.clone(), listener));
        inside.phase = Phase::Serving;
    }
    let lost = tokio::select! {
        () = stop.notified() => None,
        error = store.failed() => Some(error),
        () = watch(&broker) => None,
    };
    {
        let mut inside = inside.lock();
        inside.serving = None;
        inside.phase = Phase::Leaving;
    }
    drain(&broker, &totals).await;
    let closed = store.close().await;
    if let Some(error) = lost {
        return Err(error).context("lost its shards");
    }
    closed.context("the shards do not close")
}

async fn watch(broker: &Broker) {
    let mut expiring = None;
    loop {
        tokio::time::sleep(WATCH).await;
        expiring = broker.store.expire_retained(expiring.as_ref(), EXPIRE_TOPICS, broker.wall_ms());
    }
}

async fn drain(broker: &Broker, totals: &Totals) {
    broker.set_draining();
    let mut connected = Vec::new();
    broker.registry.for_each(|client| {
        if client.connected.load(Ordering::Relaxed) {
            connected.push(client.clone());
        }
    });
    for client in connected {
        client.close(ReasonCode::ServerShuttingDown);
    }
    let deadline = tokio::time::Instant::now() + DRAIN;
    while totals.connections() > 0 && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
