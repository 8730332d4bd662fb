//! What a person did wrong ends in a condition and an event with what to do, and what was right before goes on.

use anyhow::{Context, ensure};
use bucketmq_operator::crd::{MqttBroker, MqttRole, MqttUser};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::Verdict;
use crate::{Space, World};

fn tls(secret: &str) -> Value {
    json!({ "persistence": { "level": "Memory" }, "listeners": [{ "name": "mqtts", "port": 8883, "tls": { "secretRef": { "name": secret } } }] })
}

/// A certificate and its key.
fn pair() -> anyhow::Result<(String, String)> {
    let certified = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()])?;
    Ok((certified.cert.pem(), certified.signing_key.serialize_pem()))
}

/// First it is not there, then it comes.
pub async fn a_missing_secret_is_told_and_healed(world: &World) -> Verdict {
    let space = Space::new(world, "missing").await?;
    space.broker("fleet", tls("server")).await?;
    let message = space.wait_condition("fleet", "CertificatesValid", "False", "SecretNotFound").await?;
    ensure!(message.contains("listener mqtts, tls: there is no Secret server in this namespace"), "{message}");
    let note = space.wait_event("fleet", "SecretNotFound").await?;
    ensure!(note.contains("Secret server"), "{note}");
    let (chain, key) = pair()?;
    space.secret("server", json!({ "tls.crt": chain, "tls.key": key })).await?;
    space.wait_condition("fleet", "CertificatesValid", "True", "Valid").await?;
    space.wait_condition("fleet", "ConfigApplied", "True", "Applied").await?;
    space.end().await?;
    Ok(Vec::new())
}

/// A key that is another certificate's.
pub async fn a_bad_key_pair_leaves_the_last_good_one(world: &World) -> Verdict {
    let space = Space::new(world, "mismatch").await?;
    let (chain, key) = pair()?;
    space.secret("server", json!({ "tls.crt": chain, "tls.key": key })).await?;
    space.broker("fleet", tls("server")).await?;
    space.wait_condition("fleet", "ConfigApplied", "True", "Applied").await?;
    let files = || async { anyhow::Ok(space.get::<Secret>("fleet-files").await?.context("no files")?.data) };
    let before = files().await?;
    space.patch::<Secret>("server", json!({ "stringData": { "tls.key": pair()?.1 } })).await?;
    let message = space.wait_condition("fleet", "CertificatesValid", "False", "KeyMismatch").await?;
    ensure!(message.contains("what was there before stays in force"), "{message}");
    space.wait_event("fleet", "KeyMismatch").await?;
    ensure!(files().await? == before, "the pair before was replaced");
    space.delete::<Secret>("server").await?;
    space.wait_condition("fleet", "CertificatesValid", "False", "SecretNotFound").await?;
    ensure!(files().await? == before, "the pair before was taken away");
    let (chain, key) = pair()?;
    space.secret("server", json!({ "tls.crt": chain, "tls.key": key })).await?;
    space.wait_condition("fleet", "CertificatesValid", "True", "Valid").await?;
    ensure!(files().await? != before, "the new pair is not taken");
    space.end().await?;
    Ok(Vec::new())
}

/// A listener that names a role nobody has made.
pub async fn an_unknown_role_leaves_the_last_good_configuration(world: &World) -> Verdict {
    let space = Space::new(world, "unknown").await?;
    space.broker("fleet", json!({ "persistence": { "level": "Memory" } })).await?;
    space.wait_condition("fleet", "ConfigApplied", "True", "Applied").await?;
    let config = || async { anyhow::Ok(space.get::<ConfigMap>("fleet-config").await?.context("no configuration")?.data) };
    let before = config().await?;
    space.patch::<MqttBroker>("fleet", json!({ "spec": { "listeners": [{ "name": "mqtt", "anonymousRole": "guest" }] } })).await?;
    let message = space.wait_condition("fleet", "ConfigApplied", "False", "RoleNotFound").await?;
    ensure!(message == "listener mqtt, anonymousRole: there is no MqttRole guest whose brokerRef is fleet", "{message}");
    space.wait_event("fleet", "RoleNotFound").await?;
    ensure!(config().await? == before);
    space.role("guest", "fleet", json!({})).await?;
    space.wait_condition("fleet", "ConfigApplied", "True", "Applied").await?;
    ensure!(config().await? != before);
    space.end().await?;
    Ok(Vec::new())
}

async fn wait_user(space: &Space, name: &str, status: &str, reason: &str) -> anyhow::Result<String> {
    let found = |user: &MqttUser| {
        let conditions = user.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default();
        conditions.into_iter().find(|condition| condition.type_ == "Ready" && condition.status == status && condition.reason == reason)
    };
    let (user, _) = space.wait::<MqttUser>(name, &format!("Ready={status} {reason}"), |user| found(user).is_some()).await?;
    Ok(found(&user).map(|condition| condition.message).unwrap_or_default())
}

