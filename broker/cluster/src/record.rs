//! What stands in `own/NN`, `members/<member>` and `prefix-owner`: JSON, so that a person with any tool for buckets can read who owns what.
//!
//! The same rule as for all that is stored: what a release has written every later one reads. Fields may be added; a change of meaning raises
//! `format`, and a broker that does not know a format touches nothing.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::member::Member;

/// The format this release writes, and the only one there has been.
const FORMAT: u32 = 1;

/// Who owns a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Own {
    format: u32,
    /// Raised by everybody who takes the shard; never goes back.
    pub epoch: u64,
    /// Nobody once it was released.
    pub owner: Option<Holder>,
    /// Who wants it.
    pub claim: Option<Claim>,
    /// When an owner wrote it last, by its clock, in milliseconds since 1970. The next owner's database clock begins no earlier.
    #[serde(default)]
    pub at_ms: u64,
}

/// Who owns it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its name.
    pub member: String,
    /// Which process of that name.
    pub incarnation: String,
    /// What of its host it has locked: whoever gets that lock knows that the process is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<String>,
}

/// Who wants it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Its name.
    pub member: String,
    /// Which process of that name.
    pub incarnation: String,
    /// The owner has seen it and is giving way.
    pub answered: bool,
}

/// A sign of life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberNote {
    format: u32,
    /// Which process of that name.
    pub incarnation: String,
    /// Signs before this one.
    pub count: u64,
    /// This member, or one of its name before it, has asked an owner to give way, or was the owner: it will not ask again.
    #[serde(default)]
    pub asked: bool,
    /// When, by its clock, in milliseconds since 1970.
    #[serde(default)]
    pub at_ms: u64,
}

/// For whom a prefix is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrefixOwner {
    format: u32,
    /// As its brokers call it.
    pub owner: String,
}

/// An object that this release cannot read.
#[derive(Debug, Error)]
pub enum FormatError {
    /// Written by a later release.
    #[error("format {found}, and this release knows format {FORMAT}: use the release that wrote it, or a later one")]
    Unknown {
        /// Its format.
        found: u32,
    },
    /// Damaged, or written by something else.
    #[error("is not what a broker writes")]
    Damaged(#[from] serde_json::Error),
}

#[derive(Deserialize)]
struct Versioned {
    format: u32,
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, FormatError> {
    let Versioned { format } = serde_json::from_slice(bytes)?;
    if format != FORMAT {
        return Err(FormatError::Unknown { found: format });
    }
    Ok(serde_json::from_slice(bytes)?)
}

impl Own {
    /// The shard in the hands of `member`, which holds `lock`, as the next owner after `before`.
    pub fn taken(before: Option<&Self>, member: &Member, lock: Option<String>) -> Self {
        let owner = Holder { member: member.name.clone(), incarnation: member.incarnation.clone(), lock };
        let (epoch, at_ms) = before.map_or((0, 0), |own| (own.epoch, own.at_ms));
        Self { format: FORMAT, epoch: epoch + 1, owner: Some(owner), claim: None, at_ms }
    }

    /// The same, written at `at_ms`; time never goes back.
    pub fn written_at(&self, at_ms: u64) -> Self {
        Self { at_ms: self.at_ms.max(at_ms), ..self.clone() }
    }

    /// The same with the wish of `member` to have it, instead of whoever else wished.
    pub fn claimed(&self, member: &Member) -> Self {
        let claim = Claim { member: member.name.clone(), incarnation: member.incarnation.clone(), answered: false };
        Self { claim: Some(claim), ..self.clone() }
    }

    /// The same with the claim answered.
    pub fn answered(&self) -> Self {
        let claim = self.claim.clone().map(|claim| Claim { answered: true, ..claim });
        Self { claim, ..self.clone() }
    }

    /// The same without an owner. Who has claimed it still does.
    pub fn released(&self) -> Self {
        Self { owner: None, ..self.clone() }
    }

    /// The same with an epoch of at least `epoch`: what restores or copies a shard raises it above all that was ever used.
    pub fn raised_to(&self, epoch: u64) -> Self {
        Self { epoch: self.epoch.max(epoch), ..self.clone() }
    }

