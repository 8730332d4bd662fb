//! Waiting for `own/00`: when a broker may take it, and when it asks for it. Pure: what was read and when are arguments.
//!
//! | `own/00` says | and | then |
//! |---|---|---|
//! | nothing | | taken |
//! | nobody | nobody claims it, or this member does | taken |
//! | nobody | another one claims it | taken when it stays so for [`CLAIMANT_MAX`] |
//! | this member's name | whoever gave it vouches that it is unique | taken |
//! | a lock of this host | which is ours now | taken |
//! | another member | it gave no sign of life for [`SILENCE`], while the bucket was quick to us, and no lock says that it lives | claimed |
//! | another member | this one is to take over, and it did not come to be the owner while this one was kept waiting | claimed, once |
//! | the member we asked, as another process | this one is to take over | claimed again |
//! | our claim | no answer for [`ANSWER_MAX`] | taken |
//! | our claim, answered | not released for [`RELEASE_MAX`] | taken, and [`SETTLE`] waited before a shard is opened |

use std::time::{Duration, SystemTime};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::member::Member;
use crate::record::{MemberNote, Own};

/// An owner that gives no sign of life for so long is gone: it gives one every [`REFRESH`].
pub(crate) const SILENCE: Duration = Duration::from_secs(10);
/// How often a member gives a sign of life.
pub(crate) const REFRESH: Duration = Duration::from_secs(5);
/// A sign of life of our own that took longer says that the bucket is slow, and nothing about others.
const REFRESH_MAX: Duration = Duration::from_secs(2);
/// Signs of life of our own that have to be quick before the silence of another one counts.
const REFRESHES_MIN: u32 = 2;
/// An owner answers a claim within this time: it reads every second. By then it has also acknowledged its last ([`crate::Confirmation`]).
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(3);
/// An owner that has answered has its shards closed within this time.
pub(crate) const RELEASE_MAX: Duration = Duration::from_secs(20);
/// Who was asked for takes what was released within this time.
pub(crate) const CLAIMANT_MAX: Duration = Duration::from_secs(10);
/// What an owner that had answered may still acknowledge by itself, and a second.
pub(crate) const SETTLE: Duration = Duration::from_secs(3);

/// What the bucket's clock, which may count in seconds, can be wrong by when two times of it are compared.
const GRAIN: Duration = Duration::from_secs(2);

/// Whether a broker takes over from one that lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Takeover {
    /// It waits until the owner is gone.
    #[default]
    Never,
    /// It asks once in the life of its name: a newer broker replaces an older one, two of them do not replace each other in turn, and one that could
    /// not use the bucket for a while leaves it to who came meanwhile.
    New,
    /// It asks at every start: for a person who knows.
    Always,
}

/// What was read.
#[derive(Debug)]
pub struct Seen<'a> {
    /// When the reading ended.
    pub now: Instant,
    /// `own/00`.
    pub own: Option<&'a Own>,
    /// When that was written, by the bucket's clock.
    pub written: Option<SystemTime>,
    /// The last sign of life of its owner.
    pub note: Option<&'a MemberNote>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Look again later. Whom it waits for.
    Wait {
        /// The owner, or who has claimed what nobody owns.
        on: String,
    },
    /// Write a sign of life that says that this member asks, tell [`Candidate::noted`], and look again.
    Note,
    /// Write this over what was read, and look again.
    Claim(Own),
    /// Write this over what was read, and own the shards after this time.
    Take(Own, Duration),
}

/// What a lock of this host says; the texts are what stands for it in `own/00`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lock {
    /// It is ours: an owner that wrote this is gone.
    Ours(String),
    /// A living process has it: an owner that wrote this lives.
    Theirs(String),
    /// There is none.
    None,
}

/// Whether this member asks a living owner to give way.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Asking {
    Never,
    /// It is going to.
    Wanted,
    /// It is written down, so that it does not ask twice, whatever happens to it. Who came to own the shards later than this is not asked.
    Noted(Option<SystemTime>),
    /// It has asked this member.
    Done(String),
}

/// A broker that waits.
#[derive(Debug)]
pub struct Candidate {
    member: Member,
    takeover: Takeover,
    asking: Asking,
    silence: Option<Silence>,
    /// Since when `own/00` has said the same.
    same: Option<(Own, Instant)>,
}

/// An owner that is not heard of.
#[derive(Debug)]
struct Silence {
    /// Its process, and the count of its last sign of life.
    last: (String, Option<u64>),
    since: Instant,
    /// Quick signs of life of our own since then.
    refreshes: u32,
}

impl Candidate {
    /// `member` waits; `asked`: it, or one of its name before it, has asked for the shards already.
    pub fn new(member: Member, takeover: Takeover, asked: bool) -> Self {
        let asking = match takeover {
            Takeover::Never => Asking::Never,
            Takeover::New if asked => Asking::Never,
            Takeover::New | Takeover::Always => Asking::Wanted,
        };
        Self { member, takeover, asking, silence: None, same: None }
    }

