//! One rule: what a line or table of a role says, and every way in which it can be wrong.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::client_id_pattern::ClientIdPattern;
use super::template::Template;
use crate::config::{RuleConfig, RuleTable};

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Lets through what no deny rule matches.
    Allow,
    /// Beats every allow.
    Deny,
}

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Opening a Network Connection under a client id.
    Connect,
    /// Sending an Application Message, also as a Will Message.
    Publish,
    /// Making a Subscription.
    Subscribe,
}

/// A rule that was read.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) effect: Effect,
    pub(crate) subject: Subject,
}

#[derive(Clone, Debug)]
pub(crate) enum Subject {
    Connect(ClientIdPattern),
    Topics { publish: bool, subscribe: bool, template: Template },
}

/// What is wrong with a rule, and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each message says it")]
pub enum RuleError {
    #[error("it is not of the form `allow|deny OPERATION PATTERN`, such as `allow publish site/%c/#`")]
    Shape,
    #[error("it begins or ends with white space; a pattern may have been left out")]
    WhiteSpace,
    #[error("`{0}` is no effect, expected `allow` or `deny`")]
    Effect(String),
    #[error("`{0}` is no operation, expected `connect`, `publish`, `subscribe` or `publish,subscribe`")]
    Operation(String),
    #[error("it names an operation twice")]
    Twice,
    #[error("it names no operation, expected `connect`, `publish`, `subscribe`")]
    NoOperation,
    #[error("it is about connect and topics at once; their patterns differ, so write two rules")]
    Mixed,
    #[error("it has no Topic Filter; for every topic, write `*`")]
    NoFilter,
    #[error("its pattern is empty; leave it out or write `*` for any client id, or write a Topic Filter for topics")]
    EmptyPattern,
    #[error("a rule on connect takes `client_id`, not `filter`")]
    FilterInConnect,
    #[error("a rule on topics takes `filter`, not `client_id`")]
    ClientIdInTopics,
    #[error("`%c` in a client id pattern would match every client id; use `%u`, or `*` for any run of characters")]
    ClientIdInConnect,
    #[error("`{0}` is no placeholder, expected `%u` (user name), `%c` (client id) or `%%` (a percent sign)")]
    Placeholder(String),
    #[error("its Topic Filter is not valid: {0}")]
    Filter(String),
    #[error("rules name the filter behind `$share/NAME/`, which holds for shared and plain Subscriptions alike")]
    Shared,
    #[error("it contains U+0000")]
    Nul,
}

impl Rule {
    pub(crate) fn parse(config: &RuleConfig) -> Result<Self, RuleError> {
        match config {
            RuleConfig::Line(line) => Self::from_line(line),
            RuleConfig::Table(table) => Self::from_table(table),
        }
    }

    fn from_line(line: &str) -> Result<Self, RuleError> {
        // Nothing is trimmed: `allow connect ` is more often a template whose value was empty than a wish to let all in.
        if line.trim() != line {
            return Err(RuleError::WhiteSpace);
        }
        let (effect, rest) = split_word(line);
        let effect = match effect {
            "allow" => Effect::Allow,
            "deny" => Effect::Deny,
            "" => return Err(RuleError::Shape),
            other => return Err(RuleError::Effect(other.to_owned())),
        };
        let (operations, pattern) = split_word(rest.ok_or(RuleError::Shape)?);
        let operations = operations
            .split(',')
            .map(|word| match word {
                "connect" => Ok(Operation::Connect),
                "publish" => Ok(Operation::Publish),
                "subscribe" => Ok(Operation::Subscribe),
                other => Err(RuleError::Operation(other.to_owned())),
            })
            .collect::<Result<Vec<_>, _>>()?;
        Self::build(effect, &operations, pattern)
    }

    fn from_table(table: &RuleTable) -> Result<Self, RuleError> {
        let connect = table.operations.contains(&Operation::Connect);
        match (connect, &table.filter, &table.client_id) {
            (true, Some(_), _) => Err(RuleError::FilterInConnect),
            (false, _, Some(_)) => Err(RuleError::ClientIdInTopics),
            (true, None, pattern) | (false, pattern, None) => Self::build(table.effect, &table.operations, pattern.as_deref()),
        }
    }

