//! `snapshot`, `snapshots` and `restore`.

use anyhow::Context;
use bucketmq_offline::restore::{self, Restored};
use bucketmq_offline::snapshot::{self, Snapshot};
use bucketmq_offline::{Site, request};
use clap::Args;
use serde_json::json;

use super::place::{BucketOf, Opened};
use super::text::{count, table};
use super::{Answer, Failure, Said, progress};

/// What a snapshot is called that is not given a name.
const MANUAL: &str = "manual";

pub(super) const SNAPSHOT_HELP: &str = "\
Examples:
  bucketmq bucket snapshot --bucket s3://fleet/prod?region=eu-central-1
  bucketmq bucket snapshot before-upgrade --config /etc/bucketmq/bucketmq.toml --json

A broker that serves the bucket is asked through the bucket itself. A snapshot copies nothing: it keeps what is there from being deleted.

Exit codes: 0 taken, 1 failed, 2 wrong command line, 75 a broker owns the bucket and takes no snapshot, 78 wrong configuration.";

pub(super) const SNAPSHOTS_HELP: &str = "\
Examples:
  bucketmq bucket snapshots --bucket s3://fleet/prod?region=eu-central-1
  bucketmq bucket snapshots --delete 20261123T101500000Z-before-upgrade --bucket s3://fleet/prod?region=eu-central-1

Exit codes: 0 listed or deleted, 1 failed, 2 wrong command line, 78 wrong configuration.";

pub(super) const RESTORE_HELP: &str = "\
Examples:
  bucketmq bucket restore before-upgrade --bucket s3://fleet/prod?region=eu-central-1
  bucketmq bucket restore '2026-11-23 10:15:00' --bucket s3://fleet/prod?region=eu-central-1
      the last snapshot before that time (UTC, or with a zone as in RFC 3339)

Stop the broker first. What is there now becomes the snapshot before-restore, so that a restore can be undone by another one.

Exit codes: 0 restored, 1 failed and as it was, 2 wrong command line, 75 a broker is using the bucket, 78 wrong configuration.";

#[derive(Debug, Args)]
pub(super) struct SnapshotArgs {
    /// What to call it: letters, digits, '-', '_' and '.'.
    #[arg(default_value = MANUAL)]
    name: String,
    #[command(flatten)]
    place: BucketOf,
    #[command(flatten)]
    pub(super) answer: Answer,
}

impl SnapshotArgs {
    pub(super) async fn run(self) -> Result<Said, Failure> {
        snapshot::check_label(&self.name).map_err(|error| Failure::Usage(error.to_string()))?;
        let opened = self.place.open().await?;
        let site = opened.site().await?;
        let taken = take(&opened, &site, &self.name).await?;
        let held = taken
            .held_ms
            .map_or_else(|| "no broker was serving".to_owned(), |held_ms| format!("its broker held acknowledgements for {held_ms} ms"));
        Said::new(format!("{}\n{}, {held}\n", taken.name, count(taken.shards.len() as u64, "shard", "shards")), &taken)
    }
}

/// A snapshot of now: by the broker that serves the bucket, or here.
pub(super) async fn take(opened: &Opened, site: &Site, label: &str) -> Result<Snapshot, Failure> {
    if site.owner.is_some()
        && let Some(name) = request::ask(&site.place, label, &progress).await?
    {
        return Ok(snapshot::find(&site.place, &name).await?);
    }
    let (site, exclusive) = opened.own_site(site).await?;
    let taken = snapshot::make(&site, &exclusive, label, &progress).await;
    exclusive.release().await;
    Ok(taken?)
}

#[derive(Debug, Args)]
pub(super) struct SnapshotsArgs {
    #[command(flatten)]
    place: BucketOf,
    /// Deletes this one, and what only it kept; may be repeated.
    #[arg(long, value_name = "SNAPSHOT")]
    delete: Vec<String>,
    #[command(flatten)]
    pub(super) answer: Answer,
}

impl SnapshotsArgs {
    pub(super) async fn run(self) -> Result<Said, Failure> {
        let opened = self.place.open().await?;
        let site = opened.damaged_site().await?;
        if self.delete.is_empty() {
            let snapshots = snapshot::list(&site.place).await?;
            return Said::new(listed(&site, &snapshots), json!({ "in_force": site.root.folder(), "snapshots": snapshots }));
        }
        let mut found = Vec::new();
        for wanted in &self.delete {
            // By its full name only: the last one before a time is no target of a deletion.
            let snapshots = snapshot::list(&site.place).await?;
            let named = snapshots.into_iter().find(|snapshot| snapshot.name == *wanted);
            found.push(named.ok_or_else(|| anyhow::anyhow!("no snapshot is called {wanted:?}; without --delete they are listed"))?);
        }
        let (mut text, mut deleted) = (String::new(), Vec::new());
        for snapshot in &found {
            progress(&format!("deleting {}", snapshot.name));
            let gone = snapshot::delete(&site.place, snapshot).await.with_context(|| snapshot.name.clone())?;
            text += &format!("{} is deleted", gone.name);
            if let Some(folder) = &gone.folder {
                text += &format!(", and with it {} of {folder}/, which nobody needs any more", count(gone.objects, "object", "objects"));
            }
            text.push('\n');
            deleted.push(gone);
        }
        Said::new(text, json!({ "deleted": deleted }))
    }
}

fn listed(site: &Site, snapshots: &[Snapshot]) -> String {
    if snapshots.is_empty() {
        return "no snapshots\n".to_owned();
    }
    let row = |snapshot: &Snapshot| {
        let held = snapshot.held_ms.map_or_else(|| "-".to_owned(), |held_ms| format!("{held_ms} ms"));
        let how = if snapshot.scheduled { "schedule" } else { "person" };
        let folder = if snapshot.folder == site.root.folder() { "in force" } else { snapshot.folder.as_str() };
        vec![snapshot.name.clone(), snapshot.made_at.clone(), how.to_owned(), held, folder.to_owned()]
    };
    table(&["snapshot", "taken at", "by", "held", "shards in"], &snapshots.iter().map(row).collect::<Vec<_>>())
}

#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// The snapshot: its name, the part behind the time, or a time, meaning the last one before it.
    #[arg(value_name = "SNAPSHOT|TIME")]
    snapshot: String,
    #[command(flatten)]
    place: BucketOf,
    #[command(flatten)]
    pub(super) answer: Answer,
}

impl RestoreArgs {
    pub(super) async fn run(self) -> Result<Said, Failure> {
        let opened = self.place.open().await?;
        let site = opened.damaged_site().await?;
        let wanted = snapshot::find(&site.place, &self.snapshot).await.with_context(|| opened.bucket.url().to_string())?;
        let (site, exclusive) = opened.own_site(&site).await?;
        let outcome = restore::restore(&site, &exclusive, &wanted, &progress).await;
        exclusive.release().await;
        let restored = outcome?;
        let Restored { snapshot, folder, before, before_problem, folder_before, epoch } = &restored;
        let before = match (before, before_problem) {
            (Some(before), _) => format!("the snapshot {before}"),
            (None, problem) => {
                let problem = problem.as_deref().unwrap_or_default();
                format!("still in {folder_before}/, without a snapshot, for it cannot be opened whole: {problem}")
            }
        };
        let text = format!(
            "{snapshot} is in force, in {folder}/\nwhat was there before is {before}\nepochs go on above {epoch}; a broker may be started\n"
        );
        Said::new(text, &restored)
    }
}
