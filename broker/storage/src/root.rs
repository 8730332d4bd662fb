//! Which folder of a prefix holds the shards: `shards`, until a restore has put others beside them and the object `root` names their folder.
//!
//! One object is changed by one conditional write, so all shards of a prefix change together or not at all, and those that were there before
//! stay where they are.

use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion};
use serde::{Deserialize, Serialize};
use thiserror::Error as ThisError;

use crate::durable::Place;
use crate::shard::ShardId;

/// The object.
pub const ROOT_OBJECT: &str = "root";
/// Where the shards are when nobody has said otherwise.
pub const FIRST_FOLDER: &str = "shards";
/// The format this release writes, and the only one there has been.
const FORMAT: u32 = 1;

/// The folder of the shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    folder: String,
    version: Option<UpdateVersion>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    folder: String,
}

/// The folder is not known, or could not be changed.
#[derive(Debug, ThisError)]
pub enum RootError {
    /// The bucket.
    #[error("{ROOT_OBJECT}, which names the folder of the shards, cannot be read or written")]
    Bucket(#[from] Error),
    /// What stands in it.
    #[error("{ROOT_OBJECT}, which names the folder of the shards, is not what this release writes: {0}")]
    Format(String),
    /// Somebody is copying into the prefix, or was interrupted.
    #[error("a copy into this prefix has not come to its end: delete it with `bucketmq bucket delete` and copy again")]
    Unfinished,
}

impl Root {
    /// The folder in force at `place`.
    pub async fn read(place: &Place) -> Result<Self, RootError> {
        let got = match place.bucket.get(&object(place)).await {
            Err(Error::NotFound { .. }) => return Ok(Self::at(FIRST_FOLDER)),
            other => other?,
        };
        let version = UpdateVersion { e_tag: got.meta.e_tag.clone(), version: got.meta.version.clone() };
        let bytes = got.bytes().await?;
        let stored: Stored = serde_json::from_slice(&bytes).map_err(|error| RootError::Format(error.to_string()))?;
        if stored.format != FORMAT {
            return Err(RootError::Format(format!("format {}, and this release knows format {FORMAT}", stored.format)));
        }
        if stored.folder.is_empty() {
            return Err(RootError::Unfinished);
        }
        Ok(Self { folder: stored.folder, version: Some(version) })
    }

    /// Says that `place`, where nothing is yet, is not to be used until [`Self::replace`] of what comes back.
    pub async fn begin_unfinished(place: &Place) -> Result<Self, RootError> {
        let payload = PutPayload::from(serde_json::to_vec(&Stored { format: FORMAT, folder: String::new() }).expect("a number and a text"));
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let written = place.bucket.put_opts(&object(place), payload, options).await?;
        Ok(Self { folder: String::new(), version: Some(written.into()) })
    }

    /// A folder, whether it is in force or not.
    pub fn at(folder: &str) -> Self {
        Self { folder: folder.to_owned(), version: None }
    }

    /// Its name, from the prefix.
    pub fn folder(&self) -> &str {
        &self.folder
    }

    /// Where the database of `shard` is.
    pub fn shard(&self, place: &Place, shard: ShardId) -> Path {
        join(&place.prefix, &self.folder).join(shard.to_string())
    }

    /// Puts `folder` in force instead of this one, unless somebody else has changed it since this was read.
    pub async fn replace(&self, place: &Place, folder: &str) -> Result<(), RootError> {
        let mode = self.version.clone().map_or(PutMode::Create, PutMode::Update);
        let stored = Stored { format: FORMAT, folder: folder.to_owned() };
        let payload = PutPayload::from(serde_json::to_vec(&stored).expect("a number and a text"));
        place.bucket.put_opts(&object(place), payload, PutOptions { mode, ..PutOptions::default() }).await?;
        Ok(())
    }
}

fn object(place: &Place) -> Path {
    place.prefix.clone().join(ROOT_OBJECT)
}

/// `folder`, which may have several parts, below `prefix`.
pub(crate) fn join(prefix: &Path, folder: &str) -> Path {
    prefix.parts().chain(Path::from(folder).parts()).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;
    use crate::shard::Shards;

    #[tokio::test]
    async fn the_folder_changes_once_and_only_for_who_has_read_it() {
        let place = Place { bucket: Arc::new(InMemory::new()), prefix: Path::from("a/b"), shards: Shards::default() };
        let first = Root::read(&place).await.unwrap();
        assert_eq!((first.folder(), first.shard(&place, ShardId(7)).as_ref()), ("shards", "a/b/shards/07"));
        first.replace(&place, "restored/x").await.unwrap();
        assert!(first.replace(&place, "restored/y").await.is_err(), "it is not what was read");
        let second = Root::read(&place).await.unwrap();
        assert_eq!(second.shard(&place, ShardId(0)).as_ref(), "a/b/restored/x/00");
        second.replace(&place, "restored/y").await.unwrap();
        assert_eq!(Root::read(&place).await.unwrap().folder(), "restored/y");
        place.bucket.put(&Path::from("a/b/root"), "{\"format\":2,\"folder\":\"z\"}".into()).await.unwrap();
        assert!(Root::read(&place).await.unwrap_err().to_string().contains("format 2"));
        let copy = Place { prefix: Path::from("copy"), ..place };
        let begun = Root::begin_unfinished(&copy).await.unwrap();
        assert!(matches!(Root::read(&copy).await, Err(RootError::Unfinished)), "nobody uses half a copy");
        begun.replace(&copy, FIRST_FOLDER).await.unwrap();
        assert_eq!(Root::read(&copy).await.unwrap().folder(), FIRST_FOLDER);
    }
}
