//! The custom resources, `bucketmq.io/v1alpha1`: what a user writes, what the operator reports, and every rule that the API server checks.
//!
//! Promise: a field that stands here has an effect. Fields are only ever added, optional or with a default. The files in `crds/` are made from these types
//! by `cargo crds`, so their doc comments are what `kubectl explain` shows.
//!
//! Durations are whole seconds with the unit in the name, sizes are Kubernetes quantities, every list and text has a bound (the API server estimates what a
//! rule costs from it), references name objects of the same namespace.

mod broker;
mod limits;
mod listener;
mod persistence;
mod quantity;
mod references;
mod role;
mod status;
mod user;
mod workload;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

pub use broker::{
    Authentication, Authorization, LogFormat, LogLevel, Logging, MqttBroker, MqttBrokerSpec, NetworkPolicy, Observability, OnDeny,
    UpdateStrategy,
};
pub use limits::{KeepAlive, Limits, QueueOverflow, Retained, SessionQueue, SharedStrategy};
pub use listener::{
    CertManager, CertificateIdentity, ClientAuth, Expose, ExternalTrafficPolicy, InternalCertificate, IpFamilyPolicy, IssuerReference,
    Listener, PrivateKey, PrivateKeyAlgorithm, Protocol, ProxyProtocol, ServiceType, Tls, TlsVersion,
};
pub use persistence::{
    AcknowledgeLevel, Bucket, Credentials, CredentialsType, DeletionPolicy, Encryption, Level, Persistence, Provider, Snapshots,
};
pub use quantity::{Quantity, QuantityError};
pub use references::{LocalReference, SecretKeyReference};
pub use role::{AccessRule, Effect, MqttRole, MqttRoleSpec, MqttRoleStatus, Operation, Subjects};
pub use status::{CertificateStatus, ListenerStatus, MqttBrokerStatus, Phase};
pub use user::{MqttUser, MqttUserSpec, MqttUserStatus, Password, UserAuthentication};
pub use workload::{ImagePullPolicy, Resources, ServiceAccount, Workload};

/// The API group of all kinds.
pub const GROUP: &str = "bucketmq.io";

/// All custom resource definitions, in the order they are told.
pub fn all() -> Vec<CustomResourceDefinition> {
    vec![MqttBroker::crd(), MqttRole::crd(), MqttUser::crd()]
}

/// As the files in `crds/` have it.
pub fn yaml(crd: &CustomResourceDefinition) -> Result<String, serde_saphyr::ser_error::Error> {
    // Through JSON, so that what is empty is left out and keys have one order.
    let mut value = serde_json::to_value(crd).expect("a definition is JSON");
    value.sort_all_objects();
    serde_saphyr::to_string(&value)
}