    /// It is written down that this member asks. `kept_waiting_since`: it could not look until now, since then, by the bucket's clock.
    pub fn noted(&mut self, kept_waiting_since: Option<SystemTime>) {
        self.asking = Asking::Noted(kept_waiting_since.filter(|_| self.takeover == Takeover::New));
    }

    /// A sign of life of its own was written and took `took`.
    pub fn refreshed(&mut self, took: Duration) {
        match &mut self.silence {
            Some(silence) if took < REFRESH_MAX => silence.refreshes += 1,
            // The bucket is slow for everybody: the silence begins anew.
            silence => *silence = None,
        }
    }

    /// What to do after this was read.
    pub fn step(&mut self, seen: &Seen<'_>, lock: &Lock) -> Step {
        let Some(own) = seen.own else { return self.take(None, lock, Duration::ZERO) };
        let same_for = self.same_for(own, seen.now);
        let claim_of_other = own.claim.as_ref().filter(|claim| claim.incarnation != self.member.incarnation);
        let Some(owner) = &own.owner else {
            return match claim_of_other {
                Some(claim) if same_for < CLAIMANT_MAX => Step::Wait { on: claim.member.clone() },
                _ => self.take(Some(own), lock, Duration::ZERO),
            };
        };
        let is_gone = matches!(lock, Lock::Ours(token) if owner.lock.as_ref() == Some(token));
        // Our own record is there when the rest of taking the shards did not work.
        let is_ours = owner.incarnation == self.member.incarnation;
        if is_gone || is_ours || self.member.is_unique && owner.member == self.member.name {
            return self.take(Some(own), lock, Duration::ZERO);
        }
        let silent = self.is_silent(own, seen);
        let wait = Step::Wait { on: owner.member.clone() };
        if let Some(claim) = own.claim.as_ref().filter(|_| claim_of_other.is_none()) {
            // Who claimed only because the owner was silent, and never asks one that lives, does not begin to.
            if self.asking != Asking::Never {
                self.asking = Asking::Done(owner.member.clone());
            }
            return match claim.answered {
                false if same_for >= ANSWER_MAX => self.take(Some(own), lock, Duration::ZERO),
                true if same_for >= RELEASE_MAX => self.take(Some(own), lock, SETTLE),
                _ => wait,
            };
        }
        let lives = matches!(lock, Lock::Theirs(token) if owner.lock.as_ref() == Some(token));
        if silent && !lives && same_for >= SILENCE {
            return Step::Claim(own.claimed(&self.member));
        }
        match &self.asking {
            // Who has asked before is let go first.
            _ if claim_of_other.is_some() => wait,
            // It died, took back what was its own when it was started again, and has not seen that it was asked.
            Asking::Done(asked) if *asked == owner.member => Step::Claim(own.claimed(&self.member)),
            Asking::Never | Asking::Done(_) => wait,
            Asking::Wanted => Step::Note,
            Asking::Noted(Some(since)) if seen.written.is_some_and(|written| written > *since + GRAIN) => {
                self.asking = Asking::Never;
                wait
            }
            Asking::Noted(_) => Step::Claim(own.claimed(&self.member)),
        }
    }

    fn take(&self, own: Option<&Own>, lock: &Lock, settle: Duration) -> Step {
        let lock = if let Lock::Ours(token) = lock { Some(token.clone()) } else { None };
        Step::Take(Own::taken(own, &self.member, lock), settle)
    }

    /// For how long `own/00` has been what it is now.
    fn same_for(&mut self, own: &Own, now: Instant) -> Duration {
        match &self.same {
            Some((before, since)) if before == own => now.saturating_duration_since(*since),
            _ => {
                self.same = Some((own.clone(), now));
                Duration::ZERO
            }
        }
    }

    /// The owner has given no sign of life for a while in which the bucket was quick to us.
    fn is_silent(&mut self, own: &Own, seen: &Seen<'_>) -> bool {
        let incarnation = own.owner.as_ref().map(|owner| owner.incarnation.clone()).unwrap_or_default();
        // What another process of its name has written says nothing about this one.
        let count = seen.note.filter(|note| note.incarnation == incarnation).map(|note| note.count);
        match &self.silence {
            Some(silence) if silence.last.0 == incarnation && (count.is_none() || silence.last.1 == count) => {
                seen.now.saturating_duration_since(silence.since) >= SILENCE && silence.refreshes >= REFRESHES_MIN
            }
            _ => {
                self.silence = Some(Silence { last: (incarnation, count), since: seen.now, refreshes: 0 });
                false
            }
        }
    }
}

#[cfg(test)]
mod tests;
