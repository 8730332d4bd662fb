//! The `[cluster]` section: who this broker is among those that may own the bucket.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::candidate::Takeover;
use crate::member::{Member, MemberError};

/// Who owns the shards of a bucket that several brokers are given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The name of this broker. Whoever gives one vouches that no other running broker of this bucket has it: what an earlier process of that name
    /// owned is taken back at once after a crash. The name of a pod is one. Empty, the default: the name of the host, and after a crash the lock of a
    /// file tells that the process is gone, or ten seconds of silence do.
    pub member: String,
    /// Whether this broker takes the bucket over from one that lives. `never`, the default: it waits until the owner is gone. `new`: it asks once in the
    /// life of its name, as a newer version that replaces an older one does. `always`: it asks at every start; for a person who knows.
    pub takeover: Takeover,
}

impl Config {
    /// This broker.
    pub fn member(&self) -> Result<Member, MemberError> {
        if self.member.is_empty() { Ok(Member::of_this_host()) } else { Member::named(&self.member) }
    }
}
