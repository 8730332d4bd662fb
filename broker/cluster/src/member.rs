//! Who a broker is among those that may own a bucket.

use std::fmt;

use rand::Rng;
use thiserror::Error;

/// Longest name: a pod's name, with room to spare.
const NAME_BYTES_MAX: usize = 253;

/// A broker process: the name of the place it runs at, and a number no other process has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Such as the name of its pod or host. Part of an object's key.
    pub name: String,
    /// Random, 32 hexadecimal digits: tells this process from those before it at the same place.
    pub incarnation: String,
    /// True when whoever gave the name vouches that no other running process has it.
    pub is_unique: bool,
}

/// A name that no member can have.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is no name of a member: 1 to {NAME_BYTES_MAX} letters, digits, '-', '_' and '.', the first one a letter or digit")]
pub struct MemberError(pub String);

impl Member {
    /// The member that was given `name` by someone who vouches that it is unique.
    pub fn named(name: &str) -> Result<Self, MemberError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let good =
            (1..=NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(plain) && name.starts_with(|c: char| c.is_ascii_alphanumeric());
        if good { Ok(Self::new(name.to_owned(), true)) } else { Err(MemberError(name.to_owned())) }
    }

    /// The member that is called like its host, which another one may be too.
    pub fn of_this_host() -> Self {
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        // A host may be called anything.
        let plain = name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' });
        let name: String = plain.skip_while(|c| !c.is_ascii_alphanumeric()).take(NAME_BYTES_MAX).collect();
        Self::new(if name.is_empty() { "localhost".into() } else { name }, false)
    }

    fn new(name: String, is_unique: bool) -> Self {
        let incarnation = format!("{:032x}", rand::rng().random::<u128>());
        Self { name, incarnation, is_unique }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.name, &self.incarnation[..8])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_an_object_can_have() {
        for name in ["broker-0", "a", "node1.example.com", "x_y", "5d8f"] {
            assert_eq!(Member::named(name).unwrap().name, name);
        }
        for name in ["", ".", "..", "-a", "a/b", "a b", "é", &"a".repeat(254)] {
            assert!(Member::named(name).is_err(), "{name}");
        }
    }

    #[test]
    fn two_processes_of_one_name_are_told_apart() {
        let (one, two) = (Member::of_this_host(), Member::of_this_host());
        assert_eq!(one.name, two.name);
        assert_ne!(one.incarnation, two.incarnation);
        assert!(!one.is_unique && Member::named(&one.name).is_ok());
    }
}
