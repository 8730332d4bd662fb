//! One shard as objects: how many there are, what the manifest says of them, and whether each of them can be read to its end.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::error::Error;
use std::sync::Arc;

use futures_util::stream::iter;
use futures_util::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use serde::Serialize;
use slatedb::admin::{Admin, AdminBuilder};
use slatedb::{ErrorKind, SstReader, VersionedManifest, WalReader};

use super::failed;
use crate::durable::Place;
use crate::root::Root;
use crate::shard::ShardId;
use crate::store::ReadError;

/// Objects that are read at one time: tables have 2 MiB and rarely more than 10.
const READ_AT_ONCE: usize = 8;
/// What is said of an object that is there and is not what was written.
const DAMAGED: &str = "is damaged or cut off";

/// The objects of one shard.
pub struct Objects {
    place: Place,
    shard: ShardId,
    path: Path,
    admin: Admin,
}

/// What there is, and what the manifest says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// Objects below the shard's folder.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The newest manifest.
    pub manifest: u64,
    /// Openings for writing so far.
    pub writer_epoch: u64,
    /// The same of compaction.
    pub compactor_epoch: u64,
    /// Tables of level 0 that the manifest names.
    pub tables_level_0: u64,
    /// Tables in sorted runs.
    pub tables_sorted: u64,
    /// Estimated bytes of all tables.
    pub table_bytes: u64,
    /// Objects of the log that an opening has to read.
    pub log_objects: u64,
    /// Checkpoints, snapshots among them.
    pub checkpoints: u64,
    /// Other folders with tables of this shard: it was restored from there.
    pub tables_elsewhere: Vec<String>,
}

/// An object that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize)]
#[error("{object}: {problem}")]
pub struct ObjectFault {
    /// Its key below the prefix.
    pub object: String,
    /// What is wrong with it.
    pub problem: String,
    /// It is the object that is wrong, and not the bucket that does not let it be read.
    pub is_damage: bool,
}

impl Objects {
    /// Those of `shard` in `root`.
    pub fn new(place: &Place, root: &Root, shard: ShardId) -> Self {
        let path = root.shard(place, shard);
        let admin = AdminBuilder::new(path.clone(), place.bucket.clone()).build();
        Self { place: place.clone(), shard, path, admin }
    }

    /// True when there is none.
    pub async fn are_none(&self) -> Result<bool, ReadError> {
        let mut listed = self.place.bucket.list(Some(&self.path));
        listed.try_next().await.map(|first| first.is_none()).map_err(|error| failed(self.shard, error))
    }

    async fn list(&self, folder: &str) -> Result<Vec<ObjectMeta>, ReadError> {
        let folder = if folder.is_empty() { self.path.clone() } else { self.path.clone().join(folder) };
        self.place.bucket.list(Some(&folder)).try_collect().await.map_err(|error| failed(self.shard, error))
    }

    async fn manifest(&self) -> Result<VersionedManifest, ReadError> {
        let manifest = self.admin.read_manifest(None).await.map_err(|error| failed(self.shard, error))?;
        manifest.ok_or_else(|| failed(self.shard, NoManifest))
    }

    /// Counts them.
    pub async fn facts(&self) -> Result<Facts, ReadError> {
        let (objects, manifest) = (self.list("").await?, self.manifest().await?);
        let trees = manifest.segments().iter().map(|segment| (segment.l0(), segment.compacted()));
        let (mut level_0, mut sorted, mut table_bytes) = (0, 0, 0);
        for (l0, runs) in trees.chain([(manifest.l0(), manifest.compacted())]) {
            level_0 += l0.len() as u64;
            sorted += runs.iter().map(|run| run.sst_views().len() as u64).sum::<u64>();
            table_bytes += l0.iter().map(|table| table.estimate_size()).sum::<u64>();
            table_bytes += runs.iter().map(|run| run.estimate_size()).sum::<u64>();
        }
        let elsewhere = manifest.external_dbs().iter().filter(|other| !other.sst_ids.is_empty());
        let first = manifest.replay_after_wal_id() + 1;
        Ok(Facts {
            objects: objects.len() as u64,
            bytes: objects.iter().map(|object| object.size).sum(),
            manifest: manifest.id(),
            writer_epoch: manifest.writer_epoch(),
            compactor_epoch: manifest.compactor_epoch(),
            tables_level_0: level_0,
            tables_sorted: sorted,
            table_bytes,
            log_objects: self.list("wal").await?.iter().filter(|object| number_of(object).is_some_and(|id| id >= first)).count() as u64,
            checkpoints: manifest.checkpoints().len() as u64,
            tables_elsewhere: elsewhere.map(|other| other.path.clone()).collect(),
        })
    }

