//! Clients that offer nothing: let in only where the listener says as what.

use bucketmq_packet::ReasonCode;

use super::{Attempt, AuthenticationMethod, Refusal, Verdict};
use crate::principal::Origin;
use crate::snapshot::Snapshot;

pub(super) fn examine(snapshot: &Snapshot, attempt: &Attempt<'_>) -> Option<Verdict> {
    let refuse = |detail| Some(Verdict::Refuse(Refusal::new(ReasonCode::NotAuthorized, AuthenticationMethod::Anonymous, detail)));
    let Some(role) = attempt.anonymous_role else {
        return refuse("the listener lets nobody in without a user name or certificate");
    };
    match snapshot.anonymous(role) {
        Some(role) => Some(Verdict::Accept(Origin::Anonymous(role))),
        None => refuse("the listener's anonymous role is not configured"),
    }
}
