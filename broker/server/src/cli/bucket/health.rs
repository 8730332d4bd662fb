//! `verify`, `repair` and `upgrade`: whether everything can be read, and what is done when it cannot.

use std::collections::BTreeSet;

use bucketmq_offline::repair::{self, Abandoned, Repaired};
use bucketmq_offline::verify::{self, Finding, Remedy, Report};
use bucketmq_offline::{Exclusive, Site, upgrade};
use bucketmq_storage::ShardId;
use clap::Args;
use serde_json::json;

use super::place::{BucketOf, shard_of};
use super::text::count;
use super::{Answer, Failure, Said, progress};

/// Findings that are printed; `--json` has more.
const SHOWN: usize = 100;

pub(super) const VERIFY_HELP: &str = "\
Examples:
  bucketmq bucket verify --bucket s3://fleet/prod?region=eu-central-1
  bucketmq bucket verify --config /etc/bucketmq/bucketmq.toml --shard 07 --json

It reads everything once: expect a request for each object and the traffic of all of them.

Exit codes: 0 all is well, 1 something is wrong, 2 wrong command line, 78 wrong configuration.";

pub(super) const REPAIR_HELP: &str = "\
Examples:
  bucketmq bucket repair --bucket s3://fleet/prod?region=eu-central-1
      mends records; what is taken out is kept below abandoned/
  bucketmq bucket repair --abandon 07 --bucket s3://fleet/prod?region=eu-central-1
      the shard cannot be read and no snapshot is to be restored: its Sessions, queues and retained messages are given up, the others stay

Nothing is deleted: a shard that is given up is moved to abandoned/<time>/NN, and snapshots find it there.

Exit codes: 0 all is well now, 1 failed or something is left, 2 wrong command line, 75 a broker is using the bucket, 78 wrong configuration.";

pub(super) const UPGRADE_HELP: &str = "\
Examples:
  bucketmq bucket upgrade --bucket s3://fleet/prod?region=eu-central-1

Exit codes: 0 all is in the format of this release, 1 failed, 2 wrong command line, 75 a broker is using the bucket, 78 wrong configuration.";

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    place: BucketOf,
    /// Only this shard.
    #[arg(long, value_name = "NN")]
    shard: Option<u16>,
    #[command(flatten)]
    pub(super) answer: Answer,
}

impl VerifyArgs {
    pub(super) async fn run(self) -> Result<Said, Failure> {
        let opened = self.place.open().await?;
        let site = opened.damaged_site().await?;
        let only = shard_of(&site, self.shard)?;
        let report = verify::verify(&site, only, &progress).await;
        Ok(Said { is_well: report.is_clean(), ..Said::new(verified(&report), &report)? })
    }
}

fn verified(report: &Report) -> String {
    let mut text: String = report.findings.iter().take(SHOWN).map(|finding| format!("{finding}\n")).collect();
    if report.faults > SHOWN as u64 {
        text += &format!("and {} more; --json has up to 10000\n", report.faults - SHOWN as u64);
    }
    text += &format!(
        "{}, {}, {} read: {}\n",
        count(report.shards, "shard", "shards"),
        count(report.objects, "object", "objects"),
        count(report.records, "record", "records"),
        if report.is_clean() { "all is well".to_owned() } else { count(report.faults, "fault", "faults") },
    );
    if report.left_over > 0 {
        text += &format!(
            "{} of Sessions that have ended: a broker deletes them when it starts\n",
            count(report.left_over, "record", "records")
        );
    }
    if report.findings.iter().any(|finding| finding.remedy != Remedy::None) {
        text += "`bucketmq bucket repair` mends records\n";
    }
    let shards = |is: fn(&Finding) -> bool| -> BTreeSet<u16> {
        report.findings.iter().filter(|finding| is(finding)).map(|finding| finding.shard).collect()
    };
    for shard in shards(Finding::is_loss) {
        text += &format!(
            "shard {shard:02}: put its objects back if you have them, restore a snapshot, or give it up: `bucketmq bucket repair --abandon {shard:02}`\n"
        );
    }
    if !shards(|finding| finding.is_unread).is_empty() {
        text += "what the bucket does not let be read may be sound: mend what it says, and verify again\n";
    }
    text
}

