//! Who owns which shard: the object `own/NN` of the bucket, changed by conditional writes only.
//!
//! Until brokers share the work `own/00` decides for all shards. A broker is a [`Candidate`] until it may take that object, then a [`Tenure`] that
//! holds it; both are pure, with time as an argument, and [`Ownership`] carries out what they say. What the rest of the broker sees of it:
//!
//! - [`Ownership::take`] returns when this process may open the shards;
//! - [`Confirmation`] says whether QoS 1 and 2 may be acknowledged at this moment: only while a read that named this process is at most 2 s old,
//!   because a broker that somebody else has replaced knows old Subscriptions and would acknowledge what it matched to nobody;
//! - [`Held::ended`] says that the shards are to be given up, and why;
//! - [`Held::release`] lets the next one have them at once.
//!
//! Before all that, [`PrefixClaim`] says for whom a prefix is, where somebody cares.

mod candidate;
mod config;
mod confirmation;
mod member;
mod objects;
mod ownership;
mod prefix;
mod proof;
mod record;
mod tenure;

pub use candidate::{Candidate, Seen, Step, Takeover};
pub use config::Config;
pub use confirmation::{Confirmation, Registered};
pub use member::{Member, MemberError};
pub use objects::{ObjectError, Objects, Version};
pub use ownership::{Ending, Held, Ownership, TakeError, Wait};
pub use prefix::PrefixClaim;
pub use proof::{HostLock, NameLock};
pub use record::{Claim, FormatError, Holder, MemberNote, Own, PrefixOwner};
pub use tenure::{Tenure, Verdict};
