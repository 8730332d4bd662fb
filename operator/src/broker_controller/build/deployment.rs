//! The Deployment: a pod without a volume that matters, which a surge replaces.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapProjection, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, KeyToPath, LocalObjectReference,
    ObjectFieldSelector, PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ProjectedVolumeSource, ResourceRequirements, SeccompProfile,
    SecretKeySelector, SecretProjection, SecurityContext, Toleration, TopologySpreadConstraint, Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::config::{MOUNT, has_static_credentials, mount};
use super::{Settings, merged};
use crate::crd::{ImagePullPolicy, MqttBroker, Provider, Resources};
use crate::names::{self, ADMIN_PORT, POD_TEMPLATE, RESTART, RESTART_HASH, annotation, short_hash};

/// Seconds until a pod on a node that is not ready, or unreachable, is made anew elsewhere.
const NODE_LOST: i64 = 2;
/// From SIGTERM to SIGKILL: 10 s for Clients, 20 s for the shards, and some for the node.
const GRACE: i64 = 45;
/// A rollout that has come no further after so long is told as stalled.
const PROGRESS_DEADLINE: i32 = 120;
const UID: i64 = 65532;

/// Hash of what replaces pods. Only what a user can say counts: a new release of the operator restarts no broker.
pub fn restart_hash(broker: &MqttBroker) -> String {
    let spec = &broker.spec;
    let persistence = &spec.persistence;
    let said = serde_json::json!({
        "image": spec.image,
        "imagePullPolicy": spec.image_pull_policy,
        "imagePullSecrets": spec.image_pull_secrets,
        "workload": spec.workload,
        "persistence": [
            serde_json::json!(persistence.level == crate::crd::Level::Memory),
            serde_json::json!(persistence.bucket),
            serde_json::json!(persistence.adopt),
            serde_json::json!(persistence.snapshots),
        ],
        "logFormat": spec.observability.logging.format,
        "sysInterval": spec.observability.sys_interval_seconds,
        "asked": annotation(broker, RESTART),
    });
    short_hash(said.to_string())
}

/// The Deployment. A template that was rendered for the same hash stays as it is, whichever release rendered it; so does any
/// template while `holds`.
pub(super) fn build(broker: &MqttBroker, restart_hash: &str, live: Option<&Deployment>, holds: bool, settings: &Settings) -> Deployment {
    let name = broker.name_any();
    let kept = live.and_then(|live| {
        let hash = annotation(live, RESTART_HASH)?;
        let is_kept = hash == restart_hash || holds;
        let template: PodTemplateSpec = serde_json::from_str(annotation(live, POD_TEMPLATE)?).ok()?;
        is_kept.then(|| (hash.to_owned(), template))
    });
    let (hash, template) = kept.unwrap_or_else(|| (restart_hash.to_owned(), template(broker, restart_hash, settings)));
    let mut metadata = names::child(broker, names::broker(&name), "broker");
    let text = serde_json::to_string(&template).expect("a pod template is JSON");
    metadata.annotations = Some([(RESTART_HASH.to_owned(), hash), (POD_TEMPLATE.to_owned(), text)].into());
    Deployment {
        metadata,
        spec: Some(DeploymentSpec {
            replicas: Some(broker.spec.replicas),
            selector: LabelSelector { match_labels: Some(names::selector(&name)), ..LabelSelector::default() },
            min_ready_seconds: Some(broker.spec.update_strategy.min_ready_seconds),
            progress_deadline_seconds: Some(PROGRESS_DEADLINE.max(broker.spec.update_strategy.min_ready_seconds + 60)),
            revision_history_limit: Some(3),
            // The new pod asks the old one for the bucket when it is ready for it, so both are there for a moment.
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(1)),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            template,
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

fn template(broker: &MqttBroker, restart_hash: &str, settings: &Settings) -> PodTemplateSpec {
    let workload = &broker.spec.workload;
    let mut annotations = workload.pod_annotations.clone();
    annotations.insert(RESTART_HASH.to_owned(), restart_hash.to_owned());
    let metadata = ObjectMeta {
        labels: Some(merged(names::labels(&broker.name_any(), "broker"), &workload.pod_labels)),
        annotations: Some(annotations),
        ..ObjectMeta::default()
    };
    PodTemplateSpec { metadata: Some(metadata), spec: Some(pod(broker, settings)) }
}

fn pod(broker: &MqttBroker, settings: &Settings) -> PodSpec {
    let name = broker.name_any();
    let workload = &broker.spec.workload;
    PodSpec {
        service_account_name: Some(workload.service_account.name.clone().unwrap_or_else(|| names::broker(&name))),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        image_pull_secrets: image_pull_secrets(broker),
        termination_grace_period_seconds: Some(workload.termination_grace_period_seconds.unwrap_or(GRACE)),
        security_context: Some(pod_security()),
        node_selector: (!workload.node_selector.is_empty()).then(|| workload.node_selector.clone()),
        tolerations: Some(tolerations(&workload.tolerations)),
        affinity: workload.affinity.clone(),
        topology_spread_constraints: Some(workload.topology_spread_constraints.clone().unwrap_or_else(|| spread(&name))),
        priority_class_name: workload.priority_class_name.clone(),
        runtime_class_name: workload.runtime_class_name.clone(),
        scheduler_name: workload.scheduler_name.clone(),
        containers: vec![container(broker, settings)],
        volumes: Some(vec![volume(&name)]),
        ..PodSpec::default()
    }
}

/// Credentials of the image's registry.
pub(super) fn image_pull_secrets(broker: &MqttBroker) -> Option<Vec<LocalObjectReference>> {
    let secrets = broker.spec.image_pull_secrets.iter().map(|secret| LocalObjectReference { name: secret.name.clone() });
    let secrets: Vec<_> = secrets.collect();
    (!secrets.is_empty()).then_some(secrets)
}

pub(super) fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(UID),
        run_as_group: Some(UID),
        fs_group: Some(UID),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
        ..PodSecurityContext::default()
    }
}

pub(super) fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        ..SecurityContext::default()
    }
}

