//! What there is: the object, its users and roles, the Secrets it names, its children, its pods and what they say.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::Api;
use kube::{Resource, ResourceExt};

use super::files::{self, Source};
use super::users::{self, Password, Users};
use crate::context::Context;
use crate::crd::{MqttBroker, MqttRole, MqttUser};
use crate::names;
use crate::readyz::{self, Readiness};

/// Everything a reconcile looks at.
pub struct Observed {
    /// The object.
    pub broker: Arc<MqttBroker>,
    /// MqttUsers that name it.
    pub users: Vec<Arc<MqttUser>>,
    /// MqttRoles that name it.
    pub roles: Vec<Arc<MqttRole>>,
    /// Secrets it names.
    pub sources: BTreeMap<String, Source>,
    /// Its children.
    pub live: Live,
    /// Its pods.
    pub pods: Vec<PodView>,
}

/// Children as they are.
pub struct Live {
    /// All of each kind that carry the broker's name.
    pub service_accounts: Vec<Arc<ServiceAccount>>,
    /// Secrets.
    pub secrets: Vec<Arc<Secret>>,
    /// ConfigMaps.
    pub config_maps: Vec<Arc<ConfigMap>>,
    /// Services.
    pub services: Vec<Arc<Service>>,
    /// NetworkPolicies.
    pub network_policies: Vec<Arc<NetworkPolicy>>,
    /// Deployments.
    pub deployments: Vec<Arc<Deployment>>,
    /// Jobs.
    pub jobs: Vec<Arc<Job>>,
}

/// The object of this name.
pub fn named<'a, K: Resource>(objects: &'a [Arc<K>], name: &str) -> Option<&'a Arc<K>> {
    objects.iter().find(|object| object.name_any() == name)
}

/// A pod, and what it says.
#[derive(Clone, Debug)]
pub struct PodView {
    /// Its name, which is the member's.
    pub name: String,
    /// Hash of the template it was made of.
    pub restart_hash: String,
    /// The configuration it was told to look for.
    pub told: Option<String>,
    /// Whether Kubernetes sends it Clients.
    pub is_ready: bool,
    /// Whether it is on its way out.
    pub is_terminating: bool,
    /// What it says; `None`: nothing.
    pub says: Option<Readiness>,
    /// Why its container does not run.
    pub trouble: Option<Trouble>,
}

/// Why a container does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Kubernetes' word, such as ImagePullBackOff.
    pub reason: String,
    /// What the container said last, or Kubernetes.
    pub message: String,
}

/// Looks at everything. Only Secrets that have changed, and pods, are asked for.
pub async fn observe(broker: Arc<MqttBroker>, context: &Context) -> Result<Observed, kube::Error> {
    let (namespace, name) = (broker.namespace().unwrap_or_default(), broker.name_any());
    let caches = &context.caches;
    let live = Live {
        service_accounts: caches.service_accounts.of(&namespace, &name),
        secrets: caches.secrets.of(&namespace, &name),
        config_maps: caches.config_maps.of(&namespace, &name),
        services: caches.services.of(&namespace, &name),
        network_policies: caches.network_policies.of(&namespace, &name),
        deployments: caches.deployments.of(&namespace, &name),
        jobs: caches.jobs.of(&namespace, &name),
    };
    let kept = named(&live.secrets, &names::files(&name));
    let known = files::known_versions(kept.map(Arc::as_ref));
    let mut sources = BTreeMap::new();
    for secret in files::referenced(&broker) {
        let source = source(context, &namespace, &secret, known.get(&secret)).await?;
        sources.insert(secret, source);
    }
    let users = caches.users.of(&namespace, &name).iter().filter_map(|guard| guard.0.as_ref().ok().cloned().map(Arc::new)).collect();
    let roles = caches.roles.of(&namespace, &name).iter().filter_map(|guard| guard.0.as_ref().ok().cloned().map(Arc::new)).collect();
    let pods = pods(context, &caches.pods.of(&namespace, &name)).await;
    Ok(Observed { users, roles, sources, live, pods, broker })
}

/// A Secret, read only if it is not the version that is known.
async fn source(context: &Context, namespace: &str, name: &str, known: Option<&String>) -> Result<Source, kube::Error> {
    let Some(metadata) = context.caches.all_secrets.get(namespace, name) else { return Ok(Source::Missing) };
    let version = users::version_of(metadata.as_ref(), "");
    if known == Some(&version) {
        return Ok(Source::Unchanged { version });
    }
    match Api::<Secret>::namespaced(context.client.clone(), namespace).get_opt(name).await? {
        Some(secret) => {
            let version = users::version_of(&secret, "");
            Ok(Source::Read { version, data: secret.data.unwrap_or_default() })
        }
        None => Ok(Source::Missing),
    }
}

/// The passwords of users, read only where they are not those the file was made of.
pub async fn passwords(
    owners: &BTreeMap<String, Arc<MqttUser>>,
    before: &Users,
    namespace: &str,
    context: &Context,
) -> Result<BTreeMap<String, Password>, kube::Error> {
    let mut passwords = BTreeMap::new();
    for (username, user) in owners {
        let password = match users::password_source(user) {
            None => Password::None,
            Some((secret, key, brought)) => {
                let note = before.notes.get(username).filter(|note| note.user == user.name_any() && note.problem.is_none());
                password(context, namespace, &secret, &key, brought, note.map(|note| note.source.as_str())).await?
            }
        };
        passwords.insert(user.name_any(), password);
    }
    Ok(passwords)
}

