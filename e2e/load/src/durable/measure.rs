//! How each row is measured.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;

use super::Scale;
use super::flow::{self, Amount, Load, PAYLOAD};
use super::place::{Broker, Bucket, SHARDS, Traffic, session_present};
use super::plot::Point;
use crate::options::Options;
use crate::process::Usage;
use crate::scenario;
use crate::subscriber::{Subscriber, Tracking};
use crate::tracking::Ordered;
use crate::worker::{Deliveries, Progress};

/// Between two looks at the memory of the broker.
const SAMPLE: Duration = Duration::from_millis(25);
/// In flight for each publisher.
const WINDOW: u32 = 20;
/// Sessions that take their messages first after a crash: enough for each shard to have some.
const LOOKED_AT: usize = 1_000;
/// How long a broker may take to be back after a crash.
const BACK: Duration = Duration::from_secs(120);

/// What a row needs.
pub struct Setup<'a> {
    /// The broker.
    pub binary: &'a Path,
    /// How much of everything.
    pub scale: &'a Scale,
    /// CPU of a message at QoS 1, where that was measured before.
    pub cpu_qos1: Option<f64>,
}

/// What a row gave.
#[derive(Debug, Default)]
pub struct Measured {
    /// By the name of the figure.
    pub values: Vec<(&'static str, f64)>,
    /// What must not be.
    pub faults: Vec<String>,
    /// Memory against queued messages, with a bucket and without.
    pub memory: Option<(Vec<Point>, Vec<Point>)>,
}

impl Measured {
    fn add(&mut self, name: &'static str, value: f64) {
        self.values.push((name, value));
    }

    fn add_latency(&mut self, name: &'static str, histogram: &crate::histogram::Histogram, share: f64) {
        if let Some(nanoseconds) = histogram.quantile(share) {
            self.add(name, nanoseconds as f64 / 1e6);
        }
    }
}

impl Setup<'_> {
    fn place(&self) -> anyhow::Result<(Bucket, Broker)> {
        self.place_with(&[])
    }

    fn place_with(&self, environment: &[(&str, &str)]) -> anyhow::Result<(Bucket, Broker)> {
        let bucket = Bucket::start()?;
        let broker = Broker::start_with(self.binary, Some(&bucket), environment)?;
        thread::sleep(self.settle());
        Ok((bucket, broker))
    }

    /// How long a process is left alone before it is measured.
    fn settle(&self) -> Duration {
        Duration::from_secs_f64(self.scale.settle_seconds)
    }

    fn make_sessions(&self, broker: &Broker, count: usize, qos: u8) -> anyhow::Result<()> {
        flow::make_sessions(broker, count, qos)?;
        // The broker reads the last DISCONNECTs, and writes them.
        thread::sleep(self.settle());
        Ok(())
    }

    fn load(&self, qos: u8, amount: Amount) -> Load {
        let publishers = self.scale.publishers;
        Load { publishers, sessions: publishers, qos, window: WINDOW, amount, rate: None }
    }
}

/// Memory after the start.
pub fn start(setup: &Setup<'_>) -> anyhow::Result<Measured> {
    let bucket = Bucket::start()?;
    let began = Instant::now();
    let broker = Broker::start(setup.binary, Some(&bucket))?;
    let mut measured = Measured::default();
    measured.add("until it lets Clients in", began.elapsed().as_secs_f64());
    measured.add("requests", bucket.traffic().requests() as f64);
    thread::sleep(setup.settle());
    measured.add("RSS", broker.rss()? as f64 / 1e6);
    broker.stop()?;
    Ok(measured)
}

