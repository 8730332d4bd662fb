//! Whether everything in a bucket can be read and fits together: every object to its end, every record, and what records say about each other.

mod shard;

use std::fmt;

use bucketmq_cluster::Objects as OwnObjects;
use bucketmq_storage::offline::{Objects, Reader, is_damage};
use bucketmq_storage::record::Kind;
use bucketmq_storage::record::cursor::Cursor;
use bucketmq_storage::{ReadError, ShardId};
use serde::Serialize;

use crate::json::hex;
use crate::site::Site;
use crate::{Progress, chain};
use shard::Check;

/// Findings that are kept; the others are counted.
const FINDINGS_MAX: usize = 10_000;
/// How often a shard with something wrong is looked at again while a broker works there.
const LOOKS_AGAIN: u32 = 2;
/// Objects and records between two words about how far it is.
const PROGRESS_EVERY: u64 = 10_000;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// In which shard.
    pub shard: u16,
    /// The object that cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// The record that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<RecordName>,
    /// What is wrong.
    pub problem: String,
    /// The bucket does not let it be read: nothing is known of what is there.
    pub is_unread: bool,
    /// What `repair` can do about it.
    pub remedy: Remedy,
}

/// A record, by what it is and its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecordName {
    /// Its kind; none when its key begins with no kind there is.
    pub kind: String,
    /// The whole key in hexadecimal.
    pub key: String,
}

/// What can be done without losing what is sound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "do")]
pub enum Remedy {
    /// Nothing: restore a snapshot, or give the shard up.
    None,
    /// The record is kept in an object of its own and taken out of the shard.
    SetAside {
        /// Its key.
        #[serde(skip)]
        key: Vec<u8>,
    },
    /// The record of where a queue stands is written anew from the queue.
    WriteCursor {
        /// Its key.
        #[serde(skip)]
        key: Vec<u8>,
        /// As it should be.
        #[serde(skip)]
        cursor: Cursor,
    },
    /// The epoch of the shard is raised.
    RaiseEpoch {
        /// To this.
        epoch: u64,
    },
}

impl Finding {
    /// Something in `shard`.
    fn of(shard: ShardId) -> Self {
        Self { shard: shard.0, object: None, record: None, problem: String::new(), is_unread: false, remedy: Remedy::None }
    }

    /// The shard, or a part of it, is lost: no record can be mended that cannot be read.
    pub fn is_loss(&self) -> bool {
        !self.is_unread && self.record.is_none() && self.remedy == Remedy::None
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "shard {:02}: ", self.shard)?;
        if let Some(object) = &self.object {
            write!(formatter, "object {object}: ")?;
        }
        if let Some(RecordName { kind, key }) = &self.record {
            write!(formatter, "{kind} record {key}: ")?;
        }
        formatter.write_str(&self.problem)
    }
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Shards that were looked at.
    pub shards: u64,
    /// Objects that were read.
    pub objects: u64,
    /// Records that were read.
    pub records: u64,
    /// What Sessions left behind when they ended; a broker deletes it when it starts.
    pub left_over: u64,
    /// Everything that is wrong, kept or not.
    pub faults: u64,
    /// The first of them.
    pub findings: Vec<Finding>,
}

impl Report {
    fn found(&mut self, finding: Finding) {
        self.faults += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }

    /// True when nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.faults == 0
    }
}

/// Reads everything in `site`, or in one shard of it.
pub async fn verify(site: &Site, only: Option<ShardId>, progress: Progress<'_>) -> Report {
    let mut report = Report::default();
    for shard in site.place.shards.all().filter(|shard| only.is_none_or(|only| only == *shard)) {
        report.shards += 1;
        verify_shard(site, shard, &mut report, progress).await;
    }
    report
}

async fn verify_shard(site: &Site, shard: ShardId, report: &mut Report, progress: Progress<'_>) {
    let wrong = |problem: String| Finding { problem, ..Finding::of(shard) };
    let unreadable = |error: &ReadError| Finding { is_unread: !is_damage(&*error.source), ..wrong(chain(&*error.source)) };
    let objects = Objects::new(&site.place, &site.root, shard);
    match objects.are_none().await {
        // A broker makes it anew.
        Ok(true) if shard_may_be_missing(site).await => return,
        Ok(true) => return report.found(wrong("it is not there, and others are".into())),
        Ok(false) => {}
        Err(error) => return report.found(unreadable(&error)),
    }
    let read = |count: u64| {
        if count.is_multiple_of(100) {
            progress(&format!("shard {shard}: {count} objects"));
        }
    };
    let mut count = 0;
    let mut counting = |so_far: u64| {
        count = so_far;
        read(so_far);
    };
    let mut checked = objects.check(&mut counting).await;
    // A broker that works there deletes what it needs no more, and what was looked for may have been of that.
    for _ in 0..if site.owner.is_some() { LOOKS_AGAIN } else { 0 } {
        if checked.as_ref().is_ok_and(Vec::is_empty) {
            break;
        }
        checked = objects.check(&mut counting).await;
    }
    let faults_before = report.faults;
    match checked {
        Ok(faults) => {
            for fault in faults {
                report.found(Finding { object: Some(fault.object), is_unread: !fault.is_damage, ..wrong(fault.problem) });
            }
        }
        Err(error) => report.found(unreadable(&error)),
    }
    report.objects += count;
    progress(&format!("shard {shard}: {count} objects read, now its records"));
    match verify_records(site, shard, report, progress).await {
        // What its objects have told already.
        Err(_) if report.faults > faults_before => {}
        Err(error) => report.found(unreadable(&error)),
        Ok(()) => {}
    }
}

/// Until a broker has started once, some shards may not have been made.
async fn shard_may_be_missing(site: &Site) -> bool {
    for shard in site.place.shards.all() {
        if !matches!(Objects::new(&site.place, &site.root, shard).are_none().await, Ok(true)) {
            return false;
        }
    }
    true
}

async fn verify_records(site: &Site, shard: ShardId, report: &mut Report, progress: Progress<'_>) -> Result<(), ReadError> {
    let reader = Reader::open(&site.place, &site.root, shard, site.now()).await?;
    let mut check = Check::new(shard, site.place.shards, report);
    let outcome = async {
        let mut count: u64 = 0;
        for kind in shard::ORDER {
            let mut rows = reader.rows(kind).await?;
            while let Some(row) = rows.next().await? {
                count += 1;
                if count.is_multiple_of(PROGRESS_EVERY) {
                    progress(&format!("shard {shard}: {count} records"));
                }
                check.row(kind, &row.key, &row.value);
            }
            check.end_of(kind);
        }
        Ok(count)
    };
    let outcome = outcome.await;
    reader.close().await;
    let marks = check.finish();
    report.records += outcome?;
    let own = OwnObjects::new(site.place.bucket.clone());
    for (publisher, epoch) in marks {
        // Without a record of who owns it the next owner's epoch is taken from the marks themselves.
        let Ok((Some(found), _)) = own.own(publisher).await else { continue };
        if epoch > found.epoch {
            let problem = format!(
                "its own/{publisher} has epoch {}, and shard {shard} has seen {epoch}: new QoS 2 messages would be taken for old ones",
                found.epoch
            );
            report.found(Finding { problem, remedy: Remedy::RaiseEpoch { epoch }, ..Finding::of(publisher) });
        }
    }
    Ok(())
}

impl RecordName {
    fn of(key: &[u8]) -> Self {
        Self { kind: Kind::of(key).map_or_else(|| "unknown".into(), |kind| kind.to_string()), key: hex(key) }
    }
}
