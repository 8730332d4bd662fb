//! What one object becomes, and how it stays that way.

use std::time::Duration;

use anyhow::{Context, ensure};
use bucketmq_operator::crd::{MqttBroker, MqttRole, MqttUser};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use super::Verdict;
use crate::space::{COLLECTED, Kind, condition, is_current};
use crate::{Measured, Space, World};

/// What it may take until a child is back.
const BACK: f64 = 10.0;

fn memory() -> Value {
    json!({ "persistence": { "level": "Memory" } })
}

/// A broker that the operator has been through once.
async fn reconciled(space: &Space, name: &str, spec: Value) -> anyhow::Result<MqttBroker> {
    space.broker(name, spec).await?;
    settled(space, name).await
}

/// Waits until the status is about the newest spec and everything was applied.
async fn settled(space: &Space, name: &str) -> anyhow::Result<MqttBroker> {
    let is_so = |broker: &MqttBroker| is_current(broker) && condition(broker, "ConfigApplied").is_some_and(|(status, ..)| status == "True");
    Ok(space.wait::<MqttBroker>(name, "applied", is_so).await?.0)
}

fn toml_of(config: &ConfigMap) -> String {
    config.data.as_ref().and_then(|data| data.get("broker.toml")).cloned().unwrap_or_default()
}

/// CRs in, everything out; who is who is told.
pub async fn one_object_becomes_everything_a_broker_needs(world: &World) -> Verdict {
    let space = Space::new(world, "everything").await?;
    space.secret("keys", json!({ "accessKeyId": "id", "secretAccessKey": "secret" })).await?;
    space.user("ann", "fleet", json!({ "kind": "operator" })).await?;
    space.role("operator", "fleet", json!({ "userSelector": { "matchLabels": { "kind": "operator" } } })).await?;
    let spec = json!({
        "listeners": [{ "name": "mqtt" }, { "name": "ws", "protocol": "WebSocket", "port": 8080, "expose": { "type": "NodePort", "servicePort": 80 } }],
        "persistence": { "bucket": { "name": "fleet", "endpoint": "http://s3.s3:7070", "allowInsecure": true, "credentials": { "type": "SecretRef", "secretRef": { "name": "keys" } } } },
    });
    let broker = reconciled(&space, "fleet", spec).await?;
    space
        .wait::<MqttUser>("ann", "known with its role", |user| {
            user.status.as_ref().is_some_and(|status| is_true(&status.conditions) && status.roles == ["operator"])
        })
        .await?;
    space
        .wait::<MqttRole>("operator", "known with its user", |role| {
            role.status.as_ref().is_some_and(|status| is_true(&status.conditions) && status.users == 1)
        })
        .await?;
    let deployment = space.get::<Deployment>("fleet").await?.context("no Deployment")?;
    let pod = deployment.spec.context("no spec")?.template.spec.context("no pod")?;
    ensure!(pod.security_context.as_ref().and_then(|security| security.run_as_non_root) == Some(true));
    ensure!(pod.volumes.as_ref().map(Vec::len) == Some(1), "one volume: {:?}", pod.volumes);
    let service = space.get::<Service>("fleet-ws").await?.context("no Service of the listener")?;
    let port = &service.spec.context("no spec")?.ports.context("no ports")?[0];
    ensure!(port.port == 80 && port.node_port.is_some(), "{port:?}");
    for name in ["fleet-headless", "fleet-admin", "fleet-mqtt"] {
        space.get::<Service>(name).await?.with_context(|| format!("no Service {name}"))?;
    }
    space.get::<ServiceAccount>("fleet").await?.context("no ServiceAccount")?;
    let policy = space.get::<NetworkPolicy>("fleet").await?.context("no NetworkPolicy")?;
    let egress = serde_json::to_string(&policy.spec.context("no spec")?.egress)?;
    ensure!(egress.contains("7070") && egress.contains("53"), "the bucket and DNS: {egress}");
    let toml = toml_of(&space.get::<ConfigMap>("fleet-config").await?.context("no ConfigMap")?);
    ensure!(toml.contains("endpoint=http://s3.s3:7070") && !toml.contains("secret"), "{toml}");
    let status = broker.status.context("no status")?;
    ensure!(status.listeners[0].url == format!("mqtt://fleet-mqtt.{}.svc.cluster.local:1883", space.name), "{:?}", status.listeners);
    space.end().await?;
    Ok(Vec::new())
}

