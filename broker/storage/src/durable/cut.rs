//! The moment a snapshot shows, of a store that is being used.
//!
//! All shards are locked together for that moment, and what each of them has taken by then is set apart. The task of the shard writes it before
//! anything that came later and begins the checkpoint in between. So every shard has everything that was done before the moment and nothing that was
//! done after it, whatever was durable by then: nobody has seen an answer that rests on more than the snapshot holds, and what somebody did because
//! of an answer is in no shard unless what he was told of is in its own.
//!
//! Nothing has to be held for that but the next batch of each shard, until its checkpoint has begun: the bucket is not waited for then, only
//! the change of its manifest that may be under way. The checkpoints reach the bucket while everything goes on.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use slatedb::config::{CheckpointOptions, CheckpointScope};
use slatedb::{CheckpointCreateResult, CheckpointHandle, Db, Error};
use thiserror::Error as ThisError;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::pending::Batch;
use super::{DurableStore, Place};
use crate::offline::delete_checkpoint;
use crate::root::Root;
use crate::shard::ShardId;

/// Longest that acknowledgements wait for a snapshot: no longer than a bucket may take before the broker says that it does not answer.
const HELD_MAX: Duration = Duration::from_secs(2);
/// Longest that the checkpoints take, which nobody waits for: a table of 2 MiB of each shard and its manifest, on a slow link.
const MADE_MAX: Duration = Duration::from_secs(45);

/// Checkpoints of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// How long the shards took until all of them had begun: no acknowledgement waited longer for it.
    pub held: Duration,
    /// Of each shard its checkpoint, which stays until it is deleted, and the manifest that checkpoint names.
    pub checkpoints: Vec<(ShardId, Uuid, u64)>,
}

/// There is no snapshot, and nothing is left of it.
#[derive(Debug, ThisError)]
pub enum CutError {
    /// It would not be whole.
    #[error("shard {shard} is refused, and a snapshot without it would not be whole: {why}")]
    Refused {
        /// Which.
        shard: ShardId,
        /// Why it cannot be read.
        why: String,
    },
    /// There is another one.
    #[error("another snapshot is being made")]
    Busy,
    /// A shard did not begin in time: acknowledgements are not held longer.
    #[error("shard {shard} did not begin its checkpoint within {} s: acknowledgements are not held longer", HELD_MAX.as_secs())]
    Held {
        /// Which.
        shard: ShardId,
    },
    /// A shard did not come to the end.
    #[error("the checkpoint of shard {shard} was not in the bucket within {} s", MADE_MAX.as_secs())]
    Late {
        /// Which.
        shard: ShardId,
    },
    /// The database.
    #[error("shard {shard} makes no checkpoint")]
    Database {
        /// Which.
        shard: ShardId,
        /// Why.
        #[source]
        source: Error,
    },
}

type Begun = Result<CheckpointHandle, Error>;

/// What one shard has set apart.
#[derive(Debug)]
pub(super) struct Apart {
    /// None: there was nothing that is not written.
    pub(super) batch: Option<Batch>,
    pub(super) position: u64,
    pub(super) bytes: u64,
    pub(super) order: Order,
}

/// What is to be done when it is written.
pub(super) struct Order {
    shard: ShardId,
    name: String,
    until: Instant,
    begun: oneshot::Sender<Begun>,
    site: Arc<Site>,
}

impl std::fmt::Debug for Order {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Order").field("shard", &self.shard).field("name", &self.name).finish_non_exhaustive()
    }
}

impl Order {
    /// Begins the checkpoint; nothing may be written to `db` before this ends.
    pub(super) async fn carry_out(self, db: &Db) {
        let Self { shard, name, until, begun, site } = self;
        if begun.is_closed() || Instant::now() >= until {
            return;
        }
        let db = db.clone();
        let mut beginning = tokio::spawn(async move {
            let options = CheckpointOptions { name: Some(name), ..CheckpointOptions::default() };
            db.begin_checkpoint(CheckpointScope::All, &options).await
        });
        let outcome = match timeout_at(until, &mut beginning).await {
            Ok(Ok(outcome)) => outcome,
            // It stopped with the runtime.
            Ok(Err(_)) => return,
            Err(_) => {
                // Later than what is written from here on, so of no use.
                tokio::spawn(async move {
                    if let Ok(Ok(handle)) = beginning.await {
                        site.abandon(shard, handle.wait().await).await;
                    }
                });
                return;
            }
        };
        if let Err(Ok(handle)) = begun.send(outcome) {
            tokio::spawn(async move { site.abandon(shard, handle.wait().await).await });
        }
    }
}

/// Where the shards are, for who deletes a checkpoint there.
pub(super) struct Site {
    pub(super) place: Place,
    pub(super) root: Root,
}

