//! Client certificates: the listener has verified the chain and taken the name out; here the name becomes a user.

use bucketmq_packet::ReasonCode;

use super::{Attempt, AuthenticationMethod, Refusal, Verdict};
use crate::principal::Origin;
use crate::snapshot::Snapshot;

pub(super) fn examine(snapshot: &Snapshot, attempt: &Attempt<'_>) -> Option<Verdict> {
    let identity = attempt.certificate_identity?;
    let refuse = |reason_code, detail| Some(Verdict::Refuse(Refusal::new(reason_code, AuthenticationMethod::Certificate, detail)));
    if attempt.username.is_some_and(|username| username != identity) {
        return refuse(ReasonCode::BadUserNameOrPassword, "the user name is not the one in the certificate");
    }
    match snapshot.certified(identity) {
        Some(user) => Some(Verdict::Accept(Origin::User { user, method: AuthenticationMethod::Certificate })),
        None => refuse(
            ReasonCode::NotAuthorized,
            "the certificate's name is not an enabled user of the users file, and there are no certificate roles for it",
        ),
    }
}
