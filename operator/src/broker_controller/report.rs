//! `status` and events: what the operator found, in words a person can act on.
//!
//! Promise: equal observations give equal words, so that nothing is written while nothing changes; a time stands in a condition only when its status changed.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;

use super::build::{Settings, bucket_owner, is_durable};
use super::observe::{Observed, PodView, named};
use super::validate::{About, Problem};
use crate::crd::{CertificateStatus, Level, ListenerStatus, MqttBroker, MqttBrokerStatus, Phase, Protocol, ServiceType};
use crate::names;

/// A condition's text; longer ones are cut.
const MESSAGE_MAX: usize = 1024;

/// What came of a reconcile.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// What the API server said no to.
    pub refused: Option<String>,
    /// What was applied; `None`: nothing, because of the problems.
    pub applied: Option<Applied>,
    /// Certificates by listener.
    pub certificates: BTreeMap<String, CertificateStatus>,
    /// The template has to wait for others' rollouts.
    pub waits_for_slot: bool,
}

/// What is in force once every pod has it.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Of the configuration.
    pub revision: String,
    /// SHA-256 of the users file.
    pub users_hash: String,
    /// Of the pod template that is wanted.
    pub restart_hash: String,
}

/// Whether there is nothing to wait for.
pub fn is_settled(status: &MqttBrokerStatus) -> bool {
    let is = |type_: &str, value: &str| status.conditions.iter().any(|condition| condition.type_ == type_ && condition.status == value);
    (is("Ready", "True") || is("Hibernated", "True")) && is("ConfigApplied", "True")
}

/// The status, from what was observed. `now`: for conditions that changed.
pub fn status(observed: &Observed, outcome: &Outcome, settings: &Settings, now: Time) -> MqttBrokerStatus {
    let broker = &observed.broker;
    let deployment = named(&observed.live.deployments, &names::broker(&broker.name_any())).map(AsRef::as_ref);
    let view = View { observed, outcome, deployment, broker };
    let before = broker.status.clone().unwrap_or_default();
    let mut conditions = Conditions { before: &before.conditions, list: Vec::new(), generation: broker.metadata.generation, now };

    let certificates = view.certificates();
    let config = view.config();
    let bucket = view.bucket();
    let prefix = view.prefix();
    let available = view.available();
    let progressing = view.progressing();
    let hibernated = match broker.spec.replicas {
        0 => Finding::yes("Replicas0", "state is in the bucket; replicas 1 wakes the broker"),
        _ => Finding::no("Awake", ""),
    };
    let ready = view.ready(&[&config, &certificates, &bucket], &prefix, &available, &progressing);
    let warning = view.warning(settings);
    for (type_, finding) in [
        ("Ready", &ready),
        ("Available", &available),
        ("Progressing", &progressing),
        ("ConfigApplied", &config),
        ("CertificatesValid", &certificates),
        ("BucketHealthy", &bucket),
        ("PrefixInUse", &prefix),
        ("Paused", &Finding::no("NotPaused", "")),
        ("Hibernated", &hibernated),
        ("Warning", &warning),
    ] {
        conditions.add(type_, finding);
    }

    let phase = view.phase(&ready, &available, &progressing, outcome);
    let numbers = deployment.and_then(|deployment| deployment.status.clone()).unwrap_or_default();
    let applied = outcome.applied.as_ref();
    let reload_hash = applied.map(|applied| applied.revision.clone()).or(before.reload_hash);
    MqttBrokerStatus {
        observed_generation: broker.metadata.generation,
        phase: Some(phase),
        message: Some(if ready.is_true() { String::new() } else { ready.message.clone() }),
        conditions: conditions.list,
        replicas: numbers.replicas.unwrap_or_default(),
        ready_replicas: numbers.ready_replicas.unwrap_or_default(),
        updated_replicas: numbers.updated_replicas.unwrap_or_default(),
        selector: Some(
            names::selector(&broker.name_any()).iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(","),
        ),
        version: view.serving().and_then(|pod| pod.says.as_ref()).map(|says| says.version.clone()).or(before.version),
        image: deployment.and_then(image_of),
        restart_hash: applied.map(|applied| applied.restart_hash.clone()).or(before.restart_hash),
        applied_reload_hash: if config.is_true() && view.pods().any(|pod| pod.says.is_some()) {
            reload_hash.clone()
        } else {
            before.applied_reload_hash
        },
        reload_hash,
        listeners: listeners(observed, &outcome.certificates),
        bucket_owner: is_durable(broker).then(|| bucket_owner(broker, settings)),
        operator_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
    }
}

