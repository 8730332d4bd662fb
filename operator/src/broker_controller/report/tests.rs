//! What is told, in which situation.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::{Applied, Outcome, is_settled, paused, status, transitions};
use crate::broker_controller::fixtures::{NOW, broker, durable, object, observed, settings};
use crate::broker_controller::observe::{Observed, PodView, Trouble};
use crate::broker_controller::validate::{About, Problem};
use crate::crd::{MqttBroker, MqttBrokerStatus, Phase};
use crate::readyz::{Bucket, LastReload, Readiness};

fn time(seconds: i64) -> Time {
    Time(Timestamp::from_second(seconds).unwrap())
}

fn applied() -> Outcome {
    let applied = Applied { revision: "r1".to_owned(), users_hash: "h1".to_owned(), restart_hash: "t1".to_owned() };
    Outcome { applied: Some(applied), ..Outcome::default() }
}

fn says() -> Readiness {
    Readiness {
        ready: true,
        version: "0.1.0".to_owned(),
        revision: Some("r1".to_owned()),
        users_hash: Some("h1".to_owned()),
        bucket: Some(Bucket { healthy: true, reason: "Healthy".to_owned(), message: String::new() }),
        ..Readiness::default()
    }
}

fn pod(says: Option<Readiness>) -> PodView {
    let is_ready = says.as_ref().is_some_and(|says| says.ready);
    PodView { name: "fleet-1".to_owned(), restart_hash: "t1".to_owned(), told: None, is_ready, is_terminating: false, says, trouble: None }
}

/// A broker with one pod, whose Deployment has come to rest.
fn at_rest(broker: MqttBroker, pod: PodView) -> Observed {
    let mut observed = observed(broker);
    let replicas = observed.broker.spec.replicas;
    observed.live.deployments = vec![Arc::new(object(json!({
        "metadata": { "name": "fleet", "generation": 1, "annotations": { "bucketmq.io/restart-hash": "t1" } },
        "spec": { "replicas": replicas, "selector": {}, "template": { "spec": { "containers": [{ "name": "broker", "image": "registry.example/broker:1" }] } } },
        "status": { "observedGeneration": 1, "replicas": replicas, "updatedReplicas": replicas, "readyReplicas": replicas, "availableReplicas": replicas },
    })))];
    observed.pods = vec![pod];
    observed
}

fn condition<'a>(status: &'a MqttBrokerStatus, type_: &str) -> &'a Condition {
    status.conditions.iter().find(|condition| condition.type_ == type_).unwrap()
}

fn told(status: &MqttBrokerStatus, type_: &str) -> (String, String) {
    let condition = condition(status, type_);
    (condition.status.clone(), condition.reason.clone())
}

fn is(status: &MqttBrokerStatus, type_: &str, value: &str, reason: &str) {
    assert_eq!(told(status, type_), (value.to_owned(), reason.to_owned()), "{type_}: {}", condition(status, type_).message);
}

#[test]
fn a_broker_that_serves_is_ready_and_settled() {
    let status = status(&at_rest(durable(), pod(Some(says()))), &applied(), &settings(), time(NOW));
    is(&status, "Ready", "True", "Serving");
    is(&status, "BucketHealthy", "True", "Healthy");
    is(&status, "ConfigApplied", "True", "Applied");
    assert_eq!(status.phase, Some(Phase::Running));
    assert_eq!(status.applied_reload_hash.as_deref(), Some("r1"));
    assert_eq!(status.bucket_owner.as_deref(), Some("c-1/team/fleet"));
    assert_eq!(status.listeners[0].url, "mqtt://fleet-mqtt.team.svc.cluster.local:1883");
    assert!(is_settled(&status));
}

#[test]
fn the_same_observation_is_the_same_status_at_any_time() {
    let first = status(&at_rest(durable(), pod(Some(says()))), &applied(), &settings(), time(NOW));
    let mut again = durable();
    again.status = Some(first.clone());
    let second = status(&at_rest(again, pod(Some(says()))), &applied(), &settings(), time(NOW + 100));
    assert_eq!(first, second);
    assert!(transitions(&first.conditions, &second.conditions).is_empty());
}

#[test]
fn a_pod_with_an_older_configuration_is_waited_for() {
    let older = Readiness { revision: Some("r0".to_owned()), ..says() };
    let status = status(&at_rest(durable(), pod(Some(older))), &applied(), &settings(), time(NOW));
    is(&status, "ConfigApplied", "False", "ReloadPending");
    is(&status, "Ready", "False", "ReloadPending");
    assert_eq!(status.applied_reload_hash, None);
    assert_eq!(status.phase, Some(Phase::Degraded));
}

#[test]
fn a_configuration_the_broker_refuses_is_told_with_its_words() {
    let refused = Readiness { last_reload: Some(LastReload { ok: false, error: Some("broker.toml:3: no".to_owned()) }), ..says() };
    let status = status(&at_rest(durable(), pod(Some(refused))), &applied(), &settings(), time(NOW));
    is(&status, "ConfigApplied", "False", "InvalidConfig");
    assert!(status.message.unwrap().contains("pod fleet-1 keeps what was in force before: broker.toml:3: no"));
}