fn is_true(conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition]) -> bool {
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Deletes a child and measures until there is another one.
async fn back<K: Kind>(space: &Space, name: &str) -> anyhow::Result<Measured> {
    let uid = space.get::<K>(name).await?.with_context(|| format!("no {} {name}", K::kind(&())))?.uid();
    space.delete::<K>(name).await?;
    let (_, took) = space.wait::<K>(name, "made again", |object| object.uid() != uid && object.meta().deletion_timestamp.is_none()).await?;
    Ok(Measured::time(&format!("{} deleted until it is back", K::kind(&())), took).at_most(BACK))
}

/// Every kind of child.
pub async fn a_child_that_is_deleted_comes_back(world: &World) -> Verdict {
    let space = Space::new(world, "children").await?;
    space.user("ann", "fleet", json!({})).await?;
    let spec = json!({ "persistence": { "level": "Memory" }, "listeners": [{ "name": "mqtt" }, { "name": "mqtts", "port": 8883, "tls": { "internal": {} } }] });
    reconciled(&space, "fleet", spec).await?;
    space.wait::<Secret>("ann-credentials", "there", |_| true).await?;
    let mut measured = vec![
        back::<Deployment>(&space, "fleet").await?,
        back::<Service>(&space, "fleet-mqtt").await?,
        back::<ConfigMap>(&space, "fleet-config").await?,
        back::<ServiceAccount>(&space, "fleet").await?,
        back::<NetworkPolicy>(&space, "fleet").await?,
    ];
    for secret in ["fleet-users", "fleet-files", "fleet-ca", "ann-credentials"] {
        let mut one = back::<Secret>(&space, secret).await?;
        one.name = format!("Secret {} deleted until it is back", secret.trim_start_matches("fleet-"));
        measured.push(one);
    }
    for service in ["fleet-headless", "fleet-admin"] {
        back::<Service>(&space, service).await?;
    }
    let longest = measured.iter().map(|measured| measured.value).fold(0.0, f64::max);
    ensure!(longest <= BACK, "{measured:?}");
    space.end().await?;
    Ok(vec![Measured::amount("a child deleted until it is back, the slowest of 11", longest, "s").at_most(BACK)])
}

/// `kubectl edit` on a child.
pub async fn what_somebody_edits_is_put_right(world: &World) -> Verdict {
    let space = Space::new(world, "edited").await?;
    reconciled(&space, "fleet", memory()).await?;
    space.patch::<Deployment>("fleet", json!({ "spec": { "replicas": 3 } })).await?;
    space
        .wait::<Deployment>("fleet", "one replica again", |deployment| deployment.spec.as_ref().and_then(|spec| spec.replicas) == Some(1))
        .await?;
    space.patch::<ConfigMap>("fleet-config", json!({ "data": { "broker.toml": "nonsense" } })).await?;
    space.wait::<ConfigMap>("fleet-config", "rendered again", |config| toml_of(config).contains("[[listeners]]")).await?;
    space.patch::<Service>("fleet-mqtt", json!({ "spec": { "selector": { "app.kubernetes.io/instance": "other" } } })).await?;
    space
        .wait::<Service>("fleet-mqtt", "selecting again", |service| {
            service
                .spec
                .as_ref()
                .and_then(|spec| spec.selector.as_ref()?.get("app.kubernetes.io/instance"))
                .is_some_and(|name| name == "fleet")
        })
        .await?;
    // Labels and annotations of others are theirs.
    space.patch::<Service>("fleet-mqtt", json!({ "metadata": { "annotations": { "team": "a" } } })).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let service = space.get::<Service>("fleet-mqtt").await?.context("no Service")?;
    ensure!(service.annotations().get("team").is_some_and(|team| team == "a"), "what others add stays");
    space.end().await?;
    Ok(Vec::new())
}

/// A listener that is taken out takes its Service along.
pub async fn what_is_not_wanted_any_more_goes(world: &World) -> Verdict {
    let space = Space::new(world, "pruned").await?;
    let spec = json!({ "persistence": { "level": "Memory" }, "listeners": [{ "name": "mqtt" }, { "name": "mqtts", "port": 8883, "tls": { "internal": {} } }] });
    reconciled(&space, "fleet", spec).await?;
    space.get::<Service>("fleet-mqtts").await?.context("no Service")?;
    space.patch::<MqttBroker>("fleet", json!({ "spec": { "listeners": [{ "name": "mqtt" }], "networkPolicy": { "enabled": false }, "workload": { "serviceAccount": { "create": false, "name": "default" } } } })).await?;
    space.wait_gone::<Service>("fleet-mqtts", Duration::from_secs(10)).await?;
    space.wait_gone::<Secret>("fleet-ca", Duration::from_secs(10)).await?;
    space.wait_gone::<NetworkPolicy>("fleet", Duration::from_secs(10)).await?;
    space.wait_gone::<ServiceAccount>("fleet", Duration::from_secs(10)).await?;
    space.get::<Service>("fleet-mqtt").await?.context("the other Service stays")?;
    space.end().await?;
    Ok(Vec::new())
}

/// The two hashes.
pub async fn limits_and_roles_replace_no_pod_and_an_image_does(world: &World) -> Verdict {
    let space = Space::new(world, "hashes").await?;
    let first = reconciled(&space, "fleet", memory()).await?.status.context("no status")?;
    let generation = |deployment: &Deployment| deployment.metadata.generation;
    let before = generation(&space.get::<Deployment>("fleet").await?.context("no Deployment")?);
    space.patch::<MqttBroker>("fleet", json!({ "spec": { "limits": { "maxQos": 1 } } })).await?;
    space.role("all", "fleet", json!({})).await?;
    space
        .wait::<ConfigMap>("fleet-config", "changed", |config| {
            toml_of(config).contains("max_qos = 1") && toml_of(config).contains("access.roles.all")
        })
        .await?;
    let second = settled(&space, "fleet").await?.status.context("no status")?;
    ensure!(first.restart_hash == second.restart_hash, "limits and roles are no reason to replace a pod");
    ensure!(generation(&space.get::<Deployment>("fleet").await?.context("no Deployment")?) == before, "the Deployment was written");
    space.patch::<MqttBroker>("fleet", json!({ "spec": { "image": "bucketmq.local/broker:other" } })).await?;
    space.wait::<Deployment>("fleet", "of the other image", |deployment| generation(deployment) != before).await?;
    let third = settled(&space, "fleet").await?.status.context("no status")?;
    ensure!(third.restart_hash != first.restart_hash);
    space.end().await?;
    Ok(Vec::new())
}

/// `kubectl scale mqttbroker`.
pub async fn zero_replicas_hibernate_through_the_scale_subresource(world: &World) -> Verdict {
    let space = Space::new(world, "scaled").await?;
    reconciled(&space, "fleet", memory()).await?;
    let api: Api<MqttBroker> = space.api();
    api.patch_scale("fleet", &PatchParams::default(), &Patch::Merge(&json!({ "spec": { "replicas": 0 } }))).await?;
    space.wait_condition("fleet", "Hibernated", "True", "Replicas0").await?;
    space
        .wait::<Deployment>("fleet", "without pods", |deployment| deployment.spec.as_ref().and_then(|spec| spec.replicas) == Some(0))
        .await?;
    let refused = api.patch_scale("fleet", &PatchParams::default(), &Patch::Merge(&json!({ "spec": { "replicas": 2 } }))).await;
    let refused = refused.err().context("two replicas were taken")?.to_string();
    ensure!(refused.contains("brokers do not form clusters yet"), "{refused}");
    api.patch_scale("fleet", &PatchParams::default(), &Patch::Merge(&json!({ "spec": { "replicas": 1 } }))).await?;
    space.wait_condition("fleet", "Hibernated", "False", "Awake").await?;
    space.end().await?;
    Ok(Vec::new())
}

/// The annotation.
pub async fn a_paused_broker_is_left_alone(world: &World) -> Verdict {
    let space = Space::new(world, "paused").await?;
    reconciled(&space, "fleet", memory()).await?;
    space.patch::<MqttBroker>("fleet", json!({ "metadata": { "annotations": { "bucketmq.io/paused": "true" } } })).await?;
    space.wait_condition("fleet", "Paused", "True", "Annotation").await?;
    space.delete::<Service>("fleet-mqtt").await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    ensure!(space.get::<Service>("fleet-mqtt").await?.is_none(), "it was made again");
    space.patch::<MqttBroker>("fleet", json!({ "metadata": { "annotations": { "bucketmq.io/paused": null } } })).await?;
    space.wait::<Service>("fleet-mqtt", "made again", |_| true).await?;
    space.wait_condition("fleet", "Paused", "False", "NotPaused").await?;
    space.end().await?;
    Ok(Vec::new())
}

/// TLS without anything else in the cluster.
pub async fn our_own_certificate_is_made_and_handed_to_users(world: &World) -> Verdict {
    let space = Space::new(world, "internal").await?;
    space.user("ann", "fleet", json!({})).await?;
    let spec = json!({ "persistence": { "level": "Memory" }, "listeners": [{ "name": "mqtts", "port": 8883, "tls": { "internal": { "dnsNames": ["mqtt.example", "10.1.2.3"] } } }] });
    let broker = reconciled(&space, "fleet", spec).await?;
    let tls = broker.status.and_then(|status| status.listeners[0].tls.clone()).context("no certificate in the status")?;
    ensure!(tls.fingerprint.len() == 64 && tls.not_after.starts_with("20"), "{tls:?}");
    let authority = space.get::<Secret>("fleet-ca").await?.context("no CA")?.data.context("no data")?;
    let (secret, _) = space
        .wait::<Secret>("ann-credentials", "with the CA", |secret| secret.data.as_ref().is_some_and(|data| data.contains_key("ca.crt")))
        .await?;
    let data = secret.data.context("no data")?;
    ensure!(data["ca.crt"] == authority["ca.crt"]);
    let text = |key: &str| String::from_utf8_lossy(&data[key].0).into_owned();
    ensure!(text("uri") == format!("mqtts://fleet-mqtts.{}.svc.cluster.local:8883", space.name), "{}", text("uri"));
    space.end().await?;
    Ok(Vec::new())
}

/// Who has what of a password.
pub async fn a_generated_password_is_a_secret_of_the_user_and_a_hash_of_the_broker(world: &World) -> Verdict {
    let space = Space::new(world, "passwords").await?;
    space.secret("brought", json!({ "password": "correct horse" })).await?;
    space.user("ann", "fleet", json!({})).await?;
    space.create::<MqttUser>(json!({ "metadata": { "name": "bob" }, "spec": { "brokerRef": { "name": "fleet" }, "password": { "secretRef": { "name": "brought" } } } })).await?;
    reconciled(&space, "fleet", memory()).await?;
    let users = |secret: &Secret| {
        secret
            .data
            .as_ref()
            .and_then(|data| data.get("users"))
            .map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned())
            .unwrap_or_default()
    };
    let (secret, _) = space
        .wait::<Secret>("fleet-users", "of both", |secret| {
            users(secret).contains("ann:$sha256$") && users(secret).contains("bob:$argon2id$")
        })
        .await?;
    let first = users(&secret);
    let credentials = space.get::<Secret>("ann-credentials").await?.context("no credentials")?;
    let password = &credentials.data.context("no data")?["password"].0;
    ensure!(password.len() == 32, "192 random bits are 32 characters: {}", password.len());
    ensure!(!first.contains("correct horse") && !first.contains(&*String::from_utf8_lossy(password)), "the broker has a password");
    // A new password, and only that line changes.
    space.patch::<Secret>("brought", json!({ "stringData": { "password": "battery staple" } })).await?;
    let line = |text: &str, name: &str| text.lines().find(|line| line.starts_with(name)).map(str::to_owned);
    let (secret, took) =
        space.wait::<Secret>("fleet-users", "changed", |secret| line(&users(secret), "bob") != line(&first, "bob")).await?;
    ensure!(line(&users(&secret), "ann") == line(&first, "ann"), "the other hash changed too");
    // A user that is deleted is gone from the file, and its Secret goes with it.
    space.delete::<MqttUser>("ann").await?;
    space.wait::<Secret>("fleet-users", "without ann", |secret| !users(secret).contains("ann")).await?;
    space.wait_gone::<Secret>("ann-credentials", COLLECTED).await?;
    space.end().await?;
    Ok(vec![Measured::time("a changed password until its hash is in the users file", took)])
}

/// Also with a finalizer.
pub async fn a_namespace_goes_with_everything_in_it(world: &World) -> Verdict {
    let space = Space::new(world, "going").await?;
    let spec = json!({ "persistence": { "deletionPolicy": "Delete", "bucket": { "name": "fleet" } } });
    reconciled(&space, "fleet", spec).await?;
    let broker = space.get::<MqttBroker>("fleet").await?.context("no broker")?;
    ensure!(broker.finalizers().iter().any(|finalizer| finalizer == "bucketmq.io/bucket"), "deletionPolicy Delete needs a finalizer");
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(space.client.clone());
    let name = space.name.clone();
    space.end().await?;
    let begin = std::time::Instant::now();
    while namespaces.get_opt(&name).await?.is_some() {
        ensure!(begin.elapsed() < Duration::from_secs(60), "the namespace {name} is still there");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(vec![Measured::time("namespace with a broker of deletionPolicy Delete deleted until it is gone", begin.elapsed())])
}
