//! Snapshots: a name for one checkpoint of every shard, taken at one moment.
//!
//! `snapshots/<time>-<label>.json` lists them. The checkpoints stand in the manifests of the shards, so nothing they name is deleted until the
//! snapshot is. Written by a broker while it serves, or by a tool when none does.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, UNIX_EPOCH};

use bucketmq_storage::durable::Place;
use bucketmq_storage::offline::{Objects, delete_checkpoint, named_checkpoints};
use bucketmq_storage::root::{Root, RootError};
use bucketmq_storage::{ReadError, ShardId};
use futures_util::stream::iter;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

use crate::exclusive::Exclusive;
use crate::json::{now_ms, stamp, time};
use crate::site::Site;
use crate::{Progress, SHARDS_AT_ONCE, json};

/// Where they are listed.
pub const FOLDER: &str = "snapshots";
/// The format this release writes, and the only one there has been.
const FORMAT: u32 = 1;
/// Longest label.
pub const LABEL_MAX: usize = 64;
/// A checkpoint that no snapshot names is left alone for this long: its snapshot may be about to be listed. None takes a minute, and clocks may differ by
/// hours.
const ORPHAN_AFTER: Duration = Duration::from_secs(24 * 3600);
/// What a snapshot is called that nobody has named.
pub const SCHEDULED: &str = "scheduled";

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    format: u32,
    /// Its name: time and label.
    pub name: String,
    /// When it was taken, milliseconds since 1970.
    pub made_at_ms: u64,
    /// The same in RFC 3339.
    pub made_at: String,
    /// The release that made it.
    pub made_by: String,
    /// By the schedule, and so deleted by it.
    pub scheduled: bool,
    /// The folder of the shards.
    pub folder: String,
    /// Shards that were given up since, and the folders they are in instead.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub moved: BTreeMap<u16, String>,
    /// How long acknowledgements were held for it; `None` when no broker was serving.
    pub held_ms: Option<u64>,
    /// The checkpoint of each.
    pub shards: Vec<ShardCheckpoint>,
}

/// One shard in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardCheckpoint {
    /// Which.
    pub shard: u16,
    /// Its checkpoint.
    pub checkpoint: Uuid,
    /// The manifest that names its tables.
    pub manifest: u64,
}

