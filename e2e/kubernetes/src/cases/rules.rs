//! What the API server itself checks.

use anyhow::{Context, ensure};
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Verdict;
use crate::world::repository;
use crate::{Space, World};

/// operator/tests/rules.yaml.
#[derive(Deserialize)]
struct Table {
    base: serde_json::Map<String, Value>,
    cases: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    kind: String,
    set: Value,
    from: Option<Value>,
    refused: Option<String>,
}

/// JSON Merge Patch (RFC 7396).
fn lay_over(base: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        base.clone_from(patch);
        return;
    };
    if !base.is_object() {
        *base = json!({});
    }
    for (key, value) in patch {
        match value {
            Value::Null => {
                if let Some(base) = base.as_object_mut() {
                    base.remove(key);
                }
            }
            value => lay_over(&mut base[key], value),
        }
    }
}

fn api(space: &Space, kind: &str) -> Api<DynamicObject> {
    let plural = format!("{}s", kind.to_lowercase());
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("bucketmq.io", "v1alpha1", kind), &plural);
    Api::namespaced_with(space.client.clone(), &space.name, &resource)
}

const DRY: fn() -> PostParams = || PostParams { dry_run: true, field_manager: None };

/// Tries to change an object; what the API server said. The operator may write a status in between, and then it is tried again.
async fn change(api: &Api<DynamicObject>, name: &str, mut object: Value) -> anyhow::Result<Option<kube::Error>> {
    loop {
        let now = api.get(name).await?;
        object["metadata"]["resourceVersion"] = now.metadata.resource_version.into();
        match api.replace(name, &DRY(), &serde_json::from_value(object.clone())?).await {
            Err(kube::Error::Api(status)) if status.is_conflict() => {}
            other => return Ok(other.err()),
        }
    }
}

/// The table that the operator's own tests go through without a cluster.
pub async fn every_rule_is_enforced_by_the_api_server(world: &World) -> Verdict {
    let text = std::fs::read_to_string(repository().join("operator/tests/rules.yaml"))?;
    let table: Table = serde_saphyr::from_str(&text)?;
    let space = Space::new(world, "rules").await?;
    let mut wrong = Vec::new();
    for row in &table.cases {
        let api = api(&space, &row.kind);
        let base = table.base[&row.kind].clone();
        let mut object = base.clone();
        lay_over(&mut object, &row.set);
        let said = match &row.from {
            None => api.create(&DRY(), &serde_json::from_value(object)?).await.err(),
            Some(from) => {
                let mut old = base;
                lay_over(&mut old, from);
                let old: DynamicObject = serde_json::from_value(old)?;
                let old = api.create(&PostParams::default(), &old).await.with_context(|| format!("{}", row.set))?;
                let name = old.metadata.name.context("no name")?;
                let changed = change(&api, &name, object).await?;
                api.delete(&name, &DeleteParams::default()).await?;
                changed
            }
        };
        let said = said.map(|error| error.to_string());
        let is_right = match (&row.refused, &said) {
            (None, None) => true,
            (Some(refused), Some(said)) => said.contains(refused),
            _ => false,
        };
        if !is_right {
            wrong.push(format!("{} {}: expected {:?}, got {said:?}", row.kind, row.set, row.refused));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    space.end().await?;
    Ok(Vec::new())
}

/// Objects of every release, with strict validation: a field that is not known is an error.
pub async fn golden_objects_are_taken(world: &World) -> Verdict {
    let space = Space::new(world, "golden").await?;
    for release in std::fs::read_dir(repository().join("operator/tests/golden"))? {
        for file in std::fs::read_dir(release?.path())? {
            let path = file?.path();
            let text = std::fs::read_to_string(&path)?;
            for document in serde_saphyr::from_multiple::<DynamicObject>(&text)? {
                let kind = document.types.as_ref().map(|types| types.kind.clone()).unwrap_or_default();
                let name = document.metadata.name.clone().unwrap_or_default();
                let parameters = PatchParams { dry_run: true, ..PatchParams::apply("bucketmq-kubernetes").force().validation_strict() };
                api(&space, &kind)
                    .patch(&name, &parameters, &Patch::Apply(&document))
                    .await
                    .with_context(|| format!("{}: {name}", path.display()))?;
            }
        }
    }
    space.end().await?;
    Ok(Vec::new())
}

/// Every field says what it is for.
pub async fn explain_reads_like_documentation(world: &World) -> Verdict {
    for kind in ["mqttbroker", "mqttuser", "mqttrole"] {
        let text = world.kubectl(&["explain", &format!("{kind}.spec"), "--recursive=false"]).await?;
        ensure!(!text.contains("<no description>"), "{kind}.spec has a field without a description:\n{text}");
    }
    let text = world.kubectl(&["explain", "mqttbroker.spec.persistence.level"]).await?;
    ensure!(text.contains("What an acknowledgement promises") && text.contains("Durable"), "{text}");
    Ok(Vec::new())
}

/// Kinds of the Prometheus Operator, which is not here.
const ELSEWHERE: &str = "monitoring.coreos.com";

/// What the charts make of each file of values, with strict validation: no field that the API server does not know, no value that it does not take.
pub async fn rendered_charts_are_taken(world: &World) -> Verdict {
    let space = Space::new(world, "charts").await?;
    // The values name namespaces of their own.
    for team in ["team-a", "team-b"] {
        let exists = world.kubectl(&["get", "namespace", team]).await.is_ok();
        if !exists {
            world.kubectl(&["create", "namespace", team]).await?;
        }
    }
    let mut objects = 0;
    for chart in ["bucketmq-operator", "bucketmq-broker"] {
        let folder = repository().join("charts").join(chart);
        // A broker without a word about its bucket is none.
        let mut files = if chart == "bucketmq-operator" { vec![None] } else { Vec::new() };
        for file in std::fs::read_dir(folder.join("ci"))? {
            let path = file?.path();
            files.extend(path.is_file().then_some(Some(path)));
        }
        for values in files {
            let (chart, mut arguments) = (folder.display().to_string(), vec!["template", "fleet"]);
            arguments.extend([chart.as_str(), "--namespace", &space.name]);
            let name = values.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
            if values.is_some() {
                arguments.extend(["--values", &name]);
            }
            let rendered = world.helm(&arguments).await?;
            for document in serde_saphyr::from_multiple::<Option<Value>>(&rendered)?.into_iter().flatten() {
                if document["apiVersion"].as_str().is_some_and(|version| version.starts_with(ELSEWHERE)) {
                    continue;
                }
                let path = world.folder.path().join("rendered.json");
                std::fs::write(&path, document.to_string())?;
                let path = path.display().to_string();
                let words = ["apply", "--server-side", "--dry-run=server", "--force-conflicts", "--validate=strict", "-f", &path];
                world
                    .kubectl(&words)
                    .await
                    .with_context(|| format!("{chart} {name}: {} {}", document["kind"], document["metadata"]["name"]))?;
                objects += 1;
            }
        }
    }
    ensure!(objects > 30, "only {objects} objects were rendered");
    space.end().await?;
    Ok(Vec::new())
}
