//! Several operators, operators that may not see everything, and clusters that are not ready for one.

use std::time::Duration;

use anyhow::{Context, ensure};
use bucketmq_operator::crd::MqttBroker;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::Verdict;
use crate::operator::{Operator, Options};
use crate::world::OPERATOR_NAMESPACE;
use crate::{Measured, Space, World};

/// Two with a Lease between them.
pub async fn the_next_operator_goes_on_when_the_leader_dies(world: &World) -> Verdict {
    let options = |name: &str| Options {
        flags: ["--leader-elect", "true", "--lease-namespace", OPERATOR_NAMESPACE].map(str::to_owned).to_vec(),
        name: Some(name.to_owned()),
    };
    let first = world.operator(&options("first")).await?;
    let space = Space::new(world, "leader").await?;
    space.broker("one", json!({ "persistence": { "level": "Memory" } })).await?;
    space.wait::<Deployment>("one", "there", |_| true).await?;
    let second = world.operator(&options("second")).await?;
    ensure!(second.metric("mqtt_operator_leader").await? == 0.0, "two leaders");
    first.kill().await?;
    space.broker("two", json!({ "persistence": { "level": "Memory" } })).await?;
    let (_, took) = space.wait_for::<Deployment>("two", "there", Duration::from_secs(60), |_| true).await?;
    ensure!(second.metric("mqtt_operator_leader").await? == 1.0);
    let third = world.operator(&options("third")).await?;
    // An operator that is told to stop gives the Lease back.
    second.stop().await?;
    space.broker("three", json!({ "persistence": { "level": "Memory" } })).await?;
    let (_, handed) = space.wait_for::<Deployment>("three", "there", Duration::from_secs(60), |_| true).await?;
    third.stop().await?;
    space.end().await?;
    Ok(vec![
        Measured::time("leader killed until the next one works", took).at_most(30.0),
        Measured::time("leader stopped until the next one works", handed).at_most(15.0),
    ])
}

/// `--watch-namespace`.
pub async fn one_namespace_only(world: &World) -> Verdict {
    let watched = Space::new(world, "watched").await?;
    let other = Space::new(world, "other").await?;
    let operator = world.operator(&Options::with(&["--watch-namespace", &watched.name])).await?;
    other.broker("fleet", json!({ "persistence": { "level": "Memory" } })).await?;
    watched.broker("fleet", json!({ "persistence": { "level": "Memory" } })).await?;
    watched.wait::<Deployment>("fleet", "there", |_| true).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    ensure!(other.get::<Deployment>("fleet").await?.is_none(), "the other namespace is not its business");
    operator.stop().await?;
    watched.end().await?;
    other.end().await?;
    Ok(Vec::new())
}

/// The definitions go and come back; then an object is there that no operator can read.
pub async fn missing_definitions_mean_not_ready_and_one_bad_object_stops_no_other(world: &World) -> Verdict {
    let definitions: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    for crd in bucketmq_operator::crd::all() {
        let name = crd.metadata.name.context("no name")?;
        definitions.delete(&name, &Default::default()).await?;
        while definitions.get_opt(&name).await?.is_some() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let kubeconfig = world.operator_kubeconfig().await?;
    let mut operator = Operator::start(&world.binary, &kubeconfig, world.folder.path(), &Options::default())?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    ensure!(operator.is_alive()?, "it ended:\n{}", operator.log_text());
    let (code, body) = operator.readiness().await?;
    ensure!(code == 503 && body["awaiting"] == json!(["MqttBroker", "MqttUser", "MqttRole"]), "{code} {body}");
    ensure!(operator.metric("mqtt_operator_crd_missing").await? == 3.0);
    world.install_crds().await?;
    operator.wait_ready().await?;
    ensure!(operator.metric("mqtt_operator_crd_missing").await? == 0.0);

    // A definition that lets anything in, as an older or newer one could.
    let space = Space::new(world, "unreadable").await?;
    let loose = json!([{ "op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec", "value": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } },
        { "op": "remove", "path": "/spec/versions/0/schema/openAPIV3Schema/x-kubernetes-validations" }]);
    let patch: Patch<CustomResourceDefinition> = Patch::Json(serde_json::from_value(loose)?);
    definitions.patch("mqttbrokers.bucketmq.io", &PatchParams::default(), &patch).await?;
    let bad = json!({ "apiVersion": "bucketmq.io/v1alpha1", "kind": "MqttBroker", "metadata": { "name": "bad", "namespace": space.name }, "spec": { "listeners": "many" } });
    let file = world.folder.path().join("bad.json");
    std::fs::write(&file, bad.to_string())?;
    let mut tries = 0;
    while let Err(error) = world.kubectl(&["create", "-f", &file.display().to_string()]).await {
        tries += 1;
        ensure!(tries < 50, "{error:#}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    space.wait_event("bad", "Unreadable").await?;
    space.broker("good", json!({ "persistence": { "level": "Memory" }, "replicas": 1, "clusterDomain": "cluster.local", "listeners": [{ "name": "mqtt", "port": 1883 }] })).await?;
    space.wait::<Deployment>("good", "there", |_| true).await?;
    // Also for an operator that finds both at its start.
    operator.stop().await?;
    let operator = world.operator(&Options::default()).await?;
    space.patch::<MqttBroker>("good", json!({ "spec": { "replicas": 0 } })).await?;
    space.wait::<Deployment>("good", "hibernated", |deployment| deployment.spec.as_ref().and_then(|spec| spec.replicas) == Some(0)).await?;
    world.kubectl(&["delete", "mqttbroker", "bad", "-n", &space.name]).await?;
    operator.stop().await?;
    space.end().await?;
    world.install_crds().await?;
    Ok(Vec::new())
}
