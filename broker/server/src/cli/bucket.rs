//! `bucketmq bucket`: what is done to a bucket from outside of a broker, and snapshots of one that a broker is serving.
//!
//! What only reads works beside a broker. What changes state makes sure first that no broker owns the prefix, and ends with 75 when one does.

mod contents;
mod copies;
mod delete;
mod health;
mod place;
mod snapshots;
mod text;

use std::future::ready;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bucketmq_offline::chain;
use bucketmq_offline::exclusive::OwnError;
use bucketmq_storage::BoxFuture;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::{EXIT_CONFIG, EXIT_OWNED, fail, print};

/// Between two lines about how far it is.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

pub(super) const EXAMPLES: &str = "\
Examples:
  bucketmq bucket policy --bucket s3://fleet/prod
      the rights a broker needs there
  bucketmq bucket inspect --bucket s3://fleet/prod?region=eu-central-1
  bucketmq bucket snapshot before-upgrade --config /etc/bucketmq/bucketmq.toml
  bucketmq bucket restore before-upgrade --config /etc/bucketmq/bucketmq.toml

What reads (inspect, verify, export, snapshots) works beside a broker, and a broker takes its snapshots itself when it is asked.
broker/docs/bucket-tools.md has an example of each command with its output.

Exit codes: 0 done, 1 failed or something is wrong, 2 wrong command line, 75 a broker is using the bucket, 78 wrong configuration.";

/// What `bucket` takes.
#[derive(Debug, Args)]
pub struct BucketArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prints the rights a broker needs on a bucket, for the cloud's own tool.
    #[command(after_help = contents::POLICY_HELP)]
    Policy(contents::PolicyArgs),
    /// Counts what is in a bucket, or shows one Session. Works beside a broker.
    #[command(after_help = contents::INSPECT_HELP)]
    Inspect(contents::InspectArgs),
    /// Reads every object and every record, and names what is wrong. Works beside a broker.
    #[command(after_help = health::VERIFY_HELP)]
    Verify(health::VerifyArgs),
    /// Mends what verify finds, or gives a shard up.
    #[command(after_help = health::REPAIR_HELP)]
    Repair(health::RepairArgs),
    /// Takes a snapshot: by the broker that serves the bucket, or here when none does.
    #[command(after_help = snapshots::SNAPSHOT_HELP)]
    Snapshot(snapshots::SnapshotArgs),
    /// Lists the snapshots, or deletes some. Works beside a broker.
    #[command(after_help = snapshots::SNAPSHOTS_HELP)]
    Snapshots(snapshots::SnapshotsArgs),
    /// Brings everything back to a snapshot; what is there now becomes a snapshot itself.
    #[command(after_help = snapshots::RESTORE_HELP)]
    Restore(snapshots::RestoreArgs),
    /// Copies everything to another bucket or prefix, for a broker of its own.
    #[command(after_help = copies::CLONE_HELP)]
    Clone(copies::CloneArgs),
    /// Writes everything as JSON lines. Works beside a broker.
    #[command(after_help = copies::EXPORT_HELP)]
    Export(copies::ExportArgs),
    /// Deletes everything below the prefix, snapshots included.
    #[command(after_help = delete::HELP)]
    Delete(delete::DeleteArgs),
    /// Writes anew what an older release has written, or says that there is no such thing.
    #[command(after_help = health::UPGRADE_HELP)]
    Upgrade(health::UpgradeArgs),
}

/// What a command has to say.
struct Said {
    /// For a person.
    text: String,
    /// For a program.
    json: Value,
    /// Whether all is well.
    is_well: bool,
}

impl Said {
    fn new(text: String, json: impl serde::Serialize) -> Result<Self, Failure> {
        Ok(Self { text, json: serde_json::to_value(json)?, is_well: true })
    }
}

/// Why a command has come to nothing.
enum Failure {
    /// The command line.
    Usage(String),
    /// The configuration.
    Config(String),
    /// The reason says whether a broker is in the way.
    Other(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

impl Failure {
    fn end(self) -> ExitCode {
        match self {
            Self::Usage(problem) => {
                fail(&problem);
                ExitCode::from(2)
            }
            Self::Config(problem) => {
                eprintln!("{problem}");
                ExitCode::from(EXIT_CONFIG)
            }
            Self::Other(error) => {
                fail(&chain(error.as_ref()));
                let of_owner = error.chain().filter_map(|cause| cause.downcast_ref::<OwnError>());
                let is_owned = of_owner
                    .into_iter()
                    .any(|error| matches!(error, OwnError::Owned { .. } | OwnError::Wanted { .. } | OwnError::Foreign { .. }));
                ExitCode::from(if is_owned { EXIT_OWNED } else { 1 })
            }
        }
    }
}

impl BucketArgs {
    /// Does it and says what came of it.
    pub fn run(self) -> ExitCode {
        let runtime = match tokio::runtime::Runtime::new() {
            Ok(runtime) => runtime,
            Err(error) => return fail(&format!("the runtime does not start: {error}")),
        };
        let (json, work): (bool, BoxFuture<'_, Result<Said, Failure>>) = match self.command {
            Command::Policy(args) => (false, Box::pin(ready(args.run()))),
            Command::Inspect(args) => (args.answer.json, Box::pin(args.run())),
            Command::Verify(args) => (args.answer.json, Box::pin(args.run())),
            Command::Repair(args) => (args.answer.json, Box::pin(args.run())),
            Command::Snapshot(args) => (args.answer.json, Box::pin(args.run())),
            Command::Snapshots(args) => (args.answer.json, Box::pin(args.run())),
            Command::Restore(args) => (args.answer.json, Box::pin(args.run())),
            Command::Clone(args) => (args.answer.json, Box::pin(args.run())),
            Command::Export(args) => (false, Box::pin(args.run())),
            Command::Delete(args) => (args.answer.json, Box::pin(args.run())),
            Command::Upgrade(args) => (args.answer.json, Box::pin(args.run())),
        };
        let outcome = runtime.block_on(work);
        match outcome {
            Ok(said) => {
                let code = print(&if json { format!("{:#}\n", said.json) } else { said.text });
                if said.is_well { code } else { ExitCode::FAILURE }
            }
            Err(failure) => failure.end(),
        }
    }
}

/// How it is answered.
#[derive(Debug, Args)]
struct Answer {
    /// Answers with an object.
    #[arg(long)]
    json: bool,
}

/// How far it is, for a person who waits: a line now and then, the first one at once.
fn progress(line: &str) {
    static LAST: Mutex<Option<Instant>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if last.is_none_or(|last| last.elapsed() >= PROGRESS_EVERY) {
        *last = Some(Instant::now());
        eprintln!("{line}");
    }
}