    fn build(effect: Effect, operations: &[Operation], pattern: Option<&str>) -> Result<Self, RuleError> {
        let asks = |operation| operations.iter().filter(|asked| **asked == operation).count();
        let (connect, publish, subscribe) = (asks(Operation::Connect), asks(Operation::Publish), asks(Operation::Subscribe));
        let subject = match (connect, publish, subscribe) {
            (0, 0, 0) => return Err(RuleError::NoOperation),
            (2.., _, _) | (_, 2.., _) | (_, _, 2..) => return Err(RuleError::Twice),
            (1, 0, 0) => Subject::Connect(pattern.map_or_else(|| Ok(ClientIdPattern::any()), ClientIdPattern::parse)?),
            (1, _, _) => return Err(RuleError::Mixed),
            (0, _, _) => Subject::Topics {
                publish: publish == 1,
                subscribe: subscribe == 1,
                template: Template::parse(pattern.ok_or(RuleError::NoFilter)?)?,
            },
        };
        Ok(Self { effect, subject })
    }
}

/// Whether a rule makes sense.
pub(crate) fn check_rule(rule: &RuleConfig) -> Result<(), RuleError> {
    Rule::parse(rule).map(drop)
}

/// The first word, and what follows the white space behind it. A Topic Filter may contain white space of its own.
fn split_word(text: &str) -> (&str, Option<&str>) {
    match text.split_once(char::is_whitespace) {
        Some((word, rest)) => (word, Some(rest.trim_start())),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::pattern::Pattern;
    use super::*;

    fn line(text: &str) -> Result<Rule, RuleError> {
        Rule::parse(&RuleConfig::from(text))
    }

    #[test]
    fn rules_are_read() {
        let rule = line("allow connect").unwrap();
        assert_eq!(rule.effect, Effect::Allow);
        assert!(matches!(rule.subject, Subject::Connect(pattern) if pattern == ClientIdPattern::any()));

        let rule = line("deny\tpublish,subscribe   a room/+/#").unwrap();
        assert_eq!(rule.effect, Effect::Deny);
        let Subject::Topics { publish: true, subscribe: true, template: Template::Constant(Pattern::Filter(filter)) } = rule.subject else {
            panic!("{rule:?}")
        };
        assert_eq!(&*filter, "a room/+/#");

        let rule = line("allow subscribe *").unwrap();
        assert!(matches!(
            rule.subject,
            Subject::Topics { publish: false, subscribe: true, template: Template::Constant(Pattern::Everything) }
        ));
    }

    #[test]
    fn a_table_says_the_same_as_a_line() {
        let table = RuleTable {
            effect: Effect::Deny,
            operations: vec![Operation::Publish],
            filter: Some(" leading space/%u".into()),
            client_id: None,
        };
        let rule = Rule::parse(&RuleConfig::Table(table.clone())).unwrap();
        assert!(matches!(rule.subject, Subject::Topics { publish: true, subscribe: false, .. }));
        let connect = RuleTable { operations: vec![Operation::Connect], filter: None, client_id: Some("%u-*".into()), ..table.clone() };
        assert!(Rule::parse(&RuleConfig::Table(connect.clone())).is_ok());

        let both = RuleTable { filter: Some("a".into()), ..connect };
        assert_eq!(Rule::parse(&RuleConfig::Table(both)).unwrap_err(), RuleError::FilterInConnect);
        let client_id = RuleTable { client_id: Some("a".into()), ..table.clone() };
        assert_eq!(Rule::parse(&RuleConfig::Table(client_id)).unwrap_err(), RuleError::ClientIdInTopics);
        let nothing = RuleTable { operations: Vec::new(), ..table };
        assert_eq!(Rule::parse(&RuleConfig::Table(nothing)).unwrap_err(), RuleError::NoOperation);
    }

    #[test]
    fn what_is_wrong_with_a_rule_is_told() {
        for (text, expected) in [
            ("", RuleError::Shape),
            ("allow", RuleError::Shape),
            ("allow connect ", RuleError::WhiteSpace),
            (" allow connect", RuleError::WhiteSpace),
            ("permit publish a", RuleError::Effect("permit".into())),
            ("Allow publish a", RuleError::Effect("Allow".into())),
            ("allow publihs a", RuleError::Operation("publihs".into())),
            ("allow publish, subscribe a", RuleError::Operation(String::new())),
            ("allow publish,publish a", RuleError::Twice),
            ("allow connect,publish a", RuleError::Mixed),
            ("allow publish", RuleError::NoFilter),
            ("allow connect %c-1", RuleError::ClientIdInConnect),
            ("allow publish a/%d", RuleError::Placeholder("%d".into())),
            ("allow publish a/%", RuleError::Placeholder("%".into())),
            ("allow subscribe $share/g/a", RuleError::Shared),
        ] {
            assert_eq!(line(text).unwrap_err(), expected, "{text}");
        }
        assert!(matches!(line("allow publish a/#/b").unwrap_err(), RuleError::Filter(_)));
    }
}
