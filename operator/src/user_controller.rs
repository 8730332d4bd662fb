//! Reconciles an MqttUser: the Secret with what a Client needs to connect, and the status. Its line in the users file is the broker's business.

use std::collections::BTreeMap;
use std::sync::Arc;

use bucketmq_access::authentication::passwd::generate_secret;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};

use crate::apply::Applier;
use crate::broker_controller::Error;
use crate::broker_controller::users::{self, Users, username};
use crate::conditions::{condition, now, tell_change};
use crate::context::Context;
use crate::crd::{MqttBroker, MqttUser, MqttUserStatus, UserAuthentication};
use crate::names;

/// Makes one user what it should be.
pub async fn reconcile(user: Arc<MqttUser>, context: &Context) -> Result<Action, Error> {
    if user.meta().deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let namespace = user.namespace().unwrap_or_default();
    let broker = context.caches.broker(&namespace, &user.spec.broker_ref.name);
    if let Some(broker) = &broker {
        match apply_credentials(&user, broker, &namespace, context).await {
            // Everything goes, this object too.
            Err(Error::Apply(error)) if error.is_terminating_namespace() => return Ok(Action::await_change()),
            other => other?,
        }
    }
    let status = status(&user, broker.as_deref(), &namespace, context);
    write_status(&user, status, context).await?;
    Ok(Action::await_change())
}

/// Writes the Secret `<name>-credentials`; a password that is there stays.
async fn apply_credentials(user: &MqttUser, broker: &MqttBroker, namespace: &str, context: &Context) -> Result<(), Error> {
    let name = names::credentials(&user.name_any());
    let live = context.caches.secrets.get(namespace, &name);
    let uid = user.uid().unwrap_or_default();
    let applier = Applier { client: &context.client, metrics: &context.metrics, namespace, uid: &uid };
    let authority = context.caches.secrets.get(namespace, &names::authority(&broker.name_any()));
    let before = live.as_ref().and_then(|live| live.data.clone()).unwrap_or_default();
    let wanted = credentials(user, broker, authority.as_deref(), &before)?;
    applier.apply(&wanted, live.as_ref()).await?;
    Ok(())
}

/// What a Client needs, in the shape of a service binding.
fn credentials(
    user: &MqttUser,
    broker: &MqttBroker,
    authority: Option<&Secret>,
    before: &BTreeMap<String, ByteString>,
) -> Result<Secret, Error> {
    let broker_name = broker.name_any();
    let mut data: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut put = |key: &str, value: String| {
        data.insert(key.to_owned(), value.into_bytes());
    };
    put("type", "mqtt".to_owned());
    put("provider", "bucketmq".to_owned());
    put("username", username(user));
    // With TLS before without, in the order the user wrote them.
    let listeners = &broker.spec.listeners;
    let first = listeners.iter().find(|listener| listener.tls.is_some()).or(listeners.first());
    if let Some(listener) = first {
        let namespace = broker.namespace().unwrap_or_default();
        let scheme = if listener.tls.is_some() { "mqtts" } else { "mqtt" };
        let (service, port) = match listener.expose.type_ {
            crate::crd::ServiceType::None => (names::headless(&broker_name), listener.port),
            _ => (names::listener(&broker_name, &listener.name), listener.expose.service_port.unwrap_or(listener.port)),
        };
        let host = format!("{service}.{namespace}.svc.{}", broker.spec.cluster_domain);
        put("uri", format!("{scheme}://{host}:{port}"));
        put("host", host);
        put("port", port.to_string());
    }
    let is_generated = user.spec.authentication == UserAuthentication::Password && user.spec.password.is_none();
    if is_generated {
        let password = match before.get("password").filter(|password| !password.0.is_empty()) {
            Some(password) => password.0.clone(),
            None => generate_secret().map_err(users::RenderError::from)?.as_bytes().to_vec(),
        };
        data.insert("password".to_owned(), password);
    }
    if let Some(bundle) = authority.and_then(|authority| authority.data.as_ref()?.get("ca.crt")) {
        data.insert("ca.crt".to_owned(), bundle.0.clone());
    }
    let mut labels = names::labels(&broker_name, "credentials");
    labels.insert(names::USER.to_owned(), user.name_any());
    Ok(Secret {
        metadata: ObjectMeta {
            name: Some(names::credentials(&user.name_any())),
            namespace: user.namespace(),
            labels: Some(labels),
            owner_references: Some(vec![names::owner(user)]),
            ..ObjectMeta::default()
        },
        data: Some(data.into_iter().map(|(key, bytes)| (key, ByteString(bytes))).collect()),
        type_: Some("servicebinding.io/mqtt".to_owned()),
        ..Secret::default()
    })
}