/// Requests of a broker that nobody uses.
pub fn idle(setup: &Setup<'_>) -> anyhow::Result<Measured> {
    let (bucket, broker) = setup.place()?;
    // What the start leaves to do is done then.
    thread::sleep(Duration::from_secs_f64(setup.scale.idle_seconds.min(10.0)));
    let (before, cpu) = (bucket.traffic(), Usage::of(broker.pid())?);
    let began = Instant::now();
    thread::sleep(Duration::from_secs_f64(setup.scale.idle_seconds));
    let (traffic, seconds) = (bucket.traffic().since(before), began.elapsed().as_secs_f64());
    let mut measured = Measured::default();
    measured.add("requests per shard", traffic.requests() as f64 / seconds / f64::from(SHARDS));
    measured.add("PUT and LIST", (traffic.puts + traffic.lists) as f64 / seconds);
    measured.add("GET and HEAD", traffic.gets as f64 / seconds);
    measured.add("CPU of one core", Usage::of(broker.pid())?.since(cpu).total_us() / 1e6 / seconds);
    broker.stop()?;
    Ok(measured)
}

/// One message at a time.
pub fn latency(setup: &Setup<'_>) -> anyhow::Result<Measured> {
    let (_bucket, broker) = setup.place()?;
    setup.make_sessions(&broker, 1, 1)?;
    let amount = Amount::Time(Duration::from_secs_f64(setup.scale.seconds));
    let load = Load { publishers: 1, sessions: 1, window: 1, ..setup.load(1, amount) };
    let publishers = flow::publishers(&broker, &load, false)?;
    let (published, _) = flow::publish(&broker, &load, publishers, Vec::new(), &Progress::new(1, Deliveries::Total(0)))?;
    let mut measured = Measured { faults: published.faults.clone(), ..Measured::default() };
    measured.add_latency("PUBACK p50", &published.latency, 0.5);
    measured.add_latency("PUBACK p99", &published.latency, 0.99);
    measured.faults.extend(flow::drain(&broker, 0..1, &published.sent)?.faults(false));
    broker.stop()?;
    Ok(measured)
}

/// As much as acknowledgements allow.
pub fn throughput(setup: &Setup<'_>, qos: u8) -> anyhow::Result<Measured> {
    let (bucket, broker) = setup.place()?;
    setup.make_sessions(&broker, setup.scale.publishers, qos)?;
    let load = setup.load(qos, Amount::Time(Duration::from_secs_f64(setup.scale.seconds)));
    // At QoS 2 the publishers' Sessions last, or nothing would be kept of their identifiers.
    let publishers = flow::publishers(&broker, &load, qos == 2)?;
    let before = bucket.traffic();
    let (published, _) = flow::publish(&broker, &load, publishers, Vec::new(), &Progress::new(1, Deliveries::Total(0)))?;
    let traffic = bucket.traffic().since(before);
    let mut measured = Measured { faults: published.faults.clone(), ..Measured::default() };
    let messages = published.acknowledged as f64;
    let cpu = published.broker_us / messages;
    measured.add("acknowledged", messages / published.seconds);
    measured.add("broker CPU/msg", cpu);
    measured.add_latency(if qos == 1 { "PUBACK p99" } else { "PUBREC p99" }, &published.latency, 0.99);
    measured.add("requests/msg", traffic.requests() as f64 / messages);
    if let Some(qos1) = setup.cpu_qos1.filter(|_| qos == 2) {
        measured.add("CPU of QoS 1", cpu / qos1);
    }
    let drained = flow::drain(&broker, 0..setup.scale.publishers, &published.sent)?;
    measured.add("drained", drained.received as f64 / drained.seconds);
    measured.faults.extend(drained.faults(false));
    broker.stop()?;
    Ok(measured)
}

