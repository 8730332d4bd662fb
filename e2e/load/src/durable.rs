//! What durable costs: every bar of the broker with a bucket, measured by one command, `load durable`.
//!
//! Each row has an S3 server of its own behind a proxy that adds 30 ms to writes and 15 ms to reads and counts all requests by shard, and a
//! broker of its own. What was acknowledged is taken by its Session afterwards, so that speed is never measured of something lost.

mod cost;
mod flow;
mod measure;
mod place;
mod plot;
mod results;
mod rows;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Parser;

use crate::{machine, process};
use measure::Setup;
use results::Results;
use rows::{ROWS, Row};

/// How long others' use of the processors is looked at before a row.
const BUSY_LOOK: Duration = Duration::from_millis(200);
/// The share of the processors' time from which on it is told.
const BUSY: f64 = 0.1;

/// Measures what durable costs.
///
/// Prints the table; with --write also updates DURABLE.md, the picture of memory against queued messages, and the cost table of the README.
/// The exit code is 0 when every row could be run and nothing acknowledged was lost, whatever the figures are.
#[derive(Clone, Debug, Parser)]
#[command(name = "load durable")]
pub struct Options {
    /// Rows to run, separated by commas; all when not given.
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,

    /// Print the names of the rows.
    #[arg(long)]
    list: bool,

    /// How often each row is run.
    #[arg(long, default_value_t = 1)]
    rounds: usize,

    /// Everything small, in seconds: shows that the rows run and nothing is lost. Its figures mean nothing and are never written.
    #[arg(long, conflicts_with = "write")]
    quick: bool,

    /// The broker's binary; beside this one when not given.
    #[arg(long)]
    bucketmq: Option<PathBuf>,

    /// What else the machine did meanwhile, for DURABLE.md.
    #[arg(long, requires = "write")]
    note: Option<String>,

    /// One line of JSON instead of the table.
    #[arg(long)]
    json: bool,

    /// Write DURABLE.md, durable.json, the picture and the README's table; rows not run now keep their figures.
    #[arg(long)]
    write: bool,
}

/// How much of everything.
#[derive(Clone, Debug)]
pub struct Scale {
    /// Publishers, and Sessions they publish to.
    pub publishers: usize,
    /// How long a row publishes.
    pub seconds: f64,
    /// Messages a second of the paced row.
    pub rate: f64,
    /// How long nothing happens.
    pub idle_seconds: f64,
    /// Sessions whose queues are filled.
    pub queue_sessions: usize,
    /// Messages that are queued altogether.
    pub queued: usize,
    /// Sessions of a broker that is killed.
    pub recovery_sessions: usize,
    /// Idle connections.
    pub idle_sessions: usize,
    /// Turns of a broker with a bucket and one without.
    pub turns: usize,
    /// How long a process is left alone before it is measured.
    pub settle_seconds: f64,
    /// Messages a second whose requests are priced.
    pub cost_rates: [f64; 2],
    /// How long they are counted.
    pub cost_seconds: f64,
}

impl Scale {
    /// As the bars want it.
    pub fn whole() -> Self {
        Self {
            publishers: 1_000,
            seconds: 10.0,
            rate: 20_000.0,
            idle_seconds: 180.0,
            queue_sessions: 10_000,
            queued: 1_000_000,
            recovery_sessions: 100_000,
            idle_sessions: 19_000,
            turns: 5,
            settle_seconds: 1.0,
            cost_rates: [1_000.0, 50_000.0],
            cost_seconds: 60.0,
        }
    }

    /// As small as it can be and still run everything.
    pub fn quick() -> Self {
        Self {
            publishers: 20,
            seconds: 0.5,
            rate: 500.0,
            idle_seconds: 1.0,
            queue_sessions: 40,
            queued: 4_000,
            recovery_sessions: 200,
            idle_sessions: 50,
            turns: 1,
            settle_seconds: 0.1,
            cost_rates: [100.0, 500.0],
            cost_seconds: 1.0,
        }
    }
}

/// Runs the rows. False: one could not be run, or something was lost.
pub fn run(options: &Options) -> anyhow::Result<bool> {
    let scale = if options.quick { Scale::quick() } else { Scale::whole() };
    let unknown = options.rows.iter().find(|name| ROWS.iter().all(|row| row.name != **name));
    ensure!(unknown.is_none(), "there is no row {}; --list names them", unknown.map_or("", String::as_str));
    let rows: Vec<&Row> = ROWS.iter().filter(|row| options.rows.is_empty() || options.rows.iter().any(|name| name == row.name)).collect();
    if options.list {
        rows.iter().for_each(|row| println!("{:14} {}", row.name, (row.title)(&scale)));
        return Ok(true);
    }
    let files = process::raise_limits()?;
    ensure!(files as usize > scale.idle_sessions + 200, "only {files} files may be open, and a row needs {}", scale.idle_sessions + 200);
    let beside = || Some(std::env::current_exe().ok()?.with_file_name("bucketmq"));
    let binary = options.bucketmq.clone().or_else(beside).context("where is this binary?")?;
    let absent = || format!("{} is not there: build it, or name it by --bucketmq", binary.display());
    let binary = binary.canonicalize().with_context(absent)?;
    let note = options.note.clone().unwrap_or_default();
    let mut results = Results { machine: machine::describe(Vec::new()), note, ..Results::default() };
    let began = Instant::now();
    for row in rows {
        for round in 1..=options.rounds {
            eprintln!("{:>5.0}s {} {round}/{}: {}", began.elapsed().as_secs_f64(), row.name, options.rounds, (row.title)(&scale));
            let setup = Setup { binary: &binary, scale: &scale, cpu_qos1: results.median("throughput", "broker CPU/msg") };
            let busy = machine::busy_share(BUSY_LOOK)?;
            if busy > BUSY {
                eprintln!("       the machine is busy without us: {:.0} %, so times say little", busy * 100.0);
            }
            let measured = (row.run)(&setup);
            show(row, &measured);
            results.add(row, &scale, busy, measured);
        }
    }
    let faultless = results.faults().is_empty();
    if options.write {
        results = results.write()?;
    }
    if options.json {
        println!("{}", serde_json::to_string(&results)?);
    } else {
        println!("{}", results.table());
    }
    Ok(faultless)
}

fn show(row: &Row, measured: &anyhow::Result<measure::Measured>) {
    match measured {
        Ok(measured) => {
            for (name, value) in &measured.values {
                if let Some(figure) = row.figures.iter().find(|figure| figure.name == *name) {
                    eprintln!("       {name}: {}", figure.unit.show(*value));
                }
            }
            measured.faults.iter().for_each(|fault| eprintln!("       FAULT: {fault}"));
        }
        Err(error) => eprintln!("       FAILED: {error:#}"),
    }
}

/// The middle one; of an even number the mean of both.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}
