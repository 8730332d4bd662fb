//! A machine with one broker on it: the real one, in a runtime of its own, so that a crash takes everything away at once.
//!
//! The order of start and stop is that of `server/src/serve/term.rs`, without sockets, signals and files.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use bucketmq::broker::{Broker, Inherited, host_ms};
use bucketmq::config::Limits;
use bucketmq::durable::restore::Restored;
use bucketmq::{connect, sweeper};
use bucketmq_access::Access;
use bucketmq_bucket::Measured;
use bucketmq_cluster::{Confirmation, Ending, Held, Member, Ownership, Wait};
use bucketmq_listener::{Config as ListenerConfig, ListenerHandle, Totals};
use bucketmq_packet::ReasonCode;
use bucketmq_storage::durable::Place;
use bucketmq_storage::{DurableStore, Shards};
use object_store::ObjectStore;
use object_store::path::Path;
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::bucket::{Bucket, Road};
use crate::network::{BrokerEnd, Wire};
use crate::plant::Plant;
use crate::reality;
use crate::scenario::Entry;
use crate::trace::Trace;

/// As in `server/src/serve/term.rs`.
const DRAIN: Duration = Duration::from_secs(10);
const WATCH: Duration = Duration::from_secs(2);
const EXPIRE_TOPICS: usize = 4096;
/// As `request_timeout` of the bucket's configuration.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Messages a queue takes before it drops: more than any run publishes, so that nothing is lost that way.
const QUEUE_MESSAGES: u32 = 1_000_000;

/// Between the epochs of two brokers that force their way: more than a broker finds used beyond its own.
const FORCED_EPOCHS: u64 = 1_000;

/// Turns of the runtime in a step, each of up to 61 polls of tasks; what is left then waits for the next step, as on a busy machine.
const TURNS: u32 = 6;

/// Where a broker stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// It waits for its shards, or opens them.
    Opening,
    /// It takes connections.
    Serving,
    /// It stops, or gives up: no more connections.
    Leaving,
    /// It gave its shards to another one that asked for them, and waits again: as a new broker of its name.
    GaveWay,
    /// It is over, and why when that is not because it was told to.
    Over(Option<String>),
}

/// What the world sees of the broker.
struct Inside {
    phase: Phase,
    /// Since when the shards are its own.
    owns_since: Option<u64>,
    serving: Option<(Arc<Broker>, Arc<ListenerHandle>)>,
}

/// Who a broker is.
#[derive(Debug, Clone, Copy)]
pub struct Name {
    /// Which of all there were.
    pub number: usize,
    /// The name it owns the bucket under; whoever comes after it may have it again.
    pub member: usize,
    /// How it comes to own the bucket.
    pub entry: Entry,
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
    /// The name, such as `broker 1`.
    pub name: String,
    /// The name it owns the bucket under.
    pub member: usize,
    /// Its way to the bucket.
    pub road: Road,
    /// When it was started.
    pub started: u64,
    /// So many seconds its clock is ahead.
    pub skew_seconds: i64,
    runtime: Option<Runtime>,
    inside: Arc<Mutex<Inside>>,
    stop: Arc<Notify>,
    wires: Vec<Wire>,
    trace: Trace,
}

impl Host {
    /// Starts a broker on `bucket`.
    pub fn start(who: Name, bucket: Bucket, setup: Setup, trace: Trace) -> anyhow::Result<Self> {
        let name = format!("broker {}", who.number);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let road = Road::new(bucket, &name);
        let inside = Arc::new(Mutex::new(Inside { phase: Phase::Opening, owns_since: None, serving: None }));
        let stop = Arc::new(Notify::new());
        trace.note(format_args!("{name}: starts as member {}, {:?}", who.member, who.entry));
        let life = {
            let (road, inside, stop) = (road.clone(), inside.clone(), stop.clone());
            async move {
                let outcome = live(road, setup, who, &inside, &stop).await;
                let mut inside = inside.lock();
                inside.serving = None;
                inside.phase = match outcome {
                    Ok(true) => Phase::GaveWay,
                    outcome => Phase::Over(outcome.err().map(|error| format!("{error:#}"))),
                };
            }
        };
        runtime.spawn(life);
        Ok(Self {
            name,
            member: who.member,
            road,
            started: reality::now_ms(),
            skew_seconds: 0,
            runtime: Some(runtime),
            inside,
            stop,
            wires: Vec::new(),
            trace,
        })
    }

