//! A copy of everything into another prefix or bucket, which owes nothing to where it came from.
//!
//! Rows are copied, not objects: whoever has rights on the copy alone can use it, nothing of the source is held for it, and what was deleted does
//! not come along. Until the copy is whole a broker refuses to start on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bucketmq_cluster::ObjectError;
use bucketmq_storage::durable::Place;
use bucketmq_storage::offline::{At, Reader, Writer};
use bucketmq_storage::record::Kind;
use bucketmq_storage::root::{FIRST_FOLDER, ROOT_OBJECT, Root, RootError};
use bucketmq_storage::{ReadError, ShardId};
use futures_util::stream::iter;
use futures_util::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use object_store::path::Path;
use serde::Serialize;
use thiserror::Error;

use crate::exclusive::begin_epochs;
use crate::restore::epoch_of;
use crate::site::Site;
use crate::snapshot::Snapshot;
use crate::{Progress, SHARDS_AT_ONCE};

/// Rows between two words about how far it is.
const PROGRESS_EVERY: u64 = 10_000;

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

/// Makes sure that there is nothing at `target`.
pub async fn expect_empty(target: Arc<dyn ObjectStore>) -> Result<(), CloneError> {
    expect_only(&*target, &[]).await
}

/// Copies `site`, as it was at `snapshot` or as it is while nobody writes there, into `target`, which begins at its prefix and is empty.
pub async fn clone(
    site: &Site,
    snapshot: Option<&Snapshot>,
    target: Arc<dyn ObjectStore>,
    progress: Progress<'_>,
) -> Result<Cloned, CloneError> {
    let to = Place { bucket: target, prefix: Path::default(), shards: site.place.shards };
    expect_only(&*to.bucket, &[]).await?;
    let unfinished = Root::begin_unfinished(&to).await?;
    // A broker that has begun there meanwhile has either been seen now, or sees that this is not finished.
    expect_only(&*to.bucket, &[ROOT_OBJECT]).await?;
    let total = AtomicU64::new(0);
    let copying = site.place.shards.all().map(|shard| copy_shard(site, snapshot, shard, &to, &total, progress));
    let copies: Vec<Cloned> = iter(copying).buffer_unordered(SHARDS_AT_ONCE).try_collect().await?;
    let mut cloned = Cloned::default();
    for copy in copies {
        cloned.records += copy.records;
        cloned.bytes += copy.bytes;
        cloned.epoch = cloned.epoch.max(copy.epoch);
    }
    cloned.epoch += 1;
    begin_epochs(&to, cloned.epoch).await?;
    unfinished.replace(&to, FIRST_FOLDER).await?;
    Ok(cloned)
}

/// `shard` as it was at `snapshot`, or as it is.
pub(crate) async fn open(site: &Site, snapshot: Option<&Snapshot>, shard: ShardId) -> Result<Reader, ReadError> {
    match snapshot {
        None => Reader::open(&site.place, &site.root, shard, site.now()).await,
        Some(snapshot) => Reader::open(&site.place, &snapshot.root_of(shard), shard, At::Checkpoint(snapshot.checkpoint_of(shard)?)).await,
    }
}

async fn expect_only(bucket: &dyn ObjectStore, allowed: &[&str]) -> Result<(), CloneError> {
    let mut listed = bucket.list(None);
    while let Some(object) = listed.try_next().await? {
        if !allowed.contains(&object.location.as_ref()) {
            return Err(CloneError::NotEmpty(object.location.to_string()));
        }
    }
    Ok(())
}

async fn copy_shard(
    site: &Site,
    snapshot: Option<&Snapshot>,
    shard: ShardId,
    to: &Place,
    total: &AtomicU64,
    progress: Progress<'_>,
) -> Result<Cloned, ReadError> {
    let reader = open(site, snapshot, shard).await?;
    let copied = copy(&reader, to, total, progress).await;
    reader.close().await;
    copied
}

async fn copy(reader: &Reader, to: &Place, total: &AtomicU64, progress: Progress<'_>) -> Result<Cloned, ReadError> {
    let mut cloned = Cloned { epoch: epoch_of(reader).await?, ..Cloned::default() };
    let mut writer = Writer::open(to, &Root::at(FIRST_FOLDER), reader.shard(), 0).await?;
    for kind in Kind::ALL {
        let mut rows = reader.rows(kind).await?;
        while let Some(row) = rows.next().await? {
            writer.row(&row.key, Some(&row.value)).await?;
            cloned.records += 1;
            cloned.bytes += (row.key.len() + row.value.len()) as u64;
            let total = total.fetch_add(1, Ordering::Relaxed) + 1;
            if total.is_multiple_of(PROGRESS_EVERY) {
                progress(&format!("{total} records copied"));
            }
        }
    }
    writer.close().await?;
    Ok(cloned)
}
