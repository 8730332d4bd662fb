//! `clone` and `export`: everything somewhere else.

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::PathBuf;

use anyhow::Context;
use bucketmq_bucket::{BucketConfig, BucketUrl};
use bucketmq_offline::clone::{self, Cloned};
use bucketmq_offline::export::{self, ExportError};
use bucketmq_offline::snapshot::{self, Snapshot};
use bucketmq_offline::{Site, chain};
use clap::Args;

use super::place::{BucketOf, Opened};
use super::text::{bytes, count};
use super::{Answer, Failure, Said, progress, snapshots};
use crate::durable::open::open_bucket;

/// What the snapshot is called that a clone without one makes and deletes again.
const CLONE: &str = "clone";

pub(super) const CLONE_HELP: &str = "\
Examples:
  bucketmq bucket clone s3://fleet/staging?region=eu-central-1 --bucket s3://fleet/prod?region=eu-central-1
      as it is now: a snapshot is taken for it, by the broker if one serves, and deleted afterwards
  bucketmq bucket clone file:///tmp/yesterday --snapshot '2026-11-22 18:00:00' --bucket s3://fleet/prod?region=eu-central-1

The target has to be empty. Until the copy is whole no broker starts on it; what is left of one that was interrupted goes with
`bucketmq bucket delete`.

Exit codes: 0 copied, 1 failed, 2 wrong command line, 75 a broker owns the bucket and takes no snapshot, 78 wrong configuration.";

pub(super) const EXPORT_HELP: &str = "\
Examples:
  bucketmq bucket export --bucket s3://fleet/prod?region=eu-central-1 | jq -r 'select(.kind == \"session\").client_id'
  bucketmq bucket export --snapshot before-upgrade --output prod.jsonl --bucket s3://fleet/prod?region=eu-central-1

One object a line, whose kind says what it is; broker/docs/bucket-tools.md has all kinds. Without --snapshot each shard is written as it is at
its moment, which matters while a broker serves.

Exit codes: 0 written, 1 failed and not whole, 2 wrong command line, 78 wrong configuration.";

#[derive(Debug, Args)]
pub(super) struct CloneArgs {
    /// Where to: a bucket and prefix with nothing in it.
    #[arg(value_name = "TARGET-URL")]
    target: BucketUrl,
    /// Copies this snapshot instead of what is there now: its name, the part behind the time, or a time, meaning the last one before it.
    #[arg(long, value_name = "SNAPSHOT|TIME")]
    snapshot: Option<String>,
    #[command(flatten)]
    place: BucketOf,
    #[command(flatten)]
    pub(super) answer: Answer,
}

impl CloneArgs {
    pub(super) async fn run(self) -> Result<Said, Failure> {
        let config = self.place.configured()?;
        if overlap(&config.url, &self.target) {
            let problem = format!("{} and {} lie in each other: deleting one would take the other with it", config.url, self.target);
            return Err(Failure::Usage(problem));
        }
        // What is copied is looked at first: a mistyped source leaves nothing at the target.
        let source = self.place.open().await?;
        let site = source.site().await?;
        let named = named(&source, &site, self.snapshot.as_deref()).await?;
        let to = open_bucket(&BucketConfig { url: self.target.clone(), ..config }).await.context("the target")?;
        let to = to.ok_or_else(|| Failure::Usage("memory:// keeps nothing: name another target".into()))?;
        clone::expect_empty(to.store()).await.with_context(|| self.target.to_string())?;
        let (taken, is_temporary) = match named {
            Some(named) => (named, false),
            None => (snapshots::take(&source, &site, CLONE).await?, true),
        };
        // The snapshot may have been taken in another folder than the one that was in force above.
        let outcome = clone::clone(&site, Some(&taken), to.store(), &progress).await;
        if is_temporary && let Err(error) = snapshot::delete(&site.place, &taken).await {
            eprintln!("the snapshot {} that was taken for this stays: {}", taken.name, chain(&error));
        }
        let cloned = outcome.with_context(|| self.target.to_string())?;
        let Cloned { records, bytes: size, epoch } = &cloned;
        let text = format!(
            "{} of {} copied to {}\nepochs go on above {epoch}; a broker may be started there\n",
            count(*records, "record", "records"),
            bytes(*size),
            self.target,
        );
        Said::new(text, &cloned)
    }
}

