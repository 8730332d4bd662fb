//! Definitions and operators that are not of one release.

use std::time::Duration;

use anyhow::{Context, ensure};
use bucketmq_operator::crd::{MqttBroker, MqttUser};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use super::Verdict;
use crate::operator::Options;
use crate::space::condition;
use crate::world::OPERATOR_USER;
use crate::{Space, World};

/// What the definitions of an older release do not have: fields of status and of spec, as they are reached in the schema.
const LATER: &[(&str, &[&str])] = &[
    (
        "mqttbrokers.bucketmq.io",
        &["status/properties/operatorVersion", "status/properties/listeners/items/properties/tls", "spec/properties/limits"],
    ),
    ("mqttusers.bucketmq.io", &["status/properties/roles"]),
];

/// Takes away what came later; that the API server serves it so is seen by what it stores.
async fn make_older(world: &World) -> anyhow::Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    for (name, properties) in LATER {
        let remove: Vec<Value> = properties
            .iter()
            .map(|property| {
                let path = format!("/spec/versions/0/schema/openAPIV3Schema/properties/{property}");
                json!({ "op": "remove", "path": path })
            })
            .collect();
        let patch: Patch<CustomResourceDefinition> = Patch::Json(serde_json::from_value(remove.into())?);
        definitions.patch(name, &PatchParams::default(), &patch).await.with_context(|| (*name).to_owned())?;
    }
    Ok(())
}

/// The operator came first, as with tools that never change definitions: it works and says what is lacking. The definitions follow, and no broker restarts.
pub async fn definitions_older_than_the_operator_and_their_upgrade(world: &World) -> Verdict {
    make_older(world).await?;
    let space = Space::new(world, "older").await?;
    let operator = world.operator(&Options::default()).await?;
    let spec = json!({ "persistence": { "level": "Memory" }, "listeners": [{ "name": "mqtts", "port": 8883, "tls": { "internal": {} } }] });
    space.broker("fleet", spec).await?;
    space.user("ann", "fleet", json!({})).await?;
    space.role("all", "fleet", json!({ "userSelector": {} })).await?;
    space.wait_condition("fleet", "ConfigApplied", "True", "Applied").await?;
    space.wait_event("fleet", "DefinitionOutdated").await?;
    let known = |user: &MqttUser| user.status.as_ref().is_some_and(|status| status.conditions.iter().any(|it| it.status == "True"));
    space.wait::<MqttUser>("ann", "known", known).await?;
    let broker = space.get::<MqttBroker>("fleet").await?.context("no broker")?;
    ensure!(broker.status.as_ref().is_some_and(|status| status.operator_version.is_none()), "the definition is not older");
    // Without nodes no pod comes, and what Kubernetes does about that is told.
    world.wait_quiet(Duration::from_secs(120)).await?;
    // What cannot be told is not tried again and again.
    let told = world.mark()?;
    space.patch::<MqttUser>("ann", json!({ "metadata": { "labels": { "looked": "at" } } })).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let writes = told.writes_since(OPERATOR_USER)?;
    ensure!(writes.keys().all(|(_, _, code)| *code == 500), "the same status is written again: {writes:?}");
    let generation = |deployment: Option<Deployment>| deployment.and_then(|deployment| deployment.metadata.generation);
    let before = generation(space.get("fleet").await?);

    world.install_crds().await?;
    // What somebody does next brings the rest of the status.
    space.patch::<MqttBroker>("fleet", json!({ "spec": { "limits": { "maxConnections": 321 } } })).await?;
    let is_whole = |broker: &MqttBroker| {
        broker.status.as_ref().is_some_and(|status| status.operator_version.is_some() && status.listeners[0].tls.is_some())
    };
    space.wait::<MqttBroker>("fleet", "of the new definition", is_whole).await?;
    ensure!(generation(space.get("fleet").await?) == before, "the upgrade of the definitions replaced the pod");
    world.wait_quiet(Duration::from_secs(120)).await?;
    let mark = world.mark()?;
    operator.stop().await?;
    let operator = world.operator(&Options::default()).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let writes = mark.writes_since(OPERATOR_USER)?;
    ensure!(writes.is_empty(), "{writes:?}");
    ensure!(condition(&space.get::<MqttBroker>("fleet").await?.context("no broker")?, "ConfigApplied").is_some());
    operator.stop().await?;
    space.end().await?;
    Ok(Vec::new())
}
