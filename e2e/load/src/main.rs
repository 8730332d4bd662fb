//! `load`: loads an MQTT broker and prints one line of JSON; `load durable`: measures what the bucket costs.

use std::process::ExitCode;

use bucketmq_load::options::Options;
use bucketmq_load::{durable, process, scenario};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

/// Loads an MQTT broker.
#[derive(Debug, Parser)]
#[command(name = "load", version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true, args_override_self = true)]
struct Arguments {
    #[command(subcommand)]
    table: Option<Table>,

    #[command(flatten)]
    scenario: Option<Options>,
}

#[derive(Debug, Subcommand)]
enum Table {
    /// Measures what durable costs, and makes the table of it.
    Durable(durable::Options),
}

fn main() -> anyhow::Result<ExitCode> {
    let succeeded = match Arguments::parse() {
        Arguments { table: Some(Table::Durable(options)), .. } => durable::run(&options)?,
        Arguments { scenario: Some(options), .. } => {
            process::raise_limits()?;
            let report = scenario::run(&options)?;
            report.print()?;
            report.steady != Some(false)
        }
        Arguments { .. } => Arguments::command().error(ErrorKind::MissingRequiredArgument, "name a scenario, or durable").exit(),
    };
    Ok(if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