/// A snapshot cannot be made, found or deleted.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// The bucket.
    #[error("the bucket does not do it")]
    Bucket(#[from] object_store::Error),
    /// A shard.
    #[error(transparent)]
    Shard(#[from] ReadError),
    /// The folder of the shards.
    #[error(transparent)]
    Root(#[from] RootError),
    /// An object that is not what this release writes.
    #[error("{object} is not a snapshot this release can read: {problem}")]
    Format {
        /// Which.
        object: String,
        /// Why.
        problem: String,
    },
    /// A label that cannot be part of an object's name.
    #[error("{0:?} is no name of a snapshot: 1 to {LABEL_MAX} letters, digits, '-', '_' and '.'")]
    Label(String),
    /// There is none of that name or before that time.
    #[error("there is no snapshot {0:?}, by name or before that time; `bucketmq bucket snapshots` lists them")]
    Unknown(String),
    /// Several end in it.
    #[error("{wanted:?} is the end of several names: {}", .names.join(", "))]
    Ambiguous {
        /// What was asked for.
        wanted: String,
        /// They.
        names: Vec<String>,
    },
}

/// A label as it may stand in a name.
pub fn check_label(label: &str) -> Result<(), SnapshotError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let good = (1..=LABEL_MAX).contains(&label.len()) && label.chars().all(plain);
    if good { Ok(()) } else { Err(SnapshotError::Label(label.to_owned())) }
}

impl Snapshot {
    /// A snapshot of the shards in `folder`, taken at `made_at_ms`.
    pub fn new(label: &str, made_at_ms: u64, folder: &str, scheduled: bool, held: Option<Duration>, shards: Vec<ShardCheckpoint>) -> Self {
        Self {
            format: FORMAT,
            name: format!("{}-{label}", stamp(made_at_ms)),
            made_at_ms,
            made_at: time(made_at_ms),
            made_by: env!("CARGO_PKG_VERSION").to_owned(),
            scheduled,
            folder: folder.to_owned(),
            moved: BTreeMap::new(),
            held_ms: held.map(|held| held.as_millis() as u64),
            shards,
        }
    }

    /// Where the database of `shard` is.
    pub fn root_of(&self, shard: ShardId) -> Root {
        Root::at(self.moved.get(&shard.0).unwrap_or(&self.folder))
    }

    /// The checkpoint of `shard`.
    pub fn checkpoint_of(&self, shard: ShardId) -> Result<Uuid, ReadError> {
        let checkpoint = self.shards.iter().find(|of| of.shard == shard.0).map(|of| of.checkpoint);
        checkpoint.ok_or_else(|| ReadError { shard, source: format!("the snapshot {} does not hold it", self.name).into() })
    }

    /// Writes it into the list.
    pub async fn save(&self, place: &Place) -> Result<(), SnapshotError> {
        self.write(place, PutMode::Create).await
    }

    async fn write(&self, place: &Place, mode: PutMode) -> Result<(), SnapshotError> {
        let payload = PutPayload::from(serde_json::to_vec_pretty(self).expect("numbers and texts"));
        place.bucket.put_opts(&object(&self.name), payload, PutOptions { mode, ..PutOptions::default() }).await?;
        Ok(())
    }
}

/// Says in every snapshot of `folder` that `shard` is in the folder `to` now: how many there are.
pub(crate) async fn follow(place: &Place, folder: &str, shard: ShardId, to: &str) -> Result<u64, SnapshotError> {
    let mut followed = 0;
    for mut snapshot in list(place).await?.into_iter().filter(|snapshot| snapshot.folder == folder) {
        // Given up before: what it holds of that shard is what was there then.
        if snapshot.moved.contains_key(&shard.0) {
            continue;
        }
        snapshot.moved.insert(shard.0, to.to_owned());
        snapshot.write(place, PutMode::Overwrite).await?;
        followed += 1;
    }
    Ok(followed)
}

fn object(name: &str) -> Path {
    Path::from(format!("{FOLDER}/{name}.json"))
}

/// All there are, oldest first.
pub async fn list(place: &Place) -> Result<Vec<Snapshot>, SnapshotError> {
    let listed = place.bucket.list_with_delimiter(Some(&Path::from(FOLDER))).await?;
    let mut snapshots = Vec::new();
    for meta in listed.objects.iter().filter(|meta| meta.location.extension() == Some("json")) {
        let wrong = |problem: String| SnapshotError::Format { object: meta.location.to_string(), problem };
        let bytes = match place.bucket.get(&meta.location).await {
            // Deleted since it was listed.
            Err(object_store::Error::NotFound { .. }) => continue,
            other => other?.bytes().await?,
        };
        let snapshot: Snapshot = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        if snapshot.format != FORMAT {
            return Err(wrong(format!("format {}, and this release knows format {FORMAT}", snapshot.format)));
        }
        snapshots.push(snapshot);
    }
    snapshots.sort_by(|one, other| (one.made_at_ms, &one.name).cmp(&(other.made_at_ms, &other.name)));
    Ok(snapshots)
}

/// The snapshot that is called `wanted`, or whose label is, or the last one taken before that time (RFC 3339; a time without a zone is UTC).
pub async fn find(place: &Place, wanted: &str) -> Result<Snapshot, SnapshotError> {
    let snapshots = list(place).await?;
    if let Some(found) = snapshots.iter().find(|snapshot| snapshot.name == wanted) {
        return Ok(found.clone());
    }
    // A date alone is its beginning.
    let time = humantime::parse_rfc3339_weak(wanted).or_else(|_| humantime::parse_rfc3339_weak(&format!("{wanted} 00:00:00")));
    if let Ok(at) = time {
        let at_ms = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let before = snapshots.into_iter().rfind(|snapshot| snapshot.made_at_ms <= at_ms);
        return before.ok_or_else(|| SnapshotError::Unknown(wanted.to_owned()));
    }
    let labelled = |snapshot: &&Snapshot| snapshot.name.split_once('-').is_some_and(|(_, label)| label == wanted);
    let found: Vec<&Snapshot> = snapshots.iter().filter(labelled).collect();
    match found[..] {
        [] => Err(SnapshotError::Unknown(wanted.to_owned())),
        [one] => Ok(one.clone()),
        _ => {
            let names = found.iter().map(|snapshot| snapshot.name.clone()).collect();
            Err(SnapshotError::Ambiguous { wanted: wanted.to_owned(), names })
        }
    }
}

/// Takes a snapshot of a prefix that no broker uses.
pub async fn make(site: &Site, exclusive: &Exclusive, label: &str, progress: Progress<'_>) -> Result<Snapshot, SnapshotError> {
    check_label(label)?;
    let made_at_ms = now_ms();
    let making = site.place.shards.all().map(|shard| async move {
        progress(&format!("checkpoint of shard {shard}"));
        let (checkpoint, manifest) = checkpoint(site, exclusive, shard, label).await?;
        Ok::<_, ReadError>(ShardCheckpoint { shard: shard.0, checkpoint, manifest })
    });
    let made: Vec<_> = iter(making).buffered(SHARDS_AT_ONCE).collect().await;
    if made.iter().any(Result::is_err) {
        let useless: Vec<_> = made.iter().flatten().cloned().collect();
        drop_checkpoints(&site.place, &site.root, &useless).await;
    }
    let shards = made.into_iter().collect::<Result<_, _>>()?;
    let snapshot = Snapshot::new(label, made_at_ms, site.root.folder(), false, None, shards);
    snapshot.save(&site.place).await?;
    if let Err(error) = sweep(&site.place, &site.root).await {
        tracing::warn!(error = crate::chain(&error), "what snapshots have left that were never finished stays");
    }
    Ok(snapshot)
}

async fn checkpoint(site: &Site, exclusive: &Exclusive, shard: ShardId, label: &str) -> Result<(Uuid, u64), ReadError> {
    let mut writer = exclusive.writer(site, shard).await?;
    let made = writer.checkpoint(label).await;
    writer.close().await?;
    made
}

/// Lets checkpoints go that no snapshot names, as far as the bucket lets it: those that stay only cost space.
pub async fn drop_checkpoints(place: &Place, root: &Root, shards: &[ShardCheckpoint]) {
    for ShardCheckpoint { shard, checkpoint, .. } in shards {
        let shard = ShardId(*shard);
        if let Err(error) = delete_checkpoint(place, root.shard(place, shard), shard, *checkpoint).await {
            tracing::warn!(%shard, error = %crate::chain(&error), "a checkpoint that nobody needs stays");
        }
    }
}

/// Lets checkpoints go that snapshots have left which were never listed, because who took them died in the middle. For who has the bucket alone, between
/// two snapshots. How many went.
pub async fn sweep(place: &Place, root: &Root) -> Result<u64, SnapshotError> {
    sweep_before(place, root, now_ms().saturating_sub(ORPHAN_AFTER.as_millis() as u64)).await
}

async fn sweep_before(place: &Place, root: &Root, before_ms: u64) -> Result<u64, SnapshotError> {
    // The checkpoints first: a snapshot that is listed meanwhile is seen.
    let mut found = Vec::new();
    for shard in place.shards.all() {
        let named = named_checkpoints(place, root.shard(place, shard), shard).await?;
        found.extend(named.into_iter().filter(|(.., made_at_ms)| *made_at_ms < before_ms).map(|(id, name, _)| (shard, id, name)));
    }
    if found.is_empty() {
        return Ok(0);
    }
    let listed: HashSet<Uuid> = list(place).await?.iter().flat_map(|snapshot| snapshot.shards.iter().map(|of| of.checkpoint)).collect();
    let mut swept = 0;
    for (shard, checkpoint, name) in found.into_iter().filter(|(_, checkpoint, _)| !listed.contains(checkpoint)) {
        delete_checkpoint(place, root.shard(place, shard), shard, checkpoint).await?;
        tracing::info!(%shard, name, "what a snapshot has left that was never finished is gone");
        swept += 1;
    }
    Ok(swept)
}

/// What a deletion did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Deleted {
    /// The snapshot.
    pub name: String,
    /// A folder that nobody needs any more, and that went with it.
    pub folder: Option<String>,
    /// Its objects.
    pub objects: u64,
}

