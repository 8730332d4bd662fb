//! What is written when there is nothing to do: nothing.

use std::time::Duration;

use anyhow::{Context, ensure};
use bucketmq_operator::crd::{MqttBroker, MqttUser};
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::json;

use super::Verdict;
use crate::audit::Mark;
use crate::operator::Options;
use crate::space::condition;
use crate::world::OPERATOR_USER;
use crate::{Measured, Space, World};

/// The time of the promise.
const REST: Duration = Duration::from_secs(300);
/// Brokers at rest, each with two users and a role.
const BROKERS: usize = 10;

/// Some brokers of every kind, reconciled.
async fn fleet(world: &World, case: &str) -> anyhow::Result<Space> {
    let space = Space::new(world, case).await?;
    space.secret("brought", json!({ "password": "correct horse" })).await?;
    for number in 0..BROKERS {
        let name = format!("b{number}");
        let spec = json!({
            "persistence": { "level": "Memory" },
            "listeners": [{ "name": "mqtt" }, { "name": "mqtts", "port": 8883, "tls": { "internal": {} } }],
            // As people write them, and not as the API server stores them.
            "workload": { "resources": { "requests": { "cpu": "1000m", "memory": "1024Mi" } } },
        });
        space.broker(&name, spec).await?;
        space.user(&format!("u{number}"), &name, json!({})).await?;
        let brought = json!({ "metadata": { "name": format!("v{number}") }, "spec": { "brokerRef": { "name": name }, "password": { "secretRef": { "name": "brought" } } } });
        space.create::<MqttUser>(brought).await?;
        space.role(&format!("r{number}"), &name, json!({ "userSelector": {} })).await?;
    }
    for number in 0..BROKERS {
        let applied = |broker: &MqttBroker| condition(broker, "ConfigApplied").is_some_and(|(status, ..)| status == "True");
        space.wait::<MqttBroker>(&format!("b{number}"), "applied", applied).await?;
        for user in ["u", "v"] {
            let known = |user: &MqttUser| {
                user.status.as_ref().is_some_and(|status| status.roles.len() == 1 && status.conditions[0].status == "True")
            };
            space.wait::<MqttUser>(&format!("{user}{number}"), "known", known).await?;
        }
    }
    // Pods that cannot be scheduled are told by then, and what other cases have left is gone.
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.wait_tidy(&space.name).await?;
    Ok(space)
}

/// Everything is looked at again, and it is as it should be.
pub async fn a_restarted_operator_writes_nothing(world: &World) -> Verdict {
    let operator = world.operator(&Options::default()).await?;
    let space = fleet(world, "restarted").await?;
    operator.stop().await?;
    let mark = world.mark()?;
    let operator = world.operator(&Options::default()).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let writes = mark.writes_since(OPERATOR_USER)?;
    ensure!(writes.is_empty(), "{writes:?}\n{}", operator.log_text());
    let looked = operator.metric("mqtt_operator_reconcile_total").await?;
    ensure!(looked >= (BROKERS * 4) as f64, "only {looked} reconciles");
    operator.stop().await?;
    space.end().await?;
    Ok(vec![Measured::amount("writes of a restarted operator, 10 brokers", 0.0, "writes").at_most(0.0)])
}

/// Another default image, as a release has it.
pub async fn an_operator_of_another_release_restarts_no_broker(world: &World) -> Verdict {
    let operator = world.operator(&Options::with(&["--broker-image", "bucketmq.local/broker:1"])).await?;
    let space = fleet(world, "released").await?;
    operator.stop().await?;
    let generations = || async {
        let mut generations = Vec::new();
        for number in 0..BROKERS {
            let deployment = space.get::<Deployment>(&format!("b{number}")).await?.context("no Deployment")?;
            generations.push(deployment.metadata.generation);
        }
        anyhow::Ok(generations)
    };
    let before = generations().await?;
    let operator = world.operator(&Options::with(&["--broker-image", "bucketmq.local/broker:2"])).await?;
    space.wait_condition("b0", "Warning", "True", "UpdateAvailable").await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    ensure!(generations().await? == before, "a Deployment was changed");
    space.patch::<MqttBroker>("b0", json!({ "metadata": { "annotations": { "bucketmq.io/restart": "now" } } })).await?;
    let image = |deployment: &Deployment| deployment.spec.as_ref()?.template.spec.as_ref()?.containers[0].image.clone();
    space
        .wait::<Deployment>("b0", "of the newer image", |deployment| image(deployment).as_deref() == Some("bucketmq.local/broker:2"))
        .await?;
    operator.stop().await?;
    space.end().await?;
    Ok(Vec::new())
}

/// Five minutes.
pub async fn nothing_is_written_at_rest(world: &World) -> Verdict {
    let operator = world.operator(&Options::default()).await?;
    let space = fleet(world, "rest").await?;
    // Without nodes no pod starts, and two minutes later Kubernetes calls that stalled: then nothing more comes.
    for number in 0..BROKERS {
        let is_stalled = |broker: &MqttBroker| condition(broker, "Progressing").is_some_and(|(_, reason, _)| reason == "Stalled");
        space.wait_for::<MqttBroker>(&format!("b{number}"), "stalled", Duration::from_secs(240), is_stalled).await?;
    }
    world.wait_quiet(Duration::from_secs(120)).await?;
    let (mark, cpu) = (world.mark()?, operator.cpu()?);
    tokio::time::sleep(REST).await;
    let writes = mark.writes_since(OPERATOR_USER)?;
    ensure!(writes.is_empty(), "{writes:?}\n{}", operator.log_text());
    let used = operator.cpu()?.saturating_sub(cpu);
    let resident = operator.resident()? as f64 / 1e6;
    operator.stop().await?;
    space.end().await?;
    Ok(vec![
        Measured::amount("writes in five minutes of rest, 10 brokers", 0.0, "writes").at_most(0.0),
        Measured::time("CPU in these five minutes", used),
        Measured::amount("resident memory, 10 brokers", resident, "MB"),
    ])
}

/// In all cases before this one the operator was who the chart makes it.
pub async fn the_rights_of_the_chart_were_enough(world: &World) -> Verdict {
    let log = Mark::first(&world.audit_log);
    let asked: usize = log.since(OPERATOR_USER)?.values().sum();
    let forbidden = log.forbidden_since(OPERATOR_USER)?;
    ensure!(forbidden.is_empty(), "the chart's Role lacks: {forbidden:?}");
    Ok(vec![Measured::amount("requests of the operator", asked as f64, "requests")])
}
