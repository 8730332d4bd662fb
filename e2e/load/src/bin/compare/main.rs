//! `compare`: runs brokers in turn, A B A B, through the scenarios and prints medians and ratios against the bars.
//!
//! Every run gets a fresh broker process and a fresh generator. Only processes started here are ended here.

mod brokers;
mod results;
mod rows;
mod run;
mod table;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, ensure};
use brokers::Broker;
use bucketmq_load::{machine, process};
use clap::Parser;
use results::Results;
use rows::Row;

/// Compares MQTT brokers on this machine, generator and broker on the same processors.
#[derive(Debug, Parser)]
#[command(name = "compare", version)]
struct Options {
    /// The BucketMQ binary; beside this one when not given.
    #[arg(long)]
    bucketmq: Option<PathBuf>,

    /// The Mosquitto binary.
    #[arg(long, default_value = "mosquitto")]
    mosquitto: PathBuf,

    /// Another broker: NAME=COMMAND, where {port}, {tls_port} and {dir} (a fresh directory with ca.pem, server.pem, server.key) are
    /// filled in. It must stay in the foreground and listen on 127.0.0.1.
    #[arg(long, value_name = "NAME=COMMAND")]
    broker: Vec<String>,

    /// Run only these brokers (bucketmq, mosquitto, names of --broker); separated by commas.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,

    /// Run only scenarios whose name begins so; may be repeated.
    #[arg(long, value_name = "NAME")]
    scenario: Vec<String>,

    /// Print the names of the scenarios and what each runs.
    #[arg(long)]
    list: bool,

    /// Rounds; each runs every broker once.
    #[arg(long, default_value_t = 3)]
    rounds: usize,

    /// Seconds of publishing per run.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,

    /// Idle connections; with TLS a tenth of them.
    #[arg(long, default_value_t = 19_500)]
    connections: usize,

    /// More options for every run of `load`, such as `--load-options "--threads 2"`.
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    load_options: String,

    /// First port to use; each run takes the next two.
    #[arg(long, default_value_t = 21_000)]
    port: u16,

    /// Write every report as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write RESULTS.md and the results.json behind it; scenarios not run now keep their figures.
    #[arg(long)]
    write: bool,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let rows: Vec<&Row> = rows::ROWS.iter().filter(|row| is_wanted(row, &options.scenario)).collect();
    ensure!(!rows.is_empty(), "no scenario has such a name; --list shows them");
    if options.list {
        rows.iter().for_each(|row| println!("{:24} load {}", row.name, row.arguments.join(" ")));
        return Ok(());
    }
    let files = process::raise_limits()?;
    ensure!(files as usize > options.connections + 100, "only {files} files may be open: lower --connections");
    let brokers = brokers(&options)?;
    let mut results = Results::new(machine::describe(brokers.iter().map(|broker| (broker.name.clone(), broker.version())).collect()));
    let mut reports = Vec::new();
    let start = Instant::now();
    let mut port = options.port;
    for row in &rows {
        for round in 1..=options.rounds {
            for broker in &brokers {
                let run =
                    run::Run { row, broker, port, seconds: options.seconds, connections: options.connections, more: &options.load_options };
                port += 2;
                let outcome = run.measure();
                eprintln!(
                    "{:>5.0}s {:22} {round}/{} {:10} {}",
                    start.elapsed().as_secs_f64(),
                    row.name,
                    options.rounds,
                    broker.name,
                    show(row, &outcome)
                );
                results.add(row, &broker.name, &outcome);
                if let Ok(report) = outcome {
                    reports.push(serde_json::json!({"row": row.name, "broker": broker.name, "round": round, "report": report}));
                }
            }
        }
    }
    if options.write {
        results = results.write()?;
    } else {
        println!("{}", table::markdown(&results));
    }
    if let Some(file) = &options.json {
        let document = serde_json::json!({"results": results, "reports": reports});
        std::fs::write(file, serde_json::to_vec_pretty(&document)?).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

fn is_wanted(row: &Row, names: &[String]) -> bool {
    names.is_empty() || names.iter().any(|name| row.name.starts_with(name.as_str()))
}

fn brokers(options: &Options) -> anyhow::Result<Vec<Broker>> {
    let beside = || Some(std::env::current_exe().ok()?.with_file_name("bucketmq"));
    let bucketmq = options.bucketmq.clone().or_else(beside).context("where is this binary?")?;
    let mut brokers = vec![Broker::mosquitto(&options.mosquitto), Broker::bucketmq(&bucketmq)];
    for text in &options.broker {
        brokers.push(Broker::from_template(text)?);
    }
    brokers.retain(|broker| options.only.is_empty() || options.only.contains(&broker.name));
    ensure!(!brokers.is_empty(), "--only names no broker");
    brokers.iter().try_for_each(Broker::check)?;
    Ok(brokers)
}

fn show(row: &Row, outcome: &anyhow::Result<bucketmq_load::report::Report>) -> String {
    match outcome {
        Ok(report) => {
            let figure = |metric: &rows::Metric| Some(format!("{} {}", metric.name, metric.unit.show((metric.value)(report)?)));
            let mut figures: Vec<String> = row.metrics.iter().filter_map(figure).collect();
            figures.extend(results::faults(report));
            figures.join(", ")
        }
        Err(error) => format!("FAILED: {error:#}"),
    }
}
