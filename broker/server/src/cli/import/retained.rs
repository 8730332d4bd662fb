//! `bucketmq import retained`: the retained messages of a broker that runs, taken from it as a Client takes them.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use bucketmq_import::{Report, RetainedImport, Taken, WriteError};
use bucketmq_storage::DurableStore;
use clap::Args;

use super::super::client::{ClientError, Source, SourceOptions};
use super::{Common, Failure, in_bucket, now};
use crate::config::Config;

/// Between two words about how far it is.
const PROGRESS: Duration = Duration::from_secs(10);
/// Why that may be, and what to do about it.
const DROPPED: &str = "\
Mosquitto drops what it cannot queue (max_queued_messages), and nobody gets what he may not read:
name parts of it by -t, or bring its mosquitto.db";

pub(super) const EXAMPLES: &str = "\
Examples:
  bucketmq import retained mqtt://old.example --bucket s3://fleet/prod?region=eu-central-1
  BUCKETMQ_PASSWORD=secret bucketmq import retained mqtts://ann@old.example --cafile ca.pem -t 'plant/#' -t 'fleet/#' --bucket file:///var/lib/bucketmq
      that user needs the right to read them all: no server says what it keeps back
  bucketmq import retained mqtt://old.example --dry-run --json
      counts them; needs no bucket
  bucketmq import retained mqtt://old.example --replace --timeout 10m --bucket file:///var/lib/bucketmq
      once more at the end, when nobody publishes any more: what has changed since

Content type, response topic, correlation data, user properties, payload format and what is left of the expiry come along by MQTT 5. What is published
retained meanwhile comes along by MQTT 5, too, and by 3.1.1 it does not. Started again it goes on with what is not in the bucket yet.
Mosquitto drops, and does not say so, what it cannot queue for a Client (max_queued_messages, 1000). Its own count shows that: name parts by -t then, or
bring its mosquitto.db, which has everything.

Exit codes: 0 brought in, 1 failed, 2 wrong command line, 75 a broker is using the bucket, 78 wrong configuration.";

#[derive(Debug, Args)]
pub(super) struct RetainedArgs {
    #[command(flatten)]
    source: SourceOptions,
    /// Takes and counts them and writes nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    common: Common,
}

impl RetainedArgs {
    pub(super) fn run(self) -> ExitCode {
        let (replace, dry_run) = (self.common.replace, self.dry_run);
        let import = async |config: &Config| {
            // Before the bucket is touched.
            let source = self.source.open().await.map_err(failure)?;
            eprintln!("reading {}", source.name());
            if dry_run {
                let taken = take(source, RetainedImport::new(None, replace)).await?;
                return Ok(told(taken, "nothing was written")?);
            }
            // To open a large bucket may take longer than a server waits for a Client.
            source.close().await.ok();
            let put = async |store: &DurableStore| {
                let source = self.source.open().await.map_err(|error| anyhow::anyhow!("{error}"))?;
                Ok(take(source, RetainedImport::new(Some(store), replace)).await?)
            };
            // Told after everything that came was written and the bucket was given back.
            Ok(told(in_bucket(config, put).await?, "they stay; started again the import goes on")?)
        };
        self.common.run(import, |report| {
            let what = if dry_run { "retained messages, nothing was written" } else { "retained messages" };
            format!("{} {what}\n", report.retained)
        })
    }
}

fn failure(error: ClientError) -> Failure {
    match error {
        ClientError::Usage(problem) => Failure::Usage(problem),
        // Its text has its sources already.
        error => Failure::Other(anyhow::anyhow!("{error}")),
    }
}

/// What was brought in, and why not all of it.
struct Outcome {
    report: Report,
    ended: Option<String>,
}

fn told(Outcome { report, ended }: Outcome, kept: &str) -> anyhow::Result<Report> {
    match ended {
        None => Ok(report),
        Some(why) => anyhow::bail!("not all of it: {why}\n{} retained messages came: {kept}", report.retained),
    }
}

/// Takes everything from `source`. What has come is in the bucket afterwards, however it ended.
async fn take(mut source: Source, mut import: RetainedImport<'_>) -> Result<Outcome, WriteError> {
    let ended = bring(&mut source, &mut import).await?;
    let came = import.topics();
    let ended = match (ended, source.counted()) {
        (Some(error), _) => Some(error.to_string()),
        (None, Some(counted)) if counted > came => Some(format!("the server counts {counted} topics and has sent {came}; {DROPPED}")),
        (None, _) => None,
    };
    let report = import.finish().await?;
    // Everything has come; a Server that closes first may.
    source.close().await.ok();
    Ok(Outcome { report, ended })
}

/// Writes what comes until there is no more. Some: why it ended before.
async fn bring(source: &mut Source, import: &mut RetainedImport<'_>) -> Result<Option<ClientError>, WriteError> {
    let (mut told_at, mut counted_again) = (Instant::now(), false);
    loop {
        let message = match source.next().await {
            Ok(Some(message)) => message,
            // The figure is some seconds old, and something may have been cleared since.
            Ok(None) if !counted_again && source.counted().is_some_and(|counted| counted > import.topics()) => {
                source.count_again();
                counted_again = true;
                continue;
            }
            Ok(None) => return Ok(None),
            Err(error) => return Ok(Some(error)),
        };
        let taken = Taken {
            topic: &message.topic,
            payload: &message.payload,
            properties: &message.properties.forward,
            qos: message.qos,
            expiry_interval: message.properties.message_expiry_interval,
        };
        if import.take(taken, now()).await? {
            source.came_anew();
        }
        if told_at.elapsed() >= PROGRESS {
            eprintln!("{} retained messages so far", import.report().retained);
            told_at = Instant::now();
        }
    }
}
