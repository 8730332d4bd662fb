//! The charts, as people use them.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bucketmq_local_cluster::{S3_ACCESS_KEY, S3_SECRET_KEY};
use bucketmq_operator::crd::{MqttBroker, MqttUser};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;

use super::{Fleet, NAME};
use crate::cases::Verdict;
use crate::space::{COLLECTED, condition};
use crate::world::{OPERATOR_NAMESPACE, OPERATOR_VALUES, repository};
use crate::{Measured, Space, World};

fn chart(name: &str) -> String {
    repository().join("charts").join(name).display().to_string()
}

/// A bucket, TLS from the operator's CA, a user and a role; `helm test` goes through all of it.
pub async fn a_broker_is_installed_tested_upgraded_and_uninstalled(world: &World) -> Verdict {
    let space = Space::new(world, "chart").await?;
    world.make_bucket(&space.name).await?;
    space.secret("keys", json!({ "accessKeyId": S3_ACCESS_KEY, "secretAccessKey": S3_SECRET_KEY })).await?;
    let endpoint = world.s3()?;
    let values = |connections: u32| {
        json!({
            "broker": { "spec": {
                "listeners": [{ "name": "mqtts", "port": 8883, "tls": { "internal": {} } }],
                "persistence": { "bucket": {
                    "name": space.name, "endpoint": endpoint, "allowInsecure": true, "region": "us-east-1",
                    "credentials": { "type": "SecretRef", "secretRef": { "name": "keys" } },
                } },
                "imagePullPolicy": "Never",
                "limits": { "maxConnections": connections },
            } },
            "users": [{ "name": "ann", "labels": { "kind": "operator" } }],
            "roles": [{
                "name": "operator", "rules": [{ "operations": ["Connect"] }, { "operations": ["Publish", "Subscribe"], "topics": ["#"] }],
                "subjects": { "userSelector": { "matchLabels": { "kind": "operator" } } },
            }],
            "test": { "image": "bucketmq.local/broker:dev", "imagePullPolicy": "Never" },
        })
        .to_string()
    };
    let file = world.folder.path().join("chart-values.json");
    let path = file.display().to_string();
    let chart = chart("bucketmq-broker");
    let install = ["upgrade", "--install", NAME, &chart, "--namespace", &space.name, "--values", &path];
    std::fs::write(&file, values(1000))?;
    let begin = Instant::now();
    world.helm(&install).await?;
    space
        .wait_for::<MqttBroker>(NAME, "Ready", super::START, |broker| condition(broker, "Ready").is_some_and(|(is, ..)| is == "True"))
        .await?;
    let ready = begin.elapsed();
    let begin = Instant::now();
    world.helm(&["test", NAME, "--namespace", &space.name, "--timeout", "150s"]).await?;
    let tested = begin.elapsed();
    ensure!(space.get::<MqttUser>(&format!("{NAME}-helm-test")).await?.is_none(), "the user of the test stays");
    ensure!(space.get::<Secret>("ann-credentials").await?.is_some(), "ann has no password");
    // A limit is changed without a new pod.
    let pods = || async {
        anyhow::Ok(space.api::<Pod>().list(&ListParams::default()).await?.items.iter().map(ResourceExt::name_any).collect::<Vec<_>>())
    };
    let before = pods().await?;
    std::fs::write(&file, values(2000))?;
    world.helm(&install).await?;
    space
        .wait::<MqttBroker>(NAME, "applied", |broker| {
            crate::space::is_current(broker) && condition(broker, "ConfigApplied").is_some_and(|(is, ..)| is == "True")
        })
        .await?;
    ensure!(pods().await? == before, "a limit replaced the pod");
    world.helm(&["uninstall", NAME, "--namespace", &space.name]).await?;
    space.wait_gone::<MqttBroker>(NAME, Duration::from_secs(60)).await?;
    space.wait_gone::<Deployment>(NAME, COLLECTED).await?;
    space.end().await?;
    Ok(vec![Measured::time("helm install until Ready", ready), Measured::time("helm test", tested)])
}

/// Brokers serve on, and the next operator finds them as they are.
pub async fn an_operator_that_is_uninstalled_leaves_the_brokers(world: &World) -> Verdict {
    let (fleet, _) = Fleet::start(world, "orphans", &json!({})).await?;
    let load = fleet.load().await?;
    let before = fleet.pod().await?.name_any();
    world.helm(&["uninstall", "bucketmq-operator", "--namespace", OPERATOR_NAMESPACE, "--wait"]).await?;
    fleet.space.patch::<MqttBroker>(NAME, json!({ "spec": { "limits": { "maxConnections": 4321 } } })).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    ensure!(fleet.pod().await?.name_any() == before, "the pod was replaced without an operator");
    // A release of another operator takes everything over, and carries out what was changed meanwhile.
    world.operator_chart(&[OPERATOR_VALUES, &["podLabels.release=next"]].concat()).await?;
    fleet.ready().await?;
    ensure!(fleet.pod().await?.name_any() == before, "a new operator replaced the pod");
    let measured = crate::load::blocking(move || load.finish()).await.context("load")?;
    fleet.space.end().await?;
    Ok(measured)
}
