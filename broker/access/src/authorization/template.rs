//! Topic Filters with `%u` and `%c` in them, and what becomes of them once a Client is known.
//!
//! Promise: whatever the values are, an allow rule never matches a topic outside the levels that its author wrote, and a deny
//! rule never matches less than it would with a well-behaved value.

use bucketmq_packet::topic;

use super::pattern::Pattern;
use super::rule::{Effect, RuleError};

/// What the placeholders stand for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Values<'a> {
    /// `%u`.
    pub(crate) username: Option<&'a str>,
    /// `%c`.
    pub(crate) client_id: &'a str,
}

/// A pattern as it is written in a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Template {
    /// No placeholder: the same for all.
    Constant(Pattern),
    /// By level, because a level is what a bad value spoils.
    Levels(Box<[Level]>),
}

type Level = Box<[Part]>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Literal(Box<str>),
    Username,
    ClientId,
}

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Self, RuleError> {
        if text == "*" {
            return Ok(Self::Constant(Pattern::Everything));
        }
        if text.is_empty() {
            return Err(RuleError::EmptyPattern);
        }
        let levels = text.split('/').map(parse_level).collect::<Result<Vec<_>, _>>()?;
        // Checked with a value that any Client could have, so that what is left to go wrong later is the value alone.
        let sample = join(&levels, |part| match part {
            Part::Literal(text) => text,
            Part::Username | Part::ClientId => "x",
        });
        match topic::check_filter(&sample) {
            Err(error) => return Err(RuleError::Filter(error.to_string())),
            Ok(filter) if filter.share_name.is_some() => return Err(RuleError::Shared),
            Ok(_) => {}
        }
        if levels.iter().flatten().all(|part| matches!(part, Part::Literal(_))) {
            return Ok(Self::Constant(Pattern::filter(&sample)));
        }
        Ok(Self::Levels(levels.into()))
    }

    /// Whether all Clients see the same pattern.
    pub(crate) fn is_constant(&self) -> bool {
        matches!(self, Self::Constant(_))
    }

    /// The pattern for one Client; `None` if the rule matches nothing.
    pub(crate) fn fill(&self, effect: Effect, values: &Values<'_>) -> Option<Pattern> {
        let levels = match self {
            Self::Constant(pattern) => return Some(pattern.clone()),
            Self::Levels(levels) => levels,
        };
        let mut filter = String::new();
        for (index, level) in levels.iter().enumerate() {
            if index > 0 {
                filter.push('/');
            }
            let worst = level.iter().filter_map(|part| part.placeholder(values)).map(Value::judge).max().unwrap_or(Value::Plain);
            if worst == Value::Plain {
                let start = filter.len();
                level.iter().for_each(|part| filter.push_str(part.placeholder(values).unwrap_or_else(|| part.literal())));
                // Harmless but for where it stands: it would open the topics of the Server to a rule that begins with a placeholder.
                let dollar = start == 0 && filter.starts_with('$') && !level[0].literal().starts_with('$');
                if dollar && effect == Effect::Allow {
                    return None;
                }
                continue;
            }
            if effect == Effect::Allow {
                return None;
            }
            // A first level of `+` or `#` would spare topics that begin with `$` [MQTT-4.7.2-1], which the author may have meant.
            let dollar = level.iter().any(|part| part.placeholder(values).unwrap_or_else(|| part.literal()).starts_with('$'));
            if index == 0 && (dollar || worst == Value::ManyLevels) {
                return Some(Pattern::Everything);
            }
            if worst == Value::ManyLevels {
                filter.push('#');
                break;
            }
            filter.push('+');
        }
        Some(Pattern::filter(&filter))
    }
}

impl Part {
    /// The value in the place of this part, if it is a placeholder.
    fn placeholder<'a>(&self, values: &Values<'a>) -> Option<&'a str> {
        match self {
            Self::Literal(_) => None,
            Self::Username => Some(values.username.unwrap_or_default()),
            Self::ClientId => Some(values.client_id),
        }
    }

    /// The text of this part; that of a placeholder is empty.
    fn literal(&self) -> &str {
        match self {
            Self::Literal(text) => text,
            Self::Username | Self::ClientId => "",
        }
    }
}

/// How far a value reaches. The order counts: the worst value of a level decides.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    /// Stands for itself.
    Plain,
    /// Absent, or a wildcard for one level, or nothing a topic could contain.
    OneLevel,
    /// More than one level.
    ManyLevels,
}

impl Value {
    fn judge(value: &str) -> Self {
        if value.contains(['/', '#']) {
            Self::ManyLevels
        } else if value.is_empty() || value.contains(['+', '\0']) {
            Self::OneLevel
        } else {
            Self::Plain
        }
    }
}

fn parse_level(text: &str) -> Result<Level, RuleError> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let placeholder = match (c, if c == '%' { rest.next() } else { None }) {
            ('%', Some('%')) => {
                literal.push('%');
                continue;
            }
            ('%', Some('u')) => Part::Username,
            ('%', Some('c')) => Part::ClientId,
            ('%', other) => return Err(RuleError::Placeholder(other.map_or_else(|| "%".to_owned(), |other| format!("%{other}")))),
            (c, _) => {
                literal.push(c);
                continue;
            }
        };
        if !literal.is_empty() {
            parts.push(Part::Literal(std::mem::take(&mut literal).into()));
        }
        parts.push(placeholder);
    }
    if !literal.is_empty() {
        parts.push(Part::Literal(literal.into()));
    }
    Ok(parts.into())
}

