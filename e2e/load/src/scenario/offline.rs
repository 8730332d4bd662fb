//! Queues: messages for disconnected Sessions, and their draining when the Clients come back.

use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};

use super::{client_id, connect, judge, published, publishers, run_workers, window};
use crate::clients::{self, Greeting};
use crate::options::Options;
use crate::process;
use crate::publisher::{Plan, Publisher};
use crate::report::{Meter, Report};
use crate::socket::{Poller, Target};
use crate::subscriber::{Subscriber, Tracking};
use crate::tracking::Ordered;
use crate::wire::{self, Templates};
use crate::worker::{Deliveries, Progress, Worker};

/// Sessions subscribe and leave, messages are published, the Sessions come back; finally they are removed.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    let sessions = options.subscribers.unwrap_or(1_000);
    let publisher_count = options.publishers.unwrap_or(10).max(1);
    let qos = options.qos.max(1);
    ensure!(sessions.is_multiple_of(publisher_count), "the Sessions must divide evenly among the publishers");
    let mut report = Report::new("offline", options);
    (report.qos, report.subscriber_qos) = (qos, qos);
    report.broker_rss_bytes_before = options.broker_pid.map(process::rss_bytes).transpose().context("no such broker process")?;
    let target = options.target()?;

    let clients = clients::establish(&target, sessions, options.connecting, |number| Greeting {
        connect: connect(options, &client_id("o", number), false),
        subscribe: Some(wire::subscribe(options.protocol, &topic(number), qos)),
    })?;
    for mut client in clients {
        std::io::Write::write_all(&mut client.stream, &wire::DISCONNECT_PACKET)?;
    }
    thread::sleep(Duration::from_millis(500));

    let mut worker = Worker::default();
    let each = sessions / publisher_count;
    for (number, client) in publishers(options, &target, publisher_count)?.into_iter().enumerate() {
        let first = number * each;
        let names: Vec<String> = (first..first + each).map(topic).collect();
        let templates = Templates::new(options.protocol, &names, first as u32, options.payload, qos, false);
        let window = window(options, 100, client.receive_maximum);
        report.window = Some(window);
        let limit = Some((each * options.messages) as u64);
        let plan = Plan {
            templates,
            first_source: first as u32,
            qos,
            window,
            batch: options.batch,
            limit,
            paced: false,
            stamped: false,
            timed: false,
        };
        worker.publishers.push(Publisher::new(client.stream, plan));
    }
    let meter = Meter::start(options.broker_pid)?;
    let outcomes = run_workers(vec![worker], &Progress::new(1, Deliveries::Total(0)))?;
    let published = published(&outcomes);
    let done = outcomes.iter().all(|outcome| outcome.worker.publishers.iter().all(Publisher::is_done));
    ensure!(done, "the broker has not acknowledged all messages");
    let store_seconds = outcomes[0].published_at as f64 / 1e9;
    let total: u64 = published.iter().sum();
    report.refused = Some(outcomes[0].worker.publishers.iter().map(|publisher| publisher.refused).sum());
    report.set_memory_after(options.broker_pid);
    drop(outcomes);

    let mut worker = Worker::default();
    for (number, stream) in connect_gently(&target, sessions)?.into_iter().enumerate() {
        let tracking = if options.payload < 8 { Tracking::Nothing } else { Tracking::Ordered(Ordered::new(number as u32, 1)) };
        worker.subscribers.push(Subscriber::new(stream, tracking, options.payload, false));
    }
    let progress = Progress::new(1, Deliveries::Total(total));
    for (number, subscriber) in worker.subscribers.iter_mut().enumerate() {
        subscriber.send(&connect(options, &client_id("o", number), false))?;
    }
    let outcomes = run_workers(vec![worker], &progress)?;
    let cost = meter.stop()?;
    let drain_seconds = outcomes[0].last_message as f64 / 1e9;
    judge(&mut report, &outcomes, &published);
    drop(outcomes);

    // A clean start ends the Session.
    let clean = |number| Greeting { connect: connect(options, &client_id("o", number), true), subscribe: None };
    drop(clients::establish(&target, sessions, options.connecting, clean)?);

    (report.publishers, report.subscribers, report.topics) = (Some(publisher_count), Some(sessions), Some(sessions));
    (report.published, report.messages) = (Some(total), Some(progress.received()));
    report.store_seconds = Some(store_seconds);
    report.store_rate = Some(total as f64 / store_seconds);
    report.drain_seconds = Some(drain_seconds);
    report.drain_rate = Some(progress.received() as f64 / drain_seconds);
    report.set_cost(&cost, total);
    Ok(report)
}

fn topic(number: usize) -> String {
    format!("offline/{number:06}")
}

/// Opens the TCP connections before the clock runs, slowly enough for a short backlog: the drain is about queues.
pub(crate) fn connect_gently(target: &Target, count: usize) -> anyhow::Result<Vec<crate::socket::Stream>> {
    let mut poller = Poller::new()?;
    let mut streams = Vec::with_capacity(count);
    for number in 0..count {
        let stream = target.connect(number as u64)?;
        poller.add(&stream, number as u64)?;
        streams.push(stream);
        if number % 50 == 49 || number + 1 == count {
            let mut writable = number - number % 50;
            while writable <= number {
                poller.wait(Duration::from_secs(5))?;
                ensure!(poller.count() > 0, "connections are not accepted");
                writable += poller.count();
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
    Ok(streams)
}
