//! Back to a snapshot: its shards are cloned into a folder of their own, beside those in force, and then one conditional write puts that folder in
//! force. What was there stays in its folder, behind a snapshot of its own.

use bucketmq_cluster::ObjectError;
use bucketmq_storage::offline::{At, Objects, Reader, clone_shard, format_of};
use bucketmq_storage::record::applied::Applied;
use bucketmq_storage::record::outbox::Row;
use bucketmq_storage::record::{Kind, Record};
use bucketmq_storage::root::{Root, RootError};
use bucketmq_storage::{ReadError, ShardId};
use serde::Serialize;
use thiserror::Error;

use crate::exclusive::{Exclusive, OwnError};
use crate::json::{now_ms, stamp};
use crate::site::Site;
use crate::snapshot::{self, Snapshot, SnapshotError};
use crate::{Progress, chain};

/// Restored shards are below it.
pub const RESTORED: &str = "restored";
/// What the snapshot of what was there before is called.
pub const BEFORE: &str = "before-restore";

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// The snapshot that is in force now.
    pub snapshot: String,
    /// The folder of the shards.
    pub folder: String,
    /// The snapshot of what was in force before; none when that could not be opened, which stays in its folder all the same.
    pub before: Option<String>,
    /// Why there is none.
    pub before_problem: Option<String>,
    /// The folder of what was in force before.
    pub folder_before: String,
    /// The next broker numbers its outboxes above this epoch.
    pub epoch: u64,
}

/// It is as it was before.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// A shard of the snapshot.
    #[error("the snapshot cannot be used")]
    Shard(#[from] ReadError),
    /// It does not hold every shard.
    #[error("the snapshot holds {found} shards, and the bucket has {wanted}")]
    Shards {
        /// In the snapshot.
        found: usize,
        /// In the bucket.
        wanted: u16,
    },
    /// It is not whole.
    #[error("the snapshot cannot be used: shard {shard} wants the object {object}, which is not there")]
    Missing {
        /// Which shard.
        shard: ShardId,
        /// The first object that is not there.
        object: String,
    },
    /// An epoch could not be raised.
    #[error("an epoch could not be raised")]
    Epoch(#[from] ObjectError),
    /// A broker has come for the bucket meanwhile.
    #[error("a broker comes first")]
    Own(#[from] OwnError),
    /// The new folder could not be put in force.
    #[error(transparent)]
    Root(#[from] RootError),
    /// A snapshot of what is in force could not be written down.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

/// Puts `snapshot` in force.
pub async fn restore(site: &Site, exclusive: &Exclusive, snapshot: &Snapshot, progress: Progress<'_>) -> Result<Restored, RestoreError> {
    if snapshot.shards.len() != usize::from(site.place.shards.count()) {
        return Err(RestoreError::Shards { found: snapshot.shards.len(), wanted: site.place.shards.count() });
    }
    let (before, before_problem) = match snapshot::make(site, exclusive, BEFORE, progress).await {
        Ok(before) => (Some(before.name), None),
        Err(error) => (None, Some(chain(&error))),
    };
    let to = Root::at(&format!("{RESTORED}/{}", stamp(now_ms())));
    let mut epoch = exclusive.epoch();
    for shard in &snapshot.shards {
        let (id, at) = (ShardId(shard.shard), At::Checkpoint(shard.checkpoint));
        let from = snapshot.root_of(id);
        progress(&format!("restoring shard {id}"));
        epoch = epoch.max(last_epoch(site, &from, id, at).await?);
        // What is in force may be damaged, which can be why somebody restores.
        epoch = epoch.max(last_epoch(site, &site.root, id, At::Now).await.unwrap_or(0));
        clone_shard(&site.place, &from, shard.checkpoint, &to, id).await?;
        if let Some(object) = Objects::new(&site.place, &to, id).missing().await?.into_iter().next() {
            return Err(RestoreError::Missing { shard: id, object });
        }
    }
    for shard in site.place.shards.all() {
        let format = format_of(&site.place, &to, shard).await?;
        format.filter(|format| format.shard == shard).ok_or_else(|| ReadError { shard, source: "it is not this shard".into() })?;
    }
    exclusive.raise_epochs(epoch).await?;
    exclusive.check().await?;
    site.root.replace(&site.place, to.folder()).await?;
    Ok(Restored {
        snapshot: snapshot.name.clone(),
        folder: to.folder().to_owned(),
        before,
        before_problem,
        folder_before: site.root.folder().to_owned(),
        epoch,
    })
}

/// The largest epoch that rows and marks of a shard carry.
pub(crate) async fn last_epoch(site: &Site, root: &Root, shard: ShardId, at: At) -> Result<u64, ReadError> {
    let reader = Reader::open(&site.place, root, shard, at).await?;
    let epoch = epoch_of(&reader).await;
    reader.close().await;
    epoch
}

pub(crate) async fn epoch_of(reader: &Reader) -> Result<u64, ReadError> {
    let wrong = |error| ReadError { shard: reader.shard(), source: Box::new(error) };
    let mut epoch = 0;
    let mut rows = reader.rows(Kind::Applied).await?;
    while let Some(row) = rows.next().await? {
        epoch = epoch.max(Applied::decode(&row.value).map_err(wrong)?.number.epoch);
    }
    let mut rows = reader.rows(Kind::Outbox).await?;
    while let Some(row) = rows.next().await? {
        epoch = epoch.max(Row::decode_key(&row.key).map_err(wrong)?.epoch);
    }
    Ok(epoch)
}
