//! Opening the bucket at the start, and closing it at the end.

use std::sync::Arc;

use anyhow::Context;
use bucketmq_access::Access;
use bucketmq_bucket::{Bucket, BucketConfig, BucketUrl, Lifecycle, lifecycle, probe};
use bucketmq_storage::durable::Place;
use bucketmq_storage::{DurableError, DurableStore, MemoryStore, Shards};
use object_store::path::Path;
use tracing::info;

use super::restore::Restored;
use crate::broker::Broker;
use crate::config::Limits;
use crate::metrics::BucketExporter;

/// Where the broker's state is.
pub enum State {
    /// In this process.
    Memory,
    /// In a bucket.
    Bucket(Box<Bucket>, Arc<DurableStore>),
}

/// Opens what `config` names; refuses a bucket that cannot keep what the broker promises.
pub async fn open(config: &BucketConfig) -> anyhow::Result<State> {
    if config.url == BucketUrl::Memory {
        return Ok(State::Memory);
    }
    let bucket = Bucket::open(config).await.context("bucket.url cannot be used")?;
    let store = bucket.store();
    probe(&*store).await.with_context(|| format!("{} cannot keep what was acknowledged", config.url))?;
    if let Lifecycle::TakesAway(rules) = lifecycle(&bucket).await {
        anyhow::bail!("{}: {}", config.url, rules.join("; "));
    }
    let place = Place { bucket: store, prefix: Path::default(), shards: Shards::default() };
    let shards = DurableStore::open(&place).await.with_context(|| config.url.to_string())?;
    info!(bucket = %config.url, shards = place.shards.count(), "bucket opened");
    Ok(State::Bucket(Box::new(bucket), Arc::new(shards)))
}

impl State {
    /// A broker with everything that was found.
    pub async fn broker(&self, limits: Limits, access: Access) -> anyhow::Result<Broker> {
        let Self::Bucket(bucket, store) = self else {
            return Ok(Broker::new(limits, access, Arc::new(MemoryStore::new(Shards::default()))));
        };
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let mut restored = Restored::read(store, now).await.with_context(|| bucket.url().to_string())?;
        let outboxes = std::mem::take(&mut restored.outboxes);
        let broker = Broker::with_outboxes(limits, access, store.clone(), outboxes, restored.next_number);
        restored.put_into(&broker, store);
        Ok(broker)
    }

    /// Lets `registry` show the requests to the bucket.
    pub fn register(&self, registry: &prometheus::Registry) -> prometheus::Result<()> {
        match self {
            Self::Memory => Ok(()),
            Self::Bucket(bucket, _) => BucketExporter::new(bucket.requests().clone()).register(registry),
        }
    }

    /// Waits until a shard takes no more writes.
    pub async fn failed(&self) -> DurableError {
        match self {
            Self::Memory => std::future::pending().await,
            Self::Bucket(_, store) => store.failed().await,
        }
    }

    /// Writes what is left and closes the shards.
    pub async fn close(&self) -> Result<(), DurableError> {
        match self {
            Self::Memory => Ok(()),
            Self::Bucket(_, store) => store.close().await,
        }
    }
}
