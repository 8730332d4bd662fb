//! One shard's rows, read beside whoever owns it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use slatedb::config::{DbReaderOptions, ScanOptions};
use slatedb::{DbIterator, DbReader, DbReaderMode};
use uuid::Uuid;

use super::{RETRIES, failed};
use crate::durable::Place;
use crate::durable::settings::ByKind;
use crate::record::{Kind, Record};
use crate::root::Root;
use crate::shard::ShardId;
use crate::store::ReadError;

/// A reader stays with what it found when it was opened.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// Read of a table at once, one for each table that is being read: many rows for one request.
const READ_AHEAD_BYTES: usize = 256 * 1024;
/// A reader that pins what it reads says so again in half of this time.
const PINNED: Duration = Duration::from_secs(600);

/// Which state is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// As it is now, the log included; nothing is written. When a broker works there, it may delete after five minutes what is being read.
    Now,
    /// As it is now, behind a checkpoint of the reader's own, so that a broker that works there deletes nothing of it.
    Pinned,
    /// As it was at a checkpoint.
    Checkpoint(Uuid),
}

/// A shard that is being read.
pub struct Reader {
    shard: ShardId,
    db: DbReader,
}

/// A row as it stands there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its key, the kind in front.
    pub key: Bytes,
    /// Its value.
    pub value: Bytes,
}

/// Rows on their way, ordered by key.
pub struct Rows {
    shard: ShardId,
    rows: DbIterator,
}

impl Reader {
    /// Opens `shard` of `root` for reading.
    pub async fn open(place: &Place, root: &Root, shard: ShardId, at: At) -> Result<Self, ReadError> {
        let (mode, poll) = match at {
            At::Now => (DbReaderMode::FollowLatest, NEVER),
            At::Pinned => (DbReaderMode::ManagedCheckpoint, PINNED / 4),
            At::Checkpoint(id) => (DbReaderMode::Checkpoint(id), NEVER),
        };
        let options = DbReaderOptions {
            manifest_poll_interval: poll,
            checkpoint_lifetime: PINNED,
            object_store_max_retries: Some(RETRIES),
            ..DbReaderOptions::default()
        };
        let db = DbReader::builder(root.shard(place, shard), place.bucket.clone())
            .with_reader_mode(mode)
            .with_segment_extractor(Arc::new(ByKind))
            .with_options(options)
            .with_db_cache_disabled()
            .build()
            .await
            .map_err(|error| failed(shard, error))?;
        Ok(Self { shard, db })
    }

    /// Which shard.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// The value of one key.
    pub async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        self.db.get(key).await.map_err(|error| failed(self.shard, error))
    }

    /// All rows of `kind`.
    pub async fn rows(&self, kind: Kind) -> Result<Rows, ReadError> {
        self.rows_of(kind.prefix()).await
    }

    /// All rows whose key begins with `prefix`, which is not empty.
    pub async fn rows_of(&self, prefix: &[u8]) -> Result<Rows, ReadError> {
        let options = ScanOptions { read_ahead_bytes: READ_AHEAD_BYTES, ..ScanOptions::default() };
        let rows = self.db.scan_prefix_with_options(prefix, .., &options).await.map_err(|error| failed(self.shard, error))?;
        Ok(Rows { shard: self.shard, rows })
    }

    /// The record of `key`.
    pub async fn record<R: Record>(&self, key: &R::Key) -> Result<Option<R>, ReadError> {
        let value = self.get(&R::key(key)).await?;
        value.map(|value| R::decode(&value).map_err(|error| failed(self.shard, error))).transpose()
    }

    /// All records of one kind, which are few enough to be held in memory.
    pub async fn records<R: Record>(&self) -> Result<Vec<(R::Key, R)>, ReadError> {
        let wrong = |error| failed(self.shard, error);
        let mut rows = self.rows(R::KIND).await?;
        let mut records = Vec::new();
        while let Some(row) = rows.next().await? {
            records.push((R::decode_key(&row.key).map_err(wrong)?, R::decode(&row.value).map_err(wrong)?));
        }
        Ok(records)
    }

    /// Ends reading; a checkpoint of its own goes.
    pub async fn close(self) {
        // What it leaves behind expires by itself.
        let _ = self.db.close().await;
    }
}

impl Rows {
    /// The next one.
    pub async fn next(&mut self) -> Result<Option<Row>, ReadError> {
        let next = self.rows.next().await.map_err(|error| failed(self.shard, error))?;
        Ok(next.map(|row| Row { key: row.key, value: row.value }))
    }
}
