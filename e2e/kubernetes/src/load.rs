//! Clients at work on a broker of the cluster, and what was lost.
//!
//! They are the crowd of `bucketmq-durable`: publishers at QoS 1 and 2, subscribers that stay and that come and go, retained messages, Wills. Everything is
//! written down, and a checker that knows what was acknowledged judges it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bucketmq_durable::check::check;
use bucketmq_durable::crowd::{Crowd, Level};
use bucketmq_durable::link::{Identity, Link};
use bucketmq_durable::scene::Scene;
use bucketmq_packet::ProtocolVersion;
use parking_lot::Mutex;

use crate::Measured;

/// When nothing at all has come for so long, what has not come is lost.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two attempts of the Client that looks whether anybody serves.
const PROBE: Duration = Duration::from_millis(25);
/// A broker that does not answer that Client for so long does not serve.
const ANSWER: Duration = Duration::from_millis(500);

/// Clients at work.
pub struct Load {
    crowd: Crowd,
    scene: Scene,
    probe: Probe,
}

impl Load {
    /// Comes to work at this address; all have subscribed when it returns. Blocks.
    pub fn start(address: SocketAddr) -> anyhow::Result<Self> {
        let mut scene = Scene::new(&[address], rand::random());
        // Who is on a node that has lost its power hears nothing more.
        scene.silence = Some(Duration::from_secs(3));
        let crowd = Crowd::start(&scene, Level::Mixed)?;
        Ok(Self { crowd, scene, probe: Probe::start(address) })
    }

    /// Looks whether somebody serves.
    pub fn probe(&self) -> &Probe {
        &self.probe
    }

    /// Everything owed comes, and it is judged. Blocks.
    pub fn finish(self) -> anyhow::Result<Vec<Measured>> {
        let gap = self.probe.longest_gap();
        self.crowd.drain(PATIENCE);
        self.crowd.end()?;
        drop(self.probe);
        let verdict = self.scene.recorder.read(check);
        ensure!(verdict.is_clean(), "{verdict:#?}");
        let counts = &verdict.counts;
        ensure!(counts.acknowledged > 100, "only {} messages were acknowledged", counts.acknowledged);
        Ok(vec![
            Measured::amount("acknowledged messages", counts.acknowledged as f64, "messages"),
            Measured::amount("acknowledged and lost", 0.0, "messages").at_most(0.0),
            Measured::time("longest time without service", gap),
        ])
    }
}

/// A Client that connects again and again.
pub struct Probe {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    stop: AtomicBool,
    state: Mutex<State>,
}

struct State {
    /// When a CONNACK came last.
    served: Instant,
    longest: Duration,
}

impl Probe {
    /// Begins to look.
    pub fn start(address: SocketAddr) -> Self {
        let shared =
            Arc::new(Shared { stop: AtomicBool::new(false), state: Mutex::new(State { served: Instant::now(), longest: Duration::ZERO }) });
        let looking = shared.clone();
        let thread = std::thread::spawn(move || look(address, &looking));
        Self { shared, thread: Some(thread) }
    }

    /// Waits until a CONNACK came after `since`, and says how long after.
    pub fn wait_served(&self, since: Instant, patience: Duration) -> anyhow::Result<Duration> {
        loop {
            let served = self.shared.state.lock().served;
            if served > since {
                return Ok(served - since);
            }
            ensure!(since.elapsed() < patience, "nobody serves after {patience:?}");
            std::thread::sleep(PROBE);
        }
    }

    /// The longest time between two CONNACKs.
    pub fn longest_gap(&self) -> Duration {
        let state = self.shared.state.lock();
        state.longest.max(state.served.elapsed())
    }

    /// From now on only later gaps count.
    pub fn forget(&self) {
        let mut state = self.shared.state.lock();
        state.longest = Duration::ZERO;
        state.served = Instant::now();
    }
}

fn look(address: SocketAddr, shared: &Shared) {
    let identity = Identity { client_id: "probe".to_owned(), version: ProtocolVersion::V5, lasts: false };
    while !shared.stop.load(Ordering::Relaxed) {
        if let Ok((link, _)) = Link::open(address, &identity, None, ANSWER) {
            let mut state = shared.state.lock();
            let now = Instant::now();
            state.longest = state.longest.max(now - state.served);
            state.served = now;
            drop(state);
            link.leave();
        }
        std::thread::sleep(PROBE);
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to say.
            let _ = thread.join();
        }
    }
}

/// Runs what blocks beside the runtime.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> anyhow::Result<T> + Send + 'static) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.context("a thread ended")?
}
