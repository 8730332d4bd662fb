//! `bucketmq import`: what another broker has or left, brought into a bucket that no broker is using.

mod mosquitto_db;
mod retained;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bucketmq_bucket::BucketConfig;
use bucketmq_cluster::{Confirmation, Held, Member, Ownership, PrefixClaim, Takeover, Wait};
use bucketmq_import::Report;
use bucketmq_offline::chain;
use bucketmq_storage::durable::Place;
use bucketmq_storage::{DurableStore, RetainedUsage, Shards, Store};
use clap::{Args, Subcommand};
use rand::Rng;

use super::{ConfigArgs, EXIT_CONFIG, EXIT_OWNED, EXIT_USAGE, fail, print};
use crate::config::{Config, Limits};
use crate::durable::open::open_bucket;

/// An owner that died is known to be gone by then.
const OWNER_PATIENCE: Duration = Duration::from_secs(25);

pub(super) const EXAMPLES: &str = "\
Examples:
  bucketmq import mosquitto-db /var/lib/mosquitto/mosquitto.db --bucket s3://fleet/prod?region=eu-central-1
      everything that Mosquitto has; stop it first
  bucketmq import retained mqtt://old.example --bucket s3://fleet/prod?region=eu-central-1
      the retained messages of any broker while it runs

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
    #[command(after_help = mosquitto_db::EXAMPLES)]
    MosquittoDb(mosquitto_db::MosquittoDbArgs),
    /// Retained messages from any broker that is running, taken from it as a Client takes them.
    #[command(after_help = retained::EXAMPLES)]
    Retained(Box<retained::RetainedArgs>),
}

/// What every import is told.
#[derive(Debug, Args)]
struct Common {
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
        match self.source {
            Source::MosquittoDb(args) => args.run(),
            Source::Retained(args) => args.run(),
        }
    }
}

impl Common {
    /// Runs `import` with what is configured, and prints its report; `first_line` is what it begins with where a person reads it.
    fn run(&self, import: impl AsyncFnOnce(&Config) -> Result<Report, Failure>, first_line: impl FnOnce(&Report) -> String) -> ExitCode {
        let loaded = match self.config.load() {
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
        match runtime.block_on(import(&loaded.config)) {
            Ok(report) if self.json => match serde_json::to_string_pretty(&report) {
                Ok(json) => print(&format!("{json}\n")),
                Err(error) => fail(&error.to_string()),
            },
            Ok(report) => print(&(first_line(&report) + &remarks(&report))),
            Err(Failure::Owned(owner)) => {
                eprintln!("Error: {owner} is using the bucket: stop it first");
                ExitCode::from(EXIT_OWNED)
            }
            Err(Failure::Usage(problem)) => {
                eprintln!("Error: {problem}");
                ExitCode::from(EXIT_USAGE)
            }
            Err(Failure::Other(error)) => fail(&format!("{error:#}")),
        }
    }
}

enum Failure {
    /// Whose the bucket is.
    Owned(String),
    /// The command line cannot be what was meant.
    Usage(String),
    Other(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

/// Milliseconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// Has the bucket for as long as `work` takes, with every shard opened. What `work` leaves written is in the bucket when this is over.
async fn in_bucket<T>(config: &Config, work: impl AsyncFnOnce(&DurableStore) -> anyhow::Result<T>) -> Result<T, Failure> {
    let bucket = open_bucket(&config.bucket)
        .await?
        .ok_or_else(|| anyhow::anyhow!("--bucket: name the bucket that is to have it; memory:// keeps nothing"))?;
    let BucketConfig { owner, adopt, .. } = &config.bucket;
    if !owner.is_empty()
        && let Some(other) = PrefixClaim::new(bucket.store(), owner, adopt).look().await?
    {
        return Err(anyhow::anyhow!("{}: the prefix belongs to {other:?}: name another one", config.bucket.url).into());
    }
    let mut ownership = Ownership::new(bucket.store(), Shards::default(), member()?, Takeover::Never);
    if let Some(file) = bucket.broker_lock() {
        ownership = ownership.with_directory_lock(file);
    }
    let held = own(&ownership).await?;
    let place = Place { bucket: bucket.store(), prefix: object_store::path::Path::default(), shards: Shards::default() };
    let outcome = with_store(&place, held.not_before_ms(), &config.limits, work).await;
    held.release().await;
    Ok(outcome?)
}

async fn with_store<T>(
    place: &Place,
    not_before_ms: u64,
    limits: &Limits,
    work: impl AsyncFnOnce(&DurableStore) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let store = DurableStore::open_not_before(place, not_before_ms).await?;
    if let Some((shard, why)) = store.refused().into_iter().next() {
        anyhow::bail!("shard {shard} cannot be read: {why}");
    }
    let done = work(&store).await?;
    if let Some(warning) = too_much(store.retained_usage(), limits) {
        eprintln!("Warning: {warning}");
    }
    store.close().await?;
    Ok(done)
}

/// A broker takes in what it finds, but beyond its limits a topic that is set anew loses its retained message.
fn too_much(RetainedUsage { messages, bytes }: RetainedUsage, limits: &Limits) -> Option<String> {
    let (messages_max, bytes_max) = (u64::from(limits.retained_messages), limits.retained_bytes.as_u64());
    (messages > messages_max || bytes > bytes_max).then(|| {
        format!(
            "the bucket has {messages} retained messages of {bytes} bytes: raise limits.retained_messages ({messages_max}) and \
             limits.retained_bytes ({bytes_max}) of its broker"
        )
    })
}

/// A name of its own: under that of a broker it would take the shards from it.
fn member() -> anyhow::Result<Member> {
    Ok(Member::named(&format!("import-{:08x}", rand::rng().random::<u32>()))?)
}

async fn own(ownership: &Ownership) -> Result<Held, Failure> {
    let mut owner = String::new();
    let mut on_wait = |wait: Wait<'_>| match wait {
        Wait::For(member) if owner != member => {
            member.clone_into(&mut owner);
            eprintln!("waiting for {member}, which has the bucket");
        }
        Wait::For(_) => {}
        Wait::Bucket(error) => eprintln!("who owns the bucket cannot be read or written, trying again: {}", chain(error)),
    };
    let confirmation = Arc::new(Confirmation::pending());
    match tokio::time::timeout(OWNER_PATIENCE, ownership.take(confirmation, &mut on_wait)).await {
        Ok(held) => Ok(held?),
        Err(_) => Err(Failure::Owned(owner)),
    }
}

/// What was left out, and what deserves a look.
fn remarks(report: &Report) -> String {
    let mut text = String::new();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_a_broker_keeps_is_told_with_the_limit_to_raise() {
        let limits = Limits::default();
        let (messages, bytes) = (u64::from(limits.retained_messages), limits.retained_bytes.as_u64());
        assert_eq!(too_much(RetainedUsage { messages, bytes }, &limits), None);
        for usage in [RetainedUsage { messages: messages + 1, bytes }, RetainedUsage { messages, bytes: bytes + 1 }] {
            let told = too_much(usage, &limits).expect("too much");
            assert!(told.contains("limits.retained_messages (100000)"), "{told}");
        }
    }
}
