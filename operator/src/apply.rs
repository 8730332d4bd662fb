//! Makes objects what they should be, and writes only what is not.
//!
//! Promise: an object that is as it was applied, and holds at least what is wanted, causes no request. What carries a foreign owner is not touched.

use std::fmt::Debug;
use std::sync::Arc;

use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tracing::info;

use crate::metrics::Metrics;
use crate::names::{APPLIED, FIELD_MANAGER, annotation, is_child_of, short_hash};

/// Why an object is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The API server said no, or nothing.
    #[error("{kind} {name}")]
    Api {
        /// Of which kind.
        kind: String,
        /// Which.
        name: String,
        /// What it said.
        #[source]
        source: kube::Error,
    },
    /// Something of this name was there before.
    #[error("{kind} {name} is there already and belongs to somebody else: delete or rename it, or rename this MqttBroker")]
    Foreign {
        /// Of which kind.
        kind: String,
        /// Which.
        name: String,
    },
}

impl ApplyError {
    /// From what a request said.
    pub fn api<K: Resource<DynamicType = ()>>(name: &str, source: kube::Error) -> Self {
        Self::Api { kind: K::kind(&()).into_owned(), name: name.to_owned(), source }
    }
}

/// Writes children of one object.
pub struct Applier<'a> {
    /// To the API server.
    pub client: &'a Client,
    /// Counts.
    pub metrics: &'a Metrics,
    /// Where.
    pub namespace: &'a str,
    /// Of the owner.
    pub uid: &'a str,
}

impl Applier<'_> {
    /// Makes the object what `desired` says; `live`: as it is known. True: it was written.
    pub async fn apply<K>(&self, desired: &K, live: Option<&Arc<K>>) -> Result<bool, ApplyError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize + DeserializeOwned + Clone + Debug,
    {
        let kind = K::kind(&()).into_owned();
        let name = desired.name_any();
        let (desired, hash) = with_hash(desired);
        if let Some(live) = live {
            if !is_child_of(live.as_ref(), self.uid) {
                return Err(ApplyError::Foreign { kind, name });
            }
            let is_same = annotation(live.as_ref(), APPLIED) == Some(&hash) && holds(&to_value(live.as_ref()), &desired);
            if is_same {
                self.metrics.applied(&kind, false);
                return Ok(false);
            }
        }
        let api = Api::<K>::namespaced(self.client.clone(), self.namespace);
        if live.is_none() {
            // What has no label of ours is not in the cache.
            let there = api.get_metadata_opt(&name).await.map_err(|source| ApplyError::api::<K>(&name, source))?;
            if there.is_some_and(|there| !is_child_of(&there, self.uid)) {
                return Err(ApplyError::Foreign { kind, name });
            }
        }
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        api.patch(&name, &parameters, &Patch::Apply(&desired)).await.map_err(|source| ApplyError::api::<K>(&name, source))?;
        self.metrics.applied(&kind, true);
        info!(kind, name, namespace = self.namespace, "applied");
        Ok(true)
    }

    /// Deletes children in `live` that are not among `wanted`.
    pub async fn prune<K>(&self, live: &[Arc<K>], wanted: &[&str]) -> Result<(), ApplyError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
    {
        for object in live {
            let name = object.name_any();
            if wanted.contains(&name.as_str()) || !is_child_of(object.as_ref(), self.uid) || object.meta().deletion_timestamp.is_some() {
                continue;
            }
            self.delete::<K>(&name, object.uid()).await?;
        }
        Ok(())
    }

    /// Deletes one object, if it is still the one with this uid.
    pub async fn delete<K>(&self, name: &str, uid: Option<String>) -> Result<(), ApplyError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
    {
        let api = Api::<K>::namespaced(self.client.clone(), self.namespace);
        let parameters = DeleteParams { preconditions: Some(Preconditions { uid, resource_version: None }), ..DeleteParams::background() };
        match api.delete(name, &parameters).await {
            Ok(_) => info!(kind = %K::kind(&()), name, namespace = self.namespace, "deleted, nobody wants it any more"),
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
            Err(source) => return Err(ApplyError::api::<K>(name, source)),
        }
        Ok(())
    }
}

