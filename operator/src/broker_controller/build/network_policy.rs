//! The NetworkPolicy: listeners for whom they name, the admin port for the operator and those who read metrics, DNS and the bucket.

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::Settings;
use super::config::has_static_credentials;
use crate::crd::{MqttBroker, Provider};
use crate::names::{self, ADMIN_PORT};

/// Where the clouds give pods their identity: the instance's metadata and EKS Pod Identity.
const IDENTITY_SERVICES: [&str; 2] = ["169.254.169.254/32", "169.254.170.23/32"];

pub(super) fn build(broker: &MqttBroker, settings: &Settings) -> Option<NetworkPolicy> {
    let wanted = &broker.spec.network_policy;
    if !wanted.enabled {
        return None;
    }
    let name = broker.name_any();
    let selector = LabelSelector { match_labels: Some(names::selector(&name)), ..LabelSelector::default() };
    Some(NetworkPolicy {
        metadata: names::child(broker, names::broker(&name), "broker"),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(selector),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            ingress: Some(ingress(broker, settings)),
            egress: Some(egress(broker)),
        }),
    })
}

fn port(port: i32, protocol: &str) -> NetworkPolicyPort {
    NetworkPolicyPort { port: Some(IntOrString::Int(port)), protocol: Some(protocol.to_owned()), end_port: None }
}

fn ingress(broker: &MqttBroker, settings: &Settings) -> Vec<NetworkPolicyIngressRule> {
    let listeners = broker.spec.listeners.iter().map(|listener| NetworkPolicyIngressRule {
        from: listener.network_policy_peers.clone().filter(|peers| !peers.is_empty()),
        ports: Some(vec![port(listener.port, "TCP")]),
    });
    let mut rules: Vec<_> = listeners.collect();
    let operator = settings.operator_namespace.as_ref().map(|namespace| NetworkPolicyPeer {
        namespace_selector: Some(labels("kubernetes.io/metadata.name", namespace)),
        pod_selector: Some(labels("app.kubernetes.io/name", "bucketmq-operator")),
        ..NetworkPolicyPeer::default()
    });
    let readers = broker.spec.network_policy.metrics_peers.clone().unwrap_or_default();
    let peers: Vec<_> = operator.into_iter().chain(readers).collect();
    // Nobody named is anybody in a NetworkPolicy, which is not what is meant.
    if !peers.is_empty() {
        rules.push(NetworkPolicyIngressRule { from: Some(peers), ports: Some(vec![port(ADMIN_PORT, "TCP")]) });
    }
    rules
}

fn labels(key: &str, value: &str) -> LabelSelector {
    LabelSelector { match_labels: Some([(key.to_owned(), value.to_owned())].into()), ..LabelSelector::default() }
}

fn egress(broker: &MqttBroker) -> Vec<NetworkPolicyEgressRule> {
    let mut rules = vec![NetworkPolicyEgressRule { to: None, ports: Some(vec![port(53, "UDP"), port(53, "TCP")]) }];
    let Some(bucket) = &broker.spec.persistence.bucket else { return rules };
    match broker.spec.network_policy.egress_peers.clone().filter(|peers| !peers.is_empty()) {
        Some(peers) => rules.push(NetworkPolicyEgressRule { to: Some(peers), ports: None }),
        None => rules.push(NetworkPolicyEgressRule { to: None, ports: Some(vec![port(endpoint_port(bucket.endpoint.as_deref()), "TCP")]) }),
    }
    if !has_static_credentials(broker) {
        if bucket.provider != Provider::S3 || bucket.endpoint.is_some() {
            // Tokens come from the cloud's own servers.
            rules.push(NetworkPolicyEgressRule { to: None, ports: Some(vec![port(443, "TCP")]) });
        }
        let block = |cidr: &str| NetworkPolicyPeer {
            ip_block: Some(IPBlock { cidr: cidr.to_owned(), except: None }),
            ..NetworkPolicyPeer::default()
        };
        let to = IDENTITY_SERVICES.map(block).into();
        rules.push(NetworkPolicyEgressRule { to: Some(to), ports: Some(vec![port(80, "TCP"), port(988, "TCP")]) });
    }
    rules
}

/// The port of a URL such as `https://s3.example.com:9000`.
fn endpoint_port(endpoint: Option<&str>) -> i32 {
    let Some(endpoint) = endpoint else { return 443 };
    let default = if endpoint.starts_with("http://") { 80 } else { 443 };
    let authority = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest).split('/').next().unwrap_or_default();
    match authority.rsplit_once(':') {
        Some((_, port)) => port.parse().unwrap_or(default),
        None => default,
    }
}

#[cfg(test)]
mod tests {
    use super::endpoint_port;

    #[test]
    fn the_port_is_the_endpoints_or_its_schemes() {
        for (endpoint, port) in [
            (None, 443),
            (Some("https://a"), 443),
            (Some("http://a"), 80),
            (Some("http://s3.s3:7070"), 7070),
            (Some("https://[::1]:9000/x"), 9000),
        ] {
            assert_eq!(endpoint_port(endpoint), port, "{endpoint:?}");
        }
    }
}