#[test]
fn a_bucket_that_refuses_is_told_and_so_is_one_of_somebody_else() {
    let trouble = |reason: &str, message: &str| Readiness {
        ready: false,
        bucket: Some(Bucket { healthy: false, reason: reason.to_owned(), message: message.to_owned() }),
        ..says()
    };
    let denied = status(&at_rest(durable(), pod(Some(trouble("AccessDenied", "s3://x: no")))), &applied(), &settings(), time(NOW));
    is(&denied, "BucketHealthy", "False", "AccessDenied");
    is(&denied, "Ready", "False", "AccessDenied");
    let other = status(&at_rest(durable(), pod(Some(trouble("PrefixInUse", "belongs to c/n/b")))), &applied(), &settings(), time(NOW));
    is(&other, "PrefixInUse", "True", "OwnedByAnother");
    is(&other, "Ready", "False", "PrefixInUse");
    assert_eq!(other.message.as_deref(), Some("belongs to c/n/b"));
}

#[test]
fn what_blocks_is_told_while_the_pod_serves_on() {
    let problem = Problem::blocking(About::Certificates, "SecretNotFound", "listener mqtts: there is no Secret x".to_owned());
    let outcome = Outcome { problems: vec![problem], ..Outcome::default() };
    let status = status(&at_rest(durable(), pod(Some(says()))), &outcome, &settings(), time(NOW));
    is(&status, "Ready", "False", "SecretNotFound");
    is(&status, "Available", "True", "Serving");
    is(&status, "ConfigApplied", "False", "Blocked");
    assert_eq!(status.phase, Some(Phase::Degraded));
}

#[test]
fn a_pod_that_does_not_start_says_why() {
    let mut broken = pod(None);
    broken.trouble = Some(Trouble { reason: "ImagePullBackOff".to_owned(), message: "no such image".to_owned() });
    let mut observed = at_rest(durable(), broken);
    Arc::make_mut(&mut observed.live.deployments[0]).status.as_mut().unwrap().available_replicas = None;
    let status = status(&observed, &applied(), &settings(), time(NOW));
    is(&status, "Ready", "False", "ImagePullBackOff");
    assert_eq!(status.message.as_deref(), Some("pod fleet-1: no such image"));
}

#[test]
fn a_hibernated_broker_is_settled_and_not_ready() {
    let asleep = broker(json!({ "replicas": 0, "persistence": { "bucket": { "name": "bucket" } } }));
    let mut observed = at_rest(asleep, pod(None));
    observed.pods.clear();
    let status = status(&observed, &applied(), &settings(), time(NOW));
    is(&status, "Ready", "False", "Hibernated");
    is(&status, "Hibernated", "True", "Replicas0");
    assert_eq!(status.phase, Some(Phase::Hibernated));
    assert!(is_settled(&status));
}

#[test]
fn a_newer_image_and_a_plaintext_load_balancer_are_worth_a_warning() {
    let open =
        broker(json!({ "persistence": { "level": "Memory" }, "listeners": [{ "name": "mqtt", "expose": { "type": "LoadBalancer" } }] }));
    let mut newer = settings();
    newer.image = "registry.example/broker:2".to_owned();
    let status = status(&at_rest(open, pod(Some(says()))), &applied(), &newer, time(NOW));
    is(&status, "Warning", "True", "PlaintextListener");
    assert!(condition(&status, "Warning").message.contains("the operator brings registry.example/broker:2"));
    is(&status, "Ready", "True", "Serving");
}

#[test]
fn pausing_changes_one_condition_and_keeps_the_rest() {
    let first = status(&at_rest(durable(), pod(Some(says()))), &applied(), &settings(), time(NOW));
    let mut again = durable();
    again.status = Some(first.clone());
    let stopped = paused(&again, time(NOW + 5));
    is(&stopped, "Paused", "True", "Annotation");
    is(&stopped, "Ready", "True", "Serving");
    let events = transitions(&first.conditions, &stopped.conditions);
    assert_eq!(events.len(), 1);
    assert!(!events[0].0);
}

#[test]
fn trouble_and_its_end_are_events_and_what_was_always_well_is_not() {
    let well = status(&at_rest(durable(), pod(Some(says()))), &applied(), &settings(), time(NOW));
    let first = transitions(&[], &well.conditions);
    assert_eq!(first.iter().map(|(_, reason, _)| reason.as_str()).collect::<Vec<_>>(), ["Serving"]);
    let problem = Problem::blocking(About::Config, "RoleNotFound", "there is no MqttRole x".to_owned());
    let outcome = Outcome { problems: vec![problem], ..Outcome::default() };
    let bad = status(&at_rest(durable(), pod(Some(says()))), &outcome, &settings(), time(NOW));
    let events = transitions(&well.conditions, &bad.conditions);
    assert!(
        events.iter().any(|(is_warning, reason, message)| *is_warning && reason == "RoleNotFound" && message.contains("MqttRole x")),
        "{events:?}"
    );
    let again = transitions(&bad.conditions, &well.conditions);
    assert!(again.iter().any(|(is_warning, reason, _)| !*is_warning && reason == "Serving"), "{again:?}");
}
