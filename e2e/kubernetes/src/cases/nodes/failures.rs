//! Pods, nodes and kubelets that go, under load: nothing acknowledged is lost.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bucketmq_local_cluster::STAYS;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use super::{Fleet, container_of, node_of};
use crate::cases::Verdict;
use crate::load::{Load, blocking};
use crate::{Measured, World};

/// Rounds of killing, each on a fresh pod: the kubelet waits longer from the second restart of one on.
const ROUNDS: usize = 5;
/// Clients work so long before something happens.
const WARM: Duration = Duration::from_secs(3);

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Waits for service after `since`, beside the runtime.
async fn served(load: Load, since: Instant, patience: Duration) -> anyhow::Result<(Load, Duration)> {
    blocking(move || {
        let took = load.probe().wait_served(since, patience)?;
        Ok((load, took))
    })
    .await
}

/// Not on the node that S3 and DNS are on.
fn away_from_the_first() -> Value {
    let terms = json!([{ "matchExpressions": [{ "key": STAYS, "operator": "DoesNotExist" }] }]);
    json!({ "workload": { "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms } } } } })
}

/// kill -9 of the broker's process.
pub async fn killed_under_load(world: &World) -> Verdict {
    let (fleet, _) = Fleet::start(world, "killed", &json!({})).await?;
    let mut load = fleet.load().await?;
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        tokio::time::sleep(WARM).await;
        let pod = fleet.pod().await?;
        let node = world.ground.node(&node_of(&pod)?)?;
        let container = container_of(&pod)?;
        let killed = Instant::now();
        blocking(move || node.kill_container(&container)).await?;
        let took;
        (load, took) = served(load, killed + Duration::from_millis(100), Duration::from_secs(60)).await.with_context(|| "killed")?;
        times.push(took + Duration::from_millis(100));
        fleet.ready().await?;
        // The next round wants a pod that was never restarted.
        fleet.space.api::<Pod>().delete(&pod.name_any(), &DeleteParams::default()).await?;
        fleet.space.wait_gone::<Pod>(&pod.name_any(), Duration::from_secs(60)).await?;
        fleet.ready().await?;
    }
    let mut measured = blocking(move || load.finish()).await?;
    fleet.space.end().await?;
    measured.insert(0, Measured::time(&format!("process killed until Clients are served, median of {ROUNDS}"), median(times)).at_most(5.0));
    Ok(measured)
}

/// `kubectl delete pod --force --grace-period=0`: the old process goes on for a moment beside the new one.
pub async fn deleted_by_force_under_load(world: &World) -> Verdict {
    let (fleet, _) = Fleet::start(world, "forced", &json!({})).await?;
    let mut load = fleet.load().await?;
    let mut times = Vec::new();
    for _ in 0..3 {
        tokio::time::sleep(WARM).await;
        let pod = fleet.pod().await?;
        load.probe().forget();
        let parameters = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::background() };
        fleet.space.api::<Pod>().delete(&pod.name_any(), &parameters).await?;
        tokio::time::sleep(Duration::from_secs(8)).await;
        fleet.ready().await?;
        let now = Instant::now();
        (load, _) = served(load, now, Duration::from_secs(60)).await?;
        times.push(load.probe().longest_gap());
    }
    let mut measured = blocking(move || load.finish()).await?;
    fleet.space.end().await?;
    measured.insert(0, Measured::time("pod deleted by force: time without service, median of 3", median(times)).at_most(5.0));
    Ok(measured)
}

/// The power of the pod's node.
pub async fn node_loses_its_power_under_load(world: &World) -> Verdict {
    let (fleet, _) = Fleet::start(world, "power", &away_from_the_first()).await?;
    let load = fleet.load().await?;
    tokio::time::sleep(WARM).await;
    let pod = fleet.pod().await?;
    let node = world.ground.node(&node_of(&pod)?)?;
    let (lost, off) = (Instant::now(), node.clone());
    blocking(move || off.power_off()).await?;
    let (load, took) = served(load, lost + Duration::from_secs(1), Duration::from_secs(180)).await?;
    blocking(move || node.power_on()).await?;
    let mut measured = blocking(move || load.finish()).await?;
    fleet.ready().await?;
    fleet.space.end().await?;
    measured.insert(0, Measured::time("node powered off until Clients are served", took + Duration::from_secs(1)).at_most(60.0));
    Ok(measured)
}

/// The kubelet is frozen and the pod deleted by force: two processes, and only one of them may acknowledge.
pub async fn two_processes_at_once(world: &World) -> Verdict {
    let (fleet, _) = Fleet::start(world, "split", &away_from_the_first()).await?;
    let load = fleet.load().await?;
    tokio::time::sleep(WARM).await;
    let pod = fleet.pod().await?;
    let node = world.ground.node(&node_of(&pod)?)?;
    let frozen = node.clone();
    blocking(move || frozen.freeze_kubelet()).await?;
    let parameters = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::background() };
    fleet.space.api::<Pod>().delete(&pod.name_any(), &parameters).await?;
    let deleted = Instant::now();
    // The new pod takes over while the old process runs on.
    let is_other = |found: &Pod| found.name_any() != pod.name_any() && super::is_ready(found);
    loop {
        if fleet.pods().await?.iter().any(is_other) {
            break;
        }
        ensure!(deleted.elapsed() < Duration::from_secs(120), "no other pod serves:\n{}", fleet.explain().await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let took = deleted.elapsed();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let thawed = node.clone();
    blocking(move || thawed.thaw_kubelet()).await?;
    let mut measured = blocking(move || load.finish()).await?;
    fleet.ready().await?;
    fleet.space.end().await?;
    measured.insert(0, Measured::time("kubelet frozen, pod deleted by force, until another one serves", took));
    Ok(measured)
}

/// The object store is away for a while.
pub async fn object_store_down_and_back(world: &World) -> Verdict {
    let (fleet, _) = Fleet::start(world, "store", &json!({})).await?;
    let load = fleet.load().await?;
    tokio::time::sleep(WARM).await;
    let store = world.store_pod().await?;
    let node = world.ground.node(&node_of(&store)?)?;
    let (container, frozen) = (container_of(&store)?, node.clone());
    let id = container.clone();
    blocking(move || frozen.freeze_container(&id)).await?;
    // It says so, and a pod that is killed meanwhile waits for it.
    let begin = Instant::now();
    loop {
        let broker = fleet.space.get::<bucketmq_operator::crd::MqttBroker>(super::NAME).await?.context("no broker")?;
        if crate::space::condition(&broker, "BucketHealthy").is_some_and(|(status, ..)| status == "False") {
            break;
        }
        ensure!(begin.elapsed() < Duration::from_secs(90), "BucketHealthy stays True:\n{}", fleet.explain().await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let told = begin.elapsed();
    let back = Instant::now();
    blocking(move || node.thaw_container(&container)).await?;
    fleet.space.wait_condition(super::NAME, "BucketHealthy", "True", "Healthy").await?;
    fleet.ready().await?;
    let healed = back.elapsed();
    let mut measured = blocking(move || load.finish()).await?;
    fleet.space.end().await?;
    measured.insert(0, Measured::time("object store away until BucketHealthy says so", told));
    measured.insert(1, Measured::time("object store back until Ready", healed));
    Ok(measured)
}
