//! Objects for the tests beside.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::build::Settings;
use super::observe::{Live, Observed};
use crate::crd::{MqttBroker, MqttRole, MqttUser};

pub const NOW: i64 = 1_795_500_000;

pub fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

/// A broker of this spec.
pub fn broker(spec: Value) -> MqttBroker {
    object(json!({
        "apiVersion": "bucketmq.io/v1alpha1", "kind": "MqttBroker",
        "metadata": { "name": "fleet", "namespace": "team", "uid": "u-1", "generation": 3 }, "spec": spec,
    }))
}

/// One whose state is in a bucket.
pub fn durable() -> MqttBroker {
    broker(json!({ "persistence": { "bucket": { "name": "bucket", "region": "eu-central-1" } } }))
}

pub fn user(name: &str, created: &str, spec: Value) -> Arc<MqttUser> {
    let mut spec = spec;
    spec["brokerRef"] = json!({ "name": "fleet" });
    Arc::new(object(json!({
        "apiVersion": "bucketmq.io/v1alpha1", "kind": "MqttUser", "spec": spec,
        "metadata": { "name": name, "namespace": "team", "uid": format!("u-{name}"), "creationTimestamp": created, "labels": { "called": name } },
    })))
}

pub fn role(name: &str, spec: Value) -> Arc<MqttRole> {
    let mut spec = spec;
    spec["brokerRef"] = json!({ "name": "fleet" });
    Arc::new(object(json!({
        "apiVersion": "bucketmq.io/v1alpha1", "kind": "MqttRole", "spec": spec, "metadata": { "name": name, "namespace": "team" },
    })))
}

pub fn settings() -> Settings {
    Settings {
        image: "registry.example/broker:1".to_owned(),
        operator_namespace: Some("operators".to_owned()),
        cluster_id: "c-1".to_owned(),
    }
}

/// Nothing but the object.
pub fn observed(broker: MqttBroker) -> Observed {
    let live = Live {
        service_accounts: Vec::new(),
        secrets: Vec::new(),
        config_maps: Vec::new(),
        services: Vec::new(),
        network_policies: Vec::new(),
        deployments: Vec::new(),
        jobs: Vec::new(),
    };
    Observed { broker: Arc::new(broker), users: Vec::new(), roles: Vec::new(), sources: Default::default(), live, pods: Vec::new() }
}
