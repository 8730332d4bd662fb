//! `MqttRole`: what users may do.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AcknowledgeLevel, LocalReference};

/// Rules, and the users they are for.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "bucketmq.io",
    version = "v1alpha1",
    kind = "MqttRole",
    plural = "mqttroles",
    shortname = "mqr",
    category = "mqtt",
    namespaced,
    status = "MqttRoleStatus",
    derive = "PartialEq",
    doc = "What users of an MqttBroker may do. A deny beats every allow, of this role or of another of the same user, and what no rule matches is denied.",
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Broker", type_ = "string", json_path = ".spec.brokerRef.name"),
    printcolumn(name = "Users", type_ = "integer", json_path = ".status.users"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#, priority = 1),
    selectable = ".spec.brokerRef.name",
    validation = Rule::new("self.metadata.name.size() <= 63").message("metadata.name has at most 63 characters: it is the role's name in the broker"),
    validation = Rule::new("self.metadata.name != 'local'").message("the role local is built into the broker: call this one otherwise")
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
pub struct MqttRoleSpec {
    /// The MqttBroker.
    #[x_kube(validation = Rule::new("self == oldSelf").message("brokerRef is immutable: make another MqttRole"))]
    pub broker_ref: LocalReference,

    /// What is allowed and denied, in any order.
    #[schemars(length(min = 1, max = 32))]
    pub rules: Vec<AccessRule>,

    /// Who has the role. A listener's `anonymousRole` and the broker's `certificateRoles` name it beside that.
    #[serde(default)]
    pub subjects: Subjects,

    /// When Clients of this role get their acknowledgements, whatever listener and broker say. Of several roles Durable wins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acknowledge: Option<AcknowledgeLevel>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("'Connect' in self.operations ? size(self.operations) == 1 && !has(self.topics) : !has(self.clientIds)").message("a rule is about Connect, with clientIds, or about Publish and Subscribe, with topics"))]
#[x_kube(validation = Rule::new("'Connect' in self.operations || (has(self.topics) && size(self.topics) > 0)").message("a rule about Publish or Subscribe names topics; # is all of them"))]
#[x_kube(validation = Rule::new("!has(self.topics) || self.topics.all(t, t == '*' || t.matches('^([+]|[^+#/]*)(/([+]|[^+#/]*))*(/#)?$') || t == '#')").message("topics are Topic Filters: + stands for a whole level, # for the rest at the end"))]
pub struct AccessRule {
    /// Allow, or Deny, which beats every Allow.
    #[serde(default)]
    pub action: Effect,
    /// Connect alone, or Publish, Subscribe or both.
    #[schemars(length(min = 1, max = 2))]
    pub operations: Vec<Operation>,
    /// Topic Filters. `%u` stands for the user name, `%c` for the Client Identifier; a value with `+`, `#` or `/` in it makes an Allow match nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 256)))]
    pub topics: Option<Vec<String>>,
    /// Client Identifiers with which a user may connect; `*` stands for any text, `%u` for the user name. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 256)))]
    pub client_ids: Option<Vec<String>>,
}

/// Whether a rule lets through or keeps out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Effect {
    /// Lets through what no Deny matches.
    #[default]
    Allow,
    /// Beats every Allow.
    Deny,
}

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Operation {
    /// CONNECT.
    Connect,
    /// PUBLISH.
    Publish,
    /// SUBSCRIBE.
    Subscribe,
}

/// Who has a role.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Subjects {
    /// Names of MqttUsers (`metadata.name`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), inner(length(min = 1, max = 253)))]
    pub users: Vec<String>,
    /// Labels of MqttUsers; an empty selector selects all of the broker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_selector: Option<LabelSelector>,
}

/// How the role is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MqttRoleStatus {
    /// The `metadata.generation` this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready: the broker knows the role.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 8))]
    pub conditions: Vec<Condition>,
    /// How many users have it.
    #[serde(default)]
    pub users: i32,
}
