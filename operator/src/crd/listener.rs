//! `spec.listeners[]`: where Clients connect, and the Service that leads there.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AcknowledgeLevel, LocalReference, Quantity};

/// Where Clients connect. Each listener gets a Service of its own, `<broker>-<listener>`, so that listeners can have different load balancers. Changed
/// without a restart and without dropping a connection of the listeners that stay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.protocol == 'WebSocket' || (!has(self.webSocketPath) && !has(self.allowedOrigins))").message("webSocketPath and allowedOrigins go with protocol WebSocket"))]
#[x_kube(validation = Rule::new("self.proxyProtocol == 'Enabled' ? has(self.proxyTrustedCidrs) && size(self.proxyTrustedCidrs) > 0 : !has(self.proxyTrustedCidrs) || size(self.proxyTrustedCidrs) == 0").message("proxyTrustedCidrs names who may send a PROXY header: required with proxyProtocol Enabled, and only then"))]
pub struct Listener {
    /// Name in status, metrics and the Service: a DNS label of at most 15 characters.
    #[schemars(length(min = 1, max = 15), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    #[x_kube(validation = Rule::new("!(self in ['admin', 'headless'])").message("the operator has Services of the names admin and headless: call the listener otherwise"))]
    pub name: String,

    /// What is spoken: MQTT over TCP, or over WebSocket. With `tls`, inside TLS.
    #[serde(default)]
    pub protocol: Protocol,

    /// Port of the pod. Above 1023, because the broker has no privilege; `expose.servicePort` may be any.
    #[serde(default = "mqtt")]
    #[schemars(range(min = 1024, max = 65535))]
    pub port: i32,

    /// Path of the WebSocket's HTTP request. Default: /mqtt.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = "^/"))]
    pub web_socket_path: Option<String>,

    /// WebSocket: values of the `Origin` header that are let in, such as `https://app.example`. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(max = 253)))]
    pub allowed_origins: Option<Vec<String>>,

    /// Connections of this listener at one time. Default: 0, only the total counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2147483647))]
    pub max_connections: Option<i32>,

    /// Connections taken per second; more wait. Default: 0, no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2147483647))]
    pub max_connection_rate: Option<i32>,

    /// PUBLISH packets per second over all Clients of this listener. Default: 0, no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2147483647))]
    pub messages_rate: Option<i32>,

    /// Bytes per second over all Clients of this listener. Default: 0, no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_rate: Option<Quantity>,

    /// The highest QoS on this listener. Default: `limits.maxQos`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2))]
    pub max_qos: Option<i32>,

    /// When Clients of this listener get their acknowledgements. Default: what `persistence.level` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acknowledge: Option<AcknowledgeLevel>,

    /// Whether a PROXY protocol header (version 1 or 2) is required from the peers in `proxyTrustedCidrs`; it is refused from all others.
    #[serde(default)]
    pub proxy_protocol: ProxyProtocol,

    /// Networks of the load balancers that send a PROXY header.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(max = 49)))]
    pub proxy_trusted_cidrs: Option<Vec<String>>,

    /// Certificates. Not given: plaintext, which is for inside the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,

    /// Name of the MqttRole of Clients that show neither user name nor certificate. Default: none, such Clients are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub anonymous_role: Option<String>,

    /// The Service of this listener.
    #[serde(default)]
    pub expose: Expose,

    /// Who may reach this listener, when `networkPolicy.enabled`. Default: anybody.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub network_policy_peers: Option<Vec<NetworkPolicyPeer>>,
}

fn mqtt() -> i32 {
    1883
}

/// What is spoken on a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Protocol {
    /// MQTT over TCP.
    #[default]
    Mqtt,
    /// MQTT over WebSocket.
    WebSocket,
}

/// Whether a load balancer tells the Client's address by a PROXY header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ProxyProtocol {
    /// No header is expected, and one is refused.
    #[default]
    Disabled,
    /// A header is required from `proxyTrustedCidrs`.
    Enabled,
}

/// Certificates of a listener: exactly one of `secretRef`, `certManager` and `internal`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.secretRef) ? 1 : 0) + (has(self.certManager) ? 1 : 0) + (has(self.internal) ? 1 : 0) == 1").message("exactly one of tls.secretRef, tls.certManager and tls.internal says where the certificate comes from"))]
#[x_kube(validation = Rule::new("self.clientAuth == 'None' || has(self.clientCaRef)").message("tls.clientAuth needs tls.clientCaRef: the CA whose certificates Clients show"))]
#[x_kube(validation = Rule::new("self.clientAuth != 'None' || (!has(self.clientCaRef) && !has(self.crlRef))").message("tls.clientCaRef and tls.crlRef have an effect only with tls.clientAuth Optional or Required"))]
pub struct Tls {
    /// A Secret of type kubernetes.io/tls. What it holds is checked before the broker gets it: a key pair that does not fit is reported, and the one before
    /// stays in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalReference>,

    /// The operator has cert-manager make and renew the certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_manager: Option<CertManager>,

    /// The operator makes and renews the certificate itself, with a CA of this broker; Clients find `ca.crt` in the Secrets of their MqttUsers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub internal: Option<InternalCertificate>,

    /// Whether Clients show a certificate.
    #[serde(default)]
    pub client_auth: ClientAuth,

    /// A Secret with the key `ca.crt`: the CAs whose certificates Clients show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca_ref: Option<LocalReference>,

    /// A Secret with the key `ca.crl`: revocation lists (PEM). With it, a certificate whose issuer has no list is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crl_ref: Option<LocalReference>,

    /// What of a Client's certificate is its user name.
    #[serde(default)]
    pub identity: CertificateIdentity,

    /// The oldest version that is spoken.
    #[serde(default)]
    pub min_version: TlsVersion,
}

