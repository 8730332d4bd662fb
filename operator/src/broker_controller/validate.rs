//! What the API server could not check: names of objects that have to be there, and what they hold. Pure.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bucketmq_access::{Access, Config, RoleConfig, RuleConfig, RuleTable};
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;

use super::build::{Rendered, Settings, render};
use super::files::Files;
use super::users::Users;
use crate::crd::{Effect, MqttBroker, MqttRole, Operation};

/// Which condition tells a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// ConfigApplied.
    Config,
    /// CertificatesValid.
    Certificates,
    /// BucketHealthy.
    Bucket,
}

/// Something a person has to change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Which condition tells it.
    pub about: About,
    /// One word in PascalCase.
    pub reason: &'static str,
    /// What, where, and what to do.
    pub message: String,
    /// Nothing is applied as long as it is there; what was applied before serves on.
    pub is_blocking: bool,
}

impl Problem {
    /// One that keeps anything from being applied.
    pub fn blocking(about: About, reason: &'static str, message: String) -> Self {
        Self { about, reason, message, is_blocking: true }
    }
}

/// All that builders read.
pub struct Valid<'a> {
    /// The object.
    pub broker: &'a MqttBroker,
    /// Certificates, keys, credentials.
    pub files: &'a Files,
    /// The users file.
    pub users: &'a Users,
    /// The configuration.
    pub rendered: Rendered,
    /// The Deployment as it is.
    pub deployment: Option<&'a Deployment>,
    /// The pod template stays as it is for now.
    pub holds_template: bool,
}

/// What is wrong with names and roles, before anything is built.
pub fn problems(broker: &MqttBroker, roles: &[&MqttRole]) -> Vec<Problem> {
    let mut problems = unknown_roles(broker, roles);
    problems.extend(roles.iter().filter_map(|role| wrong_rule(role)));
    problems.extend(quantities(broker));
    problems
}

/// Puts everything together; `Err`: what keeps it from being applied.
pub fn validate<'a>(
    broker: &'a MqttBroker,
    roles: &[&MqttRole],
    files: &'a Files,
    users: &'a Users,
    deployment: Option<&'a Deployment>,
    settings: &Settings,
) -> Result<Valid<'a>, Vec<Problem>> {
    let mut found = problems(broker, roles);
    found.extend(files.problems.iter().filter(|problem| problem.is_blocking).cloned());
    if users.is_too_large() {
        let message = format!(
            "{} users do not fit into one Secret: let fleets prove themselves by certificates (certificateRoles)",
            users.notes.len()
        );
        found.push(Problem::blocking(About::Config, "TooManyUsers", message));
    }
    if !found.is_empty() {
        return Err(found);
    }
    let contents = format!("{} {}", files.hash(), users.hash());
    match render(broker, roles, &contents, settings) {
        Ok(rendered) => Ok(Valid { broker, files, users, rendered, deployment, holds_template: false }),
        Err(error) => Err(vec![Problem::blocking(About::Config, "InvalidQuantity", error.to_string())]),
    }
}

/// Roles that are named and not there.
fn unknown_roles(broker: &MqttBroker, roles: &[&MqttRole]) -> Vec<Problem> {
    let name = broker.name_any();
    let is_known = |role: &str| roles.iter().any(|known| known.name_any() == role);
    let mut named: Vec<(String, &str)> = Vec::new();
    for listener in &broker.spec.listeners {
        if let Some(role) = &listener.anonymous_role {
            named.push((format!("listener {}, anonymousRole", listener.name), role));
        }
    }
    named.extend(
        broker.spec.authentication.certificate_roles.iter().map(|role| ("authentication.certificateRoles".to_owned(), role.as_str())),
    );
    let unknown = named.into_iter().filter(|(_, role)| !is_known(role));
    let problem = |(field, role): (String, &str)| {
        let message = format!("{field}: there is no MqttRole {role} whose brokerRef is {name}");
        Problem::blocking(About::Config, "RoleNotFound", message)
    };
    unknown.map(problem).collect()
}

/// What the broker itself would say of a role.
pub fn wrong_rule(role: &MqttRole) -> Option<Problem> {
    let name = role.name_any();
    let config = Config {
        users_file: None::<PathBuf>,
        roles: BTreeMap::from([(name.clone(), RoleConfig { rules: role_rules(role), acknowledge: None })]),
        ..Config::default()
    };
    let error = Access::load(&config).err()?;
    Some(Problem::blocking(About::Config, "InvalidRole", format!("MqttRole {name}: {error}")))
}

fn role_rules(role: &MqttRole) -> Vec<RuleConfig> {
    use bucketmq_access::authorization::{Effect as BrokerEffect, Operation as BrokerOperation};
    let mut rules = Vec::new();
    for rule in &role.spec.rules {
        let effect = match rule.action {
            Effect::Allow => BrokerEffect::Allow,
            Effect::Deny => BrokerEffect::Deny,
        };
        let operations = rule.operations.iter().map(|operation| match operation {
            Operation::Connect => BrokerOperation::Connect,
            Operation::Publish => BrokerOperation::Publish,
            Operation::Subscribe => BrokerOperation::Subscribe,
        });
        let whole = RuleTable { effect, operations: operations.collect(), filter: None, client_id: None };
        match (&rule.topics, &rule.client_ids) {
            (Some(topics), _) => rules.extend(topics.iter().map(|topic| RuleTable { filter: Some(topic.clone()), ..whole.clone() })),
            (None, Some(ids)) => rules.extend(ids.iter().map(|id| RuleTable { client_id: Some(id.clone()), ..whole.clone() })),
            (None, None) => rules.push(whole),
        }
    }
    rules.into_iter().map(RuleConfig::Table).collect()
}

/// Resources the API server would refuse only when the Deployment is written.
fn quantities(broker: &MqttBroker) -> Vec<Problem> {
    let Some(resources) = &broker.spec.workload.resources else { return Vec::new() };
    let all = resources.requests.iter().chain(&resources.limits);
    let wrong = all.filter_map(|(name, amount)| Some((name, amount.canonical().err()?)));
    let problem = |(name, error): (&String, crate::crd::QuantityError)| {
        Problem::blocking(About::Config, "InvalidQuantity", format!("workload.resources {name}: {error}"))
    };
    wrong.map(problem).collect()
}

#[cfg(test)]
mod tests;
