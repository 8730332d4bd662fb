//! `policy` and `inspect`: what a broker may do in a bucket, and what it has put there.

use anyhow::Context;
use bucketmq_bucket::policy;
use bucketmq_offline::inspect::{self, Report};
use clap::Args;

use super::place::{BucketOf, shard_of};
use super::text::{bytes, count, table};
use super::{Answer, Failure, Said, progress};

pub(super) const POLICY_HELP: &str = "\
Examples:
  bucketmq bucket policy --bucket 's3://fleet/prod?kms_key=arn:aws:kms:eu-central-1:123456789012:key/abcd' > policy.json
  bucketmq bucket policy --bucket gs://fleet/prod
  bucketmq bucket policy --bucket az://account/container

Nothing is asked of the bucket. The same rights do for every command of `bucketmq bucket`.

Exit codes: 0 printed, 2 wrong command line, 78 wrong configuration.";

pub(super) const INSPECT_HELP: &str = "\
Examples:
  bucketmq bucket inspect --bucket s3://fleet/prod?region=eu-central-1
  bucketmq bucket inspect --bucket file:///var/lib/bucketmq --shard 07 --json
  bucketmq bucket inspect --bucket file:///var/lib/bucketmq --client-id pump-7
      its Subscriptions, queue and Will

Beside a broker each shard is counted as it is at its moment.

Exit codes: 0 counted, 1 a shard cannot be read, or no such Session, 2 wrong command line, 78 wrong configuration.";

#[derive(Debug, Args)]
pub(super) struct PolicyArgs {
    #[command(flatten)]
    place: BucketOf,
}

impl PolicyArgs {
    pub(super) fn run(self) -> Result<Said, Failure> {
        let config = self.place.configured()?;
        Said::new(policy(&config.url), ())
    }
}

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    #[command(flatten)]
    place: BucketOf,
    /// Only this shard.
    #[arg(long, value_name = "NN")]
    shard: Option<u16>,
    /// Shows the Session of this Client Identifier, as an object.
    #[arg(long, value_name = "ID", conflicts_with = "shard")]
    client_id: Option<String>,
    #[command(flatten)]
    pub(super) answer: Answer,
}

impl InspectArgs {
    pub(super) async fn run(self) -> Result<Said, Failure> {
        let opened = self.place.open().await?;
        let site = opened.damaged_site().await?;
        let only = shard_of(&site, self.shard)?;
        if let Some(client_id) = &self.client_id {
            let session = inspect::session(&site, client_id).await?;
            let session = session.ok_or_else(|| anyhow::anyhow!("{}: no Session of {client_id:?}", opened.bucket.url()))?;
            return Said::new(format!("{session:#}\n"), session);
        }
        let report = inspect::inspect(&site, only, &progress).await.with_context(|| opened.bucket.url().to_string())?;
        let is_well = report.shards.iter().all(|shard| shard.error.is_none());
        Ok(Said { is_well, ..Said::new(described(&opened.bucket.url().to_string(), &report), &report)? })
    }
}

fn described(url: &str, report: &Report) -> String {
    let total = &report.total;
    let rows: Vec<Vec<String>> = report.shards.iter().map(row).collect();
    let mut text = format!(
        "{url}: {} shards in {}/, format {}, made by {}\n{}{}\n\n",
        report.shards_count,
        report.folder,
        report.format,
        if report.made_by.is_empty() { "nobody knows whom" } else { &report.made_by },
        report.owner.as_ref().map_or("no broker owns it".to_owned(), |owner| format!("owned by {owner}")),
        report.prefix_owner.as_ref().map_or(String::new(), |owner| format!("; the prefix belongs to {owner}")),
    );
    text += &table(&["shard", "sessions", "queued", "queued bytes", "retained", "outbox", "records", "objects", "size"], &rows);
    text += &format!(
        "\n{} ({} connected), {} of {}, {}, {} in outboxes\n{} in {} of {}\n",
        count(total.sessions, "Session", "Sessions"),
        total.sessions_connected,
        count(total.queued_messages, "queued message", "queued messages"),
        bytes(total.queued_bytes),
        count(total.retained, "retained message", "retained messages"),
        total.outbox_rows,
        count(total.records.values().sum(), "record", "records"),
        count(report.objects, "object", "objects"),
        bytes(report.object_bytes),
    );
    for shard in &report.shards {
        if let Some(error) = &shard.error {
            text += &format!("shard {:02} cannot be read: {error}\n", shard.shard);
        }
    }
    text
}

fn row(shard: &inspect::ShardReport) -> Vec<String> {
    let number = format!("{:02}", shard.shard);
    let (Some(objects), Some(contents)) = (&shard.objects, &shard.contents) else {
        return [number].into_iter().chain(std::iter::repeat_n("-".to_owned(), 8)).collect();
    };
    vec![
        number,
        contents.sessions.to_string(),
        contents.queued_messages.to_string(),
        bytes(contents.queued_bytes),
        contents.retained.to_string(),
        contents.outbox_rows.to_string(),
        contents.records.values().sum::<u64>().to_string(),
        objects.objects.to_string(),
        bytes(objects.bytes),
    ]
}