    /// True when `member` owns it: this very process.
    pub fn is_owned_by(&self, member: &Member) -> bool {
        self.owner.as_ref().is_some_and(|owner| owner.incarnation == member.incarnation)
    }

    /// Reads one.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        decode(bytes)
    }

    /// Writes it.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers and texts")
    }
}

impl MemberNote {
    /// The `count`th sign of life of `member`.
    pub fn new(member: &Member, count: u64, asked: bool, at_ms: u64) -> Self {
        Self { format: FORMAT, incarnation: member.incarnation.clone(), count, asked, at_ms }
    }

    /// Reads one.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        decode(bytes)
    }

    /// Writes it.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers and texts")
    }
}

impl PrefixOwner {
    /// The prefix is `owner`'s.
    pub fn new(owner: &str) -> Self {
        Self { format: FORMAT, owner: owner.to_owned() }
    }

    /// Reads one.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        decode(bytes)
    }

    /// Writes it.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers and texts")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by 0.1.0: they decode for ever.
    const GOLDEN: &str = r#"{"format":1,"epoch":7,"owner":{"member":"broker-a","incarnation":"00ff","lock":"boot/token"},"claim":{"member":"broker-b","incarnation":"11ee","answered":true},"at_ms":1795450060256}"#;
    const GOLDEN_RELEASED: &str = r#"{"format":1,"epoch":8,"owner":null,"claim":null,"at_ms":0}"#;
    const GOLDEN_NOTE: &str = r#"{"format":1,"incarnation":"00ff","count":12,"asked":true,"at_ms":1795450060256}"#;
    const GOLDEN_PREFIX_OWNER: &str = r#"{"format":1,"owner":"7c9e6679/prod/fleet"}"#;

    #[test]
    fn golden_records_decode_and_come_out_as_they_were() {
        let own = Own::decode(GOLDEN.as_bytes()).unwrap();
        assert_eq!(own.epoch, 7);
        assert_eq!(own.owner.as_ref().unwrap().lock.as_deref(), Some("boot/token"));
        assert!(own.claim.as_ref().unwrap().answered);
        assert_eq!(own.encode(), GOLDEN.as_bytes());
        assert_eq!(Own::decode(GOLDEN_RELEASED.as_bytes()).unwrap().encode(), GOLDEN_RELEASED.as_bytes());
        assert_eq!(MemberNote::decode(GOLDEN_NOTE.as_bytes()).unwrap().encode(), GOLDEN_NOTE.as_bytes());
        let prefix = PrefixOwner::decode(GOLDEN_PREFIX_OWNER.as_bytes()).unwrap();
        assert_eq!(prefix, PrefixOwner::new("7c9e6679/prod/fleet"));
        assert_eq!(prefix.encode(), GOLDEN_PREFIX_OWNER.as_bytes());
    }

    #[test]
    fn a_later_format_and_a_damaged_object_are_told_apart() {
        assert!(matches!(Own::decode(br#"{"format":2,"who":"knows"}"#), Err(FormatError::Unknown { found: 2 })));
        assert!(matches!(Own::decode(br#"{"format":1,"epoch":"#), Err(FormatError::Damaged(_))));
        assert!(matches!(Own::decode(b""), Err(FormatError::Damaged(_))));
        assert!(matches!(PrefixOwner::decode(br#"{"format":2,"owner":{}}"#), Err(FormatError::Unknown { found: 2 })));
    }

    #[test]
    fn the_epoch_grows_with_every_owner() {
        let (a, b) = (Member::of_this_host(), Member::of_this_host());
        let first = Own::taken(None, &a, None);
        assert_eq!((first.epoch, first.is_owned_by(&a), first.is_owned_by(&b)), (1, true, false));
        let claimed = first.claimed(&b).answered();
        assert!(claimed.claim.as_ref().unwrap().answered && claimed.is_owned_by(&a));
        let released = claimed.released();
        assert_eq!((released.epoch, released.owner.is_none(), released.claim.is_some()), (1, true, true));
        let second = Own::taken(Some(&released), &b, None);
        assert_eq!((second.epoch, second.claim), (2, None));
        assert_eq!((released.raised_to(9).epoch, released.raised_to(0).epoch), (9, 1));
    }
}
