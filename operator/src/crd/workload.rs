//! `spec.workload`: what of the pod a user may choose.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, EnvVar, Toleration, TopologySpreadConstraint};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Quantity;

/// The pod. What is not here is not for choice: uid 65532, no privilege, a read-only root, no volume but configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// CPU and memory. Default: requests of 250m and 256Mi, a memory limit of 1Gi, no CPU limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,

    /// Labels a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,

    /// Beside these the pod tolerates nodes that are not ready or unreachable for 2 seconds only, so that it is soon elsewhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,

    /// Where the pod may run, and beside whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,

    /// How pods are spread. Default: over zones and nodes, as well as it goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub topology_spread_constraints: Option<Vec<TopologySpreadConstraint>>,

    /// Name of a PriorityClass.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,

    /// Name of a RuntimeClass.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub runtime_class_name: Option<String>,

    /// Name of a scheduler.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub scheduler_name: Option<String>,

    /// Who the pod is to the cluster and, with workload identity, to the cloud.
    #[serde(default)]
    pub service_account: ServiceAccount,

    /// Labels of the pod, beside the operator's, such as `azure.workload.identity/use: "true"`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    #[x_kube(validation = Rule::new("self.all(key, !key.startsWith('app.kubernetes.io/') && !key.startsWith('bucketmq.io/'))").message("workload.podLabels: app.kubernetes.io/ and bucketmq.io/ are the operator's"))]
    pub pod_labels: BTreeMap<String, String>,

    /// Annotations of the pod, beside the operator's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    #[x_kube(validation = Rule::new("self.all(key, !key.startsWith('bucketmq.io/'))").message("workload.podAnnotations: bucketmq.io/ is the operator's"))]
    pub pod_annotations: BTreeMap<String, String>,

    /// Environment of the broker, such as `HTTPS_PROXY`. The broker's own configuration, `BUCKETMQ_*`, has its place in this object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = Rule::new("self.all(item, !item.name.startsWith('BUCKETMQ_'))").message("workload.env: the broker's configuration (BUCKETMQ_*) stands in the fields of this object"))]
    pub env: Vec<EnvVar>,

    /// How long the pod has from SIGTERM to its end. Default: 45; draining takes at most 30.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 30, max = 3600))]
    pub termination_grace_period_seconds: Option<i64>,
}

/// CPU and memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What the pod is given at least.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub requests: BTreeMap<String, Quantity>,
    /// What it is given at most. The broker sheds load at 80 % of a memory limit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub limits: BTreeMap<String, Quantity>,
}

/// The ServiceAccount of the pod. Its token is not mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.create || has(self.name)").message("workload.serviceAccount.name is required with create: false"))]
#[x_kube(validation = Rule::new("!self.create || !has(self.name)").message("workload.serviceAccount.name is for one that is there already: it goes with create: false"))]
#[x_kube(validation = Rule::new("self.create || !has(self.annotations) || size(self.annotations) == 0").message("workload.serviceAccount.annotations are for one that the operator makes: it goes with create: true"))]
pub struct ServiceAccount {
    /// Whether the operator makes it, with the name of the broker.
    #[serde(default = "yes")]
    pub create: bool,
    /// One that is there already.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub name: Option<String>,
    /// What binds it to an identity of the cloud, such as `eks.amazonaws.com/role-arn`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub annotations: BTreeMap<String, String>,
}

fn yes() -> bool {
    true
}

impl Default for ServiceAccount {
    fn default() -> Self {
        Self { create: true, name: None, annotations: BTreeMap::new() }
    }
}

/// When the image is pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ImagePullPolicy {
    /// At every start.
    Always,
    /// When the node does not have it.
    #[default]
    IfNotPresent,
    /// Never: the node has it.
    Never,
}
