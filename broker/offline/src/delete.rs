//! Everything below the prefix, deleted. Who owns it goes last, so that no broker starts in the middle.

use bucketmq_storage::durable::Place;
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{Error, ObjectMeta, ObjectStore, ObjectStoreExt};

use crate::Progress;
use crate::exclusive::Exclusive;

/// Objects between two words about how far it is.
const PROGRESS_EVERY: usize = 100;

/// How many objects and bytes there are below the prefix.
pub async fn count(place: &Place) -> Result<(u64, u64), Error> {
    let objects: Vec<ObjectMeta> = place.bucket.list(None).try_collect().await?;
    Ok((objects.len() as u64, objects.iter().map(|object| object.size).sum()))
}

/// Deletes everything; how many objects that were.
pub async fn delete(place: &Place, exclusive: Exclusive, progress: Progress<'_>) -> Result<u64, Error> {
    let objects: Vec<ObjectMeta> = place.bucket.list(None).try_collect().await?;
    let (last, first): (Vec<_>, Vec<_>) = objects.into_iter().partition(|object| is_of_owner(&object.location));
    for (count, object) in first.iter().enumerate() {
        remove(place, &object.location).await?;
        if count % PROGRESS_EVERY == PROGRESS_EVERY - 1 {
            progress(&format!("{} of {} objects", count + 1, first.len()));
        }
    }
    exclusive.release().await;
    for object in &last {
        remove(place, &object.location).await?;
    }
    Ok((first.len() + last.len()) as u64)
}

fn is_of_owner(object: &Path) -> bool {
    matches!(object.parts().next().as_ref().map(AsRef::as_ref), Some("own" | "members"))
}

async fn remove(place: &Place, object: &Path) -> Result<(), Error> {
    match place.bucket.delete(object).await {
        Err(Error::NotFound { .. }) => Ok(()),
        other => other,
    }
}
