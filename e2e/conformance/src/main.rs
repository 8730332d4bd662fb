//! Every normative statement of MQTT 3.1.1 and 5.0, tested against any broker at an address.
//!
//! `run` tests one broker; `all` starts BucketMQ and Mosquitto, tests both and writes RESULTS.md; `table` writes it from stored results;
//! `check` tests BucketMQ and compares with the committed RESULTS.md. Exit code 1: something failed or differs.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use bucketmq_packet::ProtocolVersion;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::results::{Results, Verdict};
use crate::run::Target;
use crate::runner::Plan;

mod brokers;
mod bytes;
mod client;
mod connecting;
mod message;
mod outcome;
mod reply;
mod report;
mod results;
mod run;
mod runner;
mod scram;
mod secured;
mod statement;
mod stream;
mod tests;
mod websocket;

/// Tests MQTT brokers against every normative statement of MQTT 3.1.1 and 5.0.
#[derive(Debug, Parser)]
struct Cli {
    /// What to do; `check` if absent.
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tests the broker at an address.
    Run {
        /// host:port of a listener that lets everybody in.
        #[arg(long)]
        address: String,
        /// ws://host:port/path of the same broker.
        #[arg(long)]
        ws: Option<String>,
        /// host:port of a broker with maximum QoS 1, no retained messages, a keep alive cap.
        #[arg(long)]
        restricted: Option<String>,
        /// host:port of a listener with users (src/secured.rs says which).
        #[arg(long)]
        secured: Option<String>,
        /// Prints the results as JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        how: How,
    },
    /// Writes RESULTS.md from the stored results.
    Table,
    /// Starts and tests BucketMQ and Mosquitto, stores the results and writes RESULTS.md.
    All {
        /// The bucketmq binary; the newest of the target folder if absent.
        #[arg(long)]
        bucketmq: Option<PathBuf>,
        /// The mosquitto binary.
        #[arg(long, default_value = "/usr/sbin/mosquitto")]
        mosquitto: PathBuf,
        /// Tests only one of the two and keeps the other's stored results.
        #[arg(long)]
        only: Option<Which>,
        #[command(flatten)]
        how: How,
    },
    /// Starts and tests BucketMQ, and compares with the committed RESULTS.md.
    Check {
        /// The bucketmq binary; the newest of the target folder if absent.
        #[arg(long)]
        bucketmq: Option<PathBuf>,
        #[command(flatten)]
        how: How,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    Bucketmq,
    Mosquitto,
}

#[derive(Debug, Clone, Args)]
struct How {
    /// Only tests whose name contains this.
    #[arg(long, default_value = "")]
    filter: String,
    /// Only this version: 3.1, 3.1.1 or 5.
    #[arg(long, value_parser = version)]
    version: Option<ProtocolVersion>,
    /// Tests at a time.
    #[arg(long, default_value_t = 16)]
    jobs: usize,
    /// Seconds an answer may take.
    #[arg(long, default_value_t = 5.0)]
    wait: f64,
    /// One line for each test, not only for those that did not pass.
    #[arg(long, short)]
    verbose: bool,
}

impl Default for How {
    fn default() -> Self {
        Self { filter: String::new(), version: None, jobs: 16, wait: 5.0, verbose: false }
    }
}

fn version(text: &str) -> Result<ProtocolVersion, String> {
    match text {
        "3.1" | "3" => Ok(ProtocolVersion::V3_1),
        "3.1.1" | "4" => Ok(ProtocolVersion::V3_1_1),
        "5" | "5.0" => Ok(ProtocolVersion::V5),
        other => Err(format!("{other} is none of 3.1, 3.1.1 and 5")),
    }
}

impl How {
    fn plan(&self) -> Plan {
        let versions = self.version.map_or_else(|| ProtocolVersion::ALL.to_vec(), |version| vec![version]);
        Plan { filter: self.filter.clone(), versions, jobs: self.jobs, verbose: self.verbose }
    }

    fn wait(&self) -> Duration {
        Duration::from_secs_f64(self.wait)
    }

    /// Are all tests run, so that the results are worth keeping?
    fn everything(&self) -> bool {
        self.filter.is_empty() && self.version.is_none()
    }
}

/// The folder of this crate: tables, broker configurations, results.
pub fn folder() -> PathBuf {
    // A build cache may have it from a checkout that is gone: then the one it is run in.
    let built = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    if built.is_dir() { built } else { PathBuf::from("e2e/conformance") }
}

fn write_table() -> Result<()> {
    let all = [Results::load(&Results::path("bucketmq"))?, Results::load(&Results::path("mosquitto"))?];
    let path = folder().join("RESULTS.md");
    std::fs::write(&path, report::markdown(&all)?).with_context(|| format!("writing {}", path.display()))?;
    eprintln!("wrote {}", path.display());
    Ok(())
}

fn failed(results: &Results) -> bool {
    results.each().any(|(_, _, verdict)| matches!(verdict, Verdict::Failed(_)))
}

fn execute() -> Result<bool> {
    // `cargo conformance -- run` hands the dashes over, since the alias ends with its own.
    let arguments = std::env::args_os().enumerate().filter(|(at, argument)| *at != 1 || argument != "--");
    let cli = Cli::parse_from(arguments.map(|(_, argument)| argument));
    match cli.command.unwrap_or(Command::Check { bucketmq: None, how: How::default() }) {
        Command::Run { address, ws, restricted, secured, json, how } => {
            let target = Target { address, websocket: ws, restricted, secured, wait: how.wait() };
            let results = runner::run(&target.address, &target, &how.plan());
            if json {
                println!("{}", serde_json::to_string_pretty(&results)?);
            }
            Ok(!failed(&results))
        }
        Command::Table => write_table().map(|()| true),
        Command::All { bucketmq, mosquitto, only, how } => {
            let mut good = true;
            if only != Some(Which::Mosquitto) {
                let brokers = brokers::bucketmq(&bucketmq_binary::find(bucketmq)?, how.wait())?;
                let results = runner::run(&brokers.name, &brokers.target, &how.plan());
                // Mosquitto's failures are its own; ours are what the exit code tells.
                good = !failed(&results);
                if how.everything() {
                    results.store(&Results::path("bucketmq"))?;
                }
            }
            if only != Some(Which::Bucketmq) {
                let brokers = brokers::mosquitto(&mosquitto, how.wait())?;
                let results = runner::run(&brokers.name, &brokers.target, &how.plan());
                if how.everything() {
                    results.store(&Results::path("mosquitto"))?;
                }
            }
            if how.everything() && Results::path("bucketmq").exists() && Results::path("mosquitto").exists() {
                write_table()?;
            }
            Ok(good)
        }
        Command::Check { bucketmq, how } => {
            let brokers = brokers::bucketmq(&bucketmq_binary::find(bucketmq)?, how.wait())?;
            let results = runner::run(&brokers.name, &brokers.target, &how.plan());
            let mut good = !failed(&results);
            if how.everything() {
                let path = folder().join("RESULTS.md");
                let committed = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
                let differences = report::differences(&committed, &results)?;
                differences.iter().for_each(|difference| eprintln!("RESULTS.md: {difference}"));
                good &= differences.is_empty();
            }
            Ok(good)
        }
    }
}

fn main() -> ExitCode {
    match execute() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("conformance: {error:#}");
            ExitCode::from(2)
        }
    }
}
