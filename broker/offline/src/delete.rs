//! Everything below the prefix, deleted. Who owns it goes last, so that no broker starts in the middle.

use bucketmq_storage::durable::Place;
use futures_util::stream::iter;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error, ObjectMeta, ObjectStore};
use thiserror::Error as ThisError;

use crate::Progress;
use crate::exclusive::{Exclusive, OwnError};

/// Objects between two looks whether a broker asks for the prefix: as many as one request to S3 deletes.
const AT_ONE_TIME: usize = 1000;

/// Something is left.
#[derive(Debug, ThisError)]
#[error("{deleted} objects are deleted and others are left: delete again")]
pub struct DeleteError {
    /// Those that are gone.
    pub deleted: u64,
    /// Why.
    #[source]
    pub source: Why,
}

/// Why something is left.
#[derive(Debug, ThisError)]
pub enum Why {
    /// The bucket.
    #[error(transparent)]
    Bucket(#[from] Error),
    /// A broker has come for the bucket meanwhile.
    #[error("a broker comes first")]
    Own(#[from] OwnError),
}

/// How many objects and bytes there are below the prefix.
pub async fn count(place: &Place) -> Result<(u64, u64), Error> {
    let objects: Vec<ObjectMeta> = place.bucket.list(None).try_collect().await?;
    Ok((objects.len() as u64, objects.iter().map(|object| object.size).sum()))
}

/// Deletes everything; how many objects that were. To be called again when something is left.
pub async fn delete(place: &Place, exclusive: Exclusive, progress: Progress<'_>) -> Result<u64, DeleteError> {
    let mut deleted = 0;
    let outcome = match state(place, &exclusive, &mut deleted, progress).await {
        Ok(()) => owner(place, exclusive, &mut deleted).await.map_err(Why::from),
        Err(why) => {
            exclusive.release().await;
            Err(why)
        }
    };
    match outcome {
        Ok(()) => Ok(deleted),
        Err(source) => Err(DeleteError { deleted, source }),
    }
}

/// All that says not whose it is.
async fn state(place: &Place, exclusive: &Exclusive, deleted: &mut u64, progress: Progress<'_>) -> Result<(), Why> {
    let objects = list(place).await?;
    let state: Vec<_> = objects.into_iter().filter(|object| !is_of_owner(object)).collect();
    for some in state.chunks(AT_ONE_TIME) {
        exclusive.check().await?;
        remove(place, some.to_vec()).await?;
        *deleted += some.len() as u64;
        progress(&format!("{deleted} of {} objects", state.len()));
    }
    exclusive.check().await?;
    Ok(())
}

/// The rest. Nobody is told that the prefix is free: who waits for it finds that it was never used.
async fn owner(place: &Place, exclusive: Exclusive, deleted: &mut u64) -> Result<(), Error> {
    exclusive.forget().await;
    let rest = list(place).await?;
    let count = rest.len() as u64;
    remove(place, rest).await?;
    *deleted += count;
    Ok(())
}

async fn list(place: &Place) -> Result<Vec<Path>, Error> {
    place.bucket.list(None).map_ok(|object| object.location).try_collect().await
}

fn is_of_owner(object: &Path) -> bool {
    matches!(object.parts().next().as_ref().map(AsRef::as_ref), Some("own" | "members" | "prefix-owner"))
}

async fn remove(place: &Place, objects: Vec<Path>) -> Result<(), Error> {
    let mut deleted = place.bucket.delete_stream(iter(objects).map(Ok).boxed());
    while let Some(outcome) = deleted.next().await {
        match outcome {
            Ok(_) | Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