#[derive(Debug, Args)]
pub(super) struct RepairArgs {
    #[command(flatten)]
    place: BucketOf,
    /// Gives this shard up, and nothing else; may be repeated.
    #[arg(long, value_name = "NN")]
    abandon: Vec<u16>,
    /// Gives it up even if all of it can be read.
    #[arg(long, requires = "abandon")]
    force: bool,
    #[command(flatten)]
    pub(super) answer: Answer,
}

impl RepairArgs {
    pub(super) async fn run(self) -> Result<Said, Failure> {
        let opened = self.place.open().await?;
        let site = opened.damaged_site().await?;
        for shard in &self.abandon {
            shard_of(&site, Some(*shard))?;
        }
        let (site, exclusive) = opened.own_site(&site).await?;
        let outcome = match &self.abandon[..] {
            [] => mend(&site, &exclusive).await,
            shards => abandon(&site, &exclusive, shards, self.force).await,
        };
        exclusive.release().await;
        outcome
    }
}

async fn mend(site: &Site, exclusive: &Exclusive) -> Result<Said, Failure> {
    let report = verify::verify(site, None, &progress).await;
    let repaired = repair::repair(site, exclusive, &report, &progress).await?;
    let Repaired { set_aside, kept_in, cursors, epochs, left } = &repaired;
    let mut text: String = left.iter().take(SHOWN).map(|finding| format!("left as it is: {finding}\n")).collect();
    if report.is_clean() {
        text += "nothing to mend\n";
    }
    if *set_aside > 0 {
        text += &format!("{} set aside in {}\n", count(*set_aside, "record", "records"), kept_in.join(", "));
    }
    if *cursors > 0 {
        text += &format!("{} counted anew\n", count(*cursors, "queue", "queues"));
    }
    if *epochs > 0 {
        text += &format!("the epoch of {} raised\n", count(*epochs, "shard", "shards"));
    }
    Ok(Said { is_well: left.is_empty(), ..Said::new(text, &repaired)? })
}

async fn abandon(site: &Site, exclusive: &Exclusive, shards: &[u16], force: bool) -> Result<Said, Failure> {
    let mut abandoned = Vec::new();
    let mut text = String::new();
    for shard in shards.iter().map(|shard| ShardId(*shard)) {
        if !force {
            repair::expect_loss(site, shard, &progress).await?;
        }
        let given_up = repair::abandon(site, exclusive, shard, &progress).await?;
        let Abandoned { shard, objects, to, snapshots } = &given_up;
        text += &match objects {
            0 => format!("shard {shard:02} had no objects and begins anew\n"),
            _ => format!("shard {shard:02} is given up: its {} are in {to}, and it begins anew\n", count(*objects, "object", "objects")),
        };
        if *snapshots > 0 {
            text += &format!("{} of it there\n", count(*snapshots, "snapshot knows", "snapshots know"));
        }
        abandoned.push(given_up);
    }
    Said::new(text, json!({ "abandoned": abandoned }))
}

#[derive(Debug, Args)]
pub(super) struct UpgradeArgs {
    #[command(flatten)]
    place: BucketOf,
    #[command(flatten)]
    pub(super) answer: Answer,
}

impl UpgradeArgs {
    pub(super) async fn run(self) -> Result<Said, Failure> {
        let opened = self.place.open().await?;
        let (site, exclusive) = opened.own_site(&opened.site().await?).await?;
        let outcome = upgrade::upgrade(&site, &exclusive, &progress).await;
        exclusive.release().await;
        let upgraded = outcome?;
        let what = match upgraded.rewritten {
            0 => "all is in it already, nothing was written".to_owned(),
            rewritten => format!("{} written anew", count(rewritten, "record", "records")),
        };
        let text = format!(
            "format {} is current (this release opens {} to {}): {} in {} looked at, {what}\n",
            upgraded.format,
            upgraded.oldest,
            upgraded.format,
            count(upgraded.records, "record", "records"),
            count(upgraded.shards, "shard", "shards"),
        );
        Said::new(text, &upgraded)
    }
}
