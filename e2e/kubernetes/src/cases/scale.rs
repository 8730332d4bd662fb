//! Many brokers and users: the time of their creation, and what a restarted operator costs.

use std::time::{Duration, Instant};

use anyhow::ensure;
use bucketmq_operator::crd::{MqttBroker, MqttUser};
use futures_util::{StreamExt, TryStreamExt, stream};
use kube::api::{Api, ListParams};
use serde_json::json;

use super::Verdict;
use crate::operator::Options;
use crate::space::condition;
use crate::world::OPERATOR_USER;
use crate::{Measured, Space, World};

/// Requests of ours under way at a time.
const AT_ONCE: usize = 8;
/// Until all are reconciled for the first time.
const CREATION: Duration = Duration::from_secs(900);
/// Until a restarted operator has looked at all.
const CHECK: Duration = Duration::from_secs(120);

/// So many brokers, each with so many users.
pub async fn run(world: &World, brokers: usize, users: usize) -> Verdict {
    let operator = world.operator(&Options::default()).await?;
    let space = Space::new(world, "scale").await?;
    let begin = Instant::now();
    let create = |number: usize| {
        let space = &space;
        async move {
            let name = format!("b{number}");
            let spec = json!({ "persistence": { "level": "Memory" }, "listeners": [{ "name": "mqtt" }, { "name": "mqtts", "port": 8883, "tls": { "internal": {} } }] });
            space.broker(&name, spec).await?;
            space.role(&format!("r{number}"), &name, json!({ "userSelector": {} })).await?;
            for user in 0..users {
                space.user(&format!("u{number}-{user}"), &name, json!({})).await?;
            }
            anyhow::Ok(())
        }
    };
    stream::iter(0..brokers).map(create).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    let written = begin.elapsed();
    wait_all(&space, brokers, brokers * users, CREATION).await?;
    let created = begin.elapsed();
    // Kubernetes' own controllers make pods for a while longer, and what those say is told.
    world.wait_quiet(Duration::from_secs(600)).await?;
    let (resident_created, cpu_created) = (operator.resident()?, operator.cpu()?);
    operator.stop().await?;

    let (mark, begin) = (world.mark()?, Instant::now());
    let operator = world.operator(&Options::default()).await?;
    // Each is looked at at least once.
    let all = (brokers * (users + 2)) as f64;
    while operator.metric("mqtt_operator_reconcile_total").await? < all {
        ensure!(begin.elapsed() < CHECK, "not all were looked at after {CHECK:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let checked = begin.elapsed();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (writes, cpu, resident) = (mark.writes_since(OPERATOR_USER)?, operator.cpu()?, operator.resident()?);
    ensure!(writes.is_empty(), "{writes:?}");
    let broker_seconds = operator.metric("mqtt_operator_reconcile_duration_seconds_sum").await?;
    let looked = operator.metric("mqtt_operator_reconcile_total").await?;
    operator.stop().await?;
    space.end().await?;
    let title = |what: &str| format!("{brokers} brokers, {} users: {what}", brokers * users);
    Ok(vec![
        Measured::time(&title("objects written by the test"), written),
        Measured::time(&title("first reconciled"), created),
        Measured::time(&title("CPU for that"), cpu_created),
        Measured::amount(&title("resident after that"), resident_created as f64 / 1e6, "MB"),
        Measured::time(&title("restarted, all looked at"), checked).at_most(60.0),
        Measured::amount(&title("writes of the restarted"), writes.len() as f64, "writes").at_most(0.0),
        Measured::amount(&title("resident of the restarted"), resident as f64 / 1e6, "MB").at_most(150.0),
        Measured::time(&title("CPU of the restarted"), cpu),
        Measured::amount("CPU of a reconcile that finds nothing to do, start included", cpu.as_secs_f64() * 1000.0 / looked.max(1.0), "ms")
            .at_most(5.0),
        Measured::amount("time of such a reconcile", broker_seconds * 1000.0 / looked.max(1.0), "ms"),
    ])
}

/// Waits until all are applied and known.
async fn wait_all(space: &Space, brokers: usize, users: usize, patience: Duration) -> anyhow::Result<()> {
    let begin = Instant::now();
    let (of_brokers, of_users): (Api<MqttBroker>, Api<MqttUser>) = (space.api(), space.api());
    loop {
        let list = of_brokers.list(&ListParams::default()).await?.items;
        let applied = list.iter().filter(|broker| condition(broker, "ConfigApplied").is_some_and(|(status, ..)| status == "True")).count();
        let list = of_users.list(&ListParams::default()).await?.items;
        let is_known =
            |user: &&MqttUser| user.status.as_ref().is_some_and(|status| status.roles.len() == 1 && status.conditions[0].status == "True");
        let known = list.iter().filter(is_known).count();
        if applied == brokers && known == users {
            return Ok(());
        }
        ensure!(begin.elapsed() < patience, "{applied} of {brokers} brokers applied, {known} of {users} users known after {patience:?}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
