//! A pattern of topics without placeholders: what every PUBLISH is held against.
//!
//! Most rules are a name or all that is under a name, and most topics are not what they are about, so those two are compared as
//! bytes instead of level by level (`examples/cost.rs`: 4 ns instead of 58 for a role with placeholders, 3 instead of 18 for `local`).
//! The answers are those of [`topic`] in every case.

use std::sync::Arc;

use bucketmq_packet::topic;

/// Texts are shared, because constant rules are the same for all Clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// Every topic, those that begin with `$` too.
    Everything,
    /// No wildcard.
    Name(Arc<str>),
    /// `#` at the end, behind a separator, and no other wildcard.
    Under(Arc<str>),
    /// Any other Topic Filter.
    Filter(Arc<str>),
}

impl Pattern {
    /// Of a valid Topic Filter without a share name.
    pub(crate) fn filter(filter: &str) -> Self {
        let text = filter.into();
        match filter.strip_suffix("/#") {
            Some(above) if !topic::has_wildcard(above) => Self::Under(text),
            None if !topic::has_wildcard(filter) => Self::Name(text),
            _ => Self::Filter(text),
        }
    }

    /// Whether the pattern matches this Topic Name.
    #[inline]
    pub(crate) fn matches(&self, name: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::Name(own) => **own == *name,
            Self::Under(own) => {
                let above = &own.as_bytes()[..own.len() - "/#".len()];
                name.as_bytes().strip_prefix(above).is_some_and(|below| matches!(below.first(), None | Some(b'/')))
            }
            Self::Filter(own) => topic::matches(own, name),
        }
    }

    /// Whether the pattern matches all that `filter` matches.
    pub(crate) fn covers(&self, filter: &str) -> bool {
        self.as_filter().is_none_or(|own| topic::covers(own, filter))
    }

    /// Whether there is a topic that both match.
    pub(crate) fn intersects(&self, filter: &str) -> bool {
        self.as_filter().is_none_or(|own| topic::intersects(own, filter))
    }

    /// `None` for everything, which no filter could say.
    pub(crate) fn as_filter(&self) -> Option<&str> {
        match self {
            Self::Everything => None,
            Self::Name(own) | Self::Under(own) | Self::Filter(own) => Some(own),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn filters_are_sorted_by_what_is_quick_to_compare() {
        assert!(matches!(Pattern::filter("a/b"), Pattern::Name(_)));
        for under in ["a/#", "$SYS/#", "/#", "a//#"] {
            assert!(matches!(Pattern::filter(under), Pattern::Under(_)), "{under}");
        }
        for other in ["#", "+", "+/#", "a/+/#", "a/+"] {
            assert!(matches!(Pattern::filter(other), Pattern::Filter(_)), "{other}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn quick_answers_are_the_right_ones(
            filter in "#|([ab]{0,2}|\\+|\\$S)(/([ab]{0,2}|\\+)){0,2}(/#)?",
            name in "[$]?[abS]{0,2}(/[ab]{0,2}){0,3}",
        ) {
            prop_assert_eq!(Pattern::filter(&filter).matches(&name), topic::matches(&filter, &name));
        }
    }
}
