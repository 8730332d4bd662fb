//! `load`: loads an MQTT broker and prints one line of JSON.

use std::process::ExitCode;

use bucketmq_load::options::Options;
use bucketmq_load::{process, scenario};
use clap::Parser;

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    process::raise_limits()?;
    let report = scenario::run(&options)?;
    report.print()?;
    Ok(if report.steady == Some(false) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
