//! Holding `own/00`: what an owner concludes from what it reads. Pure.

use crate::member::Member;
use crate::record::Own;

/// What a read of `own/00` means for its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Still the owner: acknowledgements may go on.
    Confirmed,
    /// Somebody wants it: this is to be written, and when it is, the shards are to be given up. Until then nothing is confirmed, because who asks
    /// stops waiting for an answer after a while.
    Asked {
        /// The record with the claim answered.
        answer: Own,
        /// Who.
        by: String,
    },
    /// The claim is answered: still the owner, for as long as it takes to close the shards. The answer that wrote it may have been lost on its way back, so
    /// this is what tells that the shards are to be given up.
    Answered {
        /// Who asked.
        by: String,
    },
    /// Not the owner any more.
    Lost {
        /// Who is; empty when it is nobody.
        to: String,
    },
}

/// The owner of a shard.
#[derive(Debug)]
pub struct Tenure<'a> {
    member: &'a Member,
}

impl<'a> Tenure<'a> {
    /// `member` has taken the shard.
    pub fn new(member: &'a Member) -> Self {
        Self { member }
    }

    /// What `own`, just read, means.
    pub fn read(&self, own: Option<&Own>) -> Verdict {
        match own {
            Some(own) if own.is_owned_by(self.member) => match &own.claim {
                Some(claim) if claim.answered => Verdict::Answered { by: claim.member.clone() },
                Some(claim) => Verdict::Asked { answer: own.answered(), by: claim.member.clone() },
                None => Verdict::Confirmed,
            },
            other => Verdict::Lost { to: other.and_then(|own| own.owner.as_ref()).map_or_else(String::new, |owner| owner.member.clone()) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_goes_on_answers_a_claim_and_knows_when_it_is_one_no_more() {
        let (me, other) = (Member::named("me").unwrap(), Member::named("other").unwrap());
        let tenure = Tenure::new(&me);
        let own = Own::taken(None, &me, None);
        assert_eq!(tenure.read(Some(&own)), Verdict::Confirmed);
        let claimed = own.claimed(&other);
        let Verdict::Asked { answer, by } = tenure.read(Some(&claimed)) else { panic!("a claim is not passed over") };
        assert_eq!(by, "other");
        // Also when the write that answered was told to have failed.
        assert_eq!(tenure.read(Some(&answer)), Verdict::Answered { by });
        assert_eq!(tenure.read(Some(&Own::taken(Some(&answer), &other, None))), Verdict::Lost { to: "other".into() });
        assert_eq!(tenure.read(Some(&answer.released())), Verdict::Lost { to: String::new() });
        assert_eq!(tenure.read(None), Verdict::Lost { to: String::new() });
        // A process of the same name that came later is not this one.
        let again = Member::named("me").unwrap();
        assert_eq!(tenure.read(Some(&Own::taken(None, &again, None))), Verdict::Lost { to: "me".into() });
    }
}