    /// Lets it do what there is to do now. It never sleeps: between two turns tokio looks at its timers, and time does not move.
    pub fn run(&mut self) {
        let Some(runtime) = &self.runtime else { return };
        reality::set_wall_skew_seconds(self.skew_seconds);
        runtime.block_on(async {
            for _ in 0..TURNS {
                tokio::task::yield_now().await;
            }
        });
        reality::set_wall_skew_seconds(0);
    }

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        self.inside.lock().phase.clone()
    }

    /// Since when the shards are its own.
    pub fn owns_since(&self) -> u64 {
        self.inside.lock().owns_since.unwrap_or(self.started)
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

/// The life of a broker, from waiting for its shards to closing them. True: it gave them to another one that asked.
async fn live(road: Road, setup: Setup, name: Name, inside: &Mutex<Inside>, stop: &Notify) -> anyhow::Result<bool> {
    let bucket: Arc<dyn ObjectStore> = Arc::new(Measured::new(road, Arc::default(), REQUEST_TIMEOUT));
    let (mut held, confirmation) = match name.entry {
        Entry::Forces => (None, Arc::new(Confirmation::always())),
        Entry::Asks(takeover) => {
            let member = Member::named(&format!("broker-{}", name.member))?;
            let ownership = Ownership::new(bucket.clone(), setup.shards, member, takeover);
            let confirmation = Arc::new(Confirmation::pending());
            let mut on_wait = |_: Wait<'_>| {};
            tokio::select! {
                held = ownership.take(confirmation.clone(), &mut on_wait) => (Some(held?), confirmation),
                () = stop.notified() => return Ok(false),
            }
        }
    };
    inside.lock().owns_since = Some(reality::now_ms());
    let epochs = match &held {
        Some(held) => held.epochs().to_vec(),
        // Like those of `own/NN`: no two brokers have the same.
        None => vec![(name.number as u64 + 1) * FORCED_EPOCHS; usize::from(setup.shards.count())],
    };
    let opened = tokio::select! {
        opened = open(bucket, setup, &epochs, held.as_ref(), confirmation) => Some(opened),
        () = stop.notified() => None,
    };
    let (store, broker) = match opened {
        Some(Ok(opened)) => opened,
        failed => {
            if let Some(held) = held {
                held.release().await;
            }
            return failed.map_or(Ok(false), |failed| failed.map(|_| false));
        }
    };
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
    let why = tokio::select! {
        () = stop.notified() => Why::Told,
        error = store.failed() => Why::Lost(anyhow::Error::new(error).context("lost its shards")),
        ending = ended(held.as_mut()) => match ending {
            Ending::Asked { .. } => Why::Asked,
            Ending::Lost { to } => Why::Lost(anyhow::anyhow!("{to} owns the shards")),
        },
        () = watch(&broker) => Why::Told,
    };
    {
        let mut inside = inside.lock();
        inside.serving = None;
        inside.phase = Phase::Leaving;
    }
    drain(&broker, &totals).await;
    let closed = store.close().await;
    if let Why::Lost(error) = why {
        return Err(error);
    }
    closed.context("the shards do not close")?;
    if let Some(held) = held {
        held.release().await;
    }
    Ok(matches!(why, Why::Asked))
}

/// Why a life ends.
enum Why {
    Told,
    /// Another broker was promised the shards.
    Asked,
    /// Another one has them.
    Lost(anyhow::Error),
}

/// Opens the shards and makes a broker of what is found.
async fn open(
    bucket: Arc<dyn ObjectStore>,
    setup: Setup,
    epochs: &[u64],
    held: Option<&Held>,
    confirmation: Arc<Confirmation>,
) -> anyhow::Result<(Arc<DurableStore>, Arc<Broker>)> {
    let place = Place { bucket, prefix: Path::default(), shards: setup.shards };
    let not_before_ms = held.map_or(0, Held::not_before_ms);
    let store = Arc::new(DurableStore::open_not_before(&place, not_before_ms).await.context("the shards do not open")?);
    let mut restored = Restored::read(&store, epochs, host_ms().max(not_before_ms)).await?;
    let outboxes = Plant::outboxes(setup.plant, &store, std::mem::take(&mut restored.outboxes)).await?;
    let next_number = Plant::next_number(setup.plant, restored.next_number);
    let access = Access::load(&bucketmq_access::Config::default())?;
    let inherited = Inherited { outboxes, next_number, confirmation, ..Inherited::nothing() };
    let broker = Broker::new(limits(&setup), access, Plant::store(setup.plant, store.clone()), inherited);
    restored.put_into(&broker, &store);
    let broker = Arc::new(broker);
    broker.know();
    Ok((store, broker))
}

async fn ended(held: Option<&mut Held>) -> Ending {
    match held {
        Some(held) => held.ended().await,
        None => std::future::pending().await,
    }
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
