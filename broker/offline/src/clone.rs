//! A copy of everything into another prefix or bucket, which owes nothing to where it came from.
//!
//! Rows are copied, not objects: whoever has rights on the copy alone can use it, nothing of the source is held for it, and what was deleted does
//! not come along. Until the copy is whole a broker refuses to start on it.

use std::sync::Arc;

use bucketmq_cluster::ObjectError;
use bucketmq_storage::durable::Place;
use bucketmq_storage::offline::{At, Reader, Writer};
use bucketmq_storage::record::Kind;
use bucketmq_storage::root::{FIRST_FOLDER, Root, RootError};
use bucketmq_storage::{ReadError, ShardId};
use futures_util::TryStreamExt;
use object_store::ObjectStore;
use object_store::path::Path;
use serde::Serialize;
use thiserror::Error;

use crate::Progress;
use crate::exclusive::begin_epochs;
use crate::restore::epoch_of;
use crate::site::Site;
use crate::snapshot::Snapshot;

/// Rows between two words about how far it is.
const PROGRESS_EVERY: u64 = 100_000;

/// What was copied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Cloned {
    /// Rows.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// The next broker there numbers its outboxes above this epoch.
    pub epoch: u64,
}

/// The copy is not whole, and no broker starts on it.
#[derive(Debug, Error)]
pub enum CloneError {
    /// There is something already.
    #[error("there is something at the target, such as {0}: it has to be empty")]
    NotEmpty(String),
    /// The target's bucket.
    #[error("the target cannot be read or written")]
    Target(#[from] object_store::Error),
    /// A shard, of the source or of the target.
    #[error(transparent)]
    Shard(#[from] ReadError),
    /// Who owns the target cannot be written down.
    #[error("the epochs of the target cannot be written")]
    Epoch(#[from] ObjectError),
    /// The target could not be begun or finished.
    #[error(transparent)]
    Root(#[from] RootError),
}

/// Copies `site`, as it is now or as it was at `snapshot`, into `target`, which begins at its prefix and is empty.
pub async fn clone(
    site: &Site,
    snapshot: Option<&Snapshot>,
    target: Arc<dyn ObjectStore>,
    progress: Progress<'_>,
) -> Result<Cloned, CloneError> {
    let to = Place { bucket: target, prefix: Path::default(), shards: site.place.shards };
    if let Some(object) = to.bucket.list(None).try_next().await? {
        return Err(CloneError::NotEmpty(object.location.to_string()));
    }
    let unfinished = Root::begin_unfinished(&to).await?;
    let from = snapshot.map_or_else(|| site.root.clone(), |snapshot| Root::at(&snapshot.folder));
    let mut cloned = Cloned::default();
    for shard in site.place.shards.all() {
        let checkpoint = snapshot.and_then(|snapshot| snapshot.shards.iter().find(|of| of.shard == shard.0));
        let at = checkpoint.map_or_else(|| site.now(), |of| At::Checkpoint(of.checkpoint));
        let reader = Reader::open(&site.place, &from, shard, at).await?;
        let copied = copy(&reader, &to, shard, &mut cloned, progress).await;
        reader.close().await;
        copied?;
    }
    cloned.epoch += 1;
    begin_epochs(&to, cloned.epoch).await?;
    unfinished.replace(&to, FIRST_FOLDER).await?;
    Ok(cloned)
}

async fn copy(reader: &Reader, to: &Place, shard: ShardId, cloned: &mut Cloned, progress: Progress<'_>) -> Result<(), ReadError> {
    cloned.epoch = cloned.epoch.max(epoch_of(reader).await?);
    let mut writer = Writer::open(to, &Root::at(FIRST_FOLDER), shard).await?;
    for kind in Kind::ALL {
        let mut rows = reader.rows(kind).await?;
        while let Some(row) = rows.next().await? {
            writer.row(&row.key, Some(&row.value)).await?;
            cloned.records += 1;
            cloned.bytes += (row.key.len() + row.value.len()) as u64;
            if cloned.records.is_multiple_of(PROGRESS_EVERY) {
                progress(&format!("shard {shard}: {} records in all", cloned.records));
            }
        }
    }
    progress(&format!("shard {shard} copied"));
    writer.close().await
}
