//! One shard as objects: how many there are, what the manifest says of them, and whether each of them can be read to its end.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::sync::Arc;

use futures_util::TryStreamExt;
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

    /// Reads every object that counts, to its end: all manifests, the tables of the newest one and of those that checkpoints name, and the log
    /// from where an opening begins to read it. `read` is told how many there were, after each.
    pub async fn check(&self, read: &mut (dyn FnMut(u64) + Send)) -> Result<Vec<ObjectFault>, ReadError> {
        let (mut faults, mut count) = (Vec::new(), 0);
        let mut manifests = Vec::new();
        for object in self.list("manifest").await? {
            let Some(id) = number_of(&object) else { continue };
            count += 1;
            read(count);
            match self.admin.read_manifest(Some(id)).await {
                Ok(Some(manifest)) => manifests.push(manifest),
                // Deleted since it was listed.
                Ok(None) => {}
                Err(error) => faults.push(self.fault(&object.location, &error).await),
            }
        }
        let Some(newest) = manifests.iter().max_by_key(|manifest| manifest.id()) else {
            faults.sort_by(|one: &ObjectFault, other| one.object.cmp(&other.object));
            if faults.is_empty() {
                faults.push(gone(&self.path.clone().join("manifest"), &NoManifest.to_string()));
            }
            return Ok(faults);
        };
        let pinned: HashSet<u64> = newest.checkpoints().iter().map(|checkpoint| checkpoint.manifest_id).collect();
        let missing = pinned.iter().filter(|id| !manifests.iter().any(|manifest| manifest.id() == **id));
        let manifest = |id: &u64| self.path.clone().join("manifest").join(format!("{id:020}.manifest"));
        faults.extend(missing.map(|id| gone(&manifest(id), "is named by a checkpoint and is not there")));
        let mut done = HashSet::new();
        for manifest in manifests.iter().filter(|manifest| manifest.id() == newest.id() || pinned.contains(&manifest.id())) {
            self.check_tables(manifest, &mut done, &mut faults, &mut count, read).await;
        }
        self.check_log(newest, &mut faults, &mut count, read).await?;
        faults.sort_by(|one, other| one.object.cmp(&other.object));
        Ok(faults)
    }

    /// What `error` says of `object`. Whatever else is said of one that the bucket hands over whole, it is not what was written: its end, for
    /// instance, may name a place behind it.
    async fn fault(&self, object: &Path, error: &slatedb::Error) -> ObjectFault {
        if let Err(object_store::Error::NotFound { .. }) = self.place.bucket.head(object).await {
            return gone(object, "is not there");
        }
        let whole = async { self.place.bucket.get(object).await?.bytes().await };
        let is_damage = is_damage(error) || whole.await.is_ok();
        let problem = if is_damage { "is damaged or cut off" } else { "cannot be read" };
        ObjectFault { object: object.to_string(), problem: format!("{problem}: {}", said(error)), is_damage }
    }

    /// The tables that the newest manifest names and that are not there. Only looks for their names: [`Self::check`] reads them.
    pub async fn missing(&self) -> Result<Vec<String>, ReadError> {
        let manifest = self.manifest().await?;
        let elsewhere = folders(&manifest);
        let (mut missing, mut listed) = (Vec::new(), HashMap::new());
        for table in manifest.all_sst_views() {
            let id = table.sst.id.value();
            let folder = elsewhere.get(&id).unwrap_or(&self.path).clone().join("compacted");
            let names = match listed.entry(folder.clone()) {
                Entry::Occupied(names) => names.into_mut(),
                Entry::Vacant(unknown) => {
                    let objects = self.place.bucket.list(Some(&folder)).map_ok(|object| object.location);
                    let names: HashSet<Path> = objects.try_collect().await.map_err(|error| failed(self.shard, error))?;
                    unknown.insert(names)
                }
            };
            let object = folder.join(format!("{id}.sst"));
            if !names.contains(&object) {
                missing.push(object.to_string());
            }
        }
        Ok(missing)
    }

    async fn check_tables(
        &self,
        manifest: &VersionedManifest,
        done: &mut HashSet<String>,
        faults: &mut Vec<ObjectFault>,
        count: &mut u64,
        read: &mut (dyn FnMut(u64) + Send),
    ) {
        let elsewhere = folders(manifest);
        for table in manifest.all_sst_views() {
            let id = table.sst.id.value();
            let folder = elsewhere.get(&id).unwrap_or(&self.path);
            let object = folder.clone().join("compacted").join(format!("{id}.sst"));
            if !done.insert(object.to_string()) {
                continue;
            }
            *count += 1;
            read(*count);
            if let Err(error) = read_table(&self.place, folder, id).await {
                faults.push(self.fault(&object, &error).await);
            }
        }
    }

    async fn check_log(
        &self,
        newest: &VersionedManifest,
        faults: &mut Vec<ObjectFault>,
        count: &mut u64,
        read: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(), ReadError> {
        let log = WalReader::new(self.path.clone(), self.place.bucket.clone());
        let object = |id: u64| self.path.clone().join("wal").join(format!("{id:020}.sst"));
        let first = newest.replay_after_wal_id() + 1;
        let files = log.list(first..).await.map_err(|error| failed(self.shard, error))?;
        let mut expected = first;
        for file in files {
            for missing in expected..file.id {
                faults.push(gone(&object(missing), "is not there, and later ones are"));
            }
            expected = file.id + 1;
            *count += 1;
            read(*count);
            let outcome = async {
                let mut rows = file.iterator().await?;
                while rows.next().await?.is_some() {}
                Ok::<(), slatedb::Error>(())
            };
            if let Err(error) = outcome.await {
                faults.push(self.fault(&object(file.id), &error).await);
            }
        }
        Ok(())
    }
}

/// Where tables are that are not in the shard's own folder.
fn folders(manifest: &VersionedManifest) -> HashMap<ulid::Ulid, Path> {
    let of = |other: &slatedb::manifest::ExternalDb| -> Vec<_> {
        other.sst_ids.iter().map(|id| (id.value(), Path::from(other.path.as_str()))).collect()
    };
    manifest.external_dbs().iter().flat_map(of).collect()
}

/// Reads every block.
async fn read_table(place: &Place, folder: &Path, id: ulid::Ulid) -> Result<(), slatedb::Error> {
    let table = SstReader::new(folder.clone(), place.bucket.clone(), None, None).open(id).await?;
    table.stats().await?;
    for block in 0..table.index().await?.len() {
        table.read_block(block).await?;
    }
    Ok(())
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
