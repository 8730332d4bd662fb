//! Rounds of kill -9 under load, and the reckoning.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bucketmq_packet::QoS;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;

use crate::broker::{Broker, Store};
use crate::check::{Verdict, verdict};
use crate::link::{Came, Link};
use crate::publisher::Publisher;
use crate::subscriber::Subscriber;

/// Publishers at QoS 1, at QoS 2, and of retained messages at either.
const PUBLISHERS: u32 = 3;
/// Subscribers of everything, every second of them away now and then.
const SUBSCRIBERS: u32 = 4;
/// The broker lives between these times in one round: mostly it dies young, sometimes while it starts.
const LIFE: (f64, f64) = (0.005, 2.5);
/// After the last round everything has to come to rest in this time.
const REST: Duration = Duration::from_secs(120);

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The binary.
    pub bucketmq: PathBuf,
    /// How often the broker is killed.
    pub rounds: u32,
    /// Decides the moments.
    pub seed: u64,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Times the broker was killed.
    pub kills: u32,
    /// Decided the moments.
    pub seed: u64,
    /// Where the state was.
    pub store: String,
    /// Seconds in all.
    pub seconds: f64,
    /// Connections all Clients had.
    pub connections: u64,
    /// Longest time a subscriber waited for its next message when all were read at the end, seconds.
    pub longest_wait: f64,
    /// The reckoning.
    pub verdict: Verdict,
}

/// Runs `plan` over `store`; `progress` is told after each round.
pub fn run(plan: &Plan, store: Store, mut progress: impl FnMut(u32)) -> anyhow::Result<Report> {
    let started = Instant::now();
    let store_name = store.name().to_owned();
    let mut broker = Broker::new(plan.bucketmq.clone(), store)?;
    broker.start()?;
    let address = broker.address;
    let (stop, deadline) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let quiet = Arc::new(AtomicBool::new(false));

    let mut subscribers = Vec::new();
    for number in 0..SUBSCRIBERS {
        let away = if number % 2 == 1 { Duration::from_millis(300 * u64::from(number)) } else { Duration::ZERO };
        let subscriber = Subscriber::new(number, "messages/#", away);
        let (ready, quiet) = (Arc::new(AtomicBool::new(false)), quiet.clone());
        let told = ready.clone();
        subscribers.push((ready, std::thread::spawn(move || subscriber.run(address, &told, &quiet))));
    }
    let begin = Instant::now();
    while !subscribers.iter().all(|(ready, _)| ready.load(Ordering::Relaxed)) {
        ensure!(begin.elapsed() < Duration::from_secs(60), "nobody could subscribe:\n{}", broker.log());
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut publishers = Vec::new();
    for number in 0..PUBLISHERS * 3 {
        let (qos, retain) = match number / PUBLISHERS {
            0 => (QoS::AtLeastOnce, false),
            1 => (QoS::ExactlyOnce, false),
            _ => (if number % 2 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce }, true),
        };
        let topic = if retain { format!("retained/{number}") } else { format!("messages/{number}") };
        let publisher = Publisher::new(number, topic, qos, retain);
        let (stop, deadline) = (stop.clone(), deadline.clone());
        publishers.push((retain, std::thread::spawn(move || publisher.run(address, &stop, &deadline))));
    }

    let mut random = StdRng::seed_from_u64(plan.seed);
    for round in 0..plan.rounds {
        // Evenly over the magnitudes: a broker that is starting has as many moments as one that has been up for a while.
        let life = (LIFE.0.ln() + random.random::<f64>() * (LIFE.1 / LIFE.0).ln()).exp();
        std::thread::sleep(Duration::from_secs_f64(life));
        broker.kill()?;
        broker.start()?;
        progress(round + 1);
    }
    // A last life in peace.
    std::thread::sleep(Duration::from_secs(2));
    stop.store(true, Ordering::Relaxed);
    let resting = Instant::now();
    while !publishers.iter().all(|(_, thread)| thread.is_finished()) && resting.elapsed() < REST {
        std::thread::sleep(Duration::from_millis(50));
    }
    deadline.store(true, Ordering::Relaxed);
    let mut published = Vec::new();
    let mut retained_by = Vec::new();
    for (retain, thread) in publishers {
        let one = thread.join().map_err(|_| anyhow::anyhow!("a publisher panicked"))?;
        if retain {
            retained_by.push(one.publisher);
        }
        published.push(one);
    }
    quiet.store(true, Ordering::Relaxed);
    let mut received = Vec::new();
    for (_, thread) in subscribers {
        received.push(thread.join().map_err(|_| anyhow::anyhow!("a subscriber panicked"))?);
    }
    let retained = retained_by.into_iter().map(|publisher| Ok((publisher, retained_of(address, publisher)?)));
    let retained = retained.collect::<anyhow::Result<Vec<_>>>()?;
    broker.kill()?;
    let connections = published.iter().map(|one| u64::from(one.connections)).sum::<u64>()
        + received.iter().map(|one| u64::from(one.connections)).sum::<u64>();
    let longest_wait = received.iter().map(|one| one.longest_wait.as_secs_f64()).fold(0.0, f64::max);
    let verdict = verdict(&published, &received, &retained);
    let seconds = started.elapsed().as_secs_f64();
    Ok(Report { kills: plan.rounds, seed: plan.seed, store: store_name, seconds, connections, longest_wait, verdict })
}

/// The retained message of `publisher`, as a new Subscription gets it.
fn retained_of(address: SocketAddr, publisher: u32) -> anyhow::Result<Option<u32>> {
    let gone = |gone: crate::link::Gone| anyhow::anyhow!("reading the retained messages: {}", gone.0);
    let (mut link, _) = Link::open(address, &format!("reader-{publisher}")).map_err(gone)?;
    link.subscribe(&format!("retained/{publisher}"), QoS::AtMostOnce).map_err(gone)?;
    while let Some(came) = link.next(Duration::from_secs(2)).map_err(gone)? {
        if let Came::Publish(_, payload, ..) = came {
            let text = String::from_utf8(payload)?;
            let number = text.split_once(' ').context("a retained message nobody sent")?.1;
            return Ok(Some(number.parse()?));
        }
    }
    Ok(None)
}