impl Site {
    async fn abandon(&self, shard: ShardId, made: Result<CheckpointCreateResult, Error>) {
        let Ok(made) = made else { return };
        if let Err(error) = delete_checkpoint(&self.place, self.root.shard(&self.place, shard), shard, made.id).await {
            tracing::warn!(%shard, error = %error, "a checkpoint that nobody needs stays");
        }
    }
}

/// Checkpoints on their way. They are deleted when this is dropped before all of them are there.
struct Making {
    site: Arc<Site>,
    parts: Vec<(ShardId, Part)>,
}

enum Part {
    Making(JoinHandle<Result<CheckpointCreateResult, Error>>),
    Made(CheckpointCreateResult),
    Failed,
}

impl Drop for Making {
    fn drop(&mut self) {
        for (shard, part) in std::mem::take(&mut self.parts) {
            let site = self.site.clone();
            let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
            runtime.spawn(async move {
                match part {
                    Part::Failed => {}
                    Part::Made(made) => site.abandon(shard, Ok(made)).await,
                    Part::Making(making) => {
                        if let Ok(made) = making.await {
                            site.abandon(shard, made).await;
                        }
                    }
                }
            });
        }
    }
}

impl DurableStore {
    /// Checkpoints of all shards as they are now, each called `name`. Nothing is left when it fails or is given up.
    pub async fn cut(&self, name: &str) -> Result<Cut, CutError> {
        let began = Instant::now();
        let until = began + HELD_MAX;
        let orders = self.set_apart(name, until)?;
        let mut making = Making { site: self.site.clone(), parts: Vec::new() };
        let mut outcome = Ok(());
        // All are heard, so that those that have begun are deleted when one has not.
        for (shard, begun) in orders {
            let begun = match timeout_at(until, begun).await {
                Ok(Ok(begun)) => begun.map_err(|source| CutError::Database { shard, source }),
                _ => Err(self.refusal(shard).unwrap_or(CutError::Held { shard })),
            };
            match begun {
                Ok(handle) => making.parts.push((shard, Part::Making(tokio::spawn(handle.wait())))),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        outcome?;
        let held = began.elapsed();
        let checkpoints = making.finish(began + MADE_MAX).await?;
        Ok(Cut { held, checkpoints })
    }

    fn refusal(&self, shard: ShardId) -> Option<CutError> {
        self.part(shard).refused().map(|why| CutError::Refused { shard, why: why.to_owned() })
    }

    /// The moment: every shard sets apart what it has taken.
    fn set_apart(&self, name: &str, until: Instant) -> Result<Vec<(ShardId, oneshot::Receiver<Begun>)>, CutError> {
        // Changes that belong together are not parted. Who makes them holds no other lock of a shard while it waits for this one.
        let _together: Vec<_> = self.parts.iter().map(|shard| shard.together.write()).collect();
        let mut pendings: Vec<_> = self.parts.iter().map(|shard| shard.pending.lock()).collect();
        if let Some(refused) = self.parts.iter().find_map(|shard| self.refusal(shard.id)) {
            return Err(refused);
        }
        if pendings.iter().any(|pending| pending.apart.is_some()) {
            return Err(CutError::Busy);
        }
        let orders = self.parts.iter().zip(&mut pendings).map(|(shard, pending)| {
            let (begun, receiver) = oneshot::channel();
            let order = Order { shard: shard.id, name: name.to_owned(), until, begun, site: self.site.clone() };
            let bytes = pending.bytes();
            let batch = pending.take();
            shard.unwritten.store(0, Ordering::Relaxed);
            shard.unflushed.fetch_add(bytes, Ordering::Relaxed);
            pending.apart = Some(Apart { batch, position: pending.position, bytes, order });
            shard.wake();
            (shard.id, receiver)
        });
        Ok(orders.collect())
    }
}

impl Making {
    async fn finish(&mut self, until: Instant) -> Result<Vec<(ShardId, Uuid, u64)>, CutError> {
        for (shard, part) in &mut self.parts {
            let Part::Making(making) = part else { continue };
            let made = match timeout_at(until, making).await {
                Ok(Ok(made)) => made,
                // Its task has ended with the runtime, or goes on until it can be deleted.
                _ => return Err(CutError::Late { shard: *shard }),
            };
            match made {
                Ok(made) => *part = Part::Made(made),
                Err(source) => {
                    *part = Part::Failed;
                    return Err(CutError::Database { shard: *shard, source });
                }
            }
        }
        let parts = std::mem::take(&mut self.parts).into_iter();
        Ok(parts
            .filter_map(|(shard, part)| if let Part::Made(made) = part { Some((shard, made.id, made.manifest_id)) } else { None })
            .collect())
    }
}

#[cfg(test)]
mod tests;
