//! Topic Names and Topic Filters (5.0 4.7, 4.8.2).
//!
//! [`check_name`] and [`check_filter`] judge what a peer sent; everything else expects what they let through, a filter without its `$share`
//! part, and allocates nothing.

use crate::{ReasonCode, Violation};

/// The most bytes of a Topic Name or Topic Filter [MQTT-4.7.3-3].
pub const LENGTH_MAX: usize = 65_535;

const SHARE_PREFIX: &str = "$share/";

/// Why something is not a Topic Name or Topic Filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.detail())]
pub enum TopicError {
    /// Not one character.
    Empty,
    /// More than [`LENGTH_MAX`] bytes.
    TooLong,
    /// U+0000 inside.
    Nul,
    /// A Topic Name with `+` or `#`.
    WildcardInName,
    /// `#` that is not a whole level, or not the last.
    MultiLevelWildcard,
    /// `+` that is not a whole level.
    SingleLevelWildcard,
    /// `$share/` without a name behind.
    ShareNameEmpty,
    /// A share name with a wildcard.
    ShareNameWildcard,
    /// A share name without a Topic Filter behind.
    ShareWithoutFilter,
}

impl TopicError {
    /// The statement that is broken.
    pub const fn clause(self) -> &'static str {
        match self {
            Self::Empty => "MQTT-4.7.3-1",
            Self::TooLong => "MQTT-4.7.3-3",
            Self::Nul => "MQTT-4.7.3-2",
            Self::WildcardInName => "MQTT-4.7.0-1",
            Self::MultiLevelWildcard => "MQTT-4.7.1-1",
            Self::SingleLevelWildcard => "MQTT-4.7.1-2",
            Self::ShareNameEmpty => "MQTT-4.8.2-1",
            Self::ShareNameWildcard | Self::ShareWithoutFilter => "MQTT-4.8.2-2",
        }
    }

    /// The same for a person.
    const fn detail(self) -> &'static str {
        match self {
            Self::Empty => "topic is empty",
            Self::TooLong => "topic is longer than 65,535 bytes",
            Self::Nul => "topic contains U+0000",
            Self::WildcardInName => "topic name contains a wildcard",
            Self::MultiLevelWildcard => "multi-level wildcard is not alone in the last level",
            Self::SingleLevelWildcard => "single-level wildcard is not alone in its level",
            Self::ShareNameEmpty => "share name is empty",
            Self::ShareNameWildcard => "share name contains a wildcard",
            Self::ShareWithoutFilter => "shared subscription has no topic filter",
        }
    }

    /// As a Violation with 0x90, Topic Name invalid.
    pub const fn in_name(self) -> Violation {
        Violation::new(ReasonCode::TopicNameInvalid, self.clause(), self.detail())
    }

    /// As a Violation with 0x8F, Topic Filter invalid.
    pub const fn in_filter(self) -> Violation {
        Violation::new(ReasonCode::TopicFilterInvalid, self.clause(), self.detail())
    }
}

/// A valid Topic Filter, taken apart: `$share/g/a/+` is the share name `g` and the filter `a/+`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Filter<'a> {
    /// Some for a Shared Subscription.
    pub share_name: Option<&'a str>,
    /// What topics are compared with.
    pub filter: &'a str,
}

/// Is `name` a Topic Name?
pub fn check_name(name: &str) -> Result<(), TopicError> {
    check_text(name)?;
    if has_wildcard(name) { Err(TopicError::WildcardInName) } else { Ok(()) }
}

