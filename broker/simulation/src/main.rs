//! The binary `bucketmq-simulation`: whole brokers on simulated time and network over a faulty bucket. A failure is a seed.
//!
//! `cargo sim smoke --seed 1` runs one seed twice and compares; `cargo sim run --seeds 1..5001` runs many. `README.md` beside says what is simulated.

mod bucket;
mod checker;
mod client;
mod history;
mod host;
mod network;
mod plant;
mod random;
mod reality;
mod report;
mod runner;
mod scenario;
mod trace;
mod world;

use std::ops::Range;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use plant::Plant;
use report::Report;
use runner::Terms;
use trace::Trace;

#[derive(Debug, Parser)]
#[command(about = "Whole brokers on simulated time and network over a faulty bucket")]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Runs one seed twice: it has to be clean, and the same both times.
    Smoke {
        /// Which.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Runs many seeds.
    Run {
        /// From and to, the end not included: `1..5001`.
        #[arg(long, value_parser = seeds)]
        seeds: Range<u64>,
        /// Processes at one time; default: as many as there are processors.
        #[arg(long)]
        jobs: Option<usize>,
        /// A line of JSON for each seed.
        #[arg(long)]
        json: bool,
        /// A bug that is planted and has to be found.
        #[arg(long)]
        plant: Option<Plant>,
        /// Go on after a failure.
        #[arg(long)]
        keep_going: bool,
        /// Seconds of real time after which a seed is stuck.
        #[arg(long, default_value_t = 180)]
        patience: u64,
    },
    /// Runs one seed in this process and prints its report as JSON.
    One {
        /// Which.
        #[arg(long)]
        seed: u64,
        /// A planted bug.
        #[arg(long)]
        plant: Option<Plant>,
        /// Every line of the trace to standard error.
        #[arg(long)]
        trace: bool,
        /// What the brokers log, to standard error: such as `debug,slatedb=info`.
        #[arg(long)]
        log: Option<String>,
    },
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("two numbers with .. between them")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| error.to_string());
    Ok(number(from)?..number(to)?)
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Task::Smoke { seed } => smoke(seed),
        Task::Run { seeds, jobs, json, plant, keep_going, patience } => {
            let jobs = jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
            run(seeds, Terms { plant, jobs, patience: Duration::from_secs(patience), keep_going }, json)
        }
        Task::One { seed, plant, trace, log } => one(seed, plant, trace, log.as_deref()),
    }
}

fn smoke(seed: u64) -> ExitCode {
    let terms = Terms { plant: None, jobs: 1, patience: Duration::from_secs(600), keep_going: true };
    let twice = (runner::run(seed, terms), runner::run(seed, terms));
    match twice {
        (Ok(first), Ok(second)) => {
            print!("{first}");
            if first.hash != second.hash {
                println!("seed {seed} is not the same twice: {} of {} lines, {} of {}", first.hash, first.lines, second.hash, second.lines);
                return ExitCode::FAILURE;
            }
            if first.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        (Err(error), _) | (_, Err(error)) => {
            println!("seed {seed}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(seeds: Range<u64>, terms: Terms, json: bool) -> ExitCode {
    #[derive(Default)]
    struct Sum {
        seeds: u64,
        failed: Vec<u64>,
        acknowledged: usize,
        brokers: usize,
        simulated_ms: u64,
    }
    let sum = Mutex::new(Sum::default());
    runner::run_all(seeds, terms, |report| {
        let mut sum = sum.lock().expect("nobody panics while holding it");
        sum.seeds += 1;
        sum.acknowledged += report.acknowledged;
        sum.brokers += report.brokers;
        sum.simulated_ms += report.simulated_ms;
        if json {
            println!("{}", serde_json::to_string(report).unwrap_or_default());
        } else if !report.failures.is_empty() {
            print!("{report}");
        }
        if !report.failures.is_empty() {
            sum.failed.push(report.seed);
        }
    });
    let sum = sum.into_inner().expect("nobody panics while holding it");
    if !json {
        println!(
            "{} seeds, {} failed {:?}; {} messages acknowledged, {} brokers started, {} s simulated",
            sum.seeds,
            sum.failed.len(),
            sum.failed,
            sum.acknowledged,
            sum.brokers,
            sum.simulated_ms / 1000
        );
    }
    if sum.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Panics of the brokers' tasks, which tokio would keep to itself.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn one(seed: u64, plant: Option<Plant>, echo: bool, log: Option<&str>) -> ExitCode {
    reality::begin(seed);
    if let Some(log) = log {
        tracing_subscriber::fmt().with_env_filter(EnvFilter::new(log)).with_writer(std::io::stderr).with_ansi(false).init();
    }
    let trace = Trace::new(echo);
    let noted = trace.clone();
    std::panic::set_hook(Box::new(move |panic| {
        noted.note(format_args!("PANIC {panic}"));
        if let Ok(mut panics) = PANICS.lock() {
            panics.push(format!("panic: {panic}"));
        }
    }));
    let mut report = match world::run(seed, plant, trace.clone()) {
        Ok(outcome) => Report {
            failures: outcome.failures,
            published: outcome.messages.0,
            acknowledged: outcome.messages.1,
            brokers: outcome.hosts,
            requests: outcome.requests,
            simulated_ms: outcome.ms,
            ..Report::broken(seed, String::new())
        },
        Err(error) => Report::broken(seed, format!("{error:#}")),
    };
    if let Ok(panics) = PANICS.lock() {
        report.failures.extend(panics.iter().cloned());
    }
    (report.hash, report.lines) = trace.hash();
    if !report.failures.is_empty() {
        report.trace = trace.before(first_failure(&report.failures).unwrap_or(u64::MAX));
    }
    println!("{}", serde_json::to_string(&report).unwrap_or_default());
    if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The time of the first failure that names one.
fn first_failure(failures: &[String]) -> Option<u64> {
    failures.iter().filter_map(|failure| failure.strip_prefix("at ")?.split(' ').next()?.parse().ok()).min()
}
