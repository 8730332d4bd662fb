//! The Subscription Identifiers that go with one delivery: almost always none or one.

use std::num::NonZeroU32;

/// A short list of Subscription Identifiers; up to one does not allocate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identifiers(List);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum List {
    #[default]
    None,
    One(u32),
    // Boxed so that the whole stays at 16 bytes in every match.
    #[expect(clippy::box_collection, reason = "a Vec in place would make every match 16 bytes larger")]
    Many(Box<Vec<u32>>),
}

impl Identifiers {
    /// The identifiers in the order their Subscriptions were found. The same one may stand here twice: a Client may use it for several
    /// Subscriptions, and each that matches counts [MQTT-3.3.4-4].
    #[inline]
    pub fn as_slice(&self) -> &[u32] {
        match &self.0 {
            List::None => &[],
            List::One(identifier) => std::slice::from_ref(identifier),
            List::Many(identifiers) => identifiers,
        }
    }

    /// True when there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        matches!(self.0, List::None)
    }

    pub(crate) fn push(&mut self, identifier: NonZeroU32) {
        let identifier = identifier.get();
        match &mut self.0 {
            List::None => self.0 = List::One(identifier),
            List::One(first) => self.0 = List::Many(Box::new(vec![*first, identifier])),
            List::Many(identifiers) => identifiers.push(identifier),
        }
    }
}

impl From<Option<NonZeroU32>> for Identifiers {
    #[inline]
    fn from(identifier: Option<NonZeroU32>) -> Self {
        Self(identifier.map_or(List::None, |identifier| List::One(identifier.get())))
    }
}
