//! `bucketmq-durable`: kills the broker and counts what is lost.

use std::path::PathBuf;
use std::process::ExitCode;

use bucketmq_durable::broker::{Store, find};
use bucketmq_durable::crash::{Plan, Report, run};
use clap::{Parser, Subcommand, ValueEnum};

/// Kills the broker at random moments and looks what is left of what it acknowledged. Exit code 0: every promise was kept; 1: one was broken; 2: it
/// could not be run.
#[derive(Debug, Parser)]
#[command(name = "bucketmq-durable", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Rounds of kill -9 under QoS 1 and QoS 2 load.
    Crash {
        /// How often the broker is killed.
        #[arg(long, default_value_t = 200)]
        rounds: u32,
        /// Decides the moments.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// The bucketmq binary; the newest of the target folder if absent.
        #[arg(long)]
        bucketmq: Option<PathBuf>,
        /// Where the broker keeps its state.
        #[arg(long, value_enum, default_value_t = Place::S3)]
        store: Place,
        /// One line of JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Place {
    /// versitygw, a real S3 server.
    S3,
    /// A local directory.
    File,
    /// Nowhere: shows that losses are found.
    Memory,
}

fn main() -> ExitCode {
    let Command::Crash { rounds, seed, bucketmq, store, json } = Arguments::parse().command;
    let outcome = find(bucketmq).and_then(|bucketmq| {
        let store = match store {
            Place::S3 => Store::s3()?,
            Place::File => Store::directory()?,
            Place::Memory => Store::Nowhere,
        };
        let report = run(&Plan { bucketmq, rounds, seed }, store, |round| {
            if round % 10 == 0 {
                eprintln!("{round} of {rounds} rounds");
            }
        })?;
        print(&report, json)?;
        Ok(report)
    });
    match outcome {
        Ok(report) if report.verdict.is_clean() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(2)
        }
    }
}

fn print(report: &Report, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string(report)?);
        return Ok(());
    }
    let Report { kills, seed, store, seconds, connections, longest_wait, verdict } = report;
    println!("{kills} kills over {store} in {seconds:.0} s, seed {seed}, {connections} connections");
    println!("{} messages acknowledged, {} deliveries owed", verdict.acknowledged, verdict.owed);
    println!("lost {}, QoS 2 duplicated {}, reordered {}", verdict.lost, verdict.duplicated, verdict.reordered);
    println!("Sessions lost {}, retained stale {}, unfinished {}", verdict.sessions_lost, verdict.retained_stale, verdict.unfinished);
    println!("longest wait for a message at the end {longest_wait:.1} s");
    println!("QoS 1 repeated, as it may be: {}", verdict.repeated_qos1);
    for told in &verdict.told {
        println!("  {told}");
    }
    Ok(())
}
