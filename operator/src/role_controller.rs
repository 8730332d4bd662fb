//! Reconciles an MqttRole: its status. Its rules in the configuration are the broker's business.

use std::sync::Arc;

use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};

use crate::broker_controller::users;
use crate::broker_controller::{Error, wrong_rule};
use crate::conditions::{condition, now, tell_change};
use crate::context::Context;
use crate::crd::{MqttRole, MqttRoleStatus};
use crate::names;

/// Tells how one role is.
pub async fn reconcile(role: Arc<MqttRole>, context: &Context) -> Result<Action, Error> {
    if role.meta().deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let namespace = role.namespace().unwrap_or_default();
    let status = status(&role, &namespace, context);
    write_status(&role, status, context).await?;
    Ok(Action::await_change())
}

fn status(role: &MqttRole, namespace: &str, context: &Context) -> MqttRoleStatus {
    let broker = &role.spec.broker_ref.name;
    let guards = context.caches.users.of(namespace, broker);
    let all: Vec<_> = guards.iter().filter_map(|user| user.0.as_ref().ok().cloned().map(Arc::new)).collect();
    let unknown = users::unknown_subjects(role, &all);
    let finding = if context.caches.broker(namespace, broker).is_none() {
        Err(("BrokerNotFound", format!("there is no MqttBroker {broker} in this namespace")))
    } else if let Some(problem) = wrong_rule(role) {
        Err((problem.reason, problem.message))
    } else if !unknown.is_empty() {
        Err((
            "UserNotFound",
            format!("subjects.users: there is no MqttUser {} whose brokerRef is {broker}; the others have the role", unknown.join(", ")),
        ))
    } else if !is_rendered(role, namespace, context) {
        Err(("Pending", format!("the configuration of MqttBroker {broker} does not have it yet: see the conditions of the broker")))
    } else {
        Ok(())
    };
    let before = role.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let generation = role.metadata.generation;
    let ready = match finding {
        Ok(()) => condition("Ready", "True", "Known", "", generation, before, now()),
        Err((reason, message)) => condition("Ready", "False", reason, &message, generation, before, now()),
    };
    let count = users::subjects(role, &all).len();
    MqttRoleStatus { observed_generation: generation, conditions: vec![ready], users: i32::try_from(count).unwrap_or(i32::MAX) }
}

/// Whether the broker's configuration names it.
fn is_rendered(role: &MqttRole, namespace: &str, context: &Context) -> bool {
    let config = context.caches.config_maps.get(namespace, &names::config(&role.spec.broker_ref.name));
    let Some(text) = config.as_ref().and_then(|config| config.data.as_ref()?.get("broker.toml")) else { return false };
    let Ok(table) = text.parse::<toml::Table>() else { return false };
    table.get("access").and_then(|access| access.get("roles")).and_then(|roles| roles.get(role.name_any())).is_some()
}

async fn write_status(role: &MqttRole, status: MqttRoleStatus, context: &Context) -> Result<(), kube::Error> {
    if crate::status::write(role, role.status.as_ref(), &status, &context.caches.roles, context).await? {
        let before = role.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        tell_change(role, before, &status.conditions, context).await;
    }
    Ok(())
}
