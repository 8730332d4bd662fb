//! A bucket prefix with state in it: where, how it is divided, and which folder is in force.

use std::sync::Arc;

use bucketmq_storage::durable::Place;
use bucketmq_storage::offline::{At, count_shards};
use bucketmq_storage::root::{Root, RootError};
use bucketmq_storage::{ReadError, Shards};
use object_store::ObjectStore;
use object_store::path::Path;
use thiserror::Error;

use crate::exclusive::{OwnError, owner};

/// A prefix that a broker has used.
#[derive(Clone)]
pub struct Site {
    /// Where it is, and the true number of shards.
    pub place: Place,
    /// The folder in force.
    pub root: Root,
    /// The broker that owns it, as far as can be seen.
    pub owner: Option<String>,
}

/// What is there cannot be told.
#[derive(Debug, Error)]
pub enum SiteError {
    /// Nobody has used it.
    #[error("there is no state here: no broker has used this bucket and prefix")]
    Empty,
    /// No shard says how many there are.
    #[error("no shard can be read")]
    Shards(#[from] ReadError),
    /// The folder of the shards.
    #[error(transparent)]
    Root(#[from] RootError),
    /// Who owns it.
    #[error(transparent)]
    Own(#[from] OwnError),
}

impl Site {
    /// What is in `bucket`, which begins at the prefix.
    pub async fn find(bucket: Arc<dyn ObjectStore>) -> Result<Self, SiteError> {
        let place = Place { bucket, prefix: Path::default(), shards: Shards::default() };
        let root = Root::read(&place).await?;
        let shards = count_shards(&place, &root).await?.ok_or(SiteError::Empty)?;
        let owner = owner(&place).await?;
        Ok(Self { place: Place { shards, ..place }, root, owner })
    }

    /// The same when shards may be beyond reading: then there are as many as everybody has unless told otherwise.
    pub async fn find_damaged(bucket: Arc<dyn ObjectStore>) -> Result<Self, SiteError> {
        match Self::find(bucket.clone()).await {
            Err(SiteError::Shards(_)) => {
                let place = Place { bucket, prefix: Path::default(), shards: Shards::default() };
                let root = Root::read(&place).await?;
                let owner = owner(&place).await?;
                Ok(Self { place, root, owner })
            }
            other => other,
        }
    }

    /// The same once no broker owns it any more, with the folder that is in force then.
    pub async fn again(&self) -> Result<Self, SiteError> {
        Ok(Self { root: Root::read(&self.place).await?, owner: None, place: self.place.clone() })
    }

    /// How to read it as it is now: behind a checkpoint when a broker may delete objects meanwhile.
    pub fn now(&self) -> At {
        if self.owner.is_some() { At::Pinned } else { At::Now }
    }
}
