//! What is done to a bucket that no broker is using: looking into it, checking it, mending it, bringing it back to what it was, copying it, and
//! taking it away. And snapshots, which a broker makes too while it serves.
//!
//! - What reads ([`inspect`](mod@inspect), [`verify`](mod@verify), [`export`](mod@export)) never opens a shard for writing and does not disturb a
//!   broker.
//! - What writes holds an [`Exclusive`], which [`ensure_not_owned`] gives: no broker owns the prefix, and none comes to own it meanwhile.
//! - Nothing that was in the bucket is deleted unless that was what was asked for: what gives way is moved aside or stays in its folder.

pub mod clone;
pub mod delete;
pub mod exclusive;
pub mod export;
pub mod inspect;
mod json;
pub mod repair;
pub mod request;
pub mod restore;
mod site;
pub mod snapshot;
pub mod upgrade;
pub mod verify;

pub use exclusive::{Exclusive, ensure_not_owned, ensure_prefix_of, owner, prefix_owner};
pub use site::{Site, SiteError};

/// Shards at one time: most of the time of each goes by waiting for the bucket.
const SHARDS_AT_ONCE: usize = 4;

/// Told how far long work is, in words for a person.
pub type Progress<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// An error with everything that caused it, as one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut said: Vec<String> = Vec::new();
    for error in std::iter::successors(Some(error), |error| error.source()) {
        let text = error.to_string();
        // SlateDB's errors repeat what caused them.
        if !said.iter().any(|before| before.contains(&text)) {
            said.push(text);
        }
    }
    said.join(": ")
}