    /// Reads every object that counts, to its end: the newest manifest and those that checkpoints name, the tables of these, and the log from where
    /// an opening begins to read it. `read` is told how many there were, after each.
    pub async fn check(&self, read: &mut (dyn FnMut(u64) + Send)) -> Result<Vec<ObjectFault>, ReadError> {
        let mut found = Found { faults: Vec::new(), count: 0, read };
        let numbers: Vec<u64> = self.list("manifest").await?.iter().filter_map(number_of).collect();
        let Some(newest) = numbers.iter().max().copied() else {
            return Ok(vec![gone(&self.path.clone().join("manifest"), &NoManifest.to_string())]);
        };
        let checked = self.check_manifest(newest).await;
        let Some(newest) = found.add(checked) else { return Ok(found.faults) };
        let mut manifests = Vec::new();
        let pinned: BTreeSet<u64> = newest.checkpoints().iter().map(|checkpoint| checkpoint.manifest_id).collect();
        for number in pinned.into_iter().filter(|number| *number != newest.id()) {
            let checked = self.check_manifest(number).await;
            manifests.extend(found.add(checked));
        }
        let tables: BTreeMap<Path, (Path, ulid::Ulid)> =
            manifests.iter().chain([&newest]).flat_map(|manifest| self.tables(manifest)).collect();
        let mut checked = iter(tables).map(|(object, (folder, id))| self.check_table(object, folder, id)).buffered(READ_AT_ONCE);
        while let Some(checked) = checked.next().await {
            found.add(checked);
        }
        self.check_log(&newest, &mut found).await?;
        found.faults.sort_by(|one, other| one.object.cmp(&other.object));
        Ok(found.faults)
    }

    async fn check_manifest(&self, number: u64) -> Result<VersionedManifest, ObjectFault> {
        let object = self.path.clone().join("manifest").join(format!("{number:020}.manifest"));
        match self.admin.read_manifest(Some(number)).await {
            Ok(Some(manifest)) => Ok(manifest),
            Ok(None) => Err(gone(&object, "is not there")),
            Err(error) => Err(self.fault(&object, &error).await),
        }
    }

    /// The tables that `manifest` names: object, database and id.
    fn tables(&self, manifest: &VersionedManifest) -> Vec<(Path, (Path, ulid::Ulid))> {
        let elsewhere = folders(manifest);
        let ids = manifest.all_sst_views().map(|table| table.sst.id.value());
        ids.map(|id| {
            let folder = elsewhere.get(&id).unwrap_or(&self.path).clone();
            (folder.clone().join("compacted").join(format!("{id}.sst")), (folder, id))
        })
        .collect()
    }

    /// Reads every block of a table, which is fetched as a whole: a block is 4 KiB, and a request for each would take hours.
    async fn check_table(&self, object: Path, folder: Path, id: ulid::Ulid) -> Result<(), ObjectFault> {
        let whole = async { self.place.bucket.get(&object).await?.bytes().await };
        let bytes = match whole.await {
            Ok(bytes) => bytes,
            Err(object_store::Error::NotFound { .. }) => return Err(gone(&object, "is not there")),
            Err(error) => {
                return Err(ObjectFault { object: object.to_string(), problem: format!("cannot be read: {error}"), is_damage: false });
            }
        };
        let damaged =
            |problem: String| ObjectFault { object: object.to_string(), problem: format!("{DAMAGED}: {problem}"), is_damage: true };
        let memory = Arc::new(InMemory::new());
        memory.put(&object, bytes.into()).await.map_err(|error| damaged(error.to_string()))?;
        let read = async {
            let table = SstReader::new(folder, memory, None, None).open(id).await?;
            table.stats().await?;
            for block in 0..table.index().await?.len() {
                table.read_block(block).await?;
            }
            Ok::<(), slatedb::Error>(())
        };
        read.await.map_err(|error| damaged(said(&error)))
    }

    async fn check_log(&self, newest: &VersionedManifest, found: &mut Found<'_>) -> Result<(), ReadError> {
        let log = WalReader::new(self.path.clone(), self.place.bucket.clone());
        let object = |id: u64| self.path.clone().join("wal").join(format!("{id:020}.sst"));
        let first = newest.replay_after_wal_id() + 1;
        let files = log.list(first..).await.map_err(|error| failed(self.shard, error))?;
        let mut expected = first;
        for file in &files {
            for missing in expected..file.id {
                found.faults.push(gone(&object(missing), "is not there, and later ones are"));
            }
            expected = file.id + 1;
        }
        let checking = iter(files).map(|file| async move {
            let read = async {
                let mut rows = file.iterator().await?;
                while rows.next().await?.is_some() {}
                Ok::<(), slatedb::Error>(())
            };
            match read.await {
                Ok(()) => Ok(()),
                Err(error) => Err(self.fault(&object(file.id), &error).await),
            }
        });
        let mut checked = checking.buffered(READ_AT_ONCE);
        while let Some(checked) = checked.next().await {
            found.add(checked);
        }
        Ok(())
    }

