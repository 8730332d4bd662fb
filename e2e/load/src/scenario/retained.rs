//! Retained messages: set many, then take all by one subscription.

use std::time::Instant;

use anyhow::{Context, ensure};

use super::{client_id, connect, judge, published, publishers, run_workers, window};
use crate::clients::{self, Greeting};
use crate::options::Options;
use crate::process;
use crate::publisher::{Plan, Publisher};
use crate::report::{Meter, Report};
use crate::subscriber::{Subscriber, Tracking};
use crate::tracking::Ordered;
use crate::wire::{self, Templates};
use crate::worker::{Deliveries, Progress, Worker};

/// Topics under one parent; a tree with a few levels is what devices make.
const SIBLINGS: usize = 100;

/// Sets `--topics` retained messages, takes them by `#`, and removes them unless `--keep` is given.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    let topics = options.topics.unwrap_or(100_000);
    let publisher_count = options.publishers.unwrap_or(1).max(1);
    ensure!(topics.is_multiple_of(publisher_count), "the topics must divide evenly among the publishers");
    let mut report = Report::new("retained", options);
    report.broker_rss_bytes_before = options.broker_pid.map(process::rss_bytes).transpose().context("no such broker process")?;
    let target = options.target()?;

    let set = |payload: usize| -> anyhow::Result<(Worker, u32)> {
        let mut worker = Worker::default();
        let each = topics / publisher_count;
        let mut used = 0;
        for (number, client) in publishers(options, &target, publisher_count)?.into_iter().enumerate() {
            let first = number * each;
            let names: Vec<String> =
                (first..first + each).map(|at| format!("retained/{:06}/{:02}", at / SIBLINGS, at % SIBLINGS)).collect();
            let templates = Templates::new(options.protocol, &names, first as u32, payload, options.qos, true);
            used = window(options, 100, client.receive_maximum);
            let limit = Some(each as u64);
            let plan = Plan {
                templates,
                first_source: first as u32,
                qos: options.qos,
                window: used,
                batch: options.batch,
                limit,
                paced: false,
                stamped: false,
                timed: false,
            };
            worker.publishers.push(Publisher::new(client.stream, plan));
        }
        Ok((worker, used))
    };

    let (worker, used) = set(options.payload)?;
    report.window = (options.qos > 0).then_some(used);
    let meter = Meter::start(options.broker_pid)?;
    let progress = Progress::new(1, Deliveries::Total(0));
    let outcomes = run_workers(vec![worker], &progress)?;
    let published = published(&outcomes);
    let done = outcomes.iter().all(|outcome| outcome.worker.publishers.iter().all(Publisher::is_done));
    ensure!(done, "the broker has not acknowledged all retained messages");
    let store_seconds = outcomes.iter().map(|outcome| outcome.published_at).max().unwrap_or(0) as f64 / 1e9;
    report.refused = Some(outcomes[0].worker.publishers.iter().map(|publisher| publisher.refused).sum());
    report.set_memory_after(options.broker_pid);
    drop(outcomes);

    let greeting = |_| Greeting { connect: connect(options, &client_id("s", 0), true), subscribe: None };
    let taker = clients::establish(&target, 1, 1, greeting)?.pop();
    // Every source has sent one message, so none can be out of order.
    let tracking = if options.payload < 8 { Tracking::Nothing } else { Tracking::Ordered(Ordered::new(0, topics)) };
    let mut worker = Worker::default();
    worker.subscribers.extend(taker.map(|client| Subscriber::new(client.stream, tracking, options.payload, false)));
    let progress = Progress::new(1, Deliveries::Total(topics as u64));
    for subscriber in &mut worker.subscribers {
        subscriber.send(&wire::subscribe(options.protocol, "#", options.subscriber_qos()))?;
    }
    let outcomes = run_workers(vec![worker], &progress)?;
    let cost = meter.stop()?;
    let drain_seconds = outcomes[0].last_message as f64 / 1e9;
    let received = progress.received();
    judge(&mut report, &outcomes, &published);
    drop(outcomes);

    if !options.keep {
        let start = Instant::now();
        let (worker, _) = set(0)?;
        run_workers(vec![worker], &Progress::new(1, Deliveries::Total(0)))?;
        eprintln!("retained messages removed in {:.2} s", start.elapsed().as_secs_f64());
    }
    (report.publishers, report.topics, report.published, report.messages) =
        (Some(publisher_count), Some(topics), Some(published.iter().sum()), Some(received));
    report.store_seconds = Some(store_seconds);
    report.store_rate = Some(topics as f64 / store_seconds);
    report.drain_seconds = Some(drain_seconds);
    report.drain_rate = Some(received as f64 / drain_seconds);
    report.set_cost(&cost, topics as u64);
    Ok(report)
}
