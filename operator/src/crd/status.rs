//! `MqttBroker.status`: what the operator saw last. No counters and no times that move, so that a broker at rest causes no write.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the broker is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MqttBrokerStatus {
    /// The `metadata.generation` this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// A word for people; `conditions` are for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// What is the matter, in a sentence. Empty when all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Ready, Available, Progressing, ConfigApplied, CertificatesValid, BucketHealthy, PrefixInUse, Paused, Hibernated, Warning.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 32))]
    pub conditions: Vec<Condition>,
    /// Pods there are.
    #[serde(default)]
    pub replicas: i32,
    /// Pods that serve.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Pods of the newest template.
    #[serde(default)]
    pub updated_replicas: i32,
    /// Label selector of the pods, for the scale subresource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Version of the broker that serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Image of the pod template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What replaces pods when it changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_hash: Option<String>,
    /// What running pods take over when it changes: users, roles, certificates, limits, listeners.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reload_hash: Option<String>,
    /// The `reloadHash` that every pod has in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied_reload_hash: Option<String>,
    /// Where Clients connect.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 16))]
    pub listeners: Vec<ListenerStatus>,
    /// Who this broker is to its bucket: CLUSTER/NAMESPACE/NAME, which another one names in `persistence.adopt` to take the prefix over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket_owner: Option<String>,
    /// The operator that wrote this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator_version: Option<String>,
}

/// A word for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Something it needs is not there, or not right.
    Pending,
    /// Its first pod is on its way.
    Provisioning,
    /// It serves.
    Running,
    /// A pod takes over from another.
    Updating,
    /// Replicas 0: its state is in the bucket.
    Hibernated,
    /// It serves, and something is the matter.
    Degraded,
    /// It does not serve, and should.
    Failed,
    /// It is being deleted.
    Deleting,
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListenerStatus {
    /// Its name in `spec.listeners`.
    pub name: String,
    /// Address inside the cluster.
    pub url: String,
    /// Addresses of its load balancer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub addresses: Vec<String>,
    /// Its certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<CertificateStatus>,
}

/// A certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// When it ends.
    pub not_after: String,
    /// SHA-256 of the certificate in hexadecimal.
    pub fingerprint: String,
}
