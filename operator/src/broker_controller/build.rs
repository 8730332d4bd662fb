//! What a broker is made of, one file per Kubernetes kind. Pure: what was observed and found right goes in, objects come out, the same each time.

mod certificate;
mod config;
mod deployment;
mod job;
mod network_policy;
mod secrets;
mod services;

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;

pub use certificate::{api_resource as certificate_resource, build as certificates, certificate};
pub use config::{Rendered, mount, render};
pub use deployment::restart_hash;
pub use job::deletion_job;
pub use secrets::{credentials_file, file_key};

use super::validate::Valid;
use crate::crd::{Level, MqttBroker};
use crate::names;

/// What the operator itself brings in.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The image of brokers that name none.
    pub image: String,
    /// Where the operator's pods are; `None` outside of a cluster.
    pub operator_namespace: Option<String>,
    /// `metadata.uid` of the namespace kube-system: what tells one cluster from another.
    pub cluster_id: String,
}

/// All that a broker is made of.
pub struct Children {
    /// Who the pod is; `None`: one that is there already.
    pub service_account: Option<ServiceAccount>,
    /// The CA of certificates that the operator makes, if any listener has one.
    pub authority: Option<Secret>,
    /// Certificates, keys, credentials.
    pub files: Secret,
    /// The users file.
    pub users: Secret,
    /// The configuration.
    pub config: ConfigMap,
    /// Headless, admin, and one for each listener.
    pub services: Vec<Service>,
    /// Who reaches whom.
    pub network_policy: Option<NetworkPolicy>,
    /// The pods.
    pub deployment: Deployment,
}

/// Who a broker is to its bucket. Not its uid: an object that is deleted and made again is the same broker.
pub fn bucket_owner(broker: &MqttBroker, settings: &Settings) -> String {
    format!("{}/{}/{}", settings.cluster_id, broker.namespace().unwrap_or_default(), broker.name_any())
}

/// The prefix in the bucket.
pub fn prefix(broker: &MqttBroker) -> String {
    let chosen = broker.spec.persistence.bucket.as_ref().and_then(|bucket| bucket.prefix.clone());
    chosen.unwrap_or_else(|| format!("{}/{}", broker.namespace().unwrap_or_default(), broker.name_any()))
}

/// Whether anything outlives the pod.
pub fn is_durable(broker: &MqttBroker) -> bool {
    broker.spec.persistence.level != Level::Memory
}

/// Builds everything.
pub fn build(valid: &Valid<'_>, settings: &Settings) -> Children {
    let broker = valid.broker;
    let restart_hash = deployment::restart_hash(broker);
    Children {
        service_account: secrets::service_account(broker),
        authority: valid.files.authority.as_ref().map(|data| secrets::authority(broker, data)),
        files: secrets::files(broker, valid.files),
        users: secrets::users(broker, valid.users),
        config: secrets::config_map(broker, &valid.rendered),
        services: services::build(broker),
        network_policy: network_policy::build(broker, settings),
        deployment: deployment::build(broker, &restart_hash, valid.deployment, valid.holds_template, settings),
    }
}

/// Labels and annotations that a user gave, over ours.
fn merged(ours: BTreeMap<String, String>, theirs: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut merged = theirs.clone();
    merged.extend(ours);
    merged
}

/// The objects a broker keeps in the cluster, by the names the operator gives.
pub fn service_names(broker: &MqttBroker) -> Vec<String> {
    let name = broker.name_any();
    let listeners = broker.spec.listeners.iter().filter(|listener| listener.expose.type_ != crate::crd::ServiceType::None);
    [names::headless(&name), names::admin(&name)]
        .into_iter()
        .chain(listeners.map(|listener| names::listener(&name, &listener.name)))
        .collect()
}

#[cfg(test)]
mod tests;
