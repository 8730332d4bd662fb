//! Back to a snapshot: its shards are cloned into a folder of their own, beside those in force, and then one conditional write puts that folder in
//! force. What was there stays in its folder, behind a snapshot of its own.

use bucketmq_cluster::ObjectError;
use bucketmq_storage::offline::{At, Objects, Reader, clone_shard, delete_objects, format_of};
use bucketmq_storage::record::applied::Applied;
use bucketmq_storage::record::outbox::Chunk;
use bucketmq_storage::record::{Kind, Record};
use bucketmq_storage::root::{Root, RootError};
use bucketmq_storage::{ReadError, ShardId};
use futures_util::stream::iter;
use futures_util::{StreamExt, TryStreamExt};
use serde::Serialize;
use thiserror::Error;

use crate::exclusive::{Exclusive, OwnError};
use crate::json::{now_ms, stamp};
use crate::site::Site;
use crate::snapshot::{self, Snapshot, SnapshotError};
use crate::{Progress, SHARDS_AT_ONCE, chain};

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
    let restoring = site.place.shards.all().map(|shard| restore_shard(site, snapshot, shard, &to, progress));
    let epochs: Vec<u64> = match iter(restoring).buffered(SHARDS_AT_ONCE).try_collect().await {
        Ok(epochs) => epochs,
        Err(error) => {
            // Nobody is going to use it.
            let _ = delete_objects(&site.place, to.folder()).await;
            return Err(error);
        }
    };
    let epoch = epochs.into_iter().fold(exclusive.epoch(), u64::max);
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

/// Makes `shard` of `to` what it was at `snapshot`: the largest epoch that stands anywhere in it, then or now.
async fn restore_shard(site: &Site, snapshot: &Snapshot, shard: ShardId, to: &Root, progress: Progress<'_>) -> Result<u64, RestoreError> {
    progress(&format!("restoring shard {shard}"));
    let from = snapshot.root_of(shard);
    let checkpoint = snapshot.checkpoint_of(shard)?;
    let then = last_epoch(site, &from, shard, At::Checkpoint(checkpoint)).await?;
    // What is in force may be damaged, which can be why somebody restores.
    let now = last_epoch(site, &site.root, shard, At::Now).await.unwrap_or(0);
    clone_shard(&site.place, &from, checkpoint, to, shard).await?;
    if let Some(object) = Objects::new(&site.place, to, shard).missing().await?.into_iter().next() {
        return Err(RestoreError::Missing { shard, object });
    }
    let format = format_of(&site.place, to, shard).await?;
    format.filter(|format| format.shard == shard).ok_or_else(|| ReadError { shard, source: "it is not this shard".into() })?;
    Ok(then.max(now))
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
        epoch = epoch.max(Chunk::decode_key(&row.key).map_err(wrong)?.epoch);
    }
    Ok(epoch)
}
