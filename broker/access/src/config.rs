//! The `[access]` section: where users stand, what roles may do, what becomes of what is denied.
//!
//! Reading this section checks shapes and names only; what the rules say is checked when [`Access`](crate::Access) loads it, so
//! that an error can name the role and the rule.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bucketmq_packet::AcknowledgeLevel;
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, Serialize};

use crate::authorization::{Effect, LOCAL_ROLE, Operation, RuleError, check_rule};

/// Who may connect, publish and subscribe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The file of users, written by `bucketmq passwd FILE USER` and read again when it changes: a line for each user, with an argon2id
    /// hash, a generated secret as salted SHA-256, a verifier of SCRAM for enhanced authentication, or `!` for a certificate. Default: none, so that only
    /// anonymous Clients (where a listener lets them in) and certificates (with `certificate_roles`) get in: a broker that
    /// nobody told about users must not invent one.
    pub users_file: Option<PathBuf>,

    /// Roles by name. A role is a list of rules; a user has one or several roles. The role `local` is built in: it may do
    /// everything but publish to `$SYS/#`. Default: no other role, because no match is a deny and only you know your topics.
    pub roles: BTreeMap<String, RoleConfig>,

    /// What happens to a PUBLISH that is denied. Default `reject`: a Client learns what went wrong and stays connected.
    pub on_deny: OnDeny,

    /// The roles of a Client whose certificate is valid but whose name is not in the users file. Default: none, such a Client
    /// is refused, because a certificate authority often signs for more than this broker.
    pub certificate_roles: Vec<String>,
}

/// One role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleConfig {
    /// Rules in any order: a deny beats every allow, of this role or of another of the same user, and no match is a deny. A rule
    /// is a line such as `allow publish site/%c/#` or a table such as
    /// `{ effect = "allow", operations = ["publish"], filter = "site/%c/#" }`.
    pub rules: Vec<RuleConfig>,
    /// When Clients of this role get their acknowledgements: `durable` or `buffered`, whatever listener and broker say. Of several roles `durable`
    /// wins. Not given: the listener decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledge: Option<AcknowledgeLevel>,
}

/// One rule, as a line or as a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum RuleConfig {
    /// `allow|deny connect [CLIENT ID PATTERN]` or `allow|deny publish|subscribe|publish,subscribe TOPIC FILTER`.
    Line(String),
    /// The same in parts, for programs that write configurations.
    Table(RuleTable),
}

impl From<&str> for RuleConfig {
    fn from(line: &str) -> Self {
        Self::Line(line.to_owned())
    }
}

impl RuleConfig {
    /// Whether the broker would take it, and if not, why: for programs that render configurations.
    pub fn check(&self) -> Result<(), RuleError> {
        check_rule(self)
    }
}

/// A rule in parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleTable {
    /// `allow` or `deny`.
    pub effect: Effect,
    /// What the rule is about: `["connect"]`, or `publish`, `subscribe` or both.
    pub operations: Vec<Operation>,
    /// The Topic Filter of a rule on publish or subscribe; `*` alone means every topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// The client id pattern of a rule on connect. Default: any client id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
}

/// What happens to a PUBLISH that is denied. A denied Subscription is always answered by 0x87 in the SUBACK, a denied CONNECT by
/// a CONNACK.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnDeny {
    /// Answer 0x87 in the PUBACK or PUBREC (5.0 and QoS 1 or 2) and discard the message; older Clients see it acknowledged.
    #[default]
    Reject,
    /// End the Network Connection, for 5.0 with DISCONNECT 0x87: the only way to tell a 3.1.1 Client.
    Disconnect,
    /// Acknowledge and discard, so that a prober learns nothing.
    Drop,
}

impl Config {
    /// Whether `name` is a role that a user or a listener may name.
    pub fn has_role(&self, name: &str) -> bool {
        name == LOCAL_ROLE || self.roles.contains_key(name)
    }
}

/// By hand, because an untagged enum would answer every mistake with "did not match any variant".
impl<'de> Deserialize<'de> for RuleConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = RuleConfig;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a rule such as \"allow publish site/%c/#\" or a table with effect, operations and filter or client_id")
            }

            fn visit_str<E: serde::de::Error>(self, line: &str) -> Result<RuleConfig, E> {
                Ok(RuleConfig::Line(line.to_owned()))
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<RuleConfig, A::Error> {
                RuleTable::deserialize(MapAccessDeserializer::new(map)).map(RuleConfig::Table)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_section_has_no_users_no_roles_and_rejects() {
        let config = read("").unwrap();
        assert_eq!(config, Config::default());
        assert_eq!(config.on_deny, OnDeny::Reject);
        assert!(config.has_role("local") && !config.has_role("sensor"));
    }

    #[test]
    fn rules_are_lines_or_tables() {
        let config = read(
            r#"
            users_file = "/etc/bucketmq/users"
            on_deny = "drop"
            certificate_roles = ["sensor"]
            [roles.sensor]
            rules = [
                "allow connect",
                { effect = "allow", operations = ["publish", "subscribe"], filter = "site/%c/#" },
            ]
            "#,
        )
        .unwrap();
        assert!(config.has_role("sensor"));
        let rules = &config.roles["sensor"].rules;
        assert_eq!(rules[0], RuleConfig::from("allow connect"));
        assert!(matches!(&rules[1], RuleConfig::Table(table) if table.filter.as_deref() == Some("site/%c/#")));
    }

    #[test]
    fn a_rule_is_checked_by_itself_with_the_words_of_the_broker() {
        assert_eq!(RuleConfig::from("allow publish site/%c/#").check(), Ok(()));
        assert_eq!(RuleConfig::from("allow publihs a").check(), Err(RuleError::Operation("publihs".to_owned())));
        let table = RuleTable { effect: Effect::Deny, operations: vec![Operation::Publish], filter: Some("a/#/b".into()), client_id: None };
        let problem = RuleConfig::Table(table).check().unwrap_err().to_string();
        assert!(problem.starts_with("its Topic Filter is not valid: "), "{problem}");
    }

    #[test]
    fn mistakes_are_told_with_what_was_expected() {
        for (text, expected) in [
            ("user_file = 'x'", "unknown field `user_file`, expected one of `users_file`"),
            ("on_deny = 'ignore'", "expected one of `reject`, `disconnect`, `drop`"),
            ("[roles.a]\nrule = []", "unknown field `rule`, expected `rules`"),
            ("[roles.a]\nrules = [7]", "expected a rule such as \"allow publish site/%c/#\" or a table"),
            ("[roles.a]\nrules = [{ effect = 'permit', operations = [] }]", "expected `allow` or `deny`"),
            ("[roles.a]\nrules = [{ effect = 'allow', operations = ['read'] }]", "expected one of `connect`, `publish`, `subscribe`"),
            ("[roles.a]\nrules = [{ effect = 'allow', operation = 'publish' }]", "unknown field `operation`"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn the_schema_names_every_field() {
        let schema = serde_json_of_schema();
        for field in ["users_file", "roles", "on_deny", "certificate_roles", "effect", "operations", "client_id"] {
            assert!(schema.contains(field), "{field}");
        }
    }

    fn serde_json_of_schema() -> String {
        format!("{:?}", schemars::schema_for!(Config))
    }
}
