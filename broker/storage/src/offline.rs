//! Shards for who is no broker: read without being disturbed and without disturbing, checked object by object, copied, cloned, and written one row
//! at a time.
//!
//! [`Reader`] never opens a shard for writing, which would take it from a broker that has it. [`Writer`] does: whoever uses it has made sure that
//! no broker is there.

mod clone;
mod objects;
mod reader;
mod writer;

pub use clone::{clone_shard, delete_checkpoint, named_checkpoints};
pub use objects::{Facts, ObjectFault, Objects, is_damage};
pub use reader::{At, Reader, Row, Rows};
pub use writer::Writer;

use std::error::Error;

use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::durable::Place;
use crate::record::Record;
use crate::record::format::Format;
use crate::root::{Root, join};
use crate::shard::{ShardId, Shards};
use crate::store::ReadError;

/// How often SlateDB tries again what the bucket has refused, which has tried several times itself: a tool says so instead of waiting for ever.
const RETRIES: u32 = 2;

fn failed(shard: ShardId, source: impl Error + Send + Sync + 'static) -> ReadError {
    ReadError { shard, source: Box::new(source) }
}

/// How many shards there are in `root` of the prefix of `place`, whatever `place` says; `None` without any.
///
/// The number stands in every shard, so any of them that can be read will do.
pub async fn count_shards(place: &Place, root: &Root) -> Result<Option<Shards>, ReadError> {
    let folder = join(&place.prefix, root.folder());
    let listed = place.bucket.list_with_delimiter(Some(&folder)).await.map_err(|error| failed(ShardId(0), error))?;
    let mut numbers: Vec<u16> = listed.common_prefixes.iter().filter_map(|path| path.filename()?.parse().ok()).collect();
    numbers.sort_unstable();
    let mut problem = None;
    for shard in numbers.iter().map(|number| ShardId(*number)) {
        match format_of(place, root, shard).await {
            Ok(Some(format)) => return Ok(Some(format.shards)),
            Ok(None) => {}
            // A directory keeps folders that nothing is in.
            Err(error) => match Objects::new(place, root, shard).are_none().await {
                Ok(true) => {}
                _ => problem = Some(error),
            },
        }
    }
    problem.map_or(Ok(None), Err)
}

/// What the shard says it is.
pub async fn format_of(place: &Place, root: &Root, shard: ShardId) -> Result<Option<Format>, ReadError> {
    let reader = Reader::open(place, root, shard, At::Now).await?;
    let value = reader.get(&Format::key(&())).await;
    reader.close().await;
    value?.map(|value| Format::decode(&value).map_err(|error| failed(shard, error))).transpose()
}

/// Copies every object below `from` to below `to`, both from the prefix: how many.
pub async fn copy_objects(place: &Place, from: &str, to: &str) -> Result<u64, object_store::Error> {
    let (from, to) = (join(&place.prefix, from), join(&place.prefix, to));
    let objects: Vec<_> = place.bucket.list(Some(&from)).try_collect().await?;
    for object in &objects {
        let target: Path = to.parts().chain(object.location.prefix_match(&from).into_iter().flatten()).collect();
        place.bucket.copy(&object.location, &target).await?;
    }
    Ok(objects.len() as u64)
}

/// Deletes every object below `folder`, which counts from the prefix: how many.
pub async fn delete_objects(place: &Place, folder: &str) -> Result<u64, object_store::Error> {
    let folder = join(&place.prefix, folder);
    let objects = place.bucket.list(Some(&folder)).map_ok(|object| object.location).boxed();
    let deleted: Vec<_> = place.bucket.delete_stream(objects).try_collect().await?;
    Ok(deleted.len() as u64)
}