/// A steady rate: how long acknowledgements take, and what it costs in requests.
pub fn paced(setup: &Setup<'_>) -> anyhow::Result<Measured> {
    let (bucket, broker) = setup.place()?;
    setup.make_sessions(&broker, setup.scale.publishers, 1)?;
    let amount = Amount::Time(Duration::from_secs_f64(setup.scale.seconds));
    let load = Load { rate: Some(setup.scale.rate), ..setup.load(1, amount) };
    let publishers = flow::publishers(&broker, &load, false)?;
    let before = bucket.traffic_of_shards();
    let (published, _) = flow::publish(&broker, &load, publishers, Vec::new(), &Progress::new(1, Deliveries::Total(0)))?;
    let puts: Vec<f64> =
        bucket.traffic_of_shards().iter().zip(&before).map(|(now, before)| now.since(*before).puts as f64 / published.seconds).collect();
    let mut measured = Measured { faults: published.faults.clone(), ..Measured::default() };
    measured.add_latency("PUBACK p50", &published.latency, 0.5);
    measured.add_latency("PUBACK p99", &published.latency, 0.99);
    measured.add_latency("sent late p99", &published.lateness, 0.99);
    measured.add("PUT, busiest shard", puts.iter().copied().fold(0.0, f64::max));
    measured.add("PUT, all shards", puts.iter().sum());
    measured.add("broker CPU/msg", published.broker_us / published.acknowledged as f64);
    measured.faults.extend(flow::drain(&broker, 0..setup.scale.publishers, &published.sent)?.faults(false));
    broker.stop()?;
    Ok(measured)
}

/// Queues that are filled and drained: memory, bytes, requests.
pub fn queue(setup: &Setup<'_>) -> anyhow::Result<Measured> {
    let (bucket, broker) = setup.place()?;
    let mut measured = Measured::default();
    let before = bucket.traffic();
    let mut queued = (0, (0, 0));
    let filled = fill_and_drain(setup, &broker, &mut measured, || queued = (bucket.traffic().since(before).bytes_up, bucket.written()))?;
    measured.add("close", broker.stop()?.as_secs_f64());
    let traffic = bucket.traffic().since(before);
    let messages = filled.messages as f64;
    let payload = messages * PAYLOAD as f64;
    let (queued, (log, tables)) = queued;
    measured.add("bytes PUT / payload", traffic.bytes_up as f64 / payload);
    measured.add("of it until queued", queued as f64 / payload);
    measured.add("of that logs", log as f64 / payload);
    measured.add("and tables", tables as f64 / payload);
    measured.add("requests/msg", traffic.requests() as f64 / messages);
    measured.add("broker CPU/msg", filled.broker_us / messages);
    let grown = |points: &[Point]| points.iter().map(|point| point.rss_bytes).max().unwrap_or(0).saturating_sub(filled.rss_before) as f64;
    measured.add("RSS grows, queued", grown(&filled.filling) / 1e6);
    measured.add("RSS grows, most", grown(&filled.filling).max(grown(&filled.draining)) / 1e6);
    measured.add("queued", filled.filled_at);
    measured.add("drained", filled.drained_at);
    // The same in memory, for the picture.
    let memory = Broker::start(setup.binary, None)?;
    thread::sleep(setup.settle());
    let beside = fill_and_drain(setup, &memory, &mut measured, || ())?;
    measured.memory = Some((filled.filling, beside.filling));
    Ok(measured)
}

struct Filled {
    messages: u64,
    rss_before: u64,
    filling: Vec<Point>,
    draining: Vec<Point>,
    filled_at: f64,
    drained_at: f64,
    broker_us: f64,
}

fn fill_and_drain(setup: &Setup<'_>, broker: &Broker, measured: &mut Measured, queued: impl FnOnce()) -> anyhow::Result<Filled> {
    let sessions = setup.scale.queue_sessions;
    setup.make_sessions(broker, sessions, 1)?;
    let load = Load { sessions, ..setup.load(1, Amount::Each(setup.scale.queued / sessions)) };
    let publishers = flow::publishers(broker, &load, false)?;
    thread::sleep(setup.settle());
    let rss_before = broker.rss()?;
    let usage = Usage::of(broker.pid())?;
    let progress = Progress::new(1, Deliveries::Total(0));
    let (published, filling) =
        watched(broker, || progress.acknowledged(), || flow::publish(broker, &load, publishers, Vec::new(), &progress))?;
    let (published, _) = published;
    queued();
    let (drained, draining) = watched(broker, || 0, || flow::drain(broker, 0..sessions, &published.sent))?;
    measured.faults.extend(published.faults.iter().cloned());
    measured.faults.extend(drained.faults(false));
    Ok(Filled {
        messages: published.total(),
        rss_before,
        filling,
        draining,
        filled_at: published.acknowledged as f64 / published.seconds,
        drained_at: drained.received as f64 / drained.seconds,
        broker_us: Usage::of(broker.pid())?.since(usage).total_us(),
    })
}

