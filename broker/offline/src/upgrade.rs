//! Formats: what each shard is written in, and everything that is older than this release written anew.

use bucketmq_storage::offline::Reader;
use bucketmq_storage::record::format::Format;
use bucketmq_storage::record::{Kind, Record, rewrite};
use bucketmq_storage::{ReadError, ShardId};
use serde::Serialize;
use thiserror::Error;

use crate::Progress;
use crate::exclusive::Exclusive;
use crate::site::Site;

/// The oldest format this release opens.
pub const OLDEST: u32 = 1;

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Upgraded {
    /// The format this release writes.
    pub format: u32,
    /// The oldest it opens.
    pub oldest: u32,
    /// Shards that were looked at.
    pub shards: u64,
    /// Records that were looked at.
    pub records: u64,
    /// Records that were written anew.
    pub rewritten: u64,
}

/// A shard cannot be brought to this release.
#[derive(Debug, Error)]
pub enum UpgradeError {
    /// It cannot be read or written.
    #[error(transparent)]
    Shard(#[from] ReadError),
    /// It is not known.
    #[error(
        "shard {shard} has format {found}; this release opens {OLDEST} to {current}: go through the release that wrote it, or use a later one"
    )]
    Format {
        /// Which.
        shard: ShardId,
        /// Its format.
        found: u32,
        /// What this release writes.
        current: u32,
    },
}

/// Walks all shards and writes anew what is older. With nothing to write, nothing is written.
pub async fn upgrade(site: &Site, exclusive: &Exclusive, progress: Progress<'_>) -> Result<Upgraded, UpgradeError> {
    let mut upgraded = Upgraded { format: Format::CURRENT, oldest: OLDEST, ..Upgraded::default() };
    for shard in site.place.shards.all() {
        progress(&format!("shard {shard}"));
        let reader = Reader::open(&site.place, &site.root, shard, site.now()).await?;
        let outcome = upgrade_shard(site, exclusive, &reader, &mut upgraded).await;
        reader.close().await;
        outcome?;
        upgraded.shards += 1;
    }
    Ok(upgraded)
}

async fn upgrade_shard(site: &Site, exclusive: &Exclusive, reader: &Reader, upgraded: &mut Upgraded) -> Result<(), UpgradeError> {
    let shard = reader.shard();
    let Some(format) = reader.record::<Format>(&()).await? else { return Ok(()) };
    if !(OLDEST..=Format::CURRENT).contains(&format.version) {
        return Err(UpgradeError::Format { shard, found: format.version, current: Format::CURRENT });
    }
    // Opened when there is something to write: an opening leaves objects behind.
    let mut writer = None;
    for kind in Kind::ALL {
        let mut rows = reader.rows(kind).await?;
        while let Some(row) = rows.next().await? {
            upgraded.records += 1;
            let newer = rewrite(kind, &row.value).map_err(|error| ReadError { shard, source: Box::new(error) })?;
            let Some(value) = newer else { continue };
            let writer = match &mut writer {
                Some(writer) => writer,
                none => none.insert(exclusive.writer(site, shard).await?),
            };
            writer.row(&row.key, Some(&value)).await?;
            upgraded.rewritten += 1;
        }
    }
    if format.version < Format::CURRENT {
        let writer = match &mut writer {
            Some(writer) => writer,
            none => none.insert(exclusive.writer(site, shard).await?),
        };
        // Last: until it stands there, the whole is done again.
        writer.row(&Format::key(&()), Some(&Format { version: Format::CURRENT, ..format }.encode())).await?;
    }
    if let Some(writer) = writer {
        writer.close().await?;
    }
    Ok(())
}
