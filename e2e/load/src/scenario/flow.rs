//! Live messages: fan-in, fan-out, pairs, shared.

use std::time::Duration;

use anyhow::{Context, ensure};

use super::{client_id, connect, judge, published, publishers, run_workers, window};
use crate::clients::{self, Greeting};
use crate::histogram::Histogram;
use crate::options::Options;
use crate::process;
use crate::publisher::{Plan, Publisher};
use crate::report::{Meter, Report};
use crate::subscriber::{Subscriber, Tracking};
use crate::tracking::{Ascending, Ordered};
use crate::wire::{self, Templates};
use crate::worker::{Deliveries, Pace, Progress, Worker};

/// Who is connected to whom.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// All publishers to every one of a few subscribers.
    FanIn,
    /// The same with the numbers exchanged.
    FanOut,
    /// Publisher i to subscriber i.
    Pairs,
    /// All publishers to a shared subscription.
    Shared,
}

/// Which topics a publisher has: the number of the first one, and how many.
struct Topics {
    publishers: usize,
    topics: usize,
}

impl Topics {
    fn each(&self) -> usize {
        (self.topics / self.publishers).max(1)
    }

    fn names(&self, publisher: usize) -> Vec<String> {
        (0..self.each()).map(|at| format!("load/{:06}", (publisher * self.each() + at) % self.topics)).collect()
    }
}

/// Runs a flow of messages.
pub fn run(options: &Options, shape: Shape) -> anyhow::Result<Report> {
    let (name, default_publishers, default_subscribers, default_window) = match shape {
        Shape::FanIn => ("fan-in", 100, 1, 8),
        Shape::FanOut => ("fan-out", 1, 500, 8),
        Shape::Pairs => ("pairs", 500, 500, 2),
        Shape::Shared => ("shared", 10, 10, 8),
    };
    let publisher_count = options.publishers.unwrap_or(default_publishers);
    let subscriber_count = if shape == Shape::Pairs { publisher_count } else { options.subscribers.unwrap_or(default_subscribers) };
    let topics = Topics { publishers: publisher_count, topics: options.topics.unwrap_or(publisher_count).max(1) };
    ensure!(publisher_count > 0 && subscriber_count > 0, "a flow needs publishers and subscribers");
    let sources = publisher_count * topics.each();
    let stamped = options.latency || options.rate.is_some();
    ensure!(!stamped || options.payload >= 16, "latencies need 16 bytes of payload");

    let mut report = Report::new(name, options);
    report.broker_rss_bytes_before = options.broker_pid.map(process::rss_bytes).transpose().context("no such broker process")?;
    let target = options.target()?;
    let subscriptions = clients::establish(&target, subscriber_count, options.connecting, |number| {
        let filter = match shape {
            Shape::Pairs => format!("load/{number:06}"),
            Shape::Shared => "$share/load/load/#".to_owned(),
            Shape::FanIn | Shape::FanOut => "load/#".to_owned(),
        };
        let subscribe = Some(wire::subscribe(options.protocol, &filter, options.subscriber_qos()));
        Greeting { connect: connect(options, &client_id("s", number), true), subscribe }
    })?;
    let publications = publishers(options, &target, publisher_count)?;

    let threads = usize::from(options.threads);
    let mut workers: Vec<Worker> = (0..threads).map(|_| Worker::default()).collect();
    for (number, client) in subscriptions.into_iter().enumerate() {
        let tracking = match shape {
            _ if options.payload < 8 => Tracking::Nothing,
            Shape::FanIn | Shape::FanOut => Tracking::Ordered(Ordered::new(0, sources)),
            Shape::Pairs => Tracking::Ordered(Ordered::new((number * topics.each()) as u32, topics.each())),
            Shape::Shared => Tracking::Shared(Ascending::default()),
        };
        let subscriber = Subscriber::new(client.stream, tracking, options.payload, stamped);
        workers[number % threads].subscribers.push(subscriber);
    }
    for (number, client) in publications.into_iter().enumerate() {
        let first_source = (number * topics.each()) as u32;
        let templates = Templates::new(options.protocol, &topics.names(number), first_source, options.payload, options.qos, false);
        let window = window(options, default_window, client.receive_maximum);
        report.window = (options.qos > 0).then_some(window);
        let plan = Plan {
            templates,
            first_source,
            qos: options.qos,
            window,
            batch: options.batch,
            limit: None,
            paced: options.rate.is_some(),
            stamped,
            timed: false,
        };
        // Where there is one subscriber, the other thread publishes.
        let thread = if shape == Shape::Pairs { number % threads } else { threads - 1 - number % threads };
        workers[thread].publishers.push(Publisher::new(client.stream, plan));
    }
    for worker in &mut workers {
        worker.gather = Duration::from_micros(options.gather_us);
        worker.ahead = options.ahead;
        worker.duration = Some(Duration::from_secs_f64(options.seconds));
        worker.pace = options
            .rate
            .map(|rate| Pace { rate: rate * worker.publishers.len() as f64 / publisher_count as f64, tick: options.pace_tick_us * 1000 });
    }

    let each = if matches!(shape, Shape::FanIn | Shape::FanOut) { subscriber_count as u64 } else { 1 };
    let meter = Meter::start(options.broker_pid)?;
    let progress = Progress::new(threads, Deliveries::Each(each));
    let outcomes = run_workers(workers, &progress)?;
    let cost = meter.stop()?;

    let published = published(&outcomes);
    let received = progress.received();
    let seconds = outcomes.iter().map(|outcome| outcome.last_message).max().unwrap_or(0) as f64 / 1e9;
    (report.publishers, report.subscribers, report.topics) = (Some(publisher_count), Some(subscriber_count), Some(topics.topics));
    report.published = Some(published.iter().sum());
    report.messages = Some(received);
    report.seconds = Some(seconds);
    report.throughput = (seconds > 0.0).then(|| received as f64 / seconds);
    report.refused = Some(outcomes.iter().flat_map(|outcome| &outcome.worker.publishers).map(|publisher| publisher.refused).sum());
    judge(&mut report, &outcomes, &published);
    let (mut latency, mut lateness) = (Histogram::default(), Histogram::default());
    for outcome in &outcomes {
        latency.merge(&outcome.common.latency);
        lateness.merge(&outcome.lateness);
    }
    report.set_latency(&latency, &lateness);
    report.set_cost(&cost, received);
    report.set_memory_after(options.broker_pid);
    Ok(report)
}
