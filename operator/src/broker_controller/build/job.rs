//! The Job that deletes the prefix of a broker with deletionPolicy Delete.

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec, VolumeMount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use super::config::MOUNT;
use super::deployment::{container_security, environment, image_pull_secrets, pod_security, pull_policy, resources, volume};
use super::{Settings, bucket_owner, mount};
use crate::crd::MqttBroker;
use crate::names;

/// Tries before the Job says that it failed.
const TRIES: i32 = 6;

/// Deletes everything below the prefix, unless the prefix is another broker's. `image`: what the broker ran with.
pub fn deletion_job(broker: &MqttBroker, image: Option<&str>, settings: &Settings) -> Job {
    let name = broker.name_any();
    let workload = &broker.spec.workload;
    let chosen = image.map(str::to_owned).or_else(|| broker.spec.image.clone()).unwrap_or_else(|| settings.image.clone());
    let owner = bucket_owner(broker, settings);
    let config = mount("broker.toml");
    let container = Container {
        name: "delete".to_owned(),
        image: Some(chosen),
        image_pull_policy: Some(pull_policy(broker).to_owned()),
        args: Some(["bucket", "delete", "--config", &config, "--owner", &owner, "--yes"].map(str::to_owned).into()),
        env: Some(environment(broker)),
        resources: Some(resources(workload.resources.as_ref())),
        security_context: Some(container_security()),
        volume_mounts: Some(vec![VolumeMount {
            name: "configuration".to_owned(),
            mount_path: MOUNT.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        }]),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    };
    // Not the labels that Services select by.
    let mut labels = workload.pod_labels.clone();
    labels
        .extend([("app.kubernetes.io/managed-by".to_owned(), names::FIELD_MANAGER.to_owned()), (names::INSTANCE.to_owned(), name.clone())]);
    let pod = PodSpec {
        image_pull_secrets: image_pull_secrets(broker),
        service_account_name: Some(workload.service_account.name.clone().unwrap_or_else(|| names::broker(&name))),
        automount_service_account_token: Some(false),
        restart_policy: Some("OnFailure".to_owned()),
        security_context: Some(pod_security()),
        node_selector: (!workload.node_selector.is_empty()).then(|| workload.node_selector.clone()),
        tolerations: (!workload.tolerations.is_empty()).then(|| workload.tolerations.clone()),
        containers: vec![container],
        volumes: Some(vec![volume(&name)]),
        ..PodSpec::default()
    };
    Job {
        metadata: names::child(broker, names::deletion(&name), "deletion"),
        spec: Some(JobSpec {
            backoff_limit: Some(TRIES),
            template: PodTemplateSpec { metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }), spec: Some(pod) },
            ..JobSpec::default()
        }),
        ..Job::default()
    }
}
