//! Roles: named lists of rules, read from the configuration.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bucketmq_packet::AcknowledgeLevel;

use super::rule::{Rule, RuleError};
use super::rules::RoleSet;
use crate::config::{RoleConfig, RuleConfig};

/// The built-in role: everything but publishing to `$SYS/#`, which is where the broker speaks about itself.
pub const LOCAL_ROLE: &str = "local";

const LOCAL_RULES: [&str; 4] = ["allow connect", "allow publish *", "allow subscribe *", "deny publish $SYS/#"];

/// Rules of one role. Every PUBLISH of a principal may ask them all, at some 10 ns each: 1,024 rules are 10 us, beyond which a
/// principal would cost more to check than to serve.
pub(crate) const RULES_MAX: usize = 1024;

/// What is wrong with the roles of the configuration.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    /// `local` is ours.
    #[error("access.roles.{LOCAL_ROLE}: this role is built in; choose another name")]
    BuiltIn,
    /// The users file could not name it.
    #[error("access.roles: `{0}` is no name of a role, expected 1 to 64 letters, digits, `_`, `-` or `.`")]
    Name(String),
    /// A rule makes no sense.
    #[error("access.roles.{role}.rules[{index}] {rule:?}: {problem}")]
    Rule {
        /// The role.
        role: String,
        /// Its rule, counted from 0.
        index: usize,
        /// What stands there.
        rule: String,
        /// What is wrong and what was expected.
        problem: RuleError,
    },
    /// More rules than are sensible.
    #[error("access.roles.{role}.rules: {count} rules, expected at most {RULES_MAX}; wildcards or placeholders can stand for many")]
    TooMany {
        /// The role.
        role: String,
        /// How many rules it has.
        count: usize,
    },
}

/// A role that was read.
#[derive(Debug)]
pub(crate) struct Role {
    pub(crate) rules: Vec<Rule>,
    pub(crate) acknowledge: Option<AcknowledgeLevel>,
}

/// All roles of one configuration. Sets of roles are handed out once, so that principals share them.
pub(crate) struct Roles {
    roles: BTreeMap<String, Arc<Role>>,
    sets: HashMap<Vec<String>, Arc<RoleSet>>,
    generation: u64,
}

impl Roles {
    pub(crate) fn read(config: &BTreeMap<String, RoleConfig>, generation: u64) -> Result<Self, RoleError> {
        if config.contains_key(LOCAL_ROLE) {
            return Err(RoleError::BuiltIn);
        }
        let local = RoleConfig { rules: LOCAL_RULES.map(RuleConfig::from).into(), acknowledge: None };
        let mut roles = BTreeMap::new();
        for (name, role) in config.iter().chain([(&LOCAL_ROLE.to_owned(), &local)]) {
            if !check_role_name(name) {
                return Err(RoleError::Name(name.clone()));
            }
            roles.insert(name.clone(), Arc::new(Role::read(name, role)?));
        }
        Ok(Self { roles, sets: HashMap::new(), generation })
    }

    /// What these roles allow together, or the name that is no role. The names' order and repetitions do not matter.
    pub(crate) fn set<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) -> Result<Arc<RoleSet>, String> {
        let mut key: Vec<String> = names.into_iter().map(str::to_owned).collect();
        key.sort_unstable();
        key.dedup();
        if let Some(set) = self.sets.get(&key) {
            return Ok(set.clone());
        }
        let roles = key.iter().map(|name| self.roles.get(name).cloned().ok_or_else(|| name.clone())).collect::<Result<Vec<_>, _>>()?;
        let set = Arc::new(RoleSet::new(roles, self.generation));
        self.sets.insert(key, set.clone());
        Ok(set)
    }

    /// Every role by itself, for listeners that let in anonymous Clients.
    pub(crate) fn each(&mut self) -> HashMap<String, Arc<RoleSet>> {
        let names: Vec<String> = self.roles.keys().cloned().collect();
        names.into_iter().filter_map(|name| self.set([name.as_str()]).ok().map(|set| (name, set))).collect()
    }
}

impl Role {
    fn read(name: &str, config: &RoleConfig) -> Result<Self, RoleError> {
        if config.rules.len() > RULES_MAX {
            return Err(RoleError::TooMany { role: name.to_owned(), count: config.rules.len() });
        }
        let rules = config.rules.iter().enumerate().map(|(index, rule)| {
            Rule::parse(rule).map_err(|problem| RoleError::Rule { role: name.to_owned(), index, rule: text_of(rule), problem })
        });
        Ok(Self { rules: rules.collect::<Result<_, _>>()?, acknowledge: config.acknowledge })
    }
}

/// Whether a role may have this name: the users file separates names by commas and fields by colons.
pub fn check_role_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

fn text_of(rule: &RuleConfig) -> String {
    match rule {
        RuleConfig::Line(line) => line.clone(),
        RuleConfig::Table(table) => table.filter.clone().or_else(|| table.client_id.clone()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(text: &str) -> Result<Roles, String> {
        let config: crate::Config = toml::from_str(text).unwrap();
        Roles::read(&config.roles, 1).map_err(|error| error.to_string())
    }

    #[test]
    fn an_error_names_the_role_the_rule_and_what_was_expected() {
        let error = roles("roles.sensor.rules = ['allow connect', 'allow publihs a']").err().unwrap();
        assert_eq!(
            error,
            "access.roles.sensor.rules[1] \"allow publihs a\": `publihs` is no operation, expected `connect`, `publish`, `subscribe` or \
             `publish,subscribe`"
        );
        let error = roles("roles.sensor.rules = [{ effect = 'allow', operations = ['publish'], filter = 'a/#/b' }]").err().unwrap();
        assert!(error.starts_with("access.roles.sensor.rules[0] \"a/#/b\": its Topic Filter is not valid: "), "{error}");
    }

    #[test]
    fn the_local_role_is_built_in() {
        assert!(roles("").unwrap().set(["local"]).is_ok());
        assert_eq!(roles("roles.local.rules = []").err().unwrap(), "access.roles.local: this role is built in; choose another name");
    }

    #[test]
    fn role_names_are_what_the_users_file_can_hold() {
        for name in ["''", "'a,b'", "'a:b'", "'a b'", "'é'"] {
            assert!(roles(&format!("[roles.{name}]\nrules = []")).err().unwrap().contains("no name of a role"), "{name}");
        }
        assert!(roles("[roles.'a.b-c_1']\nrules = []").is_ok());
    }

    #[test]
    fn a_role_has_at_most_1024_rules() {
        let config =
            |count| BTreeMap::from([("many".to_owned(), RoleConfig { rules: vec!["allow connect".into(); count], acknowledge: None })]);
        assert!(Roles::read(&config(1024), 1).is_ok());
        assert!(Roles::read(&config(1025), 1).err().unwrap().to_string().contains("1025 rules, expected at most 1024"));
    }

    #[test]
    fn principals_of_the_same_roles_share_one_set() {
        let mut roles = roles("roles.a.rules = []\nroles.b.rules = []").unwrap();
        let set = roles.set(["a", "b"]).unwrap();
        assert!(Arc::ptr_eq(&set, &roles.set(["b", "a", "b"]).unwrap()));
        assert!(!Arc::ptr_eq(&set, &roles.set(["a"]).unwrap()));
        assert_eq!(roles.set(["a", "c"]).unwrap_err(), "c");
    }
}
