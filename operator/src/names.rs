//! Names, labels and annotations of what the operator makes.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};
use sha2::{Digest, Sha256};

use crate::crd::MqttBroker;

/// Who writes children.
pub const FIELD_MANAGER: &str = "bucketmq-operator";
/// Who writes status.
pub const STATUS_MANAGER: &str = "bucketmq-operator-status";
/// Selects everything the operator made.
pub const MANAGED: &str = "app.kubernetes.io/managed-by=bucketmq-operator";
/// The MqttBroker an object belongs to.
pub const INSTANCE: &str = "app.kubernetes.io/instance";
/// The MqttUser a Secret belongs to.
pub const USER: &str = "bucketmq.io/user";

/// On a MqttBroker: `"true"` stops the operator from changing anything of it.
pub const PAUSED: &str = "bucketmq.io/paused";
/// On a MqttBroker: any new text replaces the pod, as `kubectl rollout restart` does with Deployments.
pub const RESTART: &str = "bucketmq.io/restart";
/// On a MqttBroker with deletionPolicy Delete.
pub const FINALIZER: &str = "bucketmq.io/bucket";

/// On a child: hash of what was applied, so that a field that is not wanted any more is seen.
pub const APPLIED: &str = "bucketmq.io/applied";
/// On a Deployment: hash of what a user can say that replaces pods; the operator's own version is not in it.
pub const RESTART_HASH: &str = "bucketmq.io/restart-hash";
/// On a Deployment: the pod template as it was rendered for that hash.
pub const POD_TEMPLATE: &str = "bucketmq.io/pod-template";
/// On a ConfigMap: hash of what a user can say that changes the configuration.
pub const INPUTS: &str = "bucketmq.io/inputs";
/// On a ConfigMap: hash of the file in it, so that what somebody edits is seen.
pub const CONTENT: &str = "bucketmq.io/content";
/// On a Secret: which versions of other Secrets it was made of.
pub const SOURCES: &str = "bucketmq.io/sources";
/// On a pod: the configuration it should have; the kubelet looks at its volumes when it changes, and not only each minute.
pub const RELOAD: &str = "bucketmq.io/reload-hash";

/// The admin port of a pod.
pub const ADMIN_PORT: i32 = 9090;

/// The Deployment, the ServiceAccount and the NetworkPolicy are called like the broker.
pub fn broker(name: &str) -> String {
    name.to_owned()
}

/// The ConfigMap.
pub fn config(name: &str) -> String {
    format!("{name}-config")
}

/// The Secret of the users file.
pub fn users(name: &str) -> String {
    format!("{name}-users")
}

/// The Secret of certificates, keys and credentials.
pub fn files(name: &str) -> String {
    format!("{name}-files")
}

/// The Secret of the broker's own CA.
pub fn authority(name: &str) -> String {
    format!("{name}-ca")
}

/// The Service of all pods, ready or not.
pub fn headless(name: &str) -> String {
    format!("{name}-headless")
}

/// The Service of health and metrics.
pub fn admin(name: &str) -> String {
    format!("{name}-admin")
}

/// The Service, and with cert-manager the Certificate and its Secret, of a listener.
pub fn listener(name: &str, listener: &str) -> String {
    format!("{name}-{listener}")
}

/// The Secret cert-manager writes for a listener.
pub fn issued(name: &str, listener: &str) -> String {
    format!("{name}-{listener}-tls")
}

/// The Job that deletes the prefix.
pub fn deletion(name: &str) -> String {
    format!("{name}-delete")
}

/// The Secret with what a Client needs to connect.
pub fn credentials(user: &str) -> String {
    format!("{user}-credentials")
}

/// What selects the pods of a broker.
pub fn selector(name: &str) -> BTreeMap<String, String> {
    [("app.kubernetes.io/name", "bucketmq"), (INSTANCE, name)].map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// Labels of everything that belongs to a broker.
pub fn labels(name: &str, component: &str) -> BTreeMap<String, String> {
    let mut labels = selector(name);
    labels.insert("app.kubernetes.io/component".to_owned(), component.to_owned());
    labels.insert("app.kubernetes.io/managed-by".to_owned(), FIELD_MANAGER.to_owned());
    labels.insert("app.kubernetes.io/part-of".to_owned(), "bucketmq".to_owned());
    labels
}

/// Metadata of a child of this broker.
pub fn child(broker: &MqttBroker, name: String, component: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: broker.namespace(),
        labels: Some(labels(&broker.name_any(), component)),
        owner_references: Some(vec![owner(broker)]),
        ..ObjectMeta::default()
    }
}

/// The reference by which a child goes when `object` does.
pub fn owner<K: Resource<DynamicType = ()>>(object: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Whether `object` is a child of the object with this uid.
pub fn is_child_of(object: &impl Resource, uid: &str) -> bool {
    let owners = object.meta().owner_references.as_deref().unwrap_or_default();
    owners.iter().any(|owner| owner.controller == Some(true) && owner.uid == uid)
}

/// An annotation of an object.
pub fn annotation<'a>(object: &'a impl Resource, key: &str) -> Option<&'a str> {
    object.meta().annotations.as_ref()?.get(key).map(String::as_str)
}

/// SHA-256 in hexadecimal, all of it.
pub fn sha256(content: impl AsRef<[u8]>) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The first 16 digits of SHA-256: enough to tell versions of one thing apart.
pub fn short_hash(content: impl AsRef<[u8]>) -> String {
    sha256(content)[..16].to_owned()
}