/// A certificate made by the operator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InternalCertificate {
    /// Names and addresses beside those of the Service, such as `mqtt.example.com`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub dns_names: Vec<String>,
}

/// A cert-manager Certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.renewBeforeSeconds) || !has(self.durationSeconds) || self.renewBeforeSeconds < self.durationSeconds").message("tls.certManager.renewBeforeSeconds is less than durationSeconds"))]
pub struct CertManager {
    /// Who signs.
    pub issuer_ref: IssuerReference,
    /// Names beside those of the Service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub dns_names: Vec<String>,
    /// How long a certificate is valid; at least an hour. Default: cert-manager's, 90 days.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 3600, max = 315360000i64))]
    pub duration_seconds: Option<i64>,
    /// How long before its end a certificate is renewed; at least five minutes. Default: cert-manager's, a third of the duration.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 300, max = 315360000i64))]
    pub renew_before_seconds: Option<i64>,
    /// The private key; a new one with each certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key: Option<PrivateKey>,
}

/// Who signs a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IssuerReference {
    /// Name of the issuer.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// `Issuer` (of this namespace) or `ClusterIssuer`, or a kind of another group.
    #[serde(default = "issuer")]
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// API group of the issuer.
    #[serde(default = "cert_manager")]
    #[schemars(length(min = 1, max = 253))]
    pub group: String,
}

fn issuer() -> String {
    "Issuer".to_owned()
}

fn cert_manager() -> String {
    "cert-manager.io".to_owned()
}

/// A private key that cert-manager makes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PrivateKey {
    /// Its kind.
    #[serde(default)]
    pub algorithm: PrivateKeyAlgorithm,
    /// Bits: 256, 384 or 521 for ECDSA, 2048 to 8192 for RSA. Default: 256 and 2048.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 256, max = 8192))]
    pub size: Option<i32>,
}

/// Kinds of private keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PrivateKeyAlgorithm {
    /// Small and fast.
    #[default]
    #[serde(rename = "ECDSA")]
    Ecdsa,
    /// For Clients that know nothing else.
    #[serde(rename = "RSA")]
    Rsa,
    /// Ed25519.
    Ed25519,
}

/// Whether Clients show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ClientAuth {
    /// They are not asked.
    #[default]
    None,
    /// They may; a wrong one is refused.
    Optional,
    /// They must.
    Required,
}

/// What of a Client's certificate is its user name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CertificateIdentity {
    /// The subject's common name.
    #[default]
    CommonName,
    /// The first DNS name of the subject's alternative names.
    SanDns,
    /// The first URI of the subject's alternative names, such as a SPIFFE id.
    SanUri,
    /// The first e-mail address of the subject's alternative names.
    SanEmail,
}

/// The oldest version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.2: many embedded Clients have no other.
    #[default]
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// The Service of a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.nodePort) || self.type in ['NodePort', 'LoadBalancer']").message("expose.nodePort goes with type NodePort or LoadBalancer"))]
#[x_kube(validation = Rule::new("self.type == 'LoadBalancer' || (!has(self.loadBalancerClass) && !has(self.loadBalancerSourceRanges) && !has(self.allocateLoadBalancerNodePorts))").message("expose.loadBalancerClass, loadBalancerSourceRanges and allocateLoadBalancerNodePorts go with type LoadBalancer"))]
#[x_kube(validation = Rule::new("!has(self.externalTrafficPolicy) || self.type in ['NodePort', 'LoadBalancer']").message("expose.externalTrafficPolicy goes with type NodePort or LoadBalancer"))]
pub struct Expose {
    /// ClusterIP: inside the cluster. NodePort, LoadBalancer: also from outside. None: no Service, the headless one leads to the pod.
    #[serde(rename = "type", default)]
    pub type_: ServiceType,
    /// Port of the Service. Default: the listener's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub service_port: Option<i32>,
    /// Port on each node. Default: Kubernetes chooses one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub node_port: Option<i32>,
    /// Which load balancer, such as `service.k8s.aws/nlb`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub load_balancer_class: Option<String>,
    /// Networks that the load balancer lets in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(max = 49)))]
    pub load_balancer_source_ranges: Option<Vec<String>>,
    /// Local keeps the Client's address. Default: Local with LoadBalancer, Cluster with NodePort.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<ExternalTrafficPolicy>,
    /// Annotations of the Service: most load balancers are configured by them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub annotations: BTreeMap<String, String>,
    /// Labels of the Service, beside the operator's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    #[x_kube(validation = Rule::new("self.all(key, !key.startsWith('app.kubernetes.io/') && !key.startsWith('bucketmq.io/'))").message("expose.labels: app.kubernetes.io/ and bucketmq.io/ are the operator's"))]
    pub labels: BTreeMap<String, String>,
    /// Whether a load balancer gets ports on the nodes; false where it sends to pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocate_load_balancer_node_ports: Option<bool>,
    /// IPv4, IPv6 or both. Default: the cluster's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_family_policy: Option<IpFamilyPolicy>,
}

/// How a listener is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    /// Inside the cluster.
    #[default]
    ClusterIP,
    /// A port of each node.
    NodePort,
    /// A load balancer of the cloud.
    LoadBalancer,
    /// No Service.
    None,
}

/// Which pods a node's traffic goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExternalTrafficPolicy {
    /// Any pod; the Client's address is lost.
    Cluster,
    /// Those of the same node; the Client's address is kept.
    Local,
}

/// IPv4, IPv6 or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum IpFamilyPolicy {
    /// One of them.
    SingleStack,
    /// Both where the cluster has both.
    PreferDualStack,
    /// Both, or the Service is refused.
    RequireDualStack,
}
