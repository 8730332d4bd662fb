//! Carrying out what [`Candidate`] and [`Tenure`] say: reading each second, signs of life every five, conditional writes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bucketmq_storage::{ShardId, Shards};
use object_store::ObjectStore;
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use crate::candidate::{Candidate, Lock, REFRESH, Seen, Step, Takeover};
use crate::confirmation::{Confirmation, GOOD_FOR};
use crate::member::Member;
use crate::objects::{ObjectError, Objects, Version};
use crate::proof::{HostLock, NameLock};
use crate::record::{MemberNote, Own};
use crate::tenure::{Tenure, Verdict};

/// How often `own/00` is read, by its owner and by who waits for it.
const READ_EVERY: Duration = Duration::from_secs(1);
/// The shard whose owner owns all.
const FIRST: ShardId = ShardId(0);
/// Letting go of `own/00` may take so long; who waits takes it after a while in any case.
const RELEASE_DEADLINE: Duration = Duration::from_secs(5);
/// What stands for a directory's lock.
const DIRECTORY: &str = "directory";

/// How a broker comes to own a bucket prefix.
#[derive(Debug)]
pub struct Ownership {
    objects: Objects,
    shards: Shards,
    member: Member,
    takeover: Takeover,
    /// The file whose lock decides for a bucket that is a directory.
    directory_lock: Option<PathBuf>,
    name_lock: Option<NameLock>,
    /// Since when this process has been kept from asking.
    kept_waiting_since: Option<std::time::Instant>,
}

/// A clock that begins no earlier than the last owner's ended and goes on steadily, whatever becomes of the host's; so does the one of the shards.
#[derive(Debug, Clone, Copy)]
struct Time {
    not_before_ms: u64,
    began_ms: u64,
    began: Instant,
}

impl Time {
    /// After `own` and the last sign of life of its owner, which wrote for one more [`REFRESH`] at most, and a second.
    fn after(own: Option<&Own>, note: Option<&MemberNote>) -> Self {
        let owner = own.and_then(|own| own.owner.as_ref());
        let note = note.filter(|note| owner.is_some_and(|owner| owner.incarnation == note.incarnation));
        let seen = note.map_or(0, |note| note.at_ms + 2 * REFRESH.as_millis() as u64);
        let not_before_ms = seen.max(own.map_or(0, |own| own.at_ms));
        let host_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        Self { not_before_ms, began_ms: host_ms.max(not_before_ms), began: Instant::now() }
    }

    fn now_ms(&self) -> u64 {
        self.began_ms + self.began.elapsed().as_millis() as u64
    }
}

