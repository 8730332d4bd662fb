//! One run: a fresh broker, one process of `load`, one report.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bucketmq_load::report::Report;
use bucketmq_load::{machine, process};

use crate::brokers::{self, Broker, Place};
use crate::rows::Row;

/// How long a process that was just started is left alone before it is measured.
const SETTLE: Duration = Duration::from_secs(1);
/// The share of all processors that may be in use before a run.
const BUSY: f64 = 0.1;
/// How long a run may take beyond its publishing.
const PATIENCE: Duration = Duration::from_secs(120);

/// What to run.
pub struct Run<'a> {
    /// The scenario.
    pub row: &'a Row,
    /// The broker.
    pub broker: &'a Broker,
    /// The first of two ports.
    pub port: u16,
    /// Seconds of publishing.
    pub seconds: f64,
    /// Idle connections.
    pub connections: usize,
    /// More options of `load`.
    pub more: &'a str,
}

impl Run<'_> {
    /// Runs it.
    pub fn measure(&self) -> anyhow::Result<Report> {
        let dir = std::env::temp_dir().join(format!("compare-{}-{}", std::process::id(), self.port));
        fs::create_dir_all(&dir)?;
        let result = self.measure_in(&dir);
        let _ = fs::remove_dir_all(&dir);
        result
    }

    fn measure_in(&self, dir: &std::path::Path) -> anyhow::Result<Report> {
        let place = Place { dir, port: self.port, tls_port: self.port + 1, tls: self.row.tls };
        let mut running = self.broker.start(&place)?;
        let busy = machine::busy_share(SETTLE)?;
        if busy > BUSY {
            eprintln!("the machine is busy: {:.0} % of its processors without a broker or a generator at work", busy * 100.0);
        }
        if self.row.arguments.is_empty() {
            return Ok(Report { broker_rss_bytes_before: Some(process::rss_bytes(running.pid())?), ..Report::default() });
        }
        let result = self.load(&place, running.pid());
        if !running.is_alive() {
            bail!("the broker has ended: {}", brokers::last_lines(dir));
        }
        result
    }

    fn load(&self, place: &Place<'_>, broker: u32) -> anyhow::Result<Report> {
        let program = std::env::current_exe()?.with_file_name("load");
        let mut command = Command::new(&program);
        for argument in self.row.arguments {
            let argument = argument.replace("{connections}", &self.connections.to_string());
            command.arg(argument.replace("{tls_connections}", &(self.connections / 10).to_string()));
        }
        if !self.row.arguments.contains(&"--seconds") {
            command.arg("--seconds").arg(self.seconds.to_string());
        }
        let port = if place.tls { place.tls_port } else { place.port };
        command.arg("--address").arg(format!("127.0.0.1:{port}")).arg("--broker-pid").arg(broker.to_string());
        if place.tls {
            command.arg("--tls-ca").arg(place.dir.join("ca.pem"));
        }
        command.args(self.more.split_whitespace()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let deadline = Instant::now() + PATIENCE + Duration::from_secs_f64(self.seconds);
        while child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                bail!("the generator did not come to an end");
            }
            thread::sleep(Duration::from_millis(100));
        }
        let output = child.wait_with_output()?; // one line: it fits the pipe, so waiting before reading is safe
        let text = String::from_utf8_lossy(&output.stdout);
        let Some(line) = text.lines().last() else {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim().replace('\n', " "));
        };
        Ok(serde_json::from_str(line)?)
    }
}
