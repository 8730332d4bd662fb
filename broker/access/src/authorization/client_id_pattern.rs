//! Patterns of connect rules: a client id with `*` for any run of characters and `%u` for the user name.
//!
//! Promise: a user name stands for itself, whatever it contains, and a missing one makes an allow rule match nothing and a deny
//! rule match as widely as `*` would.

use super::rule::{Effect, RuleError};

/// A client id pattern, ready to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientIdPattern {
    /// What stands between the stars: never empty, one more than there are stars.
    runs: Box<[Run]>,
}

/// Text without a star, in parts.
type Run = Box<[Part]>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Box<str>),
    Username,
}

impl ClientIdPattern {
    /// `*`.
    pub(crate) fn any() -> Self {
        Self { runs: vec![Run::default(), Run::default()].into() }
    }

    pub(crate) fn parse(text: &str) -> Result<Self, RuleError> {
        if text.is_empty() {
            return Err(RuleError::EmptyPattern);
        }
        if text.contains('\0') {
            return Err(RuleError::Nul);
        }
        let mut runs = Vec::new();
        for run in text.split('*') {
            let mut parts = Vec::new();
            let mut literal = String::new();
            let mut rest = run.chars();
            while let Some(c) = rest.next() {
                match (c, if c == '%' { rest.next() } else { None }) {
                    ('%', Some('%')) => literal.push('%'),
                    ('%', Some('u')) => {
                        if !literal.is_empty() {
                            parts.push(Part::Literal(std::mem::take(&mut literal).into()));
                        }
                        parts.push(Part::Username);
                    }
                    ('%', Some('c')) => return Err(RuleError::ClientIdInConnect),
                    ('%', other) => return Err(RuleError::Placeholder(other.map_or_else(|| "%".to_owned(), |other| format!("%{other}")))),
                    (c, _) => literal.push(c),
                }
            }
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.into()));
            }
            runs.push(parts.into());
        }
        Ok(Self { runs: runs.into() })
    }

    /// Whether a rule with this pattern is about `client_id`.
    pub(crate) fn matches(&self, effect: Effect, username: Option<&str>, client_id: &str) -> bool {
        if self.runs.iter().all(|run| run.is_empty()) && self.runs.len() > 1 {
            return true;
        }
        let username = username.filter(|username| !username.is_empty());
        if username.is_none() && effect == Effect::Allow && self.runs.iter().flatten().any(|part| *part == Part::Username) {
            return false;
        }
        // A missing user name splits its run in two, which is what a `*` in its place does.
        let mut runs = vec![String::new()];
        for (index, run) in self.runs.iter().enumerate() {
            if index > 0 {
                runs.push(String::new());
            }
            for part in run {
                let last = runs.last_mut().expect("never empty");
                match (part, username) {
                    (Part::Literal(text), _) => last.push_str(text),
                    (Part::Username, Some(username)) => last.push_str(username),
                    (Part::Username, None) => runs.push(String::new()),
                }
            }
        }
        glob(&runs, client_id)
    }
}

/// Whether `text` is the runs in order with anything between them. Taking the first place each middle run fits is enough, because
/// what stands before it may be any length. Time is at most runs * text, both under 64 KiB by the protocol and by us.
fn glob(runs: &[String], text: &str) -> bool {
    let [first, middle @ .., last] = runs else {
        return runs.first().is_some_and(|only| only == text);
    };
    let Some(mut rest) = text.strip_prefix(first.as_str()) else { return false };
    for run in middle {
        let Some(at) = rest.find(run.as_str()) else { return false };
        rest = &rest[at + run.len()..];
    }
    rest.ends_with(last.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(pattern: &str, username: Option<&str>, client_id: &str) -> bool {
        ClientIdPattern::parse(pattern).unwrap().matches(Effect::Allow, username, client_id)
    }

    #[test]
    fn a_star_is_any_run_of_characters_and_everything_else_is_itself() {
        for (pattern, client_id, expected) in [
            ("sensor-1", "sensor-1", true),
            ("sensor-1", "sensor-12", false),
            ("sensor-*", "sensor-", true),
            ("sensor-*", "sensor-1/2", true),
            ("sensor-*", "Sensor-1", false),
            ("*-a", "x-a", true),
            ("*-a", "-a", true),
            ("*-a", "x-ab", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "acb", false),
            ("ab*ba", "aba", false),
            ("*", "", true),
            ("**", "anything", true),
            ("a.c", "abc", false),
            ("?", "x", false),
            ("100%%", "100%", true),
            ("é*", "éa", true),
        ] {
            assert_eq!(allows(pattern, None, client_id), expected, "{pattern} {client_id}");
        }
        assert!(ClientIdPattern::any().matches(Effect::Allow, None, "anything"));
        assert!(ClientIdPattern::any().matches(Effect::Deny, None, ""));
    }

    #[test]
    fn a_user_name_stands_for_itself_and_a_star_in_it_is_no_wildcard() {
        assert!(allows("%u-*", Some("ann"), "ann-1"));
        assert!(!allows("%u-*", Some("ann"), "bob-1"));
        assert!(!allows("%u", Some("*"), "bob"));
        assert!(allows("%u", Some("*"), "*"));
        assert!(allows("%u/%u", Some("a/b"), "a/b/a/b"));
    }

    #[test]
    fn without_a_user_name_an_allow_matches_nothing_and_a_deny_matches_widely() {
        let pattern = ClientIdPattern::parse("%u-x").unwrap();
        for username in [None, Some("")] {
            assert!(!pattern.matches(Effect::Allow, username, "-x"));
            assert!(!pattern.matches(Effect::Allow, username, "a-x"));
            assert!(pattern.matches(Effect::Deny, username, "-x"));
            assert!(pattern.matches(Effect::Deny, username, "a-x"));
            assert!(!pattern.matches(Effect::Deny, username, "a-y"));
        }
        assert!(!ClientIdPattern::parse("*%u*").unwrap().matches(Effect::Allow, None, "a"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for pattern in ["", "%", "a%x", "%c", "a\0"] {
            assert!(ClientIdPattern::parse(pattern).is_err(), "{pattern:?}");
        }
    }
}
