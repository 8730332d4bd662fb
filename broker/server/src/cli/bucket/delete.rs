//! `delete`: a prefix that is needed no more.

use std::io;

use anyhow::Context;
use bucketmq_bucket::BucketUrl;
use bucketmq_offline::delete::delete;
use bucketmq_offline::ensure_prefix_of;
use bucketmq_storage::durable::Place;
use clap::Args;
use serde_json::json;

use super::place::{BucketOf, Opened};
use super::text::{self, bytes};
use super::{Answer, Failure, Said, progress};

pub(super) const HELP: &str = "\
Examples:
  bucketmq bucket delete --bucket s3://fleet/staging?region=eu-central-1
      asks for the bucket and prefix to be typed again
  bucketmq bucket delete --yes --bucket file:///tmp/yesterday
  bucketmq bucket delete --yes --owner prod/fleet --config /etc/bucketmq/bucketmq.toml
      only if the prefix belongs to nobody else; nothing to delete is fine

Everything below the prefix goes, whoever has put it there, snapshots included. Beside it nothing is touched.

Exit codes: 0 nothing is left, 1 failed or not confirmed, 2 wrong command line, 75 a broker is using the bucket or the prefix belongs to another
owner, 78 wrong configuration.";

#[derive(Debug, Args)]
pub(super) struct DeleteArgs {
    #[command(flatten)]
    place: BucketOf,
    /// Does not ask.
    #[arg(long)]
    yes: bool,
    /// Deletes nothing of a prefix that belongs to another owner than this one, `[bucket] owner` of its brokers; an empty prefix is no mistake then.
    #[arg(long, value_name = "NAME")]
    owner: Option<String>,
    #[command(flatten)]
    pub(super) answer: Answer,
}

impl DeleteArgs {
    pub(super) async fn run(self) -> Result<Said, Failure> {
        let opened = self.place.open().await?;
        let (place, objects, size) = opened.count().await?;
        if objects == 0 && self.owner.is_some() {
            return Said::new(
                format!("{}: there is nothing to delete\n", without_parameters(opened.bucket.url())),
                json!({ "deleted": 0 }),
            );
        }
        opened.expect_something(objects)?;
        self.expect_owner(&opened, &place).await?;
        let objects_said = text::count(objects, "object", "objects");
        let url = without_parameters(opened.bucket.url());
        if !self.yes {
            eprintln!("{url}: {objects_said} of {} will be deleted. Type {url} to go on:", bytes(size));
            let mut typed = String::new();
            io::stdin().read_line(&mut typed)?;
            if typed.trim() != url {
                return Err(anyhow::anyhow!("{url}: not confirmed, nothing is deleted; --yes does not ask").into());
            }
        }
        let exclusive = opened.own(&place).await?;
        // Its broker may have come and gone meanwhile.
        if let Err(failure) = self.expect_owner(&opened, &place).await {
            exclusive.release().await;
            return Err(failure);
        }
        // It counts what says that this process had the prefix, too.
        delete(&place, exclusive, &progress).await.with_context(|| url.clone())?;
        Said::new(format!("{url}: {objects_said} deleted\n"), json!({ "deleted": objects }))
    }
}

impl DeleteArgs {
    async fn expect_owner(&self, opened: &Opened, place: &Place) -> Result<(), Failure> {
        let Some(owner) = &self.owner else { return Ok(()) };
        Ok(ensure_prefix_of(place, owner).await.with_context(|| without_parameters(opened.bucket.url()))?)
    }
}

fn without_parameters(url: &BucketUrl) -> String {
    let url = url.to_string();
    url.split_once('?').map_or(url.as_str(), |(place, _)| place).to_owned()
}
