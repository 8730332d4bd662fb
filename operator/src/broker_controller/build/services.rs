//! The Services: one for each listener, one for health and metrics, one that leads to every pod.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::merged;
use crate::crd::{ExternalTrafficPolicy, IpFamilyPolicy, Listener, MqttBroker, ServiceType};
use crate::names::{self, ADMIN_PORT};

pub(super) fn build(broker: &MqttBroker) -> Vec<Service> {
    let mut services = vec![headless(broker), admin(broker)];
    services.extend(broker.spec.listeners.iter().filter_map(|listener| exposed(broker, listener)));
    services
}

fn port(name: &str, port: i32, target: i32) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port,
        protocol: Some("TCP".to_owned()),
        target_port: Some(IntOrString::Int(target)),
        ..ServicePort::default()
    }
}

fn headless(broker: &MqttBroker) -> Service {
    let name = broker.name_any();
    let ports = broker.spec.listeners.iter().map(|listener| port(&listener.name, listener.port, listener.port));
    Service {
        metadata: names::child(broker, names::headless(&name), "headless"),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(names::selector(&name)),
            ports: Some(ports.collect()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// Metrics of a pod that waits are metrics too.
fn admin(broker: &MqttBroker) -> Service {
    let name = broker.name_any();
    Service {
        metadata: names::child(broker, names::admin(&name), "admin"),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(names::selector(&name)),
            ports: Some(vec![port("admin", ADMIN_PORT, ADMIN_PORT)]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn exposed(broker: &MqttBroker, listener: &Listener) -> Option<Service> {
    let expose = &listener.expose;
    let type_ = match expose.type_ {
        ServiceType::None => return None,
        ServiceType::ClusterIP => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
    };
    let name = broker.name_any();
    let mut metadata = names::child(broker, names::listener(&name, &listener.name), "listener");
    metadata.labels = metadata.labels.map(|ours| merged(ours, &expose.labels));
    metadata.annotations = (!expose.annotations.is_empty()).then(|| expose.annotations.clone());
    let mut exposed = port(&listener.name, expose.service_port.unwrap_or(listener.port), listener.port);
    exposed.node_port = expose.node_port;
    // Load balancers do not lose the Client's address unless they are told to.
    let chosen = expose.external_traffic_policy.or((expose.type_ == ServiceType::LoadBalancer).then_some(ExternalTrafficPolicy::Local));
    let policy = chosen.map(|policy| match policy {
        ExternalTrafficPolicy::Cluster => "Cluster",
        ExternalTrafficPolicy::Local => "Local",
    });
    let families = expose.ip_family_policy.map(|policy| match policy {
        IpFamilyPolicy::SingleStack => "SingleStack",
        IpFamilyPolicy::PreferDualStack => "PreferDualStack",
        IpFamilyPolicy::RequireDualStack => "RequireDualStack",
    });
    Some(Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(type_.to_owned()),
            selector: Some(names::selector(&name)),
            ports: Some(vec![exposed]),
            external_traffic_policy: policy.map(str::to_owned),
            load_balancer_class: expose.load_balancer_class.clone(),
            load_balancer_source_ranges: expose.load_balancer_source_ranges.clone(),
            allocate_load_balancer_node_ports: expose.allocate_load_balancer_node_ports,
            ip_family_policy: families.map(str::to_owned),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    })
}
