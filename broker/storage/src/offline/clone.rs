//! A shard made of another one's checkpoint without copying its tables, and checkpoints that go.

use object_store::path::Path;
use slatedb::admin::{AdminBuilder, CloneSourceSpec};
use uuid::Uuid;

use super::failed;
use crate::durable::Place;
use crate::root::Root;
use crate::shard::ShardId;
use crate::store::ReadError;

/// Makes `shard` of `to` what `shard` of `from` was at `checkpoint`. Its tables stay where they are, and stay there as long as the new shard names
/// them.
pub async fn clone_shard(place: &Place, from: &Root, checkpoint: Uuid, to: &Root, shard: ShardId) -> Result<(), ReadError> {
    let admin = AdminBuilder::new(to.shard(place, shard), place.bucket.clone()).build();
    let source = CloneSourceSpec::with_checkpoint(from.shard(place, shard), checkpoint);
    admin.create_clone_builder_from_source(source).build().await.map_err(|error| failed(shard, error))
}

/// Lets `checkpoint` of the database at `path` go; nothing when it is not there.
pub async fn delete_checkpoint(place: &Place, path: Path, shard: ShardId, checkpoint: Uuid) -> Result<(), ReadError> {
    let admin = AdminBuilder::new(path, place.bucket.clone()).build();
    admin.delete_checkpoint(checkpoint).await.map_err(|error| failed(shard, error))
}

/// Checkpoints of the database at `path` that have a name, which only snapshots give: each with its name and when it was made, in milliseconds since
/// 1970.
pub async fn named_checkpoints(place: &Place, path: Path, shard: ShardId) -> Result<Vec<(Uuid, String, u64)>, ReadError> {
    let admin = AdminBuilder::new(path, place.bucket.clone()).build();
    let all = admin.list_checkpoints(None).await.map_err(|error| failed(shard, error))?;
    let named = all.into_iter().filter_map(|checkpoint| {
        let made_at_ms = u64::try_from(checkpoint.create_time.timestamp_millis()).unwrap_or_default();
        Some((checkpoint.id, checkpoint.name?, made_at_ms))
    });
    Ok(named.collect())
}