fn container(broker: &MqttBroker, settings: &Settings) -> Container {
    Container {
        name: "broker".to_owned(),
        image: Some(broker.spec.image.clone().unwrap_or_else(|| settings.image.clone())),
        image_pull_policy: Some(pull_policy(broker).to_owned()),
        args: Some(["serve", "--config", &mount("broker.toml"), "--member", "$(POD_NAME)", "--takeover", "new"].map(str::to_owned).into()),
        env: Some(environment(broker)),
        ports: Some(vec![ContainerPort {
            name: Some("admin".to_owned()),
            container_port: ADMIN_PORT,
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        readiness_probe: Some(probe("/readyz", 1, 2)),
        liveness_probe: Some(Probe { initial_delay_seconds: Some(10), ..probe("/livez", 10, 3) }),
        resources: Some(resources(broker.spec.workload.resources.as_ref())),
        security_context: Some(container_security()),
        volume_mounts: Some(vec![VolumeMount {
            name: "configuration".to_owned(),
            mount_path: MOUNT.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        }]),
        // The last lines of the log say why it ended.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}

pub(super) fn pull_policy(broker: &MqttBroker) -> &'static str {
    match broker.spec.image_pull_policy {
        ImagePullPolicy::Always => "Always",
        ImagePullPolicy::IfNotPresent => "IfNotPresent",
        ImagePullPolicy::Never => "Never",
    }
}

fn probe(path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("admin".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(if period > 1 { 5 } else { 1 }),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

/// The pod's own name, what leads to the bucket's credentials, and what the user wants.
pub(super) fn environment(broker: &MqttBroker) -> Vec<EnvVar> {
    let field = ObjectFieldSelector { field_path: "metadata.name".to_owned(), ..ObjectFieldSelector::default() };
    let name = EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() };
    let mut environment = vec![EnvVar { name: "POD_NAME".to_owned(), value_from: Some(name), ..EnvVar::default() }];
    environment.extend(credentials(broker));
    let taken: Vec<String> = environment.iter().map(|variable| variable.name.clone()).collect();
    environment.extend(broker.spec.workload.env.iter().filter(|variable| !taken.contains(&variable.name)).cloned());
    environment
}

/// Variables that name the credentials.
pub(super) fn credentials(broker: &MqttBroker) -> Vec<EnvVar> {
    let Some(bucket) = broker.spec.persistence.bucket.as_ref().filter(|_| has_static_credentials(broker)) else { return Vec::new() };
    let plain = |name: &str, value: String| EnvVar { name: name.to_owned(), value: Some(value), ..EnvVar::default() };
    match bucket.provider {
        Provider::S3 => vec![
            plain("AWS_SHARED_CREDENTIALS_FILE", mount("bucket-credentials")),
            // Else the SDK asks the instance before it says that the file holds nothing.
            plain("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ],
        Provider::Gcs => vec![plain("GOOGLE_APPLICATION_CREDENTIALS", mount("bucket-credentials"))],
        Provider::Azure => {
            let key = SecretKeySelector { name: names::files(&broker.name_any()), key: "bucket-credentials".to_owned(), optional: None };
            let source = EnvVarSource { secret_key_ref: Some(key), ..EnvVarSource::default() };
            vec![EnvVar { name: "AZURE_STORAGE_ACCOUNT_KEY".to_owned(), value_from: Some(source), ..EnvVar::default() }]
        }
    }
}

/// One volume, so that the kubelet swaps all of it at once: the configuration never names a file of another version.
pub(super) fn volume(name: &str) -> Volume {
    let item = |key: &str| vec![KeyToPath { key: key.to_owned(), path: key.to_owned(), mode: None }];
    let secret = |name: String, items| VolumeProjection {
        secret: Some(SecretProjection { name, items, optional: None }),
        ..VolumeProjection::default()
    };
    let config = ConfigMapProjection { name: names::config(name), items: Some(item("broker.toml")), optional: None };
    Volume {
        name: "configuration".to_owned(),
        projected: Some(ProjectedVolumeSource {
            default_mode: Some(0o440),
            sources: Some(vec![
                VolumeProjection { config_map: Some(config), ..VolumeProjection::default() },
                secret(names::users(name), Some(item("users"))),
                secret(names::files(name), None),
            ]),
        }),
        ..Volume::default()
    }
}

/// As the API server writes them back.
pub(super) fn resources(chosen: Option<&Resources>) -> ResourceRequirements {
    let default = |pairs: &[(&str, &str)]| -> BTreeMap<String, Quantity> {
        pairs.iter().map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned()))).collect()
    };
    let canonical = |amounts: &BTreeMap<String, crate::crd::Quantity>| -> BTreeMap<String, Quantity> {
        amounts.iter().map(|(name, amount)| (name.clone(), Quantity(amount.canonical().unwrap_or_else(|_| amount.0.clone())))).collect()
    };
    let (requests, limits) = match chosen {
        Some(chosen) => (canonical(&chosen.requests), canonical(&chosen.limits)),
        None => (default(&[("cpu", "250m"), ("memory", "256Mi")]), default(&[("memory", "1Gi")])),
    };
    ResourceRequirements {
        requests: (!requests.is_empty()).then_some(requests),
        limits: (!limits.is_empty()).then_some(limits),
        ..ResourceRequirements::default()
    }
}

/// The user's, and nodes that are gone for a moment only. Who has said something about such nodes has decided.
fn tolerations(chosen: &[Toleration]) -> Vec<Toleration> {
    let mut tolerations = chosen.to_vec();
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let is_said = chosen.iter().any(|toleration| toleration.key.as_deref() == Some(key));
        if !is_said {
            tolerations.push(Toleration {
                key: Some(key.to_owned()),
                operator: Some("Exists".to_owned()),
                effect: Some("NoExecute".to_owned()),
                toleration_seconds: Some(NODE_LOST),
                ..Toleration::default()
            });
        }
    }
    tolerations
}

fn spread(name: &str) -> Vec<TopologySpreadConstraint> {
    let constraint = |key: &str| TopologySpreadConstraint {
        max_skew: 1,
        topology_key: key.to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(LabelSelector { match_labels: Some(names::selector(name)), ..LabelSelector::default() }),
        ..TopologySpreadConstraint::default()
    };
    vec![constraint("topology.kubernetes.io/zone"), constraint("kubernetes.io/hostname")]
}
