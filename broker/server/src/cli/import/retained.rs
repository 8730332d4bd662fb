//! `bucketmq import retained`: the retained messages of a broker that runs, taken from it as a Client takes them.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use bucketmq_bucket::BucketConfig;
use bucketmq_import::{Report, RetainedImport, Taken, WriteError};
use bucketmq_storage::DurableStore;
use clap::Args;

use super::super::client::{ClientError, Source, SourceOptions};
use super::{Common, Failure, in_bucket, now};

/// Between two words about how far it is.
const PROGRESS: Duration = Duration::from_secs(10);

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
Mosquitto sends a Client 65,535 QoS 1 and 2 messages and max_queued_messages (1000) more, and drops what is beyond: name parts of more by -t.

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
        let import = async |config: &BucketConfig| {
            // Before the bucket is touched.
            let source = self.source.open().await.map_err(failure)?;
            eprintln!("reading {}", source.name());
            if dry_run {
                let taken = take(source, RetainedImport::new(None, replace)).await?;
                return Ok(told(taken)?);
            }
            // To open a large bucket may take longer than a server waits for a Client.
            source.close().await.ok();
            let put = async |store: &DurableStore| {
                let source = self.source.open().await?;
                Ok(take(source, RetainedImport::new(Some(store), replace)).await?)
            };
            // Told after everything that came was written and the bucket was given back.
            Ok(told(in_bucket(config, put).await?)?)
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
        error => Failure::Other(error.into()),
    }
}

/// What was brought in, and why not all of it.
struct Outcome {
    report: Report,
    ended: Option<ClientError>,
}

fn told(Outcome { report, ended }: Outcome) -> anyhow::Result<Report> {
    match ended {
        None => Ok(report),
        Some(error) => {
            let came = report.retained;
            Err(anyhow::Error::new(error).context(format!("not all of it: {came} retained messages came and stay; start it again for the others")))
        }
    }
}

/// Takes everything from `source`. What has come is in the bucket afterwards, however it ended.
async fn take(mut source: Source, mut import: RetainedImport<'_>) -> Result<Outcome, WriteError> {
    let mut told_at = Instant::now();
    let ended = loop {
        let message = match source.next().await {
            Ok(Some(message)) => message,
            Ok(None) => break None,
            Err(error) => break Some(error),
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
    };
    let report = import.finish().await?;
    if ended.is_none() {
        // Everything has come; a Server that closes first may.
        source.close().await.ok();
    }
    Ok(Outcome { report, ended })
}
