//! Rules compiled for one principal, or once for all principals of the same roles when no topic rule has a placeholder.
//!
//! This is what every PUBLISH asks: no lock, no allocation, deny rules first.

use std::sync::Arc;

use bucketmq_packet::AcknowledgeLevel;

use super::client_id_pattern::ClientIdPattern;
use super::pattern::Pattern;
use super::role::Role;
use super::rule::{Effect, Subject};
use super::template::{Template, Values};

/// What a set of roles allows, before a Client is known.
#[derive(Debug)]
pub(crate) struct RoleSet {
    connect: Vec<(Effect, ClientIdPattern)>,
    topics: Vec<TopicRule>,
    generation: u64,
    /// The strictest of what the roles say.
    pub(crate) acknowledge: Option<AcknowledgeLevel>,
    /// The compiled rules if they are the same for all Clients.
    shared: Option<Arc<Rules>>,
}

#[derive(Debug)]
struct TopicRule {
    effect: Effect,
    publish: bool,
    subscribe: bool,
    template: Template,
}

/// What one principal may do.
#[derive(Debug)]
pub(crate) struct Rules {
    publish: Lists,
    subscribe: Lists,
    /// Of the configuration and users they were made from.
    pub(crate) generation: u64,
}

#[derive(Debug, Default)]
struct Lists {
    deny: Box<[Pattern]>,
    allow: Box<[Pattern]>,
}

impl RoleSet {
    pub(crate) fn new(roles: Vec<Arc<Role>>, generation: u64) -> Self {
        let mut connect = Vec::new();
        let mut topics = Vec::new();
        for rule in roles.iter().flat_map(|role| &role.rules) {
            match rule.subject.clone() {
                Subject::Connect(pattern) => connect.push((rule.effect, pattern)),
                Subject::Topics { publish, subscribe, template } => {
                    topics.push(TopicRule { effect: rule.effect, publish, subscribe, template });
                }
            }
        }
        let acknowledge = roles.iter().filter_map(|role| role.acknowledge).min();
        let mut set = Self { connect, topics, generation, acknowledge, shared: None };
        if set.topics.iter().all(|rule| rule.template.is_constant()) {
            set.shared = Some(Arc::new(set.compile(&Values { username: None, client_id: "" })));
        }
        set
    }

    /// Whether a Client may connect; no match is a deny.
    pub(crate) fn may_connect(&self, values: &Values<'_>) -> bool {
        let any =
            |effect| self.connect.iter().any(|(own, pattern)| *own == effect && pattern.matches(effect, values.username, values.client_id));
        !any(Effect::Deny) && any(Effect::Allow)
    }

    /// The rules for one Client.
    pub(crate) fn rules(&self, values: &Values<'_>) -> Arc<Rules> {
        self.shared.clone().unwrap_or_else(|| Arc::new(self.compile(values)))
    }

    fn compile(&self, values: &Values<'_>) -> Rules {
        let list = |effect, wanted: fn(&TopicRule) -> bool| {
            let own = self.topics.iter().filter(|rule| rule.effect == effect && wanted(rule));
            own.filter_map(|rule| rule.template.fill(effect, values)).collect()
        };
        let lists = |wanted| Lists { deny: list(Effect::Deny, wanted), allow: list(Effect::Allow, wanted) };
        Rules { publish: lists(|rule| rule.publish), subscribe: lists(|rule| rule.subscribe), generation: self.generation }
    }
}

impl Rules {
    #[inline]
    pub(crate) fn may_publish(&self, name: &str) -> bool {
        let Lists { deny, allow } = &self.publish;
        !deny.iter().any(|pattern| pattern.matches(name)) && allow.iter().any(|pattern| pattern.matches(name))
    }

    pub(crate) fn may_subscribe(&self, filter: &str) -> bool {
        let Lists { deny, allow } = &self.subscribe;
        !deny.iter().any(|pattern| pattern.intersects(filter)) && allow.iter().any(|pattern| pattern.covers(filter))
    }
}

#[cfg(test)]
#[path = "rules/tests.rs"]
mod tests;
