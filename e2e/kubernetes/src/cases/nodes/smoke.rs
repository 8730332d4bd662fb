//! It starts, serves, and lets nobody do what was not allowed.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, ensure};
use bucketmq_operator::crd::MqttBroker;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::json;

use super::{Fleet, NAME};
use crate::cases::Verdict;
use crate::load::blocking;
use crate::{Measured, World};

/// Who has not been let in for so long is not.
const FORBIDDEN: Duration = Duration::from_secs(3);
/// From the object to Ready, with the image on the node.
const READY: f64 = 15.0;

/// Everything MQTT has, without a disturbance: the exact set of messages.
pub async fn smoke(world: &World) -> Verdict {
    let (fleet, took) = Fleet::start(world, "smoke", &json!({})).await?;
    let load = fleet.load().await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut measured = blocking(move || load.finish()).await.with_context(|| "smoke")?;
    let broker = fleet.space.get::<MqttBroker>(NAME).await?.context("no broker")?;
    ensure!(broker.status.and_then(|status| status.version).is_some(), "no version in the status");
    fleet.space.end().await?;
    measured.insert(0, Measured::time("CR applied until Ready", took).at_most(READY));
    Ok(measured)
}

/// Pod Security `restricted`, enforced; the NetworkPolicy's objects, and what they forbid where somebody enforces them.
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
    // Without somebody who enforces it the objects are all there is to see.
    if world.ground.enforces_policies() {
        let pod: IpAddr = fleet.pod().await?.status.and_then(|status| status.pod_ip).context("the pod has no address")?.parse()?;
        let reach = |port: u16| {
            let address = SocketAddr::new(pod, port);
            blocking(move || Ok(TcpStream::connect_timeout(&address, FORBIDDEN).is_ok()))
        };
        ensure!(reach(1883).await?, "the listener cannot be reached");
        ensure!(!reach(9090).await?, "the admin port can be reached by who is neither the operator nor monitoring");
    }
    fleet.space.end().await?;
    Ok(Vec::new())
}