fn join<'a>(levels: &'a [Level], text_of: impl Fn(&'a Part) -> &'a str) -> String {
    levels.iter().map(|level| level.iter().map(&text_of).collect::<String>()).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fill(template: &str, effect: Effect, username: Option<&str>, client_id: &str) -> Option<String> {
        let pattern = Template::parse(template).unwrap().fill(effect, &Values { username, client_id })?;
        Some(pattern.as_filter().unwrap_or("*").to_owned())
    }

    #[test]
    fn values_are_put_in_place() {
        assert_eq!(fill("site/%c/+", Effect::Allow, None, "c1").as_deref(), Some("site/c1/+"));
        assert_eq!(fill("%u/dev-%c-x/#", Effect::Allow, Some("ann"), "c1").as_deref(), Some("ann/dev-c1-x/#"));
        assert_eq!(fill("100%%/%u%c", Effect::Allow, Some("a"), "b").as_deref(), Some("100%/ab"));
        assert_eq!(fill("a//b", Effect::Allow, None, "").as_deref(), Some("a//b"));
        assert_eq!(fill("%u", Effect::Allow, Some("%c"), "c").as_deref(), Some("%c"), "a value is not read again");
    }

    #[test]
    fn a_value_that_could_widen_an_allow_rule_makes_it_match_nothing() {
        for value in ["", "+", "#", "a/b", "a+", "a#", "/", "a\0"] {
            for template in ["%c", "site/%c/#", "site/dev-%c", "a/b/%c"] {
                assert_eq!(fill(template, Effect::Allow, None, value), None, "{template} {value:?}");
                assert_eq!(fill(&template.replace("%c", "%u"), Effect::Allow, Some(value), "c"), None, "{template} {value:?}");
            }
        }
        assert_eq!(fill("site/%u", Effect::Allow, None, "c"), None);
    }

    #[test]
    fn a_value_cannot_open_the_topics_that_begin_with_a_dollar() {
        assert_eq!(fill("%c/#", Effect::Allow, None, "$SYS"), None);
        assert_eq!(fill("%u%c/#", Effect::Allow, Some("$"), "SYS"), None);
        assert_eq!(fill("%c/#", Effect::Deny, None, "$SYS").as_deref(), Some("$SYS/#"));
        assert_eq!(fill("site/%c", Effect::Allow, None, "$SYS").as_deref(), Some("site/$SYS"));
        assert_eq!(fill("x%c", Effect::Allow, None, "$SYS").as_deref(), Some("x$SYS"));
    }

    #[test]
    fn a_deny_rule_fails_closed() {
        assert_eq!(fill("site/%u/cmd", Effect::Deny, None, "c").as_deref(), Some("site/+/cmd"));
        assert_eq!(fill("site/dev-%c-x/cmd", Effect::Deny, None, "a+").as_deref(), Some("site/+/cmd"));
        assert_eq!(fill("site/%c/cmd", Effect::Deny, None, "a/b").as_deref(), Some("site/#"));
        assert_eq!(fill("site/%c/cmd", Effect::Deny, None, "#").as_deref(), Some("site/#"));
        assert_eq!(fill("%c/cmd", Effect::Deny, None, "$SYS/x").as_deref(), Some("*"));
        assert_eq!(fill("x/%u%c/cmd", Effect::Deny, None, "a/b").as_deref(), Some("x/#"), "the worst value of a level decides");
        assert_eq!(fill("%u%c/cmd", Effect::Deny, None, "$SYS").as_deref(), Some("*"));
        assert_eq!(fill("$%c/cmd", Effect::Deny, None, "").as_deref(), Some("*"));
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for template in ["", "a/#/b", "a+/b", "a#", "%", "a/%x", "%c#", "%u+", "$share/g/a", "a\0"] {
            assert!(Template::parse(template).is_err(), "{template:?}");
        }
    }

    proptest! {
        #[test]
        fn no_value_makes_an_allow_rule_match_outside_of_what_was_written(
            template in "(s|%u|x%c|%c)(/(s|%u|%c|\\+)){0,2}(/#)?",
            username in proptest::option::of("[ab+#/$*%]{0,4}"),
            client_id in "[ab+#/$*%]{0,4}",
            name in "[$]?[absx]{1,3}(/[absx$]{1,3}){0,3}",
        ) {
            let parsed = Template::parse(&template).unwrap();
            let values = Values { username: username.as_deref(), client_id: &client_id };
            if let Some(pattern) = parsed.fill(Effect::Allow, &values) {
                // As wide as any value for one level could be.
                let widest = template.split('/').map(|level| if level.contains('%') { "+" } else { level }).collect::<Vec<_>>().join("/");
                prop_assert!(!pattern.matches(&name) || topic::matches(&widest, &name), "{pattern:?} {name}");
            }
        }

        #[test]
        fn a_deny_rule_matches_at_least_what_its_text_would(
            template in "(s|%u|x%c|%c|\\$%u|%u%c)(/(s|%u|%c|\\+)){0,2}(/#)?",
            username in "[ab/$]{0,4}",
            client_id in "[ab/$]{0,4}",
            name in "[$]?[absx]{1,3}(/[absx$]{1,3}){0,3}",
        ) {
            let pattern = Template::parse(&template).unwrap()
                .fill(Effect::Deny, &Values { username: Some(&username), client_id: &client_id }).unwrap();
            let text = template.replace("%u", &username).replace("%c", &client_id);
            prop_assert!(!topic::matches(&text, &name) || pattern.matches(&name), "{text} {pattern:?} {name}");
        }
    }
}