/// Does `work` and looks at the memory of the broker meanwhile; `queued`: messages that wait.
fn watched<T>(
    broker: &Broker,
    queued: impl Fn() -> u64 + Sync,
    work: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<(T, Vec<Point>)> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut points = Vec::new();
            while !over.load(Ordering::Relaxed) {
                if let Ok(rss_bytes) = broker.rss() {
                    points.push(Point { queued: queued(), rss_bytes });
                }
                thread::sleep(SAMPLE);
            }
            points
        });
        let outcome = work();
        over.store(true, Ordering::Relaxed);
        let points = watcher.join().map_err(|_| anyhow::anyhow!("the watcher panicked"))?;
        Ok((outcome?, points))
    })
}

/// Kill -9 and start again.
pub fn recovery(setup: &Setup<'_>) -> anyhow::Result<Measured> {
    let (bucket, broker) = setup.place()?;
    let sessions = setup.scale.recovery_sessions;
    setup.make_sessions(&broker, sessions, 1)?;
    let load = Load { sessions, ..setup.load(1, Amount::Each(setup.scale.queued / sessions)) };
    let publishers = flow::publishers(&broker, &load, false)?;
    let (published, _) = flow::publish(&broker, &load, publishers, Vec::new(), &Progress::new(1, Deliveries::Total(0)))?;
    let mut measured = Measured { faults: published.faults.clone(), ..Measured::default() };

    let address = broker.address;
    let killed = Instant::now();
    broker.kill()?;
    let mut broker = Broker::spawn(setup.binary, Some(&bucket), address, &[])?;
    while session_present(address, &flow::client_id(0), true) != Some(true) {
        broker.check()?;
        anyhow::ensure!(killed.elapsed() < BACK, "the broker is not back");
        thread::sleep(Duration::from_millis(5));
    }
    measured.add("first CONNACK with its Session", killed.elapsed().as_secs_f64());
    let mut taken = LOOKED_AT.min(sessions);
    measured.faults.extend(flow::drain(&broker, 0..taken, &published.sent)?.faults(true));
    measured.add("every shard serves", killed.elapsed().as_secs_f64());
    measured.add("RSS after it", broker.rss()? as f64 / 1e6);
    while taken < sessions {
        let batch = flow::BATCH.min(sessions - taken);
        measured.faults.extend(flow::drain(&broker, taken..taken + batch, &published.sent)?.faults(true));
        taken += batch;
    }
    measured.add("all taken by all", killed.elapsed().as_secs_f64());
    broker.stop()?;
    Ok(measured)
}

