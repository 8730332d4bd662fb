//! Names of other objects, always of the same namespace: whoever may write a reference could otherwise read what is in another one.

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