/// The status of a broker that is paused: what was told stays.
pub fn paused(broker: &MqttBroker, now: Time) -> MqttBrokerStatus {
    let mut status = broker.status.clone().unwrap_or_default();
    let mut conditions = Conditions { before: &[], list: Vec::new(), generation: broker.metadata.generation, now };
    conditions.before = broker.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    conditions.add("Paused", &Finding::yes("Annotation", "the annotation bucketmq.io/paused is \"true\": the operator changes nothing"));
    let paused = conditions.list.pop();
    match status.conditions.iter().position(|condition| condition.type_ == "Paused") {
        Some(at) => status.conditions.splice(at..=at, paused).for_each(drop),
        None => status.conditions.extend(paused),
    }
    status
}

/// The status of a broker whose bucket is being deleted.
pub fn deleting(broker: &MqttBroker, reason: &str, message: &str, now: Time) -> MqttBrokerStatus {
    let mut status = broker.status.clone().unwrap_or_default();
    let before = status.conditions.clone();
    let mut conditions = Conditions { before: &before, list: Vec::new(), generation: broker.metadata.generation, now };
    conditions.add("Ready", &Finding::no(reason, message));
    conditions.add("Available", &Finding::no(reason, message));
    status.conditions.retain(|condition| condition.type_ != "Ready" && condition.type_ != "Available");
    conditions.list.append(&mut status.conditions);
    status.conditions = conditions.list;
    status.phase = Some(Phase::Deleting);
    status.message = Some(message.to_owned());
    status
}

/// What changed between two statuses, to be told as events: whether it is a warning, the reason, the message.
pub fn transitions(before: &[Condition], after: &[Condition]) -> Vec<(bool, String, String)> {
    let mut told = Vec::new();
    for condition in after {
        let old = before.iter().find(|old| old.type_ == condition.type_);
        let is_same =
            old.is_some_and(|old| old.status == condition.status && old.reason == condition.reason && old.message == condition.message);
        // Progress is what status shows; Available says what Ready says.
        if is_same || matches!(condition.type_.as_str(), "Available" | "Progressing") {
            continue;
        }
        let good = match condition.type_.as_str() {
            "PrefixInUse" | "Warning" => "False",
            "Paused" | "Hibernated" => "",
            _ => "True",
        };
        let is_good = good.is_empty() || condition.status == good;
        // What was never bad need not be told as good again.
        if is_good && (old.is_none() && condition.type_ != "Ready" || good.is_empty() && condition.status == "False" && old.is_none()) {
            continue;
        }
        // Waiting is no trouble.
        let waits = matches!(condition.reason.as_str(), "ReloadPending" | "Starting" | "NoAnswer" | "Opening" | "RolloutInProgress");
        if waits {
            continue;
        }
        let text =
            if condition.message.is_empty() { format!("{} is {}", condition.type_, condition.status) } else { condition.message.clone() };
        told.push((!is_good, condition.reason.clone(), text));
    }
    told.dedup();
    told
}

/// One finding: what a condition says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    status: &'static str,
    reason: String,
    message: String,
}

impl Finding {
    fn yes(reason: &str, message: impl Into<String>) -> Self {
        Self { status: "True", reason: reason.to_owned(), message: message.into() }
    }

    fn no(reason: &str, message: impl Into<String>) -> Self {
        Self { status: "False", reason: reason.to_owned(), message: message.into() }
    }

    fn unknown(reason: &str, message: impl Into<String>) -> Self {
        Self { status: "Unknown", reason: reason.to_owned(), message: message.into() }
    }

    fn is_true(&self) -> bool {
        self.status == "True"
    }
}

struct Conditions<'a> {
    before: &'a [Condition],
    list: Vec<Condition>,
    generation: Option<i64>,
    now: Time,
}