async fn password(
    context: &Context,
    namespace: &str,
    secret: &str,
    key: &str,
    brought: bool,
    known: Option<&str>,
) -> Result<Password, kube::Error> {
    let missing = || {
        let message = match brought {
            true => format!("there is no Secret {secret} in this namespace"),
            false => format!("the Secret {secret} is being made"),
        };
        Password::Problem { reason: "SecretNotFound", message }
    };
    let Some(metadata) = context.caches.all_secrets.get(namespace, secret) else { return Ok(missing()) };
    let source = users::version_of(metadata.as_ref(), key);
    if known == Some(source.as_str()) {
        return Ok(Password::Unchanged { source });
    }
    let Some(found) = Api::<Secret>::namespaced(context.client.clone(), namespace).get_opt(secret).await? else { return Ok(missing()) };
    let source = users::version_of(&found, key);
    let password = found.data.unwrap_or_default().remove(key).map(|bytes| bytes.0).unwrap_or_default();
    if password.is_empty() {
        let message = format!("the key {key} of the Secret {secret} is missing or empty");
        return Ok(Password::Problem { reason: "KeyNotFound", message });
    }
    Ok(if brought { Password::Brought { source, password } } else { Password::Random { source, password } })
}

async fn pods(context: &Context, pods: &[Arc<Pod>]) -> Vec<PodView> {
    let mut views = Vec::new();
    for pod in pods {
        let mut view = view(pod);
        let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone()).filter(|_| is_running(pod));
        if let Some(address) = address {
            view.says = readyz::ask(&context.http, &address).await;
        }
        views.push(view);
    }
    views
}

fn is_running(pod: &Pod) -> bool {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    statuses.iter().any(|status| status.state.as_ref().is_some_and(|state| state.running.is_some()))
}

fn view(pod: &Pod) -> PodView {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    PodView {
        name: pod.name_any(),
        restart_hash: names::annotation(pod, names::RESTART_HASH).unwrap_or_default().to_owned(),
        told: names::annotation(pod, names::RELOAD).map(str::to_owned),
        is_ready: conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"),
        is_terminating: pod.metadata.deletion_timestamp.is_some(),
        says: None,
        trouble: trouble(pod),
    }
}

/// Why the container does not run, if it should.
fn trouble(pod: &Pod) -> Option<Trouble> {
    let status = pod.status.as_ref()?;
    for container in status.container_statuses.as_deref().unwrap_or_default() {
        let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
        let Some(waiting) = waiting else { continue };
        let reason = waiting.reason.clone().unwrap_or_default();
        if matches!(reason.as_str(), "" | "ContainerCreating" | "PodInitializing") {
            continue;
        }
        // Kubernetes says it in turns and with the seconds it waits: a status has one word for it.
        if matches!(reason.as_str(), "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull") {
            let message = format!("the image {} cannot be had: {}", container.image, image_advice(&reason));
            return Some(Trouble { reason: "ImagePullBackOff".to_owned(), message });
        }
        let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
        let words = last.and_then(|ended| ended.message.as_deref()).map(last_words).filter(|text| !text.is_empty());
        let message = words.unwrap_or_else(|| match last {
            Some(ended) => format!("it ended with exit code {}: see its log", ended.exit_code),
            None => waiting.message.clone().unwrap_or_default(),
        });
        return Some(Trouble { reason, message });
    }
    let unschedulable = status
        .conditions
        .as_deref()
        .unwrap_or_default()
        .iter()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")?;
    Some(Trouble { reason: "Unschedulable".to_owned(), message: unschedulable.message.clone().unwrap_or_default() })
}

fn image_advice(reason: &str) -> &'static str {
    match reason {
        "ErrImageNeverPull" => "it is not on the node, and imagePullPolicy is Never",
        "InvalidImageName" => "this is no name of an image",
        _ => "look at its name and at imagePullSecrets",
    }
}

/// The error in the last lines of a broker's log, whichever format it has.
fn last_words(log: &str) -> String {
    for line in log.lines().rev() {
        if let Ok(line) = serde_json::from_str::<serde_json::Value>(line) {
            let fields = &line["fields"];
            let parts = [&fields["message"], &fields["error"]];
            let text: Vec<&str> = parts.into_iter().filter_map(serde_json::Value::as_str).collect();
            if !text.is_empty() {
                return text.join(": ");
            }
        }
    }
    log.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_ended_is_told_by_its_last_error() {
        let log = "{\"level\":\"INFO\",\"fields\":{\"message\":\"open files allowed\"}}\n{\"level\":\"ERROR\",\"fields\":{\"message\":\"the broker stops\",\"error\":\"no bucket\"}}\n";
        assert_eq!(last_words(log), "the broker stops: no bucket");
        assert_eq!(last_words("one\ntwo\n\n"), "two");
    }
}
