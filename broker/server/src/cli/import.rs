//! `bucketmq import`: what another broker left, brought into a bucket that no broker is using.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use bucketmq_cluster::{Confirmation, Held, Member, Ownership, Takeover};
use bucketmq_import::{Report, WriteOptions, mosquitto, plan, write};
use bucketmq_storage::durable::Place;
use bucketmq_storage::{DurableStore, Shards};
use clap::{Args, Subcommand};
use rand::Rng;

use super::{ConfigArgs, EXIT_CONFIG, EXIT_OWNED, fail, print};
use crate::durable::open::open_bucket;

/// An owner that died is known to be gone by then.
const OWNER_PATIENCE: Duration = Duration::from_secs(25);

pub(super) const EXAMPLES: &str = "\
Examples:
  bucketmq import mosquitto-db /var/lib/mosquitto/mosquitto.db --bucket s3://fleet/prod?region=eu-central-1
      stop Mosquitto first: it writes the file when it ends
  bucketmq import mosquitto-db mosquitto.db --bucket file:///var/lib/bucketmq --json

Started again it goes on with what is not in the bucket yet.

Exit codes: 0 brought in, 1 failed, 2 wrong command line, 75 a broker is using the bucket, 78 wrong configuration.";

/// What `import` takes.
#[derive(Debug, Args)]
pub struct ImportArgs {
    #[command(subcommand)]
    source: Source,
}

#[derive(Debug, Subcommand)]
enum Source {
    /// Sessions, Subscriptions, queued and retained messages from Mosquitto's persistence file, of every version since 1.0.
    #[command(after_help = EXAMPLES)]
    MosquittoDb(MosquittoDbArgs),
}

#[derive(Debug, Args)]
struct MosquittoDbArgs {
    /// The file, mosquitto.db.
    file: PathBuf,
    /// What the bucket has of the same Client Identifier or topic gives way, instead of staying.
    #[arg(long)]
    replace: bool,
    /// Answers with an object: what was brought in, and what was not, with the first names of each.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

impl ImportArgs {
    /// Brings it in and says what came of it.
    pub fn run(self) -> ExitCode {
        let Source::MosquittoDb(args) = self.source;
        let loaded = match args.config.load() {
            Ok(loaded) => loaded,
            Err(errors) => {
                eprintln!("{errors}");
                return ExitCode::from(EXIT_CONFIG);
            }
        };
        let runtime = match tokio::runtime::Runtime::new() {
            Ok(runtime) => runtime,
            Err(error) => return fail(&format!("the runtime does not start: {error}")),
        };
        match runtime.block_on(import(&args, &loaded.config.bucket)) {
            Ok(report) if args.json => match serde_json::to_string_pretty(&report) {
                Ok(json) => print(&format!("{json}\n")),
                Err(error) => fail(&error.to_string()),
            },
            Ok(report) => print(&summary(&report)),
            Err(Failure::Owned(owner)) => {
                eprintln!("Error: {owner} is using the bucket: stop it first");
                ExitCode::from(EXIT_OWNED)
            }
            Err(Failure::Other(error)) => fail(&format!("{error:#}")),
        }
    }
}

enum Failure {
    /// Whose the bucket is.
    Owned(String),
    Other(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

async fn import(args: &MosquittoDbArgs, config: &bucketmq_bucket::BucketConfig) -> Result<Report, Failure> {
    let contents = read(&args.file)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    let plan = plan(contents, Shards::default(), now);
    let bucket = open_bucket(config)
        .await?
        .ok_or_else(|| anyhow::anyhow!("--bucket: name the bucket that is to have it; memory:// keeps nothing"))?;
    let mut ownership = Ownership::new(bucket.store(), Shards::default(), member()?, Takeover::Never);
    if let Some(file) = bucket.broker_lock() {
        ownership = ownership.with_directory_lock(file);
    }
    let held = own(&ownership).await?;
    let place = Place { bucket: bucket.store(), prefix: object_store::path::Path::default(), shards: Shards::default() };
    let outcome = put(&place, held.not_before_ms(), plan, WriteOptions { now, replace: args.replace }).await;
    held.release().await;
    Ok(outcome?)
}

fn read(file: &Path) -> anyhow::Result<mosquitto::Contents> {
    let name = file.display();
    let mut input = BufReader::new(File::open(file).with_context(|| name.to_string())?);
    eprintln!("reading {name}");
    mosquitto::read(&mut input).with_context(|| name.to_string())
}

/// A name of its own: under that of a broker it would take the shards from it.
fn member() -> anyhow::Result<Member> {
    Ok(Member::named(&format!("import-{:08x}", rand::rng().random::<u32>()))?)
}

async fn own(ownership: &Ownership) -> Result<Held, Failure> {
    let mut owner = String::new();
    let mut on_wait = |member: &str| {
        if owner != member {
            member.clone_into(&mut owner);
            eprintln!("waiting for {member}, which has the bucket");
        }
    };
    let confirmation = Arc::new(Confirmation::pending());
    match tokio::time::timeout(OWNER_PATIENCE, ownership.take(confirmation, &mut on_wait)).await {
        Ok(held) => Ok(held?),
        Err(_) => Err(Failure::Owned(owner)),
    }
}

async fn put(place: &Place, not_before_ms: u64, plan: bucketmq_import::Plan, options: WriteOptions) -> anyhow::Result<Report> {
    let store = DurableStore::open_not_before(place, not_before_ms).await?;
    if let Some((shard, why)) = store.refused().into_iter().next() {
        anyhow::bail!("shard {shard} cannot be read: {why}");
    }
    eprintln!("writing {} Sessions and {} retained messages", plan.sessions.len(), plan.retained.len());
    let report = write(&store, plan, options).await?;
    store.close().await?;
    Ok(report)
}

fn summary(report: &Report) -> String {
    let Report {
        sessions, sessions_replaced, sessions_without_owner, subscriptions, messages, messages_in_flight, incoming, retained, ..
    } = report;
    let mut text = format!(
        "{sessions} Sessions ({sessions_replaced} in place of others, {sessions_without_owner} without a user), {subscriptions} Subscriptions,\n\
         {messages} queued messages ({messages_in_flight} of them in flight), {incoming} QoS 2 messages on their way in, {retained} retained messages\n"
    );
    for (title, counts) in [("left out", &report.skipped), ("worth a look", &report.notes)] {
        for (reason, count) in counts {
            let reason = serde_json::to_value(reason)
                .ok()
                .and_then(|reason| reason.as_str().map(|reason| reason.replace('_', " ")))
                .unwrap_or_default();
            text += &format!("{title}: {} {reason}: {}\n", count.count, count.examples.join(", "));
        }
    }
    text
}