/// Why the shards cannot be taken; what heals by waiting is waited for.
#[derive(Debug, Error)]
pub enum TakeError {
    /// What a later release has written, or something that is no record at all.
    #[error("{0}: this broker cannot tell who owns the bucket and touches nothing")]
    Unreadable(ObjectError),
    /// The lock file of a directory.
    #[error("{}: cannot be locked", path.display())]
    Lock {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// What the shards are waited for.
#[derive(Debug)]
pub enum Wait<'a> {
    /// This member, which owns them.
    For(&'a str),
    /// The bucket: it was asked, and is asked again.
    Bucket(&'a ObjectError),
}

/// Why the shards have to be given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Another member asked for them and was promised that they are closed soon.
    Asked {
        /// Its name.
        by: String,
    },
    /// They are not ours any more.
    Lost {
        /// Whose; empty when they are nobody's.
        to: String,
    },
}

/// All shards are this process's, until [`Held::ended`].
#[derive(Debug)]
pub struct Held {
    objects: Objects,
    member: Member,
    epochs: Vec<u64>,
    time: Time,
    confirmation: Arc<Confirmation>,
    ending: watch::Receiver<Option<Ending>>,
    tasks: JoinSet<()>,
    /// Let go of when this process has, or dies.
    _directory: Option<HostLock>,
}

impl Ownership {
    /// `member` wants the shards in `bucket`.
    pub fn new(bucket: Arc<dyn ObjectStore>, shards: Shards, member: Member, takeover: Takeover) -> Self {
        Self { objects: Objects::new(bucket), shards, member, takeover, directory_lock: None, name_lock: None, kept_waiting_since: None }
    }

    /// This process was started then and could not look at who owns the shards for a while: who came to own them meanwhile is newer than it, and
    /// [`Takeover::New`] does not ask it.
    pub fn kept_waiting_since(&mut self, started: std::time::Instant) {
        self.kept_waiting_since = Some(started);
    }

    /// The bucket is a directory of this host, where the lock of this file decides.
    pub fn with_directory_lock(mut self, file: PathBuf) -> Self {
        self.directory_lock = Some(file);
        self
    }

    /// The bucket is elsewhere; this proves that an earlier process of this name and host is gone.
    pub fn with_name_lock(mut self, lock: Option<NameLock>) -> Self {
        self.name_lock = lock;
        self
    }

    /// This broker.
    pub fn member(&self) -> &Member {
        &self.member
    }

    /// Waits until all shards are this process's. `on_wait` is told what it waits for, at every look. Acknowledgements are confirmed with
    /// `confirmation` from then on.
    pub async fn take(&self, confirmation: Arc<Confirmation>, on_wait: &mut (dyn FnMut(Wait<'_>) + Send)) -> Result<Held, TakeError> {
        let mut waiting = Waiting { ownership: self, candidate: None, directory: None, notes: 0, next_note: None };
        loop {
            match waiting.look(on_wait).await {
                Ok(Some((own, settle, time))) => {
                    if !settle.is_zero() {
                        sleep(settle).await;
                    }
                    match self.take_rest(&own).await {
                        Ok(epochs) => return Ok(self.hold(epochs, time, confirmation, waiting)),
                        Err(error) => forgive(error, on_wait).await?,
                    }
                }
                Ok(None) => {}
                Err(LookError::Take(error)) => return Err(error),
                Err(LookError::Object(error)) => forgive(error, on_wait).await?,
            }
        }
    }

    /// After `own/00`, all others, side by side: their epochs.
    async fn take_rest(&self, first: &Own) -> Result<Vec<u64>, ObjectError> {
        let taking = self.shards.all().map(|shard| async move {
            if shard == FIRST {
                return Ok(first.epoch);
            }
            let (before, version) = self.objects.own(shard).await?;
            let own = Own::taken(before.as_ref(), &self.member, None);
            self.objects.change_own(shard, &version, &own).await?;
            Ok(own.epoch)
        });
        futures_util::future::try_join_all(taking).await
    }

    fn hold(&self, epochs: Vec<u64>, time: Time, confirmation: Arc<Confirmation>, waiting: Waiting<'_>) -> Held {
        let (ended, ending) = watch::channel(None);
        let mut tasks = JoinSet::new();
        let keeper = Keeper { objects: self.objects.clone(), member: self.member.clone(), confirmation: confirmation.clone(), ended };
        tasks.spawn(keeper.run());
        tasks.spawn(give_signs_of_life(self.objects.clone(), self.member.clone(), waiting.notes, time));
        info!(member = %self.member, epoch = epochs[0], "this broker owns the shards");
        let (objects, member) = (self.objects.clone(), self.member.clone());
        Held { objects, member, epochs, time, confirmation, ending, tasks, _directory: waiting.directory }
    }
}

/// What heals by waiting is waited for.
async fn forgive(error: ObjectError, on_wait: &mut (dyn FnMut(Wait<'_>) + Send)) -> Result<(), TakeError> {
    match error {
        ObjectError::Format { .. } => return Err(TakeError::Unreadable(error)),
        ObjectError::Changed { object } => debug!(object, "another member was faster"),
        ObjectError::Bucket { .. } => {
            on_wait(Wait::Bucket(&error));
            sleep(READ_EVERY).await;
        }
    }
    Ok(())
}

enum LookError {
    Take(TakeError),
    Object(ObjectError),
}

impl From<ObjectError> for LookError {
    fn from(error: ObjectError) -> Self {
        Self::Object(error)
    }
}

/// A candidate, and what it is known to have asked.
struct Asker {
    candidate: Candidate,
    asked: bool,
}

/// The wait for `own/00`.
struct Waiting<'a> {
    ownership: &'a Ownership,
    /// There is one once somebody else was found to own it.
    candidate: Option<Asker>,
    directory: Option<HostLock>,
    /// Signs of life so far.
    notes: u64,
    /// When the next is due; none before the first wait.
    next_note: Option<Instant>,
}

impl Waiting<'_> {
    /// Looks once and does what follows. The record by which the shards are ours, and how long to wait before they are opened; or nothing yet.
    async fn look(&mut self, on_wait: &mut (dyn FnMut(Wait<'_>) + Send)) -> Result<Option<(Own, Duration, Time)>, LookError> {
        let Ownership { objects, member, .. } = self.ownership;
        let lock = self.lock()?;
        let began = Instant::now();
        let (own, version) = objects.own(FIRST).await?;
        let owner = own.as_ref().and_then(|own| own.owner.as_ref());
        let note = match owner {
            Some(owner) => objects.note(&owner.member).await?,
            None => None,
        };
        let time = Time::after(own.as_ref(), note.as_ref());
        self.refresh(time.now_ms()).await?;
        if self.candidate.is_none() {
            let note = objects.note(&member.name).await?.filter(|note| note.asked);
            // This very process has had the shards: it would ask its successor for them, and the two would take them from each other in turn.
            let gave_way = note.as_ref().is_some_and(|note| note.incarnation == member.incarnation);
            let takeover = if gave_way { Takeover::Never } else { self.ownership.takeover };
            let asked = note.is_some();
            self.candidate = Some(Asker { candidate: Candidate::new(member.clone(), takeover, asked), asked });
        }
        let Some(asker) = &mut self.candidate else { return Ok(None) };
        let seen = &Seen { now: Instant::now(), own: own.as_ref(), written: version.modified(), note: note.as_ref() };
        match asker.candidate.step(seen, &lock) {
            Step::Wait { on } => {
                on_wait(Wait::For(&on));
                self.next_note.get_or_insert(began);
                sleep(READ_EVERY.saturating_sub(began.elapsed())).await;
            }
            Step::Note => {
                objects.write_note(&member.name, &MemberNote::new(member, self.notes, true, time.now_ms())).await?;
                asker.asked = true;
                let since = match self.ownership.kept_waiting_since {
                    Some(since) => Some(objects.note_modified(&member.name).await? - since.elapsed()),
                    None => None,
                };
                asker.candidate.noted(since);
            }
            Step::Claim(claim) => {
                info!(owner = owner.map(|owner| owner.member.as_str()), "asking the owner of the shards for them");
                objects.change_own(FIRST, &version, &claim).await?;
            }
            Step::Take(taken, settle) => {
                let taken = taken.written_at(time.now_ms());
                self.write(&version, &taken).await?;
                return Ok(Some((taken, settle, time)));
            }
        }
        Ok(None)
    }

    /// Takes `own/00`. An answer that got lost is no refusal: what stands there then decides.
    async fn write(&self, version: &Version, taken: &Own) -> Result<(), ObjectError> {
        let Ownership { objects, member, .. } = self.ownership;
        match objects.change_own(FIRST, version, taken).await {
            Err(error @ (ObjectError::Changed { .. } | ObjectError::Bucket { .. })) => match objects.own(FIRST).await? {
                (Some(own), _) if own.is_owned_by(member) => Ok(()),
                _ => Err(error),
            },
            other => other.map(|_| ()),
        }
    }

    /// Gives a sign of life when one is due.
    async fn refresh(&mut self, at_ms: u64) -> Result<(), ObjectError> {
        let began = Instant::now();
        if self.next_note.is_none_or(|due| due > began) {
            return Ok(());
        }
        let Some(asker) = &mut self.candidate else { return Ok(()) };
        let Ownership { objects, member, .. } = self.ownership;
        self.next_note = Some(began + REFRESH);
        self.notes += 1;
        objects.write_note(&member.name, &MemberNote::new(member, self.notes, asker.asked, at_ms)).await?;
        asker.candidate.refreshed(began.elapsed());
        Ok(())
    }

    fn lock(&mut self) -> Result<Lock, LookError> {
        let Some(path) = &self.ownership.directory_lock else {
            return Ok(self.ownership.name_lock.as_ref().map_or(Lock::None, |lock| Lock::Ours(lock.token().to_owned())));
        };
        if !matches!(self.directory, Some(HostLock::Held(_))) {
            let failed = |source| LookError::Take(TakeError::Lock { path: path.clone(), source });
            self.directory = Some(HostLock::of(path).map_err(failed)?);
        }
        Ok(match &self.directory {
            Some(HostLock::Held(_)) => Lock::Ours(DIRECTORY.into()),
            _ => Lock::Theirs(DIRECTORY.into()),
        })
    }
}

/// Reads `own/00` each second for its owner.
struct Keeper {
    objects: Objects,
    member: Member,
    confirmation: Arc<Confirmation>,
    ended: watch::Sender<Option<Ending>>,
}

impl Keeper {
    async fn run(self) {
        loop {
            let began = Instant::now();
            // What takes longer would confirm nothing.
            match timeout(GOOD_FOR, self.objects.own(FIRST)).await {
                Ok(Ok((own, version))) => {
                    if !self.judge(began, own.as_ref(), &version).await {
                        return;
                    }
                }
                Ok(Err(error)) => debug!(%error, "who owns the bucket cannot be read"),
                Err(_) => debug!("who owns the bucket is not read in time"),
            }
            sleep(READ_EVERY.saturating_sub(began.elapsed())).await;
        }
    }

    /// True: still the owner.
    async fn judge(&self, began: Instant, own: Option<&Own>, version: &Version) -> bool {
        match Tenure::new(&self.member).read(own) {
            Verdict::Confirmed => self.confirmation.confirm(began.into_std()),
            Verdict::Asked { answer, by } => {
                self.confirmation.revoke();
                match self.objects.change_own(FIRST, version, &answer).await {
                    Ok(_) => self.give_way(by),
                    Err(error) => debug!(%error, "not answered yet"),
                }
            }
            Verdict::Answered { by } => {
                self.confirmation.confirm(began.into_std());
                self.give_way(by);
            }
            Verdict::Lost { to } => {
                self.confirmation.withhold();
                self.ended.send_replace(Some(Ending::Lost { to }));
                return false;
            }
        }
        true
    }

    fn give_way(&self, by: String) {
        self.ended.send_if_modified(|ending| {
            let is_news = ending.is_none();
            if is_news {
                info!(by, "another member asks for the shards: giving way");
                *ending = Some(Ending::Asked { by });
            }
            is_news
        });
    }
}

/// Of an owner. It has had the shards, so from here on its name asks nobody for them, however it came by them: who was replaced would ask its
/// successor for them, and the two would take them from each other in turn.
async fn give_signs_of_life(objects: Objects, member: Member, before: u64, time: Time) {
    let mut is_first = true;
    for count in before + 1.. {
        if let Err(error) = objects.write_note(&member.name, &MemberNote::new(&member, count, true, time.now_ms())).await {
            debug!(%error, "no sign of life written");
        }
        if std::mem::take(&mut is_first) {
            objects.remove_left_behind().await;
        }
        sleep(REFRESH).await;
    }
}

impl Held {
    /// The epoch of each shard: no owner before had it, and none later will.
    pub fn epochs(&self) -> &[u64] {
        &self.epochs
    }

    /// When the last owner can have written last, by its clock, in milliseconds since 1970.
    pub fn not_before_ms(&self) -> u64 {
        self.time.not_before_ms
    }

    /// Whether acknowledgements may leave.
    pub fn confirmation(&self) -> &Arc<Confirmation> {
        &self.confirmation
    }

    /// Waits until the shards have to be given up. Again after [`Ending::Asked`]: until they are lost.
    pub async fn ended(&mut self) -> Ending {
        match self.ending.wait_for(Option::is_some).await {
            Ok(ending) => ending.clone().expect("it is some"),
            // The task that reads has ended, which only an end makes it do.
            Err(_) => Ending::Lost { to: String::new() },
        }
    }

    /// Stops reading and giving signs of life, and releases nothing: for who deletes all there is.
    pub async fn forget(mut self) {
        self.confirmation.withhold();
        self.tasks.shutdown().await;
    }

    /// The shards are closed: whoever wants them may have them.
    pub async fn release(mut self) {
        self.confirmation.withhold();
        self.tasks.shutdown().await;
        let release = async {
            loop {
                let (own, version) = self.objects.own(FIRST).await?;
                let Some(own) = own.filter(|own| own.is_owned_by(&self.member)) else { return Ok(()) };
                match self.objects.change_own(FIRST, &version, &own.released().written_at(self.time.now_ms())).await {
                    Err(ObjectError::Changed { .. }) => {}
                    other => return other.map(|_| ()),
                }
            }
        };
        match timeout(RELEASE_DEADLINE, release).await {
            Ok(Ok(())) => info!("the shards are released"),
            Ok(Err(error)) => warn!(%error, "the shards are not released: who wants them has to wait"),
            Err(_) => warn!("the shards are not released in time: who wants them has to wait"),
        }
    }
}
