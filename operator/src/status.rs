//! Writes the status of all kinds, and only if it says something else.
//!
//! Promise: an operator that is newer than the definitions in the cluster works, and says so: what those do not have is left out of the status. When they
//! are renewed it goes on with them, although the API server lets watches from before go on for minutes without the new fields.

use std::fmt::Debug;

use kube::api::{Api, Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::core::object::HasSpec;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tracing::warn;

use crate::cache::Cache;
use crate::context::Context;
use crate::events::tell;
use crate::names::STATUS_MANAGER;

/// How the API server names a field that the definition does not have, behind the path of the field.
const NOT_DECLARED: &str = ": field not declared in schema";
/// Fields that are named in an event.
const NAMED_MAX: usize = 8;

/// Makes `status` the object's; `before`: what it says now. True: it was written.
/// `cache`: where the object comes from.
pub async fn write<K, S, C>(object: &K, before: Option<&S>, status: &S, cache: &Cache<C>, context: &Context) -> Result<bool, kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + HasSpec + DeserializeOwned + Clone + Debug,
    K::Spec: PartialEq,
    S: Serialize + PartialEq,
{
    if before == Some(status) {
        return Ok(false);
    }
    let (kind, name, namespace) = (K::kind(&()), object.name_any(), object.namespace().unwrap_or_default());
    let mut patch = json!({ "apiVersion": K::api_version(&()), "kind": kind, "metadata": { "name": name }, "status": status });
    let api = Api::<K>::namespaced(context.client.clone(), &namespace);
    let parameters = PatchParams::apply(STATUS_MANAGER).force();
    let mut answer = api.patch_status(&name, &parameters, &Patch::Apply(&patch)).await;
    if let Err(kube::Error::Api(error)) = &answer {
        let lacking = not_declared(&error.message);
        if !lacking.is_empty() {
            // What is empty by default stands in what was read, too.
            let mut known = json!({ "status": before });
            for path in &lacking {
                remove(&mut patch, path);
                remove(&mut known, path);
            }
            if known["status"] == patch["status"] {
                return Ok(false);
            }
            let fields: Vec<String> = lacking.iter().take(NAMED_MAX).map(|path| path.join(".")).collect();
            let message = format!(
                "the definition of {kind} in this cluster is older than the operator {} and does not have {}: apply the definitions of its release",
                env!("CARGO_PKG_VERSION"),
                fields.join(", ")
            );
            warn!(kind = %kind, name, namespace, "{message}");
            tell(object, true, "DefinitionOutdated", &message, context).await;
            answer = api.patch_status(&name, &parameters, &Patch::Apply(&patch)).await;
        }
    }
    match answer {
        Ok(now) => {
            if now.meta().generation == object.meta().generation && now.spec() != object.spec() {
                warn!(kind = %kind, "the definition was changed while the operator watched: everything is listed again");
                cache.renew();
            }
        }
        // It went meanwhile.
        Err(kube::Error::Api(error)) if error.is_not_found() => return Ok(false),
        Err(error) => return Err(error),
    }
    context.metrics.applied(&format!("{kind}/status"), true);
    Ok(true)
}

/// The fields that the API server does not know, each as the names on the way to it; empty when that is not what it says.
fn not_declared(message: &str) -> Vec<Vec<String>> {
    let mut paths: Vec<Vec<String>> = Vec::new();
    let mut parts: Vec<&str> = message.split(NOT_DECLARED).collect();
    // What follows the last one names no field.
    parts.pop();
    for part in parts {
        let path = part.rsplit(char::is_whitespace).next().unwrap_or_default();
        let path = names_of(path);
        if !path.is_empty() && !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths
}

/// `.status.listeners[name="mqtts"].tls` without what chooses an element: status, listeners, tls.
fn names_of(path: &str) -> Vec<String> {
    let mut depth = 0_usize;
    let plain: String = path
        .chars()
        .filter(|letter| match letter {
            '[' => {
                depth += 1;
                false
            }
            ']' => {
                depth = depth.saturating_sub(1);
                false
            }
            _ => depth == 0,
        })
        .collect();
    plain.split('.').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Removes a field, in every element of the lists on the way.
fn remove(value: &mut Value, path: &[String]) {
    match (value, path) {
        (Value::Array(list), _) => list.iter_mut().for_each(|element| remove(element, path)),
        (Value::Object(object), [last]) => drop(object.remove(last)),
        (Value::Object(object), [first, rest @ ..]) => {
            if let Some(inner) = object.get_mut(first) {
                remove(inner, rest);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &str = "failed to create typed patch object (ns/fleet; bucketmq.io/v1alpha1, Kind=MqttBroker): errors:\n  \
        .status.bucketOwner: field not declared in schema\n  .status.listeners[name=\"a.b\"].tls: field not declared in schema\n  \
        .status.listeners[name=\"c\"].tls: field not declared in schema";

    #[test]
    fn fields_that_a_definition_lacks_are_read_from_what_the_api_server_says() {
        assert_eq!(not_declared(MESSAGE), [vec!["status", "bucketOwner"], vec!["status", "listeners", "tls"]]);
        let alone = "failed to create typed patch object (ns/ann; bucketmq.io/v1alpha1, Kind=MqttUser): .status.roles: field not declared in schema";
        assert_eq!(not_declared(alone), [["status", "roles"]]);
        assert!(not_declared("the object has been modified").is_empty());
    }

    #[test]
    fn and_are_left_out_wherever_they_stand() {
        let mut patch =
            json!({ "status": { "phase": "Running", "bucketOwner": "us", "listeners": [{ "name": "a.b", "tls": {} }, { "name": "c" }] } });
        for path in not_declared(MESSAGE) {
            remove(&mut patch, &path);
        }
        assert_eq!(patch, json!({ "status": { "phase": "Running", "listeners": [{ "name": "a.b" }, { "name": "c" }] } }));
    }
}
