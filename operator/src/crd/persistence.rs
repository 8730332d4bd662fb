//! `spec.persistence`: where durable state lives and what becomes of it.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::LocalReference;

/// Where durable state lives: Sessions, queued messages, retained messages and Wills. Pods hold nothing of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.level == 'Memory' || has(self.bucket)").message("persistence.bucket is required with level Durable and Buffered: say where state lives, or choose level Memory and lose it with the pod"))]
#[x_kube(validation = Rule::new("self.level != 'Memory' || !has(self.bucket)").message("persistence.bucket has no effect with level Memory: leave it out, or choose level Durable"))]
#[x_kube(validation = Rule::new("self.level != 'Memory' || (!has(self.snapshots) && !has(self.adopt) && !has(self.flushIntervalMilliseconds) && self.deletionPolicy == 'Retain')").message("persistence.snapshots, adopt, flushIntervalMilliseconds and deletionPolicy Delete need a bucket"))]
#[x_kube(validation = Rule::new("oldSelf.level == 'Memory' || self.level != 'Memory'").message("persistence.level does not go back to Memory: what is in the bucket would be out of sight. Make a new MqttBroker"))]
pub struct Persistence {
    /// What an acknowledgement promises. Durable: nothing acknowledged is lost. Buffered: acknowledged when in memory and on its way. Memory: state ends with
    /// the pod.
    #[serde(default)]
    pub level: Level,

    /// The bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket: Option<Bucket>,

    /// Takes the prefix over from this owner, which condition PrefixInUse names as CLUSTER/NAMESPACE/NAME. It has an effect on that owner only, so it may stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub adopt: Option<String>,

    /// At least so long between two writes to a shard's log, in milliseconds: fewer requests, longer waits for acknowledgements. Default: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub flush_interval_milliseconds: Option<i32>,

    /// Restore points that the broker takes by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<Snapshots>,

    /// What becomes of the prefix when this object is deleted. Retain: it stays, and an MqttBroker of the same name finds everything again. Delete: a Job
    /// deletes it before the object goes.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// What an acknowledgement promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Level {
    /// It is in the bucket.
    #[default]
    Durable,
    /// It is in memory and on its way to the bucket.
    Buffered,
    /// It is in memory.
    Memory,
}

/// What becomes of the state when the object is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// It stays in the bucket.
    #[default]
    Retain,
    /// It is deleted from the bucket.
    Delete,
}

/// A bucket and the prefix in it that belongs to this broker. Which bucket it is cannot be changed: clone it with `bucketmq bucket clone` and make a new
/// MqttBroker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.provider == oldSelf.provider && self.name == oldSelf.name").message("persistence.bucket.provider and name are immutable: copy the state with `bucketmq bucket clone` and make a new MqttBroker"))]
#[x_kube(validation = Rule::new("has(self.prefix) == has(oldSelf.prefix) && (!has(self.prefix) || self.prefix == oldSelf.prefix)").message("persistence.bucket.prefix is immutable: copy the state with `bucketmq bucket clone` and make a new MqttBroker"))]
#[x_kube(validation = Rule::new("has(self.account) == has(oldSelf.account) && (!has(self.account) || self.account == oldSelf.account)").message("persistence.bucket.account is immutable: copy the state with `bucketmq bucket clone` and make a new MqttBroker"))]
#[x_kube(validation = Rule::new("(self.provider == 'Azure') == has(self.account)").message("persistence.bucket.account is the storage account: required with provider Azure, and only then"))]
#[x_kube(validation = Rule::new("self.provider == 'S3' || (!has(self.region) && !has(self.encryption) && !has(self.forcePathStyle))").message("persistence.bucket.region, forcePathStyle and encryption go with provider S3"))]
#[x_kube(validation = Rule::new("!has(self.endpoint) || self.endpoint.startsWith('https://') || (self.endpoint.startsWith('http://') && self.allowInsecure)").message("persistence.bucket.endpoint is https://HOST[:PORT]; http:// needs allowInsecure: true, because everything passes there in the clear"))]
#[x_kube(validation = Rule::new("!has(self.endpoint) || !self.endpoint.contains('?') && !self.endpoint.contains('#') && !self.endpoint.contains('@')").message("persistence.bucket.endpoint is a scheme, a host and a port: no credentials, query or fragment"))]
pub struct Bucket {
    /// Whose storage it is. S3 is also everything that speaks its protocol, with `endpoint`.
    #[serde(default)]
    pub provider: Provider,

    /// Name of the bucket (Azure: of the container). It has to be there.
    #[schemars(length(min = 3, max = 222), regex(pattern = "^[a-z0-9][-a-z0-9._]*[a-z0-9]$"))]
    pub name: String,

    /// Prefix in the bucket that belongs to this broker. Default: NAMESPACE/NAME.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 512),
        regex(pattern = "^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?(/[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)*$")
    )]
    pub prefix: Option<String>,

    /// Azure: the storage account.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 24), regex(pattern = "^[a-z0-9]+$"))]
    pub account: Option<String>,

    /// S3: region of the bucket, such as eu-central-1. Default: what the environment of the pod says, else us-east-1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9][-a-z0-9]*$"))]
    pub region: Option<String>,

    /// Where a server is that is not the cloud's own, such as `https://s3.example.com:9000`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub endpoint: Option<String>,

    /// S3: the bucket's name stands in the path and not in the host name. Default: true with an endpoint, because few servers have a host name per bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force_path_style: Option<bool>,

    /// Allow an endpoint with http://.
    #[serde(default)]
    pub allow_insecure: bool,

    /// How the broker proves who it is.
    #[serde(default)]
    pub credentials: Credentials,

    /// A Secret with the key `ca.crt`, the CA that signed the endpoint's certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<LocalReference>,

    /// S3: encryption by the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
}

/// Whose storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Provider {
    /// Amazon S3, and every server that speaks its protocol.
    #[default]
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

/// How the broker proves who it is to the bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.type == 'SecretRef') == has(self.secretRef)").message("persistence.bucket.credentials.secretRef is required with type SecretRef, and only then"))]
pub struct Credentials {
    /// WorkloadIdentity: the identity of the pod's ServiceAccount (`workload.serviceAccount.annotations`, `workload.podLabels`), no static key anywhere.
    /// SecretRef: keys from a Secret.
    #[serde(rename = "type", default)]
    pub type_: CredentialsType,

    /// S3: a Secret with the keys `accessKeyId` and `secretAccessKey`, and `sessionToken` if there is one. Gcs: with `serviceAccount`, the JSON file of a
    /// service account. Azure: with `accountKey`. Changed keys are in force within a minute or two, without a restart with S3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalReference>,
}

/// Kinds of credentials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CredentialsType {
    /// The identity of the pod.
    #[default]
    WorkloadIdentity,
    /// Keys from a Secret.
    SecretRef,
}

/// Encryption by the server, beyond what the bucket does by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Encryption {
    /// ARN, id or alias of a KMS key.
    #[schemars(length(min = 1, max = 2048))]
    pub kms_key_id: String,
}

/// Restore points that the broker takes by itself; they copy nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Snapshots {
    /// When, as cron writes it, in UTC: `0 3 * * *`, or `@hourly`.
    #[schemars(length(min = 1, max = 128))]
    pub schedule: String,
    /// How many stay. Default: 7.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub retain: Option<i32>,
}

/// When Clients get their acknowledgements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AcknowledgeLevel {
    /// When it is in the bucket: nothing acknowledged is lost, whatever dies.
    Durable,
    /// When it is in the broker's memory and on its way: a pod that is killed without warning may lose what it took in the last quarter of a second.
    Buffered,
}