impl Conditions<'_> {
    fn add(&mut self, type_: &str, finding: &Finding) {
        let old = self.before.iter().find(|old| old.type_ == type_);
        let since = old.filter(|old| old.status == finding.status).map(|old| old.last_transition_time.clone());
        let message: String = finding.message.chars().take(MESSAGE_MAX).collect();
        self.list.push(Condition {
            type_: type_.to_owned(),
            status: finding.status.to_owned(),
            reason: finding.reason.clone(),
            message,
            observed_generation: self.generation,
            last_transition_time: since.unwrap_or_else(|| self.now.clone()),
        });
    }
}

struct View<'a> {
    observed: &'a Observed,
    outcome: &'a Outcome,
    deployment: Option<&'a Deployment>,
    broker: &'a MqttBroker,
}

impl View<'_> {
    /// Pods that are not on their way out.
    fn pods(&self) -> impl Iterator<Item = &PodView> {
        self.observed.pods.iter().filter(|pod| !pod.is_terminating)
    }

    /// The pod that serves.
    fn serving(&self) -> Option<&PodView> {
        self.observed.pods.iter().find(|pod| pod.says.as_ref().is_some_and(|says| says.ready))
    }

    fn problem(&self, about: About) -> Option<Finding> {
        let mut found: Vec<&Problem> = self.outcome.problems.iter().filter(|problem| problem.about == about).collect();
        found.sort();
        let first = found.first()?;
        let message: Vec<&str> = found.iter().map(|problem| problem.message.as_str()).collect();
        Some(Finding::no(first.reason, message.join("; ")))
    }

    fn certificates(&self) -> Finding {
        if let Some(finding) = self.problem(About::Certificates) {
            return finding;
        }
        if self.broker.spec.listeners.iter().all(|listener| listener.tls.is_none()) {
            return Finding::yes("NoTls", "");
        }
        Finding::yes("Valid", "")
    }

    fn config(&self) -> Finding {
        if let Some(finding) = self.problem(About::Config) {
            return finding;
        }
        if let Some(refused) = &self.outcome.refused {
            return Finding::no("NotApplied", refused.clone());
        }
        let Some(applied) = &self.outcome.applied else {
            return Finding::no("Blocked", "something else has to be repaired first: see the other conditions");
        };
        for pod in self.pods() {
            let Some(says) = &pod.says else { continue };
            if let Some(error) = says.last_reload.as_ref().filter(|reload| !reload.ok).and_then(|reload| reload.error.as_ref()) {
                return Finding::no("InvalidConfig", format!("pod {} keeps what was in force before: {error}", pod.name));
            }
            let certificates = self.outcome.certificates.iter().all(|(listener, wanted)| {
                says.certificates.is_empty()
                    || says.certificates.iter().any(|has| has.listener == *listener && has.sha256 == wanted.fingerprint)
            });
            // A pod that waits for its turn has read its configuration when it began.
            let has_revision = says.revision.as_ref().is_none_or(|revision| *revision == applied.revision);
            let has_users = says.users_hash.as_ref().is_none_or(|hash| *hash == applied.users_hash);
            if !(has_revision && has_users && certificates) {
                return Finding::no("ReloadPending", format!("pod {} has not taken over the newest configuration yet", pod.name));
            }
        }
        Finding::yes("Applied", "")
    }

    fn bucket(&self) -> Finding {
        if let Some(finding) = self.problem(About::Bucket) {
            return finding;
        }
        if self.broker.spec.persistence.level == Level::Memory {
            return Finding::yes("NoBucket", "state ends with the pod");
        }
        // The newest pod knows what is asked of it now; of several the one with a trouble.
        let says = |pod: &PodView| pod.says.as_ref().and_then(|says| says.bucket.clone()).map(|bucket| (pod.name.clone(), bucket));
        let all: Vec<_> = self.pods().filter_map(says).collect();
        if let Some((_, bucket)) =
            all.iter().find(|(_, bucket)| !bucket.healthy && !matches!(bucket.reason.as_str(), "PrefixInUse" | "Opening"))
        {
            return Finding::no(&bucket.reason, bucket.message.clone());
        }
        if all.iter().any(|(_, bucket)| bucket.healthy) {
            return Finding::yes("Healthy", "");
        }
        match all.first() {
            Some((_, bucket)) if bucket.reason == "Opening" => Finding::unknown("Opening", "the broker opens its shards"),
            Some(_) => Finding::unknown("Waiting", "the broker waits for its turn"),
            None => Finding::unknown("NoAnswer", "no pod says how the bucket is"),
        }
    }

    fn prefix(&self) -> Finding {
        let mut says = self.pods().filter_map(|pod| pod.says.as_ref()?.bucket.as_ref());
        match says.find(|bucket| bucket.reason == "PrefixInUse") {
            Some(bucket) => Finding::yes("OwnedByAnother", bucket.message.clone()),
            None => Finding::no("Free", ""),
        }
    }

    fn available(&self) -> Finding {
        if self.pods().any(|pod| pod.is_ready) || self.observed.pods.iter().any(|pod| pod.is_ready) {
            return Finding::yes("Serving", "");
        }
        if self.broker.spec.replicas == 0 {
            return Finding::no("Hibernated", "replicas is 0");
        }
        match self.trouble() {
            Some(finding) => finding,
            None => Finding::no("NoReadyReplicas", "no pod is ready yet"),
        }
    }

    /// Why a pod does not run.
    fn trouble(&self) -> Option<Finding> {
        let (pod, trouble) = self.pods().find_map(|pod| Some((pod, pod.trouble.as_ref()?)))?;
        Some(Finding::no(&trouble.reason, format!("pod {}: {}", pod.name, trouble.message)))
    }

    fn progressing(&self) -> Finding {
        let Some(deployment) = self.deployment else {
            return match self.outcome.applied {
                Some(_) => Finding::yes("Starting", "the Deployment is being made"),
                None => Finding::no("Blocked", ""),
            };
        };
        if self.outcome.waits_for_slot {
            return Finding::yes("WaitingForSlot", "as many other brokers as allowed are being replaced: this one waits");
        }
        let wanted = self.outcome.applied.as_ref().map(|applied| applied.restart_hash.as_str());
        if self.broker.spec.update_strategy.paused
            && wanted.is_some_and(|wanted| names::annotation(deployment, names::RESTART_HASH) != Some(wanted))
        {
            return Finding::no("UpdatePaused", "updateStrategy.paused holds back a new pod template");
        }
        if is_rolling(deployment) {
            let stalled = deployment
                .status
                .as_ref()
                .and_then(|status| status.conditions.as_deref())
                .unwrap_or_default()
                .iter()
                .any(|condition| condition.type_ == "Progressing" && condition.reason.as_deref() == Some("ProgressDeadlineExceeded"));
            if stalled {
                let message =
                    self.trouble().map(|finding| finding.message).unwrap_or_else(|| "the new pod does not become ready".to_owned());
                return Finding::no("Stalled", message);
            }
            return Finding::yes("RolloutInProgress", "a pod is starting or being replaced");
        }
        Finding::no("NoChange", "")
    }

    fn ready(&self, parts: &[&Finding], prefix: &Finding, available: &Finding, progressing: &Finding) -> Finding {
        if self.broker.spec.replicas == 0 {
            return Finding::no("Hibernated", "replicas is 0: state is in the bucket");
        }
        if prefix.is_true() {
            return Finding::no("PrefixInUse", prefix.message.clone());
        }
        // What a person has to change comes before what only takes its time.
        if let Some(part) =
            parts.iter().find(|part| part.status == "False" && !matches!(part.reason.as_str(), "ReloadPending" | "Expiring" | "Blocked"))
        {
            return Finding::no(&part.reason, part.message.clone());
        }
        if progressing.reason == "Stalled" {
            return Finding::no("Stalled", progressing.message.clone());
        }
        if let Some(finding) = self.trouble() {
            return finding;
        }
        if !available.is_true() {
            return Finding::no(&available.reason, available.message.clone());
        }
        if progressing.is_true() {
            return Finding::no(&progressing.reason, progressing.message.clone());
        }
        match parts.iter().find(|part| !part.is_true() && part.reason != "Expiring") {
            Some(part) => Finding::no(&part.reason, part.message.clone()),
            None => Finding::yes("Serving", ""),
        }
    }

    fn warning(&self, settings: &Settings) -> Finding {
        let mut reasons: Vec<(&str, String)> = Vec::new();
        for listener in &self.broker.spec.listeners {
            let is_outside = matches!(listener.expose.type_, ServiceType::LoadBalancer | ServiceType::NodePort);
            if is_outside && listener.tls.is_none() {
                reasons.push(("PlaintextListener", format!("listener {} is reached from outside without tls", listener.name)));
            }
        }
        let image = self.deployment.and_then(image_of);
        if self.broker.spec.image.is_none() && image.as_ref().is_some_and(|image| *image != settings.image) {
            let message = format!(
                "the operator brings {}: it is used when the pod is replaced, or with the annotation bucketmq.io/restart",
                settings.image
            );
            reasons.push(("UpdateAvailable", message));
        }
        match reasons.first() {
            Some((reason, _)) => {
                let messages: Vec<&str> = reasons.iter().map(|(_, message)| message.as_str()).collect();
                Finding::yes(reason, messages.join("; "))
            }
            None => Finding::no("Nothing", ""),
        }
    }

    fn phase(&self, ready: &Finding, available: &Finding, progressing: &Finding, outcome: &Outcome) -> Phase {
        if self.broker.spec.replicas == 0 {
            return Phase::Hibernated;
        }
        if ready.is_true() {
            return Phase::Running;
        }
        if available.is_true() {
            return if progressing.is_true() { Phase::Updating } else { Phase::Degraded };
        }
        if self.deployment.is_none() && outcome.applied.is_none() {
            return Phase::Pending;
        }
        let is_first = self.broker.status.as_ref().is_none_or(|status| status.version.is_none());
        let waits = self.trouble().is_none_or(|finding| finding.reason == "Unschedulable");
        if is_first && waits { Phase::Provisioning } else { Phase::Failed }
    }
}

