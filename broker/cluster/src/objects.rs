//! The objects themselves: `own/NN` and `prefix-owner`, changed only by who names the version it has read, and `members/<member>`, which only its
//! member writes.

use std::time::{Duration, SystemTime};

use bucketmq_storage::ShardId;
use futures_util::StreamExt;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion};
use std::sync::Arc;
use thiserror::Error as ThisError;

use crate::record::{FormatError, MemberNote, Own, PrefixOwner};

/// Signs of life of members that have been gone for so long are removed.
const LEFT_BEHIND: Duration = Duration::from_secs(7 * 24 * 3600);

/// For whom the prefix is.
const PREFIX_OWNER: &str = "prefix-owner";

/// The version of an object that was read or written; an object that is not there has none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Version {
    update: Option<UpdateVersion>,
    modified: Option<SystemTime>,
}

impl Version {
    /// When the object that was read was written, by the bucket's clock, which may count in seconds.
    pub fn modified(&self) -> Option<SystemTime> {
        self.modified
    }
}

/// Why an object could not be read or written.
#[derive(Debug, ThisError)]
pub enum ObjectError {
    /// Somebody else was faster: read it again.
    #[error("{object} was changed by somebody else")]
    Changed {
        /// Which.
        object: String,
    },
    /// It cannot be read by this release.
    #[error("{object}: {source}")]
    Format {
        /// Which.
        object: String,
        /// Why.
        source: FormatError,
    },
    /// The bucket did not do it.
    #[error("{object}")]
    Bucket {
        /// Which.
        object: String,
        /// Why.
        #[source]
        source: Error,
    },
}

/// The objects of one bucket prefix.
#[derive(Debug, Clone)]
pub struct Objects {
    bucket: Arc<dyn ObjectStore>,
}

fn own_key(shard: ShardId) -> String {
    format!("own/{shard}")
}

fn member_key(member: &str) -> String {
    format!("members/{member}")
}

impl Objects {
    /// Those in `bucket`, which begins at the prefix.
    pub fn new(bucket: Arc<dyn ObjectStore>) -> Self {
        Self { bucket }
    }

    /// Who owns `shard`; `None` when nobody ever did.
    pub async fn own(&self, shard: ShardId) -> Result<(Option<Own>, Version), ObjectError> {
        let object = own_key(shard);
        let Some((bytes, version)) = self.read(&object).await? else { return Ok((None, Version::default())) };
        let own = Own::decode(&bytes).map_err(|source| ObjectError::Format { object, source })?;
        Ok((Some(own), version))
    }

    /// Makes `own` the record of `shard` if it still has the version `expected`.
    pub async fn change_own(&self, shard: ShardId, expected: &Version, own: &Own) -> Result<Version, ObjectError> {
        self.change(own_key(shard), expected, own.encode()).await
    }

    /// For whom the prefix is; `None` when nobody has said so.
    pub async fn prefix_owner(&self) -> Result<(Option<PrefixOwner>, Version), ObjectError> {
        let object = PREFIX_OWNER.to_owned();
        let Some((bytes, version)) = self.read(&object).await? else { return Ok((None, Version::default())) };
        let owner = PrefixOwner::decode(&bytes).map_err(|source| ObjectError::Format { object, source })?;
        Ok((Some(owner), version))
    }

    /// Says for whom the prefix is if that record still has the version `expected`.
    pub async fn change_prefix_owner(&self, expected: &Version, owner: &PrefixOwner) -> Result<Version, ObjectError> {
        self.change(PREFIX_OWNER.to_owned(), expected, owner.encode()).await
    }

    async fn change(&self, object: String, expected: &Version, record: Vec<u8>) -> Result<Version, ObjectError> {
        let mode = match &expected.update {
            Some(version) => PutMode::Update(version.clone()),
            None => PutMode::Create,
        };
        let options = PutOptions { mode, ..PutOptions::default() };
        match self.bucket.put_opts(&Path::from(object.as_str()), PutPayload::from(record), options).await {
            Ok(written) => Ok(Version { update: Some(written.into()), modified: None }),
            Err(Error::Precondition { .. } | Error::AlreadyExists { .. } | Error::NotFound { .. }) => Err(ObjectError::Changed { object }),
            Err(source) => Err(ObjectError::Bucket { object, source }),
        }
    }

    /// The last sign of life of `member`.
    pub async fn note(&self, member: &str) -> Result<Option<MemberNote>, ObjectError> {
        let object = member_key(member);
        let Some((bytes, _)) = self.read(&object).await? else { return Ok(None) };
        MemberNote::decode(&bytes).map(Some).map_err(|source| ObjectError::Format { object, source })
    }

    /// Writes a sign of life of `member`.
    pub async fn write_note(&self, member: &str, note: &MemberNote) -> Result<(), ObjectError> {
        let object = member_key(member);
        let written = self.bucket.put(&Path::from(object.as_str()), PutPayload::from(note.encode())).await;
        written.map(|_| ()).map_err(|source| ObjectError::Bucket { object, source })
    }

    /// When `member` gave its last sign of life, by the bucket's clock.
    pub async fn note_modified(&self, member: &str) -> Result<SystemTime, ObjectError> {
        let object = member_key(member);
        let head = self.bucket.head(&Path::from(object.as_str())).await;
        head.map(|meta| meta.last_modified.into()).map_err(|source| ObjectError::Bucket { object, source })
    }

    /// Removes the signs of life of members that are long gone, as far as the bucket lets it.
    pub async fn remove_left_behind(&self) {
        let mut listed = self.bucket.list(Some(&Path::from("members")));
        while let Some(Ok(object)) = listed.next().await {
            // By the bucket's clock and this host's: a week forgives them a lot.
            let age = SystemTime::now().duration_since(object.last_modified.into()).unwrap_or_default();
            if age > LEFT_BEHIND
                && let Err(error) = self.bucket.delete(&object.location).await
            {
                tracing::debug!(object = %object.location, %error, "what a member of long ago has left stays");
            }
        }
    }

    async fn read(&self, object: &str) -> Result<Option<(bytes::Bytes, Version)>, ObjectError> {
        let failed = |source| ObjectError::Bucket { object: object.to_owned(), source };
        let got = match self.bucket.get(&Path::from(object)).await {
            Err(Error::NotFound { .. }) => return Ok(None),
            other => other.map_err(failed)?,
        };
        let update = UpdateVersion { e_tag: got.meta.e_tag.clone(), version: got.meta.version.clone() };
        let version = Version { update: Some(update), modified: Some(got.meta.last_modified.into()) };
        Ok(Some((got.bytes().await.map_err(failed)?, version)))
    }
}
