//! Idle connections: what one costs in memory, and to establish.

use std::thread;
use std::time::Duration;

use anyhow::Context;

use super::{client_id, connect};
use crate::clients::{self, Greeting};
use crate::options::Options;
use crate::process;
use crate::report::{Meter, Report};

/// Opens connections, holds them, closes them.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    let count = options.connections.unwrap_or(10_000);
    let mut report = Report::new("connections", options);
    let rss = || options.broker_pid.map(process::rss_bytes).transpose().context("no such broker process");
    let before = rss()?;
    let mut target = options.target()?;
    if options.sources.is_none() {
        target.sources = (count / 1_500) as u32;
    }

    let meter = Meter::start(options.broker_pid)?;
    let clients = clients::establish(&target, count, options.connecting, |number| Greeting {
        connect: connect(options, &client_id("c", number), true),
        subscribe: None,
    })?;
    let cost = meter.stop()?;
    thread::sleep(Duration::from_secs_f64(options.seconds));
    report.set_memory_after(options.broker_pid);
    drop(clients);
    thread::sleep(Duration::from_secs(1));
    report.broker_rss_bytes_closed = rss()?;

    report.connections = Some(count);
    report.connects_per_second = Some(count as f64 / cost.elapsed.as_secs_f64());
    report.set_cost(&cost, count as u64);
    report.broker_cpu_us_per_connect = report.broker_cpu_us_per_message.take();
    (report.broker_user_us_per_message, report.broker_system_us_per_message) = (None, None);
    report.broker_rss_bytes_before = before;
    if let (Some(before), Some(after)) = (before, report.broker_rss_bytes_after) {
        report.broker_rss_bytes_per_connection = Some((after as f64 - before as f64) / count as f64);
    }
    Ok(report)
}