/// Whether pods are being made or replaced.
pub fn is_rolling(deployment: &Deployment) -> bool {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let Some(status) = &deployment.status else { return wanted > 0 };
    let seen = status.observed_generation.unwrap_or_default() >= deployment.metadata.generation.unwrap_or_default();
    let (all, updated, available) =
        (status.replicas.unwrap_or_default(), status.updated_replicas.unwrap_or_default(), status.available_replicas.unwrap_or_default());
    !seen || all != wanted || updated != wanted || available != wanted
}

fn image_of(deployment: &Deployment) -> Option<String> {
    deployment.spec.as_ref()?.template.spec.as_ref()?.containers.first()?.image.clone()
}

fn listeners(observed: &Observed, certificates: &BTreeMap<String, CertificateStatus>) -> Vec<ListenerStatus> {
    let broker = &observed.broker;
    let (name, namespace) = (broker.name_any(), broker.namespace().unwrap_or_default());
    let status = |listener: &crate::crd::Listener| {
        let scheme = match (listener.protocol, listener.tls.is_some()) {
            (Protocol::Mqtt, false) => "mqtt",
            (Protocol::Mqtt, true) => "mqtts",
            (Protocol::WebSocket, false) => "ws",
            (Protocol::WebSocket, true) => "wss",
        };
        let (host, port) = match listener.expose.type_ {
            ServiceType::None => (names::headless(&name), listener.port),
            _ => (names::listener(&name, &listener.name), listener.expose.service_port.unwrap_or(listener.port)),
        };
        let path = match listener.protocol {
            Protocol::WebSocket => listener.web_socket_path.as_deref().unwrap_or("/mqtt"),
            Protocol::Mqtt => "",
        };
        let service = named(&observed.live.services, &names::listener(&name, &listener.name));
        let ingress = service.and_then(|service| service.status.as_ref()?.load_balancer.as_ref()?.ingress.clone()).unwrap_or_default();
        ListenerStatus {
            name: listener.name.clone(),
            url: format!("{scheme}://{host}.{namespace}.svc.{}:{port}{path}", broker.spec.cluster_domain),
            addresses: ingress.into_iter().filter_map(|ingress| ingress.hostname.or(ingress.ip)).take(16).collect(),
            tls: certificates.get(&listener.name).cloned(),
        }
    };
    broker.spec.listeners.iter().map(status).collect()
}

#[cfg(test)]
mod tests;
