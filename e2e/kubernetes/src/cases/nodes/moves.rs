//! Pods that are replaced on purpose, under load.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bucketmq_operator::crd::MqttBroker;
use kube::ResourceExt;
use serde_json::json;

use super::{Fleet, NAME, node_of};
use crate::cases::Verdict;
use crate::load::blocking;
use crate::{Measured, World};

const WARM: Duration = Duration::from_secs(3);
/// The longest time without service.
const GAP: f64 = 5.0;

/// Another pod template: the new pod takes over from the old one.
pub async fn rolling_update_under_load(world: &World) -> Verdict {
    let (fleet, _) = Fleet::start(world, "rolling", &json!({})).await?;
    let load = fleet.load().await?;
    tokio::time::sleep(WARM).await;
    let before = fleet.pod().await?.name_any();
    load.probe().forget();
    let begin = Instant::now();
    fleet.space.patch::<MqttBroker>(NAME, json!({ "metadata": { "annotations": { "bucketmq.io/restart": "1" } } })).await?;
    while fleet.pods().await?.iter().any(|pod| pod.name_any() == before) {
        ensure!(begin.elapsed() < Duration::from_secs(120), "the old pod stays:\n{}", fleet.explain().await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    fleet.ready().await?;
    let took = begin.elapsed();
    let gap = load.probe().longest_gap();
    let mut measured = blocking(move || load.finish()).await?;
    fleet.space.end().await?;
    measured.insert(0, Measured::time("rolling update: longest time without service", gap).at_most(GAP));
    measured.insert(1, Measured::time("rolling update, all of it", took));
    Ok(measured)
}

/// `kubectl drain` of the node.
pub async fn node_drained_under_load(world: &World) -> Verdict {
    let (fleet, _) = Fleet::start(world, "drained", &json!({ "workload": { "nodeSelector": {} } })).await?;
    let load = fleet.load().await?;
    tokio::time::sleep(WARM).await;
    let pod = fleet.pod().await?;
    let node = node_of(&pod)?;
    load.probe().forget();
    // On the first node there are S3 and DNS: only the broker's pod is evicted.
    let selector = format!("app.kubernetes.io/instance={NAME},app.kubernetes.io/name=bucketmq");
    let drained = world
        .kubectl(&["drain", &node, "--ignore-daemonsets", "--delete-emptydir-data", "--pod-selector", &selector, "--timeout=90s"])
        .await;
    let gap_end = fleet.ready().await;
    world.kubectl(&["uncordon", &node]).await?;
    drained?;
    gap_end?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let gap = load.probe().longest_gap();
    let mut measured = blocking(move || load.finish()).await?;
    fleet.space.end().await?;
    measured.insert(0, Measured::time("node drained: longest time without service", gap).at_most(GAP));
    Ok(measured)
}

/// The old pod serves on.
pub async fn rollout_to_a_broken_image(world: &World) -> Verdict {
    let (fleet, _) = Fleet::start(world, "broken", &json!({})).await?;
    let load = fleet.load().await?;
    tokio::time::sleep(WARM).await;
    let before = fleet.pod().await?.name_any();
    load.probe().forget();
    fleet.space.patch::<MqttBroker>(NAME, json!({ "spec": { "image": "bucketmq.local/broker:nowhere" } })).await?;
    let message = fleet.space.wait_condition(NAME, "Ready", "False", "ImagePullBackOff").await?;
    ensure!(message.contains("bucketmq.local/broker:nowhere"), "{message}");
    fleet.space.wait_event(NAME, "ImagePullBackOff").await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    ensure!(fleet.pod().await?.name_any() == before, "the old pod does not serve any more");
    let gap = load.probe().longest_gap();
    ensure!(gap < Duration::from_secs(2), "{gap:?} without service");
    fleet.space.patch::<MqttBroker>(NAME, json!({ "spec": { "image": null } })).await?;
    fleet.ready().await?;
    let measured = blocking(move || load.finish()).await?;
    ensure!(fleet.pod().await.context("after it was put right")?.name_any() == before, "the pod was replaced");
    fleet.space.end().await?;
    Ok(measured)
}
