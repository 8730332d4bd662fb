//! cert-manager's Certificate of a listener.

use kube::ResourceExt;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::json;

use crate::broker_controller::files::service_dns_names;
use crate::crd::{CertManager, Listener, MqttBroker, PrivateKeyAlgorithm};
use crate::names;

/// cert-manager.io/v1 Certificate.
pub fn api_resource() -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("cert-manager.io", "v1", "Certificate"), "certificates")
}

/// Those of all listeners that want one.
pub fn build(broker: &MqttBroker) -> Vec<DynamicObject> {
    let wanted = broker.spec.listeners.iter().filter_map(|listener| Some((listener, listener.tls.as_ref()?.cert_manager.as_ref()?)));
    wanted.map(|(listener, wanted)| certificate(broker, listener, wanted)).collect()
}

/// The Certificate of a listener.
pub fn certificate(broker: &MqttBroker, listener: &Listener, wanted: &CertManager) -> DynamicObject {
    let name = broker.name_any();
    let mut dns_names = service_dns_names(broker, listener);
    dns_names.extend(wanted.dns_names.iter().cloned());
    let mut key = json!({ "rotationPolicy": "Always" });
    let chosen = wanted.private_key.as_ref();
    key["algorithm"] = match chosen.map(|key| key.algorithm).unwrap_or_default() {
        PrivateKeyAlgorithm::Ecdsa => "ECDSA",
        PrivateKeyAlgorithm::Rsa => "RSA",
        PrivateKeyAlgorithm::Ed25519 => "Ed25519",
    }
    .into();
    if let Some(size) = chosen.and_then(|key| key.size) {
        key["size"] = size.into();
    }
    let mut spec = json!({
        "secretName": names::issued(&name, &listener.name),
        "dnsNames": dns_names,
        "issuerRef": { "name": wanted.issuer_ref.name, "kind": wanted.issuer_ref.kind, "group": wanted.issuer_ref.group },
        "privateKey": key,
        "usages": ["digital signature", "key encipherment", "server auth"],
    });
    if let Some(seconds) = wanted.duration_seconds {
        spec["duration"] = duration(seconds).into();
    }
    if let Some(seconds) = wanted.renew_before_seconds {
        spec["renewBefore"] = duration(seconds).into();
    }
    let mut object = DynamicObject::new(&names::listener(&name, &listener.name), &api_resource()).data(json!({ "spec": spec }));
    object.metadata = names::child(broker, names::listener(&name, &listener.name), "listener");
    object
}

/// As Kubernetes writes it back, so that nothing seems to differ.
fn duration(seconds: i64) -> String {
    format!("{}h{}m{}s", seconds / 3600, seconds / 60 % 60, seconds % 60)
}
