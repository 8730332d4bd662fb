//! One shard opened for writing by a tool, while no broker has it.

use std::sync::Arc;

use slatedb::config::{CheckpointOptions, CheckpointScope, Settings};
use slatedb::{Db, WriteBatch};
use uuid::Uuid;

use super::{RETRIES, failed};
use crate::durable::Place;
use crate::durable::clock::Clock;
use crate::durable::settings::{ByKind, settings};
use crate::record::Record;
use crate::record::format::Format;
use crate::root::Root;
use crate::shard::ShardId;
use crate::store::ReadError;

/// Rows in one batch.
const BATCH_ROWS: usize = 1024;

/// A shard that is being written.
pub struct Writer {
    shard: ShardId,
    db: Db,
    batch: WriteBatch,
    rows: usize,
}

impl Writer {
    /// Opens `shard` of `root`, and makes it if it is not there. Whoever had it open can write no more. Somebody may have written there until
    /// `not_before_ms`, milliseconds since 1970, by a clock that was ahead of this host's.
    pub async fn open(place: &Place, root: &Root, shard: ShardId, not_before_ms: u64) -> Result<Self, ReadError> {
        let settings = Settings { object_store_max_retries: Some(RETRIES), ..settings(shard) };
        let db = Db::builder(root.shard(place, shard), place.bucket.clone())
            .with_settings(settings)
            .with_segment_extractor(Arc::new(ByKind))
            .with_system_clock(Arc::new(Clock::new(not_before_ms)))
            .with_db_cache_disabled()
            .build()
            .await
            .map_err(|error| failed(shard, error))?;
        Ok(Self { shard, db, batch: WriteBatch::new(), rows: 0 })
    }

    /// Makes `shard` of `root`, where nothing is, as a broker would.
    pub async fn begin(place: &Place, root: &Root, shard: ShardId) -> Result<(), ReadError> {
        let mut writer = Self::open(place, root, shard, 0).await?;
        let format = Format { version: Format::CURRENT, shards: place.shards, shard, made_by: env!("CARGO_PKG_VERSION").to_owned() };
        writer.row(&Format::key(&()), Some(&format.encode())).await?;
        writer.close().await
    }

    /// Puts a row, or deletes it.
    pub async fn row(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), ReadError> {
        match value {
            Some(value) => self.batch.put(key, value),
            None => self.batch.delete(key),
        }
        self.rows += 1;
        if self.rows >= BATCH_ROWS { self.write().await } else { Ok(()) }
    }

    async fn write(&mut self) -> Result<(), ReadError> {
        if self.rows == 0 {
            return Ok(());
        }
        self.rows = 0;
        self.db.write(std::mem::take(&mut self.batch)).await.map_err(|error| failed(self.shard, error))?;
        Ok(())
    }

    /// Makes a checkpoint of everything written so far, which stays until it is deleted: its id, and the manifest it names.
    pub async fn checkpoint(&mut self, name: &str) -> Result<(Uuid, u64), ReadError> {
        self.write().await?;
        let options = CheckpointOptions { name: Some(name.to_owned()), ..CheckpointOptions::default() };
        let made = self.db.create_checkpoint(CheckpointScope::All, &options).await.map_err(|error| failed(self.shard, error))?;
        Ok((made.id, made.manifest_id))
    }

    /// Writes what is left, waits for the bucket, and closes the shard.
    pub async fn close(mut self) -> Result<(), ReadError> {
        self.write().await?;
        self.db.close().await.map_err(|error| failed(self.shard, error))
    }
}