fn status(user: &MqttUser, broker: Option<&MqttBroker>, namespace: &str, context: &Context) -> MqttUserStatus {
    let name = user.name_any();
    let broker_name = &user.spec.broker_ref.name;
    let username = username(user);
    let roles = roles(user, namespace, context);
    let finding = match broker {
        None => Err(("BrokerNotFound", format!("there is no MqttBroker {broker_name} in this namespace"))),
        Some(_) => known(user, &username, &roles, namespace, context),
    };
    let before = user.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    MqttUserStatus {
        observed_generation: user.metadata.generation,
        conditions: vec![ready(before, user.metadata.generation, finding)],
        secret: broker.is_some().then(|| names::credentials(&name)),
        username: Some(username),
        roles,
    }
}

fn ready(before: &[Condition], generation: Option<i64>, finding: Result<(), (&str, String)>) -> Condition {
    match finding {
        Ok(()) => condition("Ready", "True", "Known", "", generation, before, now()),
        Err((reason, message)) => condition("Ready", "False", reason, &message, generation, before, now()),
    }
}

/// The roles it has in the broker.
fn roles(user: &MqttUser, namespace: &str, context: &Context) -> Vec<String> {
    let roles = context.caches.roles.of(namespace, &user.spec.broker_ref.name);
    let this = [Arc::new(user.clone())];
    let has = roles.iter().filter_map(|role| role.0.as_ref().ok()).filter(|role| !users::subjects(role, &this).is_empty());
    let mut names: Vec<String> = has.map(ResourceExt::name_any).collect();
    names.sort();
    names
}

/// Whether the broker's users file has it, with these roles.
fn known(user: &MqttUser, username: &str, roles: &[String], namespace: &str, context: &Context) -> Result<(), (&'static str, String)> {
    let broker = &user.spec.broker_ref.name;
    let pending = || ("Pending", format!("the users file of MqttBroker {broker} does not have it yet: see the conditions of the broker"));
    let secret = context.caches.secrets.get(namespace, &names::users(broker)).ok_or_else(pending)?;
    let file = Users::of_secret(&secret);
    let note = file.notes.get(username).ok_or_else(pending)?;
    if note.user != user.name_any() {
        return Err(("Conflict", format!("MqttUser {} is older and has the username {username}", note.user)));
    }
    if let Some((reason, message)) = &note.problem {
        return Err((static_reason(reason), message.clone()));
    }
    let line = file.lines().remove(username).ok_or_else(pending)?;
    if line.roles != *roles || line.enabled != user.spec.enabled {
        return Err(pending());
    }
    Ok(())
}

/// Reasons that a note can have.
fn static_reason(reason: &str) -> &'static str {
    match reason {
        "SecretNotFound" => "SecretNotFound",
        "KeyNotFound" => "KeyNotFound",
        "InvalidUsername" => "InvalidUsername",
        _ => "Invalid",
    }
}

async fn write_status(user: &MqttUser, status: MqttUserStatus, context: &Context) -> Result<(), kube::Error> {
    if crate::status::write(user, user.status.as_ref(), &status, &context.caches.users, context).await? {
        let before = user.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        tell_change(user, before, &status.conditions, context).await;
    }
    Ok(())
}