/// Those who do not use the bucket: brokers with and without one in turn.
pub fn transient(setup: &Setup<'_>) -> anyhow::Result<Measured> {
    let bucket = Bucket::start()?;
    let mut measured = Measured::default();
    for (qos, cpu_name, rate_name) in [(0, "CPU/msg, QoS 0", "rate, QoS 0"), (1, "CPU/msg, QoS 1", "rate, QoS 1")] {
        let mut figures = [(Vec::new(), Vec::new()), (Vec::new(), Vec::new())];
        for _ in 0..setup.scale.turns {
            for (with_bucket, (cpu, rate)) in [true, false].into_iter().zip(&mut figures) {
                let broker = Broker::start(setup.binary, with_bucket.then_some(&bucket))?;
                thread::sleep(setup.settle());
                let arguments = format!(
                    "load fan-in --qos {qos} --window 8 --batch 8 --address {} --broker-pid {} --seconds {}",
                    broker.address,
                    broker.pid(),
                    setup.scale.seconds / 4.0
                );
                let report = scenario::run(&Options::try_parse_from(arguments.split(' '))?)?;
                if report.lost != Some(0) {
                    measured.faults.push(format!("{:?} lost at QoS {qos}", report.lost));
                }
                cpu.push(report.broker_cpu_us_per_message.context("the broker's processor time is not known")?);
                rate.push(report.throughput.context("nothing came")?);
                broker.stop()?;
            }
        }
        let [(with_cpu, with_rate), (without_cpu, without_rate)] = figures;
        measured.add(cpu_name, super::median(with_cpu) / super::median(without_cpu));
        measured.add(rate_name, super::median(with_rate) / super::median(without_rate));
    }
    Ok(measured)
}

/// Memory of Sessions whose Clients are connected and say nothing.
pub fn sessions(setup: &Setup<'_>) -> anyhow::Result<Measured> {
    let transient = bytes_each(setup, false)?;
    let lasting = bytes_each(setup, true)?;
    let mut measured = Measured::default();
    measured.add("a Session that lasts more than one that does not", lasting - transient);
    measured.add("one that lasts", lasting);
    measured.add("one that does not", transient);
    Ok(measured)
}

/// How much a broker grows for each idle Session.
fn bytes_each(setup: &Setup<'_>, lasts: bool) -> anyhow::Result<f64> {
    let (_bucket, broker) = setup.place()?;
    let (before, count) = (broker.rss()?, setup.scale.idle_sessions);
    let clients = flow::connect_sessions(&broker, 0, count, lasts, None)?;
    // What was written is in the bucket then, and the allocator has given back what is free.
    thread::sleep(setup.settle() * 12);
    let grown = broker.rss()? as f64 - before as f64;
    drop(clients);
    Ok(grown / count as f64)
}

/// Requests of a steady life: Sessions that last, connected, at `rate` messages a second, with `min_flush_interval`.
pub fn cost(setup: &Setup<'_>, rate: f64, min_flush_interval: &str) -> anyhow::Result<Measured> {
    let (bucket, broker) = setup.place_with(&[("BUCKETMQ_BUCKET__MIN_FLUSH_INTERVAL", min_flush_interval)])?;
    let count = setup.scale.publishers;
    let amount = Amount::Time(Duration::from_secs_f64(setup.scale.cost_seconds));
    let load = Load { rate: Some(rate), ..setup.load(1, amount) };
    let subscribers = flow::connect_sessions(&broker, 0, count, true, Some(1))?.into_iter().enumerate();
    let subscribers = subscribers
        .map(|(number, client)| Subscriber::new(client.stream, Tracking::Ordered(Ordered::new(number as u32, 1)), PAYLOAD, false))
        .collect();
    let publishers = flow::publishers(&broker, &load, false)?;
    let before = bucket.traffic();
    let (published, drained) = flow::publish(&broker, &load, publishers, subscribers, &Progress::new(1, Deliveries::Each(1)))?;
    let traffic: Traffic = bucket.traffic().since(before);
    let mut measured = Measured { faults: published.faults.clone(), ..Measured::default() };
    measured.faults.extend(drained.faults(false));
    measured.add("messages", published.acknowledged as f64 / published.seconds);
    measured.add("PUT and LIST", (traffic.puts + traffic.lists) as f64 / published.seconds);
    measured.add("GET and HEAD", traffic.gets as f64 / published.seconds);
    measured.add("stored", bucket.stored_bytes() as f64 / 1e6);
    measured.add_latency("PUBACK p99", &published.latency, 0.99);
    measured.add("broker CPU/msg", published.broker_us / published.acknowledged as f64);
    broker.stop()?;
    Ok(measured)
}
