//! Snapshots that the broker takes while it serves: when somebody asks through the bucket, and on a schedule.
//!
//! One read every two seconds looks for a request; that is all an idle broker pays.

use std::sync::Arc;

use bucketmq_bucket::SnapshotsConfig;
use bucketmq_offline::chain;
use bucketmq_offline::request::{self, State as Answer};
use bucketmq_offline::snapshot::{self, SCHEDULED, ShardCheckpoint, Snapshot, SnapshotError};
use bucketmq_storage::DurableStore;
use bucketmq_storage::durable::{CutError, Place};
use object_store::Error;
use thiserror::Error as ThisError;
use tracing::{debug, info, warn};

use super::open::State;
use crate::metrics::Metrics;

/// Takes them.
pub struct Snapshots {
    store: Arc<DurableStore>,
    config: SnapshotsConfig,
    metrics: Arc<Metrics>,
}

/// There is no snapshot, and nothing is left of it.
#[derive(Debug, ThisError)]
enum TakeError {
    /// The shards.
    #[error(transparent)]
    Cut(#[from] CutError),
    /// Its name, or the list.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

impl Snapshots {
    /// Of the shards of `state`; `None` without a bucket.
    pub fn new(state: &State, config: SnapshotsConfig, metrics: Arc<Metrics>) -> Option<Self> {
        match state {
            State::Memory => None,
            State::Bucket { store, .. } => Some(Self { store: store.clone(), config, metrics }),
        }
    }

    /// Runs as long as the broker serves.
    pub async fn run(self) {
        self.find_last().await;
        self.sweep().await;
        let mut due = self.due();
        loop {
            tokio::time::sleep(request::LOOK).await;
            self.look().await;
            if due.is_some_and(|due| due <= snapshot::now()) {
                self.keep_schedule().await;
                due = self.due();
            }
        }
    }

    fn place(&self) -> &Place {
        self.store.place()
    }

    fn due(&self) -> Option<u64> {
        self.config.schedule.as_ref()?.after(snapshot::now())
    }

    /// So that an alarm for a snapshot that is old knows of one that was taken before this process began.
    async fn find_last(&self) {
        match snapshot::list(self.place()).await {
            Ok(snapshots) => self.metrics.snapshots.found(snapshots.iter().map(|snapshot| snapshot.made_at_ms).max().unwrap_or(0)),
            Err(error) => warn!(error = chain(&error), "the snapshots cannot be listed"),
        }
    }

    /// Takes the snapshot that is asked for, if one is.
    async fn look(&self) {
        let request = match request::take(self.place()).await {
            Ok(Some(request)) => request,
            Ok(None) => return,
            // Of a bucket that does not answer others tell.
            Err(error) => return debug!(error = chain(&error), "no request for a snapshot can be seen"),
        };
        let answer = match self.take(request.label(), false).await {
            Ok(snapshot) => Answer::Done { snapshot: snapshot.name },
            Err(error) => Answer::Failed { why: chain(&error) },
        };
        if let Err(error) = request.answer(self.place(), answer).await {
            warn!(error = chain(&error), "who asked for a snapshot cannot be told how it went");
        }
        self.sweep().await;
    }

    /// Takes the snapshot that is due, and lets the oldest go.
    async fn keep_schedule(&self) {
        if self.take(SCHEDULED, true).await.is_err() {
            // Those there are have to do.
            return;
        }
        match snapshot::prune(self.place(), self.config.retain as usize).await {
            Ok(pruned) => pruned.iter().for_each(|snapshot| info!(snapshot, "an old scheduled snapshot is deleted")),
            Err(error) => warn!(error = chain(&error), "old scheduled snapshots stay"),
        }
        self.sweep().await;
    }

    /// Of snapshots that a broker did not come to the end of.
    async fn sweep(&self) {
        if let Err(error) = snapshot::sweep(self.place(), self.store.root()).await {
            warn!(error = chain(&error), "what snapshots have left that were never finished stays");
        }
    }

    async fn take(&self, label: &str, scheduled: bool) -> Result<Snapshot, TakeError> {
        let taken = self.try_take(label, scheduled).await;
        match &taken {
            Ok(snapshot) => {
                self.metrics.snapshots.taken(snapshot.made_at_ms, snapshot.held_ms.unwrap_or(0));
                info!(snapshot = snapshot.name, held_ms = snapshot.held_ms, scheduled, "snapshot taken");
            }
            Err(error) => {
                self.metrics.snapshots.failed();
                warn!(label, error = chain(error), "no snapshot was taken");
            }
        }
        taken
    }

    async fn try_take(&self, label: &str, scheduled: bool) -> Result<Snapshot, TakeError> {
        snapshot::check_label(label)?;
        let made_at_ms = snapshot::now();
        let cut = self.store.cut(label).await?;
        let shards = cut.checkpoints.iter().map(|(shard, checkpoint, manifest)| ShardCheckpoint {
            shard: shard.0,
            checkpoint: *checkpoint,
            manifest: *manifest,
        });
        let snapshot = Snapshot::new(label, made_at_ms, self.store.root().folder(), scheduled, Some(cut.held), shards.collect());
        if let Err(error) = snapshot.save(self.place()).await {
            self.undo(&snapshot, &error).await;
            return Err(error.into());
        }
        Ok(snapshot)
    }

    /// A snapshot that may be in the list or not goes from there first: one without checkpoints would be worse than checkpoints without one.
    async fn undo(&self, snapshot: &Snapshot, error: &SnapshotError) {
        let is_listed = !matches!(error, SnapshotError::Bucket(Error::AlreadyExists { .. }));
        let gone = if is_listed { snapshot::delete(self.place(), snapshot).await.map(|_| ()) } else { Ok(()) };
        match gone {
            Ok(()) if is_listed => {}
            Ok(()) | Err(SnapshotError::Bucket(Error::NotFound { .. })) => {
                snapshot::drop_checkpoints(self.place(), self.store.root(), &snapshot.shards).await;
            }
            Err(error) => warn!(snapshot = snapshot.name, error = chain(&error), "what is left of a snapshot that failed stays"),
        }
    }
}