/// Deletes `snapshot`: first its name, then its checkpoints. The folder it was the last one of goes too, unless it is in force or its tables are.
/// A broker may be serving meanwhile.
pub async fn delete(place: &Place, snapshot: &Snapshot) -> Result<Deleted, SnapshotError> {
    place.bucket.delete(&object(&snapshot.name)).await?;
    let mut deleted = Deleted { name: snapshot.name.clone(), folder: None, objects: 0 };
    if is_needed(place, &snapshot.folder).await? {
        for shard in &snapshot.shards {
            drop_checkpoints(place, &snapshot.root_of(ShardId(shard.shard)), std::slice::from_ref(shard)).await;
        }
        return Ok(deleted);
    }
    let objects: Vec<_> = place.bucket.list(Some(&Path::from(snapshot.folder.as_str()))).try_collect().await?;
    for object in &objects {
        place.bucket.delete(&object.location).await?;
    }
    (deleted.folder, deleted.objects) = (Some(snapshot.folder.clone()), objects.len() as u64);
    Ok(deleted)
}

/// True when the shards in `folder` are in force, or in a snapshot, or hold tables of such.
async fn is_needed(place: &Place, folder: &str) -> Result<bool, SnapshotError> {
    let in_force = Root::read(place).await?;
    let mut folders = vec![in_force.folder().to_owned()];
    folders.extend(list(place).await?.into_iter().map(|snapshot| snapshot.folder));
    if folders.iter().any(|needed| needed == folder) {
        return Ok(true);
    }
    folders.sort_unstable();
    folders.dedup();
    for needed in folders {
        for shard in place.shards.all() {
            let facts = Objects::new(place, &Root::at(&needed), shard).facts().await?;
            if facts.tables_elsewhere.iter().any(|path| path.starts_with(&format!("{folder}/"))) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Deletes scheduled snapshots until `retain` are left. The names of those that went.
pub async fn prune(place: &Place, retain: usize) -> Result<Vec<String>, SnapshotError> {
    let scheduled: Vec<_> = list(place).await?.into_iter().filter(|snapshot| snapshot.scheduled).collect();
    let mut pruned = Vec::new();
    for snapshot in scheduled.iter().take(scheduled.len().saturating_sub(retain)) {
        delete(place, snapshot).await?;
        pruned.push(snapshot.name.clone());
    }
    Ok(pruned)
}

/// Now, milliseconds since 1970.
pub fn now() -> u64 {
    json::now_ms()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bucketmq_storage::{DurableStore, Shards};
    use object_store::memory::InMemory;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_a_snapshot_left_that_was_never_listed_goes_and_nothing_else_does() {
        let place = Place { bucket: Arc::new(InMemory::new()), prefix: Path::default(), shards: Shards::new(2).expect("a power of two") };
        let store = DurableStore::open(&place).await.expect("opens");
        let root = store.root().clone();
        let kept = store.cut("kept").await.expect("a cut").checkpoints.into_iter();
        let kept = kept.map(|(shard, checkpoint, manifest)| ShardCheckpoint { shard: shard.0, checkpoint, manifest }).collect();
        Snapshot::new("kept", now_ms(), root.folder(), false, None, kept).save(&place).await.unwrap();
        // Its broker dies before it is listed.
        store.cut("lost").await.expect("a cut");
        store.close().await.expect("closes");
        let names = async || {
            let mut names = Vec::new();
            for shard in place.shards.all() {
                let named = named_checkpoints(&place, root.shard(&place, shard), shard).await.expect("listed");
                names.extend(named.into_iter().map(|(_, name, _)| name));
            }
            names.sort();
            names
        };
        assert_eq!(sweep(&place, &root).await.unwrap(), 0, "it may be about to be listed");
        assert_eq!(names().await, ["kept", "kept", "lost", "lost"]);
        assert_eq!(sweep_before(&place, &root, u64::MAX).await.unwrap(), 2);
        assert_eq!(names().await, ["kept", "kept"]);
    }

    #[tokio::test]
    async fn a_snapshot_is_found_by_its_name_its_label_or_a_time_after_it() {
        let place = Place { bucket: Arc::new(InMemory::new()), prefix: Path::default(), shards: Shards::default() };
        for (label, at_ms) in [("one", 1_000_000), ("two", 2_000_000), ("two", 3_000_000)] {
            Snapshot::new(label, at_ms, "shards", false, None, Vec::new()).save(&place).await.unwrap();
        }
        let found = async |wanted: &str| find(&place, wanted).await.map(|snapshot| snapshot.made_at_ms).map_err(|error| error.to_string());
        assert_eq!(found("19700101T001640000Z-one").await, Ok(1_000_000));
        assert_eq!(found("one").await, Ok(1_000_000));
        assert!(found("two").await.unwrap_err().contains("several"));
        assert_eq!(found("1970-01-01T00:40:00Z").await, Ok(2_000_000));
        assert_eq!(found("1970-01-01 00:50:00").await, Ok(3_000_000));
        assert_eq!(found("1970-01-02").await, Ok(3_000_000));
        assert!(found("1970-01-01T00:00:01Z").await.is_err());
        assert!(found("three").await.unwrap_err().contains("lists them"));
        assert!(check_label("before-1.2_x").is_ok() && check_label("a/b").is_err() && check_label("").is_err());
    }
}
