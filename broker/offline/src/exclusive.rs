//! Nobody else uses the prefix: what every command that writes makes sure of first.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bucketmq_cluster::{Confirmation, Held, HostLock, Member, ObjectError, Objects, Own, Ownership, TakeError, Takeover, Wait};
use bucketmq_storage::durable::Place;
use bucketmq_storage::offline::Writer;
use bucketmq_storage::{ReadError, ShardId};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use rand::Rng;
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout};

use crate::site::Site;
use crate::{Progress, chain};

/// An owner that lives shows it within ten seconds, and one that does not is asked for three; then some for a slow bucket.
const WAIT_MAX: Duration = Duration::from_secs(25);
/// An owner that lives is recognized within this time: it writes a sign of life every five seconds.
const LOOK: Duration = Duration::from_millis(500);
/// Attempts to raise an epoch while somebody else changes the same object.
const RAISE_ATTEMPTS: u32 = 10;

/// The prefix is this process's for as long as it lives, or until a broker that was told to take over asks for it.
pub struct Exclusive {
    held: Held,
    member: Member,
    bucket: Arc<dyn ObjectStore>,
    shards: bucketmq_storage::Shards,
}

/// The prefix cannot be had.
#[derive(Debug, Error)]
pub enum OwnError {
    /// A broker has it.
    #[error("{by} owns this bucket and lives: stop it first")]
    Owned {
        /// Its name.
        by: String,
    },
    /// A broker wants it, or has it already.
    #[error("{by} was told to take this bucket over: nothing more was done to it")]
    Wanted {
        /// Its name.
        by: String,
    },
    /// It is for somebody else.
    #[error("the prefix belongs to {owner}")]
    Foreign {
        /// As its brokers call it.
        owner: String,
    },
    /// It cannot be told who has it.
    #[error("it cannot be told who owns this bucket")]
    Unknown(#[from] ObjectError),
    /// The bucket does not answer.
    #[error("who owns this bucket cannot be settled in {} s: it answers too slowly, or not at all", WAIT_MAX.as_secs())]
    Slow,
    /// Taking it did not work.
    #[error(transparent)]
    Take(#[from] TakeError),
}

/// The member that `own/00` names.
pub async fn owner(place: &Place) -> Result<Option<String>, OwnError> {
    Ok(first(&Objects::new(place.bucket.clone())).await?.and_then(|own| own.owner).map(|owner| owner.member))
}

/// For whom the prefix is, if anybody has said so.
pub async fn prefix_owner(place: &Place) -> Result<Option<String>, OwnError> {
    Ok(Objects::new(place.bucket.clone()).prefix_owner().await?.0.map(|prefix| prefix.owner))
}

/// Makes sure that the prefix is `owner`'s, or nobody's.
pub async fn ensure_prefix_of(place: &Place, owner: &str) -> Result<(), OwnError> {
    match prefix_owner(place).await? {
        Some(other) if other != owner => Err(OwnError::Foreign { owner: other }),
        _ => Ok(()),
    }
}

async fn first(objects: &Objects) -> Result<Option<Own>, ObjectError> {
    objects.own(ShardId(0)).await.map(|(own, _)| own)
}

/// Makes sure that no broker owns the prefix, and that none comes to own it until the [`Exclusive`] is released. One that lives is recognized by its
/// lock or its next sign of life, within five seconds; one that died without a word by its silence, which takes a quarter of a minute. `lock`: the
/// file whose lock decides when the bucket is a directory.
pub async fn ensure_not_owned(place: &Place, lock: Option<PathBuf>, progress: Progress<'_>) -> Result<Exclusive, OwnError> {
    // What is waited for below is told at once.
    let seen = owner(place).await?;
    // A name of its own: under that of a broker it would take the shards from it.
    let name = format!("bucket-tool-{:08x}", rand::rng().random::<u32>());
    let member = Member::named(&name).expect("letters, digits and '-'");
    let mut ownership = Ownership::new(place.bucket.clone(), place.shards, member.clone(), Takeover::Never);
    if let Some(file) = lock {
        // What is got is let go of here: it is taken below, with what else there is to do.
        if matches!(HostLock::of(&file), Ok(HostLock::Taken)) {
            let by = seen.unwrap_or_else(|| "another process of this host".to_owned());
            return Err(OwnError::Owned { by });
        }
        ownership = ownership.with_directory_lock(file);
    }
    let mut by = String::new();
    let mut on_wait = |wait: Wait<'_>| match wait {
        Wait::For(owner) if by != owner => {
            owner.clone_into(&mut by);
            progress(&format!("{by} is written down as the owner: looking whether it lives"));
        }
        Wait::For(_) => {}
        Wait::Bucket(error) => progress(&format!("who owns the bucket cannot be read or written, trying again: {}", chain(error))),
    };
    let objects = Objects::new(place.bucket.clone());
    let taken = tokio::select! {
        biased;
        taken = timeout(WAIT_MAX, ownership.take(Arc::new(Confirmation::pending()), &mut on_wait)) => taken.ok(),
        alive = life(&objects) => {
            by = alive;
            None
        }
    };
    match taken {
        Some(held) => Ok(Exclusive { held: held?, member, bucket: place.bucket.clone(), shards: place.shards }),
        None => {
            remove_note(&*place.bucket, &member).await;
            Err(if by.is_empty() { OwnError::Slow } else { OwnError::Owned { by } })
        }
    }
}

/// Waits for a proof that an owner lives: its name.
async fn life(objects: &Objects) -> String {
    let mut last: Option<(String, u64)> = None;
    loop {
        let began = Instant::now();
        if let Ok(Some(Own { owner: Some(owner), .. })) = first(objects).await {
            let note = objects.note(&owner.member).await.ok().flatten().filter(|note| note.incarnation == owner.incarnation);
            let seen = note.map(|note| (note.incarnation, note.count));
            let has_moved = last.as_ref().zip(seen.as_ref()).is_some_and(|(before, now)| before.0 == now.0 && before.1 < now.1);
            if has_moved {
                return owner.member;
            }
            last = seen.or(last);
        }
        sleep(LOOK.saturating_sub(began.elapsed())).await;
    }
}

/// A tool comes once: what it has left would lie there for a week.
async fn remove_note(bucket: &dyn ObjectStore, member: &Member) {
    if let Err(error) = bucket.delete(&Path::from(format!("members/{}", member.name))).await {
        tracing::debug!(%error, "the sign of life of a tool stays until a broker removes it");
    }
}

impl Exclusive {
    /// The largest epoch of any shard.
    pub fn epoch(&self) -> u64 {
        self.held.epochs().iter().copied().max().unwrap_or(0)
    }

