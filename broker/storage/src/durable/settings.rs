//! How SlateDB is set up: small, because sixteen of them share a process whose queues shall not be in memory, and quiet, because every request
//! to a bucket costs money.

use std::time::Duration;

use slatedb::config::{CompactionWorkerOptions, CompactorOptions, Settings};

use crate::record::Kind;

/// Bytes of a memtable before it is written to level 0: with 16 shards at most 32 MiB in all.
const L0_SST_BYTES: usize = 2 * 1024 * 1024;
/// Tables of level 0 before the shard takes no more: compaction looks every few seconds and has to have room until then, or closing waits for it.
const L0_SSTS_MAX: usize = 64;
/// Bytes a shard holds that are in the log only, or not even there, before it takes no more.
const UNFLUSHED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Time until an idle shard that was fenced notices, and one request to the bucket.
pub(crate) const MANIFEST_POLL: Duration = Duration::from_secs(5);
/// Between two looks for something to compact.
const COMPACTOR_POLL: Duration = Duration::from_secs(5);
/// Log objects after which the memtable is written although it is small: bounds what the next opening has to replay.
pub(crate) const LOG_OBJECTS_MAX: u32 = 128;
/// A change nobody waits for is written after this.
pub(crate) const FLUSH_INTERVAL: Duration = Duration::from_millis(250);

/// Settings of every shard.
pub(crate) fn settings() -> Settings {
    Settings {
        // The shard's own task says when.
        flush_interval: None,
        manifest_poll_interval: MANIFEST_POLL,
        l0_sst_size_bytes: L0_SST_BYTES,
        max_unflushed_bytes: UNFLUSHED_BYTES_MAX,
        l0_max_ssts: L0_SSTS_MAX,
        l0_max_ssts_per_key: L0_SSTS_MAX,
        l0_flush_parallelism: 1,
        compactor_options: Some(CompactorOptions {
            poll_interval: COMPACTOR_POLL,
            max_concurrent_compactions: 1,
            worker: Some(CompactionWorkerOptions {
                max_concurrent_compactions: 1,
                max_fetch_tasks: 2,
                compactions_poll_interval: COMPACTOR_POLL,
                ..CompactionWorkerOptions::default()
            }),
            ..CompactorOptions::default()
        }),
        ..Settings::default()
    }
}

/// One tree for each kind of record: what is compacted often does not drag along what is not. Fixed when a database is made.
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
        Kind::of(bytes).map(|_| 1)
    }
}