async fn named(opened: &Opened, site: &Site, wanted: Option<&str>) -> Result<Option<Snapshot>, Failure> {
    let Some(wanted) = wanted else { return Ok(None) };
    Ok(Some(snapshot::find(&site.place, wanted).await.with_context(|| opened.bucket.url().to_string())?))
}

/// True when one of them lies in the other, or is it.
fn overlap(one: &BucketUrl, other: &BucketUrl) -> bool {
    let lies_in = |one: &object_store::path::Path, other: &object_store::path::Path| one.prefix_matches(other) || other.prefix_matches(one);
    match (one, other) {
        (BucketUrl::S3(one), BucketUrl::S3(other)) => {
            (&one.bucket, &one.endpoint) == (&other.bucket, &other.endpoint) && lies_in(&one.prefix, &other.prefix)
        }
        (BucketUrl::Gcs(one), BucketUrl::Gcs(other)) => one.bucket == other.bucket && lies_in(&one.prefix, &other.prefix),
        (BucketUrl::Azure(one), BucketUrl::Azure(other)) => {
            (&one.account, &one.container) == (&other.account, &other.container) && lies_in(&one.prefix, &other.prefix)
        }
        (BucketUrl::File(one), BucketUrl::File(other)) => one.starts_with(other) || other.starts_with(one),
        _ => false,
    }
}

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    place: BucketOf,
    /// Writes this snapshot instead of what is there now: its name, the part behind the time, or a time, meaning the last one before it.
    #[arg(long, value_name = "SNAPSHOT|TIME")]
    snapshot: Option<String>,
    /// The file, which must not be there yet; stdout without it.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl ExportArgs {
    pub(super) async fn run(self) -> Result<Said, Failure> {
        let opened = self.place.open().await?;
        let site = opened.site().await?;
        let snapshot = named(&opened, &site, self.snapshot.as_deref()).await?;
        let mut out: Box<dyn Write + Send> = match &self.output {
            Some(file) => Box::new(BufWriter::new(File::create_new(file).with_context(|| file.display().to_string())?)),
            None => Box::new(BufWriter::new(io::stdout())),
        };
        match export::export(&site, snapshot.as_ref(), &mut out, &progress).await {
            Ok(lines) => eprintln!("{} written", count(lines, "line", "lines")),
            // That the reader has gone, as `head` does, is no failure.
            Err(ExportError::Write(error)) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(error) => return Err(anyhow::Error::new(error).context("not everything is written").into()),
        }
        Said::new(String::new(), ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_lies_beside_what_it_is_made_of() {
        let overlap = |one: &str, other: &str| overlap(&one.parse().unwrap(), &other.parse().unwrap());
        assert!(overlap("s3://fleet/prod?region=a", "s3://fleet/prod"));
        assert!(overlap("s3://fleet/prod", "s3://fleet/prod/copy") && overlap("s3://fleet", "s3://fleet/copy"));
        assert!(!overlap("s3://fleet/prod", "s3://fleet/prod-copy") && !overlap("s3://fleet/prod", "s3://other/prod"));
        assert!(!overlap("s3://fleet/prod", "gs://fleet/prod") && !overlap("gs://fleet/a", "gs://fleet/b"));
        assert!(overlap("file:///var/a", "file:///var/a/b") && !overlap("file:///var/a", "file:///var/ab"));
        assert!(overlap("az://account/state", "az://account/state/x") && !overlap("az://account/state", "az://account/other"));
    }
}
