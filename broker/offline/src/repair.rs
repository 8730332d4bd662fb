//! What [`verify`](crate::verify) finds, mended as far as nothing sound is lost by it; and shards given up.

use std::collections::BTreeMap;

use bucketmq_cluster::ObjectError;
use bucketmq_storage::offline::{At, Reader, Writer, copy_objects, delete_objects};
use bucketmq_storage::record::Record;
use bucketmq_storage::{ReadError, ShardId};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use serde::Serialize;
use serde_json::json;
use thiserror::Error;

use crate::Progress;
use crate::exclusive::{Exclusive, OwnError};
use crate::json::{hex, now_ms, stamp};
use crate::site::Site;
use crate::snapshot::{self, SnapshotError};
use crate::verify::{Finding, Remedy, Report, verify};

/// Where everything goes that is taken out.
pub const ABANDONED: &str = "abandoned";

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Repaired {
    /// Records that were kept in an object of their own and taken out.
    pub set_aside: u64,
    /// The objects they are in.
    pub kept_in: Vec<String>,
    /// Queues whose place was written anew.
    pub cursors: u64,
    /// Shards whose epoch was raised.
    pub epochs: u64,
    /// What stays as it is.
    pub left: Vec<Finding>,
}

/// It could not be mended. What was done so far is sound.
#[derive(Debug, Error)]
pub enum RepairError {
    /// A shard.
    #[error("cannot be mended")]
    Shard(#[from] ReadError),
    /// What was to be kept could not be.
    #[error("what is set aside could not be kept, so nothing was taken out")]
    Keep(#[from] object_store::Error),
    /// An epoch.
    #[error("an epoch could not be raised")]
    Epoch(#[from] ObjectError),
    /// Snapshots could not be looked at.
    #[error(transparent)]
    Snapshots(#[from] SnapshotError),
    /// A broker has come for the bucket meanwhile.
    #[error("a broker comes first")]
    Own(#[from] OwnError),
    /// Nothing is lost, so nothing is given up.
    #[error("shard {0} can be read whole: nothing was done; --force gives it up all the same")]
    Sound(ShardId),
    /// The bucket does not let it be read.
    #[error("shard {shard} may be sound, the bucket does not let it be read: {problem}")]
    Unread {
        /// Which.
        shard: ShardId,
        /// Why.
        problem: String,
    },
    /// There is no such shard.
    #[error("there is no shard {0}: {1} shards, from 00")]
    NoShard(ShardId, u16),
}

/// Mends what `report` tells.
pub async fn repair(site: &Site, exclusive: &Exclusive, report: &Report, progress: Progress<'_>) -> Result<Repaired, RepairError> {
    let mut repaired = Repaired::default();
    let mut by_shard: BTreeMap<u16, Vec<&Finding>> = BTreeMap::new();
    for finding in &report.findings {
        match &finding.remedy {
            Remedy::None => repaired.left.push(finding.clone()),
            Remedy::RaiseEpoch { epoch } => {
                exclusive.raise_epochs(*epoch).await?;
                repaired.epochs += 1;
            }
            Remedy::SetAside { .. } | Remedy::WriteCursor { .. } => by_shard.entry(finding.shard).or_default().push(finding),
        }
    }
    for (shard, findings) in by_shard {
        progress(&format!("shard {shard:02}: {} records", findings.len()));
        mend_shard(site, exclusive, ShardId(shard), &findings, &mut repaired).await?;
    }
    Ok(repaired)
}

async fn mend_shard(
    site: &Site,
    exclusive: &Exclusive,
    shard: ShardId,
    findings: &[&Finding],
    repaired: &mut Repaired,
) -> Result<(), RepairError> {
    // First what is taken out is somewhere else.
    let reader = Reader::open(&site.place, &site.root, shard, At::Now).await?;
    let mut kept = Vec::new();
    for finding in findings {
        let Remedy::SetAside { key } = &finding.remedy else { continue };
        let value = reader.get(key).await?.unwrap_or_default();
        let line = json!({ "shard": shard.0, "key_hex": hex(key), "value_hex": hex(&value), "problem": finding.problem });
        kept.extend_from_slice(format!("{line}\n").as_bytes());
    }
    reader.close().await;
    if !kept.is_empty() {
        let object = format!("{ABANDONED}/{}/{shard}.jsonl", stamp(now_ms()));
        site.place.bucket.put(&Path::from(object.as_str()), PutPayload::from(kept)).await?;
        repaired.kept_in.push(object);
    }
    let mut writer = exclusive.writer(site, shard).await?;
    for finding in findings {
        match &finding.remedy {
            Remedy::SetAside { key } => {
                writer.row(key, None).await?;
                repaired.set_aside += 1;
            }
            Remedy::WriteCursor { key, cursor } => {
                writer.row(key, Some(&cursor.encode())).await?;
                repaired.cursors += 1;
            }
            Remedy::None | Remedy::RaiseEpoch { .. } => {}
        }
    }
    Ok(writer.close().await?)
}

/// A shard that was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Abandoned {
    /// Which.
    pub shard: u16,
    /// Its objects.
    pub objects: u64,
    /// Where they are now, below the prefix.
    pub to: String,
    /// Snapshots that hold it, and have it from there now.
    pub snapshots: u64,
}

/// Makes sure that something of `shard` is lost before it is given up.
pub async fn expect_loss(site: &Site, shard: ShardId, progress: Progress<'_>) -> Result<(), RepairError> {
    let report = verify(site, Some(shard), progress).await;
    match report.findings.iter().find(|finding| finding.is_unread) {
        _ if report.findings.iter().any(Finding::is_loss) => Ok(()),
        Some(unread) => Err(RepairError::Unread { shard, problem: unread.problem.clone() }),
        None => Err(RepairError::Sound(shard)),
    }
}

/// Gives `shard` up: its objects go aside, whole, and it begins anew with nothing in it. Snapshots find it where it went.
pub async fn abandon(site: &Site, exclusive: &Exclusive, shard: ShardId, progress: Progress<'_>) -> Result<Abandoned, RepairError> {
    if shard.0 >= site.place.shards.count() {
        return Err(RepairError::NoShard(shard, site.place.shards.count()));
    }
    let folder = format!("{ABANDONED}/{}", stamp(now_ms()));
    let (from, to) = (format!("{}/{shard}", site.root.folder()), format!("{folder}/{shard}"));
    progress(&format!("copying shard {shard} to {to}"));
    let objects = copy_objects(&site.place, &from, &to).await?;
    exclusive.check().await?;
    let snapshots = snapshot::follow(&site.place, site.root.folder(), shard, &folder).await?;
    progress(&format!("deleting {from}"));
    delete_objects(&site.place, &from).await?;
    Writer::begin(&site.place, &site.root, shard).await?;
    Ok(Abandoned { shard: shard.0, objects, to, snapshots })
}