    /// What `error` says of `object`. Whatever else is said of one that the bucket hands over whole, it is not what was written: its end, for
    /// instance, may name a place behind it.
    async fn fault(&self, object: &Path, error: &slatedb::Error) -> ObjectFault {
        if let Err(object_store::Error::NotFound { .. }) = self.place.bucket.head(object).await {
            return gone(object, "is not there");
        }
        let whole = async { self.place.bucket.get(object).await?.bytes().await };
        let is_damage = is_damage(error) || whole.await.is_ok();
        let problem = if is_damage { DAMAGED } else { "cannot be read" };
        ObjectFault { object: object.to_string(), problem: format!("{problem}: {}", said(error)), is_damage }
    }

    /// The tables that the newest manifest names and that are not there. Only looks for their names: [`Self::check`] reads them.
    pub async fn missing(&self) -> Result<Vec<String>, ReadError> {
        let manifest = self.manifest().await?;
        let (mut missing, mut listed) = (Vec::new(), HashMap::new());
        for (object, (folder, _)) in self.tables(&manifest) {
            let names = match listed.entry(folder.clone()) {
                Entry::Occupied(names) => names.into_mut(),
                Entry::Vacant(unknown) => {
                    let objects = self.place.bucket.list(Some(&folder.join("compacted"))).map_ok(|object| object.location);
                    let names: HashSet<Path> = objects.try_collect().await.map_err(|error| failed(self.shard, error))?;
                    unknown.insert(names)
                }
            };
            if !names.contains(&object) {
                missing.push(object.to_string());
            }
        }
        Ok(missing)
    }
}

/// Where tables are that are not in the shard's own folder.
fn folders(manifest: &VersionedManifest) -> HashMap<ulid::Ulid, Path> {
    let of = |other: &slatedb::manifest::ExternalDb| -> Vec<_> {
        other.sst_ids.iter().map(|id| (id.value(), Path::from(other.path.as_str()))).collect()
    };
    manifest.external_dbs().iter().flat_map(of).collect()
}

/// What a check has found so far.
struct Found<'a> {
    faults: Vec<ObjectFault>,
    count: u64,
    read: &'a mut (dyn FnMut(u64) + Send),
}

impl Found<'_> {
    /// One more object was read.
    fn add<T>(&mut self, checked: Result<T, ObjectFault>) -> Option<T> {
        self.count += 1;
        (self.read)(self.count);
        checked.map_err(|fault| self.faults.push(fault)).ok()
    }
}

/// The number an object is called by.
fn number_of(object: &ObjectMeta) -> Option<u64> {
    object.location.filename()?.split('.').next()?.parse().ok()
}

/// True when `error` says that what was read is not what was written, or is not there.
pub fn is_damage(error: &(dyn Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| (**error).source());
    causes.any(|cause| match cause.downcast_ref::<slatedb::Error>() {
        Some(error) => matches!(error.kind(), ErrorKind::Data | ErrorKind::Internal | ErrorKind::Invalid),
        None => cause.is::<NoManifest>() || cause.is::<crate::record::DecodeError>() || is_gone(cause),
    })
}

/// What the bucket has said, which SlateDB shares.
fn is_gone(cause: &(dyn Error + 'static)) -> bool {
    let of_bucket = cause.downcast_ref().or_else(|| cause.downcast_ref::<Arc<_>>().map(Arc::as_ref));
    matches!(of_bucket, Some(object_store::Error::NotFound { .. }))
}

fn gone(object: &Path, problem: &str) -> ObjectFault {
    ObjectFault { object: object.to_string(), problem: problem.to_owned(), is_damage: true }
}

/// An error of SlateDB without saying anything twice.
fn said(error: &slatedb::Error) -> String {
    let first: &(dyn Error + 'static) = error;
    let mut said: Vec<String> = Vec::new();
    for text in std::iter::successors(Some(first), |error| (**error).source()).map(ToString::to_string) {
        if !said.iter().any(|before| before.contains(&text)) {
            said.push(text);
        }
    }
    said.join(": ")
}

#[derive(Debug, thiserror::Error)]
#[error("there is no manifest: it is not a shard")]
struct NoManifest;
