//! What several kinds share.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Names an object of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalReference {
    /// Name of the object, in the namespace of the object that names it.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Names one key of a Secret of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyReference {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key in the Secret's data. Default: `password`.
    #[serde(default = "password")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

fn password() -> String {
    "password".to_owned()
}

/// When Clients get their acknowledgements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AcknowledgeLevel {
    /// When it is in the bucket: nothing acknowledged is lost, whatever dies.
    Durable,
    /// When it is in the broker's memory and on its way: a pod that is killed without warning may lose what it took in the last quarter of a second.
    Buffered,
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
