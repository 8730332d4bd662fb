//! `bucketmq import mosquitto-db`: from the file that Mosquitto writes when it ends.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use bucketmq_import::{Report, WriteOptions, mosquitto, plan, write};
use bucketmq_storage::Shards;
use clap::Args;

use super::{Common, Failure, in_bucket, now};
use crate::config::Config;

pub(super) const EXAMPLES: &str = "\
Examples:
  bucketmq import mosquitto-db /var/lib/mosquitto/mosquitto.db --bucket s3://fleet/prod?region=eu-central-1
      stop Mosquitto first: it writes the file when it ends
  bucketmq import mosquitto-db mosquitto.db --bucket file:///var/lib/bucketmq --json

Started again it goes on with what is not in the bucket yet.

Exit codes: 0 brought in, 1 failed, 2 wrong command line, 75 a broker is using the bucket, 78 wrong configuration.";

#[derive(Debug, Args)]
pub(super) struct MosquittoDbArgs {
    /// The file, mosquitto.db.
    file: PathBuf,
    #[command(flatten)]
    common: Common,
}

impl MosquittoDbArgs {
    pub(super) fn run(self) -> ExitCode {
        let import = async |config: &Config| import(&self.file, self.common.replace, config).await;
        self.common.run(import, first_line)
    }
}

async fn import(file: &Path, replace: bool, config: &Config) -> Result<Report, Failure> {
    let contents = read(file)?;
    let now = now();
    let plan = plan(contents, Shards::default(), now);
    let put = async |store: &_| {
        eprintln!("writing {} Sessions and {} retained messages", plan.sessions.len(), plan.retained.len());
        Ok(write(store, plan, WriteOptions { now, replace }).await?)
    };
    in_bucket(config, put).await
}

fn read(file: &Path) -> anyhow::Result<mosquitto::Contents> {
    let name = file.display();
    let mut input = BufReader::new(File::open(file).with_context(|| name.to_string())?);
    eprintln!("reading {name}");
    mosquitto::read(&mut input).with_context(|| name.to_string())
}

fn first_line(report: &Report) -> String {
    let Report {
        sessions, sessions_replaced, sessions_without_owner, subscriptions, messages, messages_in_flight, incoming, retained, ..
    } = report;
    format!(
        "{sessions} Sessions ({sessions_replaced} in place of others, {sessions_without_owner} without a user), {subscriptions} Subscriptions,\n\
         {messages} queued messages ({messages_in_flight} of them in flight), {incoming} QoS 2 messages on their way in, {retained} retained messages\n"
    )
}
