//! User name and password, held against the users file.
//!
//! Promise: while the file holds a slow hash (Argon2, or a verifier of SCRAM), every refusal that depends on the file costs a computation of one, so that the time
//! taken does not tell which users exist.

use std::sync::Arc;

use bucketmq_packet::ReasonCode;

use super::credential::Secret;
use super::{Attempt, AuthenticationMethod, Job, Refusal, User, Verdict, Verifier};
use crate::principal::Origin;
use crate::snapshot::Snapshot;

pub(super) fn examine(snapshot: &Snapshot, verifier: &Verifier, attempt: &Attempt<'_>) -> Option<Verdict> {
    if attempt.username.is_none() && attempt.password.is_none() {
        return None;
    }
    let Some(users) = snapshot.users() else {
        // Many Clients cannot be told to leave user name and password out. They gain nothing by them here.
        return if attempt.anonymous_role.is_some() { None } else { Some(refuse("no users file is configured")) };
    };
    let (Some(username), Some(password)) = (attempt.username, attempt.password) else {
        return Some(refuse("a user name without a password, or the reverse"));
    };
    let user = users.get(username).filter(|user| user.enabled);
    Some(match user.and_then(|user| Some((user, user.credential.as_ref()?))) {
        Some((user, credential)) => match &credential.secret {
            Secret::Sha256(own) if own.is_hash_of(password) => accept(user),
            Secret::Sha256(_) => refuse_slowly(snapshot),
            Secret::Argon2id(_) | Secret::Scram(_) if credential.remembers(verifier.key(), password) => accept(user),
            Secret::Argon2id(_) | Secret::Scram(_) => Verdict::Hash(Job::verify(credential.clone())),
        },
        None => refuse_slowly(snapshot),
    })
}

fn accept(user: &Arc<User>) -> Verdict {
    Verdict::Accept(Origin::User { user: user.clone(), method: AuthenticationMethod::Password })
}

/// As slowly as a user with a slow hash and a wrong password is refused, if there is one.
fn refuse_slowly(snapshot: &Snapshot) -> Verdict {
    match snapshot.dummy() {
        Some(dummy) => Verdict::Hash(dummy),
        None => Verdict::Refuse(wrong()),
    }
}

/// One text for all that a stranger could learn from.
pub(crate) fn wrong() -> Refusal {
    Refusal::new(ReasonCode::BadUserNameOrPassword, AuthenticationMethod::Password, "unknown or disabled user, or wrong password")
}

fn refuse(detail: &'static str) -> Verdict {
    Verdict::Refuse(Refusal::new(ReasonCode::BadUserNameOrPassword, AuthenticationMethod::Password, detail))
}