/// Two MqttUsers, one username.
pub async fn the_older_of_two_users_with_one_name_has_it(world: &World) -> Verdict {
    let space = Space::new(world, "twice").await?;
    space.broker("fleet", json!({ "persistence": { "level": "Memory" } })).await?;
    let user = |name: &str| json!({ "metadata": { "name": name }, "spec": { "brokerRef": { "name": "fleet" }, "username": "ann" } });
    space.create::<MqttUser>(user("z-first")).await?;
    wait_user(&space, "z-first", "True", "Known").await?;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    space.create::<MqttUser>(user("a-second")).await?;
    let message = wait_user(&space, "a-second", "False", "Conflict").await?;
    ensure!(message == "MqttUser z-first is older and has the username ann", "{message}");
    space.wait_event("a-second", "Conflict").await?;
    wait_user(&space, "z-first", "True", "Known").await?;
    space.delete::<MqttUser>("z-first").await?;
    wait_user(&space, "a-second", "True", "Known").await?;
    space.end().await?;
    Ok(Vec::new())
}

/// A subject that is no user; the others have the role.
pub async fn a_role_for_nobody_is_told(world: &World) -> Verdict {
    let space = Space::new(world, "subjects").await?;
    space.broker("fleet", json!({ "persistence": { "level": "Memory" } })).await?;
    space.user("ann", "fleet", json!({})).await?;
    space.role("some", "fleet", json!({ "users": ["ann", "nobody"] })).await?;
    let reason = |role: &MqttRole, reason: &str| {
        role.status.as_ref().is_some_and(|status| status.conditions.iter().any(|condition| condition.reason == reason))
    };
    let (role, _) = space.wait::<MqttRole>("some", "UserNotFound", |role| reason(role, "UserNotFound")).await?;
    ensure!(role.status.is_some_and(|status| status.users == 1 && status.conditions[0].message.contains("there is no MqttUser nobody")));
    space.user("nobody", "fleet", json!({})).await?;
    space.wait::<MqttRole>("some", "Known", |role| reason(role, "Known")).await?;
    space.end().await?;
    Ok(Vec::new())
}

/// The broker comes later.
pub async fn a_user_of_no_broker_is_told(world: &World) -> Verdict {
    let space = Space::new(world, "alone").await?;
    space.user("ann", "fleet", json!({})).await?;
    let message = wait_user(&space, "ann", "False", "BrokerNotFound").await?;
    ensure!(message == "there is no MqttBroker fleet in this namespace", "{message}");
    space.wait_event("ann", "BrokerNotFound").await?;
    space.broker("fleet", json!({ "persistence": { "level": "Memory" } })).await?;
    wait_user(&space, "ann", "True", "Known").await?;
    space.create::<MqttUser>(json!({ "metadata": { "name": "bob" }, "spec": { "brokerRef": { "name": "fleet" }, "password": { "secretRef": { "name": "nowhere" } } } })).await?;
    let message = wait_user(&space, "bob", "False", "SecretNotFound").await?;
    ensure!(message == "there is no Secret nowhere in this namespace", "{message}");
    space.secret("nowhere", json!({ "other": "x" })).await?;
    wait_user(&space, "bob", "False", "KeyNotFound").await?;
    space.patch::<Secret>("nowhere", json!({ "stringData": { "password": "x" } })).await?;
    wait_user(&space, "bob", "True", "Known").await?;
    space.end().await?;
    Ok(Vec::new())
}

/// A Service that somebody else made has the name of one of ours.
pub async fn an_object_of_somebody_else_is_not_touched(world: &World) -> Verdict {
    let space = Space::new(world, "foreign").await?;
    space.create::<Service>(json!({ "metadata": { "name": "fleet-mqtt" }, "spec": { "ports": [{ "port": 80 }] } })).await?;
    space.broker("fleet", json!({ "persistence": { "level": "Memory" } })).await?;
    let message = space.wait_condition("fleet", "ConfigApplied", "False", "NotApplied").await?;
    ensure!(message.starts_with("Service fleet-mqtt is there already and belongs to somebody else"), "{message}");
    space.wait_event("fleet", "NotApplied").await?;
    let service = space.get::<Service>("fleet-mqtt").await?.context("it is gone")?;
    ensure!(service.labels().is_empty() && service.owner_references().is_empty(), "it was changed");
    space.delete::<Service>("fleet-mqtt").await?;
    space.wait_condition("fleet", "ConfigApplied", "True", "Applied").await?;
    space.end().await?;
    Ok(Vec::new())
}
