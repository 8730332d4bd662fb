//! Mixed load with random connection kills; memory has to stay steady.
//!
//! One thread runs pairs that nobody disturbs: what they lose at QoS 1 and 2 is the broker's fault. The other runs a crowd that
//! subscribes with wildcards and shares, publishes at every QoS and retained, leaves Will Messages, reads slowly, and is killed at
//! random by resets, closes, DISCONNECTs and garbage, to come back soon after, some of them to a persistent Session.

mod crowd;

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::{client_id, connect, judge, published, publishers};
use crate::clients::{self, Greeting};
use crate::options::Options;
use crate::process;
use crate::publisher::{Plan, Publisher};
use crate::report::{Meter, Report};
use crate::subscriber::{Subscriber, Tracking};
use crate::tracking::Ordered;
use crate::wire::{self, Templates};
use crate::worker::{Deliveries, Outcome, Pace, Progress, Worker};

/// Pairs that are left alone; a third of them at each QoS.
const PAIRS: usize = 30;
/// How often memory is read.
const SAMPLE: Duration = Duration::from_secs(10);
/// Growth that is no leak: an allocator's bins, fragments.
const SLACK: u64 = 4 << 20;

/// Runs for `--seconds`.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    let mut report = Report::new("soak", options);
    report.broker_rss_bytes_before = options.broker_pid.map(process::rss_bytes).transpose().context("no such broker process")?;
    let count = options.connections.unwrap_or(1_000);
    let rate = options.rate.unwrap_or(2_000.0);
    let pairs = pairs(options, rate / 2.0)?;
    let mut crowd = crowd::Crowd::new(options, count, rate / 2.0)?;

    let meter = Meter::start(options.broker_pid)?;
    let progress = Progress::new(1, Deliveries::Each(1));
    let failed = AtomicBool::new(false);
    let mut samples = Vec::new();
    let (outcome, crowd_result) = thread::scope(|scope| {
        let pairs = scope.spawn(|| {
            let outcome = pairs.run(&progress);
            failed.store(outcome.is_err(), Relaxed);
            outcome
        });
        let crowd_result = watch(options, &mut crowd, &progress, &failed, &mut samples);
        (pairs.join(), crowd_result)
    });
    let cost = meter.stop()?;
    let outcomes: Vec<Outcome> = vec![outcome.map_err(|_| anyhow::anyhow!("a thread of the generator panicked"))??];
    crowd_result?;

    let published = published(&outcomes);
    judge(&mut report, &outcomes, &published);
    report.connections = Some(count);
    report.published = Some(published.iter().sum::<u64>() + crowd.published);
    report.messages = Some(progress.received() + crowd.received);
    report.kills = Some(crowd.kills);
    report.seconds = Some(cost.elapsed.as_secs_f64());
    report.set_cost(&cost, progress.received() + crowd.received);
    report.set_memory_after(options.broker_pid);
    for (name, count) in [("lost", report.lost), ("duplicated", report.duplicated), ("reordered", report.reordered)] {
        if let Some(count) = count.filter(|&count| count > 0) {
            report.failures.push(format!("{count} messages {name} between undisturbed clients"));
        }
    }
    if crowd.wronged > 0 {
        report
            .failures
            .push(format!("{} connections were closed without a reason or left open with one: {}", crowd.wronged, crowd.example));
    }
    report.failures.extend(growth(&samples));
    report.steady = Some(report.failures.is_empty());
    Ok(report)
}

fn pairs(options: &Options, rate: f64) -> anyhow::Result<Worker> {
    let target = options.target()?;
    let topic = |number: usize| format!("pair/{number:04}");
    let payload = options.payload.max(8);
    let subscribers = clients::establish(&target, PAIRS, options.connecting, |number| Greeting {
        connect: connect(options, &client_id("s", number), true),
        subscribe: Some(wire::subscribe(options.protocol, &topic(number), (number % 3) as u8)),
    })?;
    let publishers = publishers(options, &target, PAIRS)?;
    let mut worker = Worker { duration: Some(Duration::from_secs_f64(options.seconds)), ..Worker::default() };
    worker.pace = Some(Pace { rate, tick: 0 });
    for (number, (subscriber, publisher)) in subscribers.into_iter().zip(publishers).enumerate() {
        let (source, qos) = (number as u32, (number % 3) as u8);
        let tracking = Tracking::Ordered(Ordered::new(source, 1));
        worker.subscribers.push(Subscriber::new(subscriber.stream, tracking, payload, false));
        let templates = Templates::new(options.protocol, &[topic(number)], source, payload, qos, false);
        let window = u32::from(publisher.receive_maximum).min(32);
        let plan =
            Plan { templates, first_source: source, qos, window, batch: None, limit: None, paced: true, stamped: false, timed: false };
        worker.publishers.push(Publisher::new(publisher.stream, plan));
    }
    Ok(worker)
}

fn watch(
    options: &Options,
    crowd: &mut crowd::Crowd<'_>,
    progress: &Progress,
    failed: &AtomicBool,
    samples: &mut Vec<u64>,
) -> anyhow::Result<()> {
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(options.seconds);
    let mut next = start + SAMPLE;
    while Instant::now() < end && !failed.load(Relaxed) {
        crowd.turn()?;
        if Instant::now() >= next {
            next += SAMPLE;
            let rss = options.broker_pid.map(process::rss_bytes).transpose().context("the broker is gone")?;
            samples.extend(rss);
            eprintln!(
                "{:5} s: RSS {:8} KB, {:5} of {} connected, {:6} kills, {:9} messages to the pairs, {:9} to the crowd",
                start.elapsed().as_secs(),
                rss.unwrap_or(0) / 1024,
                crowd.live(),
                crowd.size(),
                crowd.kills,
                progress.received(),
                crowd.received
            );
        }
    }
    Ok(())
}

/// What is wrong with the samples: the last quarter is to be no higher than the second one, the first being for warming up.
fn growth(samples: &[u64]) -> Option<String> {
    let quarter = samples.len() / 4;
    if quarter < 2 {
        return None;
    }
    let (early, late) = (median(&samples[quarter..2 * quarter]), median(&samples[3 * quarter..]));
    (late > early + early / 10 + SLACK).then(|| format!("memory grew from {early} to {late} bytes"))
}

fn median(samples: &[u64]) -> u64 {
    let mut samples = samples.to_vec();
    samples.sort_unstable();
    samples[samples.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_told_from_noise_and_from_warming_up() {
        let mb = |sizes: &[u64]| sizes.iter().map(|size| size << 20).collect::<Vec<_>>();
        assert_eq!(growth(&mb(&[10, 90])), None);
        assert_eq!(growth(&mb(&[10, 50, 100, 104, 99, 101, 108, 103])), None);
        assert!(growth(&mb(&[10, 50, 100, 104, 110, 115, 121, 130])).is_some());
    }
}