/// Whether an object of a kind that is not cached differs from what is wanted; an error if it is somebody else's.
pub fn differs(wanted: &kube::api::DynamicObject, live: Option<&kube::api::DynamicObject>, uid: &str) -> Result<bool, ApplyError> {
    let Some(live) = live else { return Ok(true) };
    if !is_child_of(live, uid) {
        let kind = wanted.types.as_ref().map(|types| types.kind.clone()).unwrap_or_default();
        return Err(ApplyError::Foreign { kind, name: wanted.name_any() });
    }
    let (value, hash) = with_hash(wanted);
    Ok(annotation(live, APPLIED) != Some(&hash) || !holds(&to_value(live), &value))
}

/// The object as it is applied, with its own hash.
pub fn marked(wanted: &kube::api::DynamicObject) -> Value {
    with_hash(wanted).0
}

fn to_value<K: Serialize>(object: &K) -> Value {
    serde_json::to_value(object).expect("Kubernetes objects are JSON")
}

/// The object with the hash of itself among its annotations.
fn with_hash<K: Serialize>(desired: &K) -> (Value, String) {
    let mut value = to_value(desired);
    let hash = short_hash(value.to_string());
    let annotations = &mut value["metadata"]["annotations"];
    if annotations.is_null() {
        *annotations = Value::Object(serde_json::Map::new());
    }
    annotations[APPLIED] = Value::String(hash.clone());
    (value, hash)
}

/// Whether `live` holds all that `wanted` says. What is empty may be missing, and lists of objects may have more than was wanted: others may add to them,
/// and server-side apply would not take that away.
fn holds(live: &Value, wanted: &Value) -> bool {
    match wanted {
        Value::Null => true,
        Value::Object(wanted) => match live {
            Value::Object(live) => wanted.iter().all(|(key, wanted)| match live.get(key) {
                Some(live) => holds(live, wanted),
                None => is_empty(wanted),
            }),
            _ => wanted.is_empty(),
        },
        Value::Array(wanted) => {
            let Value::Array(live) = live else { return wanted.is_empty() };
            if wanted.iter().any(Value::is_object) {
                return wanted.iter().all(|wanted| live.iter().any(|live| holds(live, wanted)));
            }
            live == wanted
        }
        scalar => live == scalar,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(object) => object.values().all(is_empty),
        Value::Array(array) => array.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_server_added_is_no_difference() {
        let live = json!({ "spec": { "ports": [{ "port": 1883, "nodePort": 30123, "protocol": "TCP" }], "type": "NodePort", "clusterIP": "10.0.0.1" } });
        assert!(holds(&live, &json!({ "spec": { "ports": [{ "port": 1883 }], "type": "NodePort", "selector": {} } })));
    }

    #[test]
    fn what_somebody_changed_is() {
        let live = json!({ "spec": { "replicas": 3, "args": ["a", "b"] } });
        assert!(!holds(&live, &json!({ "spec": { "replicas": 1 } })));
        assert!(!holds(&live, &json!({ "spec": { "args": ["a"] } })));
        assert!(!holds(&live, &json!({ "spec": { "paused": true } })));
    }

    #[test]
    fn equal_objects_have_equal_hashes_and_others_have_not() {
        let (first, hash) = with_hash(&json!({ "metadata": { "name": "a" } }));
        assert_eq!(first["metadata"]["annotations"][APPLIED], hash.as_str());
        assert_eq!(with_hash(&json!({ "metadata": { "name": "a" } })).1, hash);
        assert_ne!(with_hash(&json!({ "metadata": { "name": "b" } })).1, hash);
    }
}
