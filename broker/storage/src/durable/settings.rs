//! How SlateDB is set up: small, because sixteen of them share a process whose queues shall not be in memory, and quiet, because every request
//! to a bucket costs money.

use std::time::Duration;

use slatedb::config::{CompactionWorkerOptions, CompactorOptions, Settings};

use crate::record::{Kind, PASSING};
use crate::shard::ShardId;

/// Bytes of a memtable before it is written to level 0. Counted as they are written: in memory a row of 300 bytes takes 600.
const L0_SST_BYTES: usize = 768 * 1024;
/// Tables of level 0 before the shard takes no more: compaction begins up to 34 s later and has to have room until then, also when closing: 192 MiB
/// are 5 MiB a second and shard.
const L0_SSTS_MAX: usize = 256;
/// Bytes a shard holds that are in the log only, or not even there, before it takes no more: with 16 shards 24 MiB, which are 50 in memory.
const UNFLUSHED_BYTES_MAX: usize = 2 * L0_SST_BYTES;
/// Time until an idle shard that was fenced notices, and one request to the bucket.
pub(crate) const MANIFEST_POLL: Duration = Duration::from_secs(5);
/// Between two looks for something to compact, each of four requests. With the worker's and the poll above an idle shard makes 0.87 requests a second.
const COMPACTOR_POLL: Duration = Duration::from_secs(15);
/// Between two looks of the worker for what it shall compact, two requests each.
const WORKER_POLL: Duration = Duration::from_secs(10);
/// Tables worth merging: each merge writes again what was written before.
const COMPACTION_SOURCES_MIN: usize = 8;
/// Tables that are merged at once: what comes within 25 s at 50,000 messages a second. Merging few means merging the same bytes again.
const COMPACTION_SOURCES_MAX: usize = 24;
/// Bytes asked for at once of each table that is merged; so much more is held while they are merged. All shards may be compacting at one time.
const COMPACTION_FETCH_BYTES: usize = 64 * 1024;
/// Bytes of a merged table, which is in memory until it is written.
const COMPACTED_SST_BYTES: usize = 1024 * 1024;
/// Log objects after which the memtable is written although it is small: bounds what the next opening has to replay.
pub(crate) const LOG_OBJECTS_MAX: u32 = 128;
/// A change nobody waits for is written after this.
pub(crate) const FLUSH_INTERVAL: Duration = Duration::from_millis(250);

/// The pauses of a shard are so much longer than those of the one before it: shards that were opened together do not compact together, which would
/// take memory and processor of all at once.
const STAGGER: Duration = Duration::from_millis(300);

/// Settings of `shard`.
pub(crate) fn settings(shard: ShardId) -> Settings {
    let later = STAGGER * u32::from(shard.0 % 16);
    Settings {
        // The shard's own task says when.
        flush_interval: None,
        manifest_poll_interval: MANIFEST_POLL,
        l0_sst_size_bytes: L0_SST_BYTES,
        max_unflushed_bytes: UNFLUSHED_BYTES_MAX,
        l0_max_ssts: L0_SSTS_MAX,
        l0_max_ssts_per_key: L0_SSTS_MAX,
        l0_flush_parallelism: 1,
        // Nothing is looked up by its key but once at the opening: a filter would only be written, and held.
        min_filter_keys: u32::MAX,
        compactor_options: Some(CompactorOptions {
            poll_interval: COMPACTOR_POLL + later,
            max_concurrent_compactions: 1,
            scheduler_options: [
                ("min_compaction_sources".to_owned(), COMPACTION_SOURCES_MIN.to_string()),
                ("max_compaction_sources".to_owned(), COMPACTION_SOURCES_MAX.to_string()),
            ]
            .into(),
            worker: Some(CompactionWorkerOptions {
                max_concurrent_compactions: 1,
                max_subcompactions: 1,
                max_fetch_tasks: 1,
                bytes_to_fetch: COMPACTION_FETCH_BYTES,
                max_sst_size: COMPACTED_SST_BYTES,
                compactions_poll_interval: WORKER_POLL + later,
                ..CompactionWorkerOptions::default()
            }),
            ..CompactorOptions::default()
        }),
        ..Settings::default()
    }
}

/// One tree for each kind of record that stays, and one for all that pass: what is compacted often does not drag along what is not. Fixed when a
/// database is made.
#[derive(Debug)]
pub(crate) struct ByKind;

impl slatedb::PrefixExtractor for ByKind {
    fn name(&self) -> &str {
        "bucketmq-kind-1"
    }

    fn prefix_len(&self, target: &slatedb::PrefixTarget) -> Option<usize> {
        let bytes = match target {
            slatedb::PrefixTarget::Point(bytes) | slatedb::PrefixTarget::Prefix(bytes) => bytes,
        };
        let first = *bytes.first()?;
        // The segment is all there is of what SlateDB asks when it opens a database.
        (first == PASSING || Kind::of(&[first]).is_some()).then_some(1)
    }
}
