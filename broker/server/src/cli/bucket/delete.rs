//! `delete`: a prefix that is needed no more.

use std::io;

use anyhow::Context;
use bucketmq_bucket::BucketUrl;
use bucketmq_offline::delete::delete;
use clap::Args;
use serde_json::json;

use super::place::BucketOf;
use super::text::{self, bytes};
use super::{Answer, Failure, Said, progress};

pub(super) const HELP: &str = "\
Examples:
  bucketmq bucket delete --bucket s3://fleet/staging?region=eu-central-1
      asks for the bucket and prefix to be typed again
  bucketmq bucket delete --yes --bucket file:///tmp/yesterday

Everything below the prefix goes, whoever has put it there, snapshots included. Beside it nothing is touched.

Exit codes: 0 nothing is left, 1 failed or not confirmed, 2 wrong command line, 75 a broker is using the bucket, 78 wrong configuration.";

#[derive(Debug, Args)]
pub(super) struct DeleteArgs {
    #[command(flatten)]
    place: BucketOf,
    /// Does not ask.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    pub(super) answer: Answer,
}

impl DeleteArgs {
    pub(super) async fn run(self) -> Result<Said, Failure> {
        let opened = self.place.open().await?;
        let (place, objects, size) = opened.place().await?;
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
        // It counts what says that this process had the prefix, too.
        delete(&place, exclusive, &progress).await.with_context(|| url.clone())?;
        Said::new(format!("{url}: {objects_said} deleted\n"), json!({ "deleted": objects }))
    }
}

fn without_parameters(url: &BucketUrl) -> String {
    let url = url.to_string();
    url.split_once('?').map_or(url.as_str(), |(place, _)| place).to_owned()
}
