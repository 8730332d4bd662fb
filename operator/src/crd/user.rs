//! `MqttUser`: who may connect to a broker.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{LocalReference, SecretKeyReference};

/// A user of a broker.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "bucketmq.io",
    version = "v1alpha1",
    kind = "MqttUser",
    plural = "mqttusers",
    shortname = "mqu",
    category = "mqtt",
    namespaced,
    status = "MqttUserStatus",
    derive = "PartialEq",
    doc = "A user of an MqttBroker of the same namespace. The operator makes a password, or takes one from a Secret, and writes what a Client needs to connect into the Secret `<name>-credentials`. What the user may do is said by MqttRoles.",
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Broker", type_ = "string", json_path = ".spec.brokerRef.name"),
    printcolumn(name = "Username", type_ = "string", json_path = ".status.username"),
    printcolumn(name = "Secret", type_ = "string", json_path = ".status.secret"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Roles", type_ = "string", json_path = ".status.roles", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#, priority = 1),
    selectable = ".spec.brokerRef.name",
    validation = Rule::new("self.metadata.name.size() <= 200").message("metadata.name has at most 200 characters, because the name of a Secret is made of it"),
    validation = Rule::new("!has(self.spec.username) || self.spec.username == oldSelf.spec.?username.orValue(self.spec.username)").message("username is immutable: make another MqttUser")
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.username) == has(oldSelf.username)").message("username is immutable: make another MqttUser"))]
#[x_kube(validation = Rule::new("self.authentication != 'Certificate' || !has(self.password)").message("password goes with authentication Password"))]
pub struct MqttUserSpec {
    /// The MqttBroker.
    #[x_kube(validation = Rule::new("self == oldSelf").message("brokerRef is immutable: make another MqttUser"))]
    pub broker_ref: LocalReference,

    /// The User Name in CONNECT, or the name in the Client's certificate. Default: `metadata.name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub username: Option<String>,

    /// How it proves who it is.
    #[serde(default)]
    pub authentication: UserAuthentication,

    /// Where the password comes from. Default: the operator makes one of 192 random bits and keeps a salted hash of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Password>,

    /// false: it stays known, and is refused. Its connections end.
    #[serde(default = "yes")]
    pub enabled: bool,
}

fn yes() -> bool {
    true
}

/// How a user proves who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UserAuthentication {
    /// By a password; a certificate of its name lets it in as well, where a listener asks for one.
    #[default]
    Password,
    /// By a certificate of its name only.
    Certificate,
}

/// A password that somebody brings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Password {
    /// The key of a Secret that holds it. The broker gets an argon2id hash only.
    pub secret_ref: SecretKeyReference,
}

/// How the user is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MqttUserStatus {
    /// The `metadata.generation` this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready: the broker knows the user.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 8))]
    pub conditions: Vec<Condition>,
    /// The User Name in CONNECT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The Secret with what a Client needs to connect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// The MqttRoles it has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub roles: Vec<String>,
}
