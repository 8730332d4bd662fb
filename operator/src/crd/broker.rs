//! `MqttBroker`: one broker and everything around it.

use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ImagePullPolicy, Limits, Listener, LocalReference, MqttBrokerStatus, Persistence, Workload};

/// An MQTT broker whose state lives in a bucket.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "bucketmq.io",
    version = "v1alpha1",
    kind = "MqttBroker",
    plural = "mqttbrokers",
    shortname = "mqb",
    category = "mqtt",
    namespaced,
    status = "MqttBrokerStatus",
    derive = "PartialEq",
    doc = "An MQTT broker (3.1, 3.1.1 and 5.0) whose Sessions, queued messages, retained messages and Wills live in a bucket, so that any pod may die and nothing acknowledged is lost. The operator makes its Deployment, Services, Secrets and NetworkPolicy, and says under `status` how it is.",
    scale(spec_replicas_path = ".spec.replicas", status_replicas_path = ".status.replicas", label_selector_path = ".status.selector"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".spec.replicas"),
    printcolumn(name = "Up", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Address", type_ = "string", json_path = ".status.listeners[0].url", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1),
    validation = Rule::new("self.metadata.name.size() <= 40").message("metadata.name has at most 40 characters, because names of Services and Secrets are made of it"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')").message("metadata.name begins with a letter and holds lower-case letters, digits and hyphens, because a Service has the same name")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.replicas <= 1").message("replicas is 1, or 0 to hibernate the broker: brokers do not form clusters yet"))]
#[x_kube(validation = Rule::new("self.listeners.all(a, self.listeners.exists_one(b, a.port == b.port))").message("listeners: each has a port of its own"))]
#[x_kube(validation = Rule::new("self.listeners.all(item, item.port != 9090)").message("listeners: port 9090 is the admin port"))]
pub struct MqttBrokerSpec {
    /// Image of the broker; a digest is welcome. Default: the one of the operator's release. A new default does not restart a broker: it is used when the pod is
    /// replaced for another reason, or with the annotation `bucketmq.io/restart`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,

    /// When the image is pulled.
    #[serde(default)]
    pub image_pull_policy: ImagePullPolicy,

    /// Secrets with credentials of the image's registry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub image_pull_secrets: Vec<LocalReference>,

    /// 1, or 0: hibernated. A hibernated broker costs what its state in the bucket costs; Sessions, messages and their expiry are as they were when it wakes.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 100))]
    pub replicas: i32,

    /// The cluster's DNS domain, for the addresses in `status` and certificates.
    #[serde(default = "cluster_local")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub cluster_domain: String,

    /// Where Clients connect. Default: `mqtt`, plaintext on port 1883, for inside the cluster.
    #[serde(default = "plaintext")]
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub listeners: Vec<Listener>,

    /// Who Clients are, beside the MqttUsers that name this broker.
    #[serde(default)]
    pub authentication: Authentication,

    /// What Clients may do; MqttRoles that name this broker say it. No match is a deny.
    #[serde(default)]
    pub authorization: Authorization,

    /// Bounds for every Client and for the broker as a whole.
    #[serde(default)]
    pub limits: Limits,

    /// Where durable state lives. There is no default: nobody loses data by omission.
    pub persistence: Persistence,

    /// The pod.
    #[serde(default)]
    pub workload: Workload,

    /// How a new pod takes over from an old one.
    #[serde(default)]
    pub update_strategy: UpdateStrategy,

    /// Who may reach the pod, and whom it may reach.
    #[serde(default)]
    pub network_policy: NetworkPolicy,

    /// What the broker tells about itself.
    #[serde(default)]
    pub observability: Observability,
}

fn one() -> i32 {
    1
}

fn cluster_local() -> String {
    "cluster.local".to_owned()
}

fn plaintext() -> Vec<Listener> {
    let listener = serde_json::json!({ "name": "mqtt" });
    vec![serde_json::from_value(listener).expect("everything but the name has a default")]
}

/// Who Clients are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Authentication {
    /// Names of MqttRoles of a Client whose certificate is valid but whose name is not that of an MqttUser. Default: none, such a Client is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 63)))]
    pub certificate_roles: Vec<String>,
}

/// What Clients may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Authorization {
    /// What happens to a PUBLISH that is denied.
    #[serde(default)]
    pub on_deny: OnDeny,
}

/// What happens to a PUBLISH that is denied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnDeny {
    /// It is answered by 0x87 (5.0, QoS 1 and 2); older Clients see it acknowledged.
    #[default]
    Reject,
    /// The Network Connection ends.
    Disconnect,
    /// It is acknowledged and discarded.
    DropSilently,
}

/// How a new pod takes over. It starts beside the old one and takes the bucket over when it is ready for it; the old one drains and takes back if the new one
/// does not serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateStrategy {
    /// How many seconds a new pod is ready before the old one is stopped.
    #[serde(default = "two")]
    #[schemars(range(min = 0, max = 3600))]
    pub min_ready_seconds: i32,
    /// Holds back what would replace the pod. Everything else is still applied.
    #[serde(default)]
    pub paused: bool,
}

fn two() -> i32 {
    2
}

impl Default for UpdateStrategy {
    fn default() -> Self {
        Self { min_ready_seconds: two(), paused: false }
    }
}

/// A NetworkPolicy around the pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.enabled || (!has(self.metricsPeers) && !has(self.egressPeers))").message("networkPolicy.metricsPeers and egressPeers need enabled: true"))]
pub struct NetworkPolicy {
    /// Whether there is one: listeners for whom they name, the admin port for the operator and `metricsPeers`, nothing else in; DNS and the bucket out.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Who may read metrics on port 9090, such as Prometheus.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub metrics_peers: Option<Vec<NetworkPolicyPeer>>,
    /// Where the bucket is, and whatever else the pod has to reach. Default: anywhere, on the ports of the bucket's endpoint (443 without one) and of the cloud's
    /// identity services.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub egress_peers: Option<Vec<NetworkPolicyPeer>>,
}

fn yes() -> bool {
    true
}

impl Default for NetworkPolicy {
    fn default() -> Self {
        Self { enabled: true, metrics_peers: None, egress_peers: None }
    }
}

/// What the broker tells about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Observability {
    /// The log.
    #[serde(default)]
    pub logging: Logging,
    /// How often the `$SYS` topics are published, in seconds; 0: never. Default: 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86400))]
    pub sys_interval_seconds: Option<i32>,
}

/// The log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Logging {
    /// How much. Changed without a restart.
    #[serde(default)]
    pub level: LogLevel,
    /// How a line looks.
    #[serde(default)]
    pub format: LogFormat,
}

/// How much the broker logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LogLevel {
    /// What a person has to act on.
    Error,
    /// Also what heals itself and is worth a look.
    Warn,
    /// Also the life of the process and its shards.
    #[default]
    Info,
    /// Also each Network Connection.
    Debug,
    /// Also each MQTT Control Packet.
    Trace,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LogFormat {
    /// One JSON object per line.
    #[default]
    Json,
    /// For people.
    Text,
}
