//! It starts, serves, and lets nobody do what was not allowed.

use anyhow::{Context, ensure};
use bucketmq_operator::crd::MqttBroker;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::json;

use super::{Fleet, NAME};
use crate::cases::Verdict;
use crate::load::blocking;
use crate::{Measured, World};

/// From the object to Ready, with the image on the node.
const READY: f64 = 15.0;

/// Everything MQTT has, without a disturbance: the exact set of messages.
pub async fn smoke(world: &World) -> Verdict {
    let (fleet, took) = Fleet::start(world, "smoke", &json!({})).await?;
    let load = fleet.load().await?;
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    let mut measured = blocking(move || load.finish()).await.with_context(|| "smoke")?;
    let broker = fleet.space.get::<MqttBroker>(NAME).await?.context("no broker")?;
    ensure!(broker.status.and_then(|status| status.version).is_some(), "no version in the status");
    fleet.space.end().await?;
    measured.insert(0, Measured::time("CR applied until Ready", took).at_most(READY));
    Ok(measured)
}

/// Pod Security `restricted`, enforced; the NetworkPolicy's objects.
pub async fn restricted_namespace(world: &World) -> Verdict {
    let labels = json!({ "pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted" });
    let fleet = Fleet::prepare(world, "restricted", labels).await?;
    fleet
        .apply(&json!({ "networkPolicy": { "metricsPeers": [{ "namespaceSelector": { "matchLabels": { "team": "monitoring" } } }] } }))
        .await?;
    let policy = fleet.space.get::<NetworkPolicy>(NAME).await?.context("no NetworkPolicy")?;
    let ingress = serde_json::to_value(policy.spec.context("no spec")?.ingress)?;
    let admin = ingress
        .as_array()
        .context("no rules")?
        .iter()
        .find(|rule| rule["ports"][0]["port"] == 9090)
        .context("no rule for the admin port")?;
    ensure!(admin["from"].as_array().is_some_and(|from| from.len() == 2), "the operator and monitoring, nobody else: {admin}");
    fleet.space.end().await?;
    Ok(Vec::new())
}
