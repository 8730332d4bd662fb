//! Nobody else uses the prefix: what every command that writes makes sure of first.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bucketmq_cluster::{Confirmation, Held, Member, ObjectError, Objects, Ownership, TakeError, Takeover};
use bucketmq_storage::ShardId;
use bucketmq_storage::durable::Place;
use thiserror::Error;
use tokio::time::timeout;

use crate::Progress;

/// An owner that lives shows it within ten seconds, and one that does not is asked for three; then some for a slow bucket.
const WAIT_MAX: Duration = Duration::from_secs(25);
/// Attempts to raise an epoch while somebody else changes the same object.
const RAISE_ATTEMPTS: u32 = 10;

/// The prefix is this process's for as long as it lives.
pub struct Exclusive {
    held: Held,
    objects: Objects,
    shards: bucketmq_storage::Shards,
}

/// The prefix cannot be had.
#[derive(Debug, Error)]
pub enum OwnError {
    /// A broker has it.
    #[error("the broker {by} owns this bucket and lives: stop it first")]
    Owned {
        /// Its name.
        by: String,
    },
    /// It cannot be told who has it.
    #[error("it cannot be told who owns this bucket")]
    Unknown(#[from] ObjectError),
    /// Taking it did not work.
    #[error(transparent)]
    Take(#[from] TakeError),
}

/// The member that `own/00` names.
pub async fn owner(place: &Place) -> Result<Option<String>, OwnError> {
    let (own, _) = Objects::new(place.bucket.clone()).own(ShardId(0)).await?;
    Ok(own.and_then(|own| own.owner).map(|owner| owner.member))
}

/// Makes sure that no broker owns the prefix, and that none comes to own it until the [`Exclusive`] is released. A broker that died without a word
/// is recognized by its silence, so this may take a quarter of a minute. `lock`: the file whose lock decides when the bucket is a directory.
pub async fn ensure_not_owned(place: &Place, lock: Option<PathBuf>, progress: Progress<'_>) -> Result<Exclusive, OwnError> {
    let mut ownership = Ownership::new(place.bucket.clone(), place.shards, Member::of_this_host(), Takeover::Never);
    if let Some(file) = lock {
        ownership = ownership.with_directory_lock(file);
    }
    let mut by = String::new();
    let mut on_wait = |owner: &str| {
        if by != owner {
            owner.clone_into(&mut by);
            progress(&format!("{by} is written down as the owner: looking whether it lives"));
        }
    };
    let taken = timeout(WAIT_MAX, ownership.take(Arc::new(Confirmation::pending()), &mut on_wait)).await;
    match taken {
        Ok(held) => Ok(Exclusive { held: held?, objects: Objects::new(place.bucket.clone()), shards: place.shards }),
        Err(_) => Err(OwnError::Owned { by }),
    }
}

impl Exclusive {
    /// The largest epoch of any shard.
    pub fn epoch(&self) -> u64 {
        self.held.epochs().iter().copied().max().unwrap_or(0)
    }

    /// Raises the epoch of every shard to `epoch` at least: the next broker numbers the rows of its outboxes above it.
    pub async fn raise_epochs(&self, epoch: u64) -> Result<(), ObjectError> {
        for shard in self.shards.all() {
            raise(&self.objects, shard, epoch).await?;
        }
        Ok(())
    }

    /// Lets it go.
    pub async fn release(self) {
        self.held.release().await;
    }
}

async fn raise(objects: &Objects, shard: ShardId, epoch: u64) -> Result<(), ObjectError> {
    let mut attempts = RAISE_ATTEMPTS;
    loop {
        let (own, version) = objects.own(shard).await?;
        // Nobody's, but with an epoch.
        let own = own.unwrap_or_else(|| bucketmq_cluster::Own::taken(None, &Member::of_this_host(), None).released());
        match objects.change_own(shard, &version, &own.raised_to(epoch)).await {
            Err(ObjectError::Changed { .. }) if attempts > 0 => attempts -= 1,
            other => return other.map(|_| ()),
        }
    }
}

/// Gives every shard of `place`, which nobody has used, an epoch.
pub(crate) async fn begin_epochs(place: &Place, epoch: u64) -> Result<(), ObjectError> {
    let objects = Objects::new(place.bucket.clone());
    for shard in place.shards.all() {
        raise(&objects, shard, epoch).await?;
    }
    Ok(())
}