    /// Opens a shard for writing.
    pub async fn writer(&self, site: &Site, shard: ShardId) -> Result<Writer, ReadError> {
        Writer::open(&site.place, &site.root, shard, self.held.not_before_ms()).await
    }

    /// Makes sure that it still is, before what cannot be taken back: no broker has it, and none asks for it.
    pub async fn check(&self) -> Result<(), OwnError> {
        let own = first(&Objects::new(self.bucket.clone())).await?;
        let claim = own.as_ref().and_then(|own| own.claim.as_ref());
        match &own {
            Some(own) if own.is_owned_by(&self.member) && claim.is_none() => Ok(()),
            _ => {
                let owner = own.as_ref().and_then(|own| own.owner.as_ref()).map(|owner| &owner.member);
                let by = claim.map(|claim| &claim.member).or(owner).map_or("somebody else", String::as_str);
                Err(OwnError::Wanted { by: by.to_owned() })
            }
        }
    }

    /// Raises the epoch of every shard to `epoch` at least: the next broker numbers the rows of its outboxes above it.
    pub async fn raise_epochs(&self, epoch: u64) -> Result<(), ObjectError> {
        let objects = Objects::new(self.bucket.clone());
        for shard in self.shards.all() {
            raise(&objects, shard, epoch).await?;
        }
        Ok(())
    }

    /// Writes no more signs of life, and leaves it to the caller to delete what says whose it is.
    pub(crate) async fn forget(self) {
        self.held.forget().await;
    }

    /// Lets it go.
    pub async fn release(self) {
        self.held.release().await;
        remove_note(&*self.bucket, &self.member).await;
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
