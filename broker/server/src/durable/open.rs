//! Opening the bucket at the start, owning it, opening its shards, and closing them at the end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bucketmq_access::Access;
use bucketmq_bucket::metrics::{Requests, Trouble};
use bucketmq_bucket::{Bucket, BucketConfig, BucketUrl, Lifecycle, lifecycle, probe};
use bucketmq_cluster::{Confirmation, Held, NameLock, Ownership};
use bucketmq_storage::durable::Place;
use bucketmq_storage::{DurableError, DurableStore, MemoryStore, ShardId, Shards, Store};
use object_store::path::Path;
use sha2::{Digest, Sha256};
use tracing::{debug, info};

use super::condition::TakesAway;
use super::restore::Restored;
use crate::broker::{Broker, Inherited, host_ms};
use crate::config::Limits;
use crate::metrics::Metrics;

/// Closing what was opened in vain may take so long: the bucket may be why.
const GIVE_UP_MAX: Duration = Duration::from_secs(5);

/// Opens the bucket `config` names; refuses one that cannot keep what the broker promises. `None`: state is kept in this process.
pub async fn open_bucket(config: &BucketConfig) -> anyhow::Result<Option<Bucket>> {
    if config.url == BucketUrl::Memory {
        return Ok(None);
    }
    let bucket = Bucket::open(config).await.context("bucket.url cannot be used")?;
    probe(&*bucket.store()).await.with_context(|| format!("{} cannot keep what was acknowledged", config.url))?;
    if let Lifecycle::TakesAway(rules) = lifecycle(&bucket).await {
        return Err(anyhow::Error::new(TakesAway(rules)).context(config.url.to_string()));
    }
    Ok(Some(bucket))
}

/// How this broker comes to own `bucket`.
pub fn ownership(bucket: &Bucket, config: &bucketmq_cluster::Config) -> anyhow::Result<Ownership> {
    let member = config.member().context("cluster.member")?;
    let name_lock = if member.is_unique { None } else { name_lock(bucket, &member.name) };
    let ownership = Ownership::new(bucket.store(), Shards::default(), member, config.takeover);
    Ok(match bucket.broker_lock() {
        Some(file) => ownership.with_directory_lock(file),
        None => ownership.with_name_lock(name_lock),
    })
}

/// The lock of this host's name at this bucket: in the folder of what lives as long as the boot.
fn name_lock(bucket: &Bucket, member: &str) -> Option<NameLock> {
    let folder = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let hash = Sha256::digest(format!("{} {member}", bucket.url()));
    let name: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    match NameLock::take(&folder, &format!("bucketmq-{name}.lock")) {
        Ok(lock) => lock,
        Err(error) => {
            debug!(error = %error, "no lock for the name of this host: after a crash ten seconds of silence have to do");
            None
        }
    }
}

/// Where the broker's state is.
pub enum State {
    /// In this process.
    Memory,
    /// In a bucket.
    Bucket {
        /// Its shards.
        store: Arc<DurableStore>,
        /// Of each shard.
        epochs: Vec<u64>,
        /// When the last owner can have written last, by its clock.
        not_before_ms: u64,
        /// What was asked of the bucket.
        requests: Arc<Requests>,
        /// Which bucket.
        url: Box<BucketUrl>,
    },
}

impl State {
    /// Opens the shards that are held.
    pub async fn open(bucket: Option<(&Bucket, &Held)>) -> anyhow::Result<Self> {
        let Some((bucket, held)) = bucket else { return Ok(Self::Memory) };
        let url = bucket.url();
        let place = Place { bucket: bucket.store(), prefix: Path::default(), shards: Shards::default() };
        let store = DurableStore::open_not_before(&place, held.not_before_ms()).await.with_context(|| url.to_string())?;
        info!(bucket = %url, shards = place.shards.count(), "bucket opened");
        Ok(Self::Bucket {
            store: Arc::new(store),
            epochs: held.epochs().to_vec(),
            not_before_ms: held.not_before_ms(),
            requests: bucket.requests().clone(),
            url: Box::new(url.clone()),
        })
    }

    /// A broker with everything that was found.
    pub async fn broker(
        &self,
        limits: Limits,
        access: Access,
        confirmation: Arc<Confirmation>,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Broker> {
        let Self::Bucket { store, epochs, not_before_ms, .. } = self else {
            let inherited = Inherited { confirmation, metrics, ..Inherited::nothing() };
            return Ok(Broker::new(limits, access, Arc::new(MemoryStore::new(Shards::default())), inherited));
        };
        if !store.refused().is_empty() {
            // Who subscribes there is not known, so a PUBLISH may be matched to too few.
            confirmation.withhold();
        }
        let mut restored = Restored::read(store, epochs, host_ms().max(*not_before_ms)).await.context("the bucket cannot be read")?;
        let outboxes = std::mem::take(&mut restored.outboxes);
        let inherited = Inherited { outboxes, next_number: restored.next_number, confirmation, metrics };
        let broker = Broker::new(limits, access, store.clone(), inherited);
        restored.put_into(&broker, store);
        Ok(broker)
    }

    /// At least so long from one write to a shard's log to the next.
    pub fn set_min_flush_interval(&self, interval: Duration) {
        if let Self::Bucket { store, .. } = self {
            store.set_min_flush_interval(interval);
        }
    }

    /// The shard whose write has been under way longest, and how long.
    pub fn slowest_write(&self) -> Option<(ShardId, Duration)> {
        match self {
            Self::Memory => None,
            Self::Bucket { store, .. } => store.slowest_write(),
        }
    }

    /// The last request to the bucket that did not go as wished.
    pub fn last_trouble(&self) -> Option<Trouble> {
        match self {
            Self::Memory => None,
            Self::Bucket { requests, .. } => requests.last_trouble(),
        }
    }

    /// Which bucket, if any.
    pub fn url(&self) -> Option<&BucketUrl> {
        match self {
            Self::Memory => None,
            Self::Bucket { url, .. } => Some(url.as_ref()),
        }
    }

    /// The shards that cannot be read, and why.
    pub fn refused(&self) -> Vec<(ShardId, String)> {
        match self {
            Self::Memory => Vec::new(),
            Self::Bucket { store, .. } => store.refused(),
        }
    }

    /// Waits until a shard takes no more writes.
    pub async fn failed(&self) -> DurableError {
        match self {
            Self::Memory => std::future::pending().await,
            Self::Bucket { store, .. } => store.failed().await,
        }
    }

    /// Closes shards that nobody is going to use, as far as the bucket lets it.
    pub async fn give_up(&self) {
        if !matches!(tokio::time::timeout(GIVE_UP_MAX, self.close()).await, Ok(Ok(()))) {
            debug!("shards that were opened in vain are not closed: whoever opens them next fences them");
        }
    }

    /// Writes what is left and closes the shards.
    pub async fn close(&self) -> Result<(), DurableError> {
        match self {
            Self::Memory => Ok(()),
            Self::Bucket { store, .. } => store.close().await,
        }
    }
}

/// An error and its causes, as one line.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