/// Is `filter` a Topic Filter, shared or not?
pub fn check_filter(filter: &str) -> Result<Filter<'_>, TopicError> {
    check_text(filter)?;
    // "$share" alone and "$shared/a" are filters like others.
    let Some(shared) = filter.strip_prefix(SHARE_PREFIX) else {
        check_levels(filter)?;
        return Ok(Filter { share_name: None, filter });
    };
    // [MQTT-4.8.2-1] [MQTT-4.8.2-2]
    let (name, inner) = match shared.split_once('/') {
        Some((name, inner)) => (name, Some(inner)),
        None => (shared, None),
    };
    if name.is_empty() {
        return Err(TopicError::ShareNameEmpty);
    }
    if has_wildcard(name) {
        return Err(TopicError::ShareNameWildcard);
    }
    let inner = inner.filter(|inner| !inner.is_empty()).ok_or(TopicError::ShareWithoutFilter)?;
    check_levels(inner)?;
    Ok(Filter { share_name: Some(name), filter: inner })
}

fn check_text(text: &str) -> Result<(), TopicError> {
    match text.len() {
        0 => Err(TopicError::Empty),
        length if length > LENGTH_MAX => Err(TopicError::TooLong),
        _ if text.as_bytes().contains(&0) => Err(TopicError::Nul),
        _ => Ok(()),
    }
}

fn check_levels(filter: &str) -> Result<(), TopicError> {
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        // [MQTT-4.7.1-1]
        if level.contains('#') && (level.len() > 1 || levels.peek().is_some()) {
            return Err(TopicError::MultiLevelWildcard);
        }
        // [MQTT-4.7.1-2]
        if level.contains('+') && level.len() > 1 {
            return Err(TopicError::SingleLevelWildcard);
        }
    }
    Ok(())
}

/// Does `filter` match the Topic Name `topic`?
pub fn matches(filter: &str, topic: &str) -> bool {
    if wildcard_meets_dollar(filter, topic) {
        return false;
    }
    let mut filter = filter.split('/');
    let mut topic = topic.split('/');
    loop {
        match (filter.next(), topic.next()) {
            // The level above "#" counts too: "sport/#" matches "sport".
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
}

/// [MQTT-4.7.2-1] A filter that begins with a wildcard does not match topics that begin with `$`.
fn wildcard_meets_dollar(filter: &str, topic: &str) -> bool {
    topic.starts_with('$') && filter.starts_with(['+', '#'])
}

/// Does `wide` match every topic that `narrow` matches?
pub fn covers(wide: &str, narrow: &str) -> bool {
    if wildcard_meets_dollar(wide, narrow) {
        return false;
    }
    // The level above "#" is none here: "#" asks for one level at least, "/#" for two, since no topic is empty [MQTT-4.7.3-1].
    match narrow {
        "#" => return matches!(wide, "#" | "+/#"),
        "/#" => return matches!(wide, "#" | "+/#" | "+/+/#" | "/#" | "/+/#"),
        _ => {}
    }
    let mut wide = wide.split('/');
    let mut narrow = narrow.split('/');
    loop {
        match (wide.next(), narrow.next()) {
            (Some("#"), _) | (None, None) => return true,
            // "a/#" matches "a" as well, which "a/+" and "a/+/#" do not.
            (Some("+"), Some(level)) if level != "#" => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
}

/// Is there a topic that both filters match?
pub fn intersects(a: &str, b: &str) -> bool {
    // "/#" and "+" would meet in the empty topic, which is none [MQTT-4.7.3-1].
    if wildcard_meets_dollar(a, b) || wildcard_meets_dollar(b, a) || matches!((a, b), ("/#", "+") | ("+", "/#")) {
        return false;
    }
    let mut a = a.split('/');
    let mut b = b.split('/');
    loop {
        match (a.next(), b.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some("+"), Some(_)) | (Some(_), Some("+")) => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

/// How many levels: one more than there are separators.
pub fn levels(topic: &str) -> usize {
    topic.bytes().filter(|byte| *byte == b'/').count() + 1
}

/// Does a valid Topic Filter contain a wildcard?
pub fn has_wildcard(filter: &str) -> bool {
    filter.bytes().any(|byte| matches!(byte, b'+' | b'#'))
}

#[cfg(test)]
mod tests;
