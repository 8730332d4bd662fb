//! What is built of a broker, compared with what is kept in `golden/`; and what replaces a pod and what does not.

use bucketmq::config::Config;
use serde_json::{Value, json};

use super::deployment::restart_hash;
use super::{Children, build, certificates};
use crate::broker_controller::files::{Files, gather};
use crate::broker_controller::fixtures::{NOW, broker, durable, role, settings};
use crate::broker_controller::users::Users;
use crate::broker_controller::validate::validate;
use crate::crd::MqttBroker;
use crate::names::POD_TEMPLATE;
use crate::pki::{Authority, Lives};

/// The golden object with every field, in this namespace.
fn everything() -> MqttBroker {
    let text = include_str!("../../../tests/golden/v1alpha1/everything.yaml");
    let mut broker: MqttBroker = serde_saphyr::from_str(text).unwrap();
    broker.metadata.namespace = Some("team".to_owned());
    broker.metadata.uid = Some("u-1".to_owned());
    broker
}

/// What Secrets hold does not belong into a comparison.
fn children(broker: &MqttBroker) -> Children {
    let files = Files { data: [("tls-mqtts.crt".to_owned(), b"pem".to_vec())].into(), ..Files::default() };
    let users = Users { text: "ann:!:operator\n".to_owned(), ..Users::default() };
    let roles = [
        role(
            "guest",
            json!({ "rules": [{ "operations": ["Connect"] }, { "operations": ["Publish", "Subscribe"], "topics": ["a/#", "b"] }] }),
        ),
        role(
            "device",
            json!({ "acknowledge": "Durable", "rules": [{ "action": "Deny", "operations": ["Connect"], "clientIds": ["x*"] }] }),
        ),
    ];
    let roles: Vec<_> = roles.iter().map(AsRef::as_ref).collect();
    let valid = validate(broker, &roles, &files, &users, None, &settings()).unwrap();
    build(&valid, &settings())
}

fn yaml(broker: &MqttBroker) -> String {
    let Children { service_account, authority, files, users, config, services, network_policy, deployment } = children(broker);
    let value = |object: &dyn erased::Json| object.json();
    let mut objects: Vec<Value> = Vec::new();
    objects.extend(service_account.iter().map(|object| value(object)));
    objects.extend(authority.iter().chain([&files, &users]).map(|object| value(object)));
    objects.push(value(&config));
    objects.extend(services.iter().map(|object| value(object)));
    objects.extend(network_policy.iter().map(|object| value(object)));
    objects.extend(certificates(broker).iter().map(|object| value(object)));
    let mut deployment = value(&deployment);
    // It stands there once more as a text.
    deployment["metadata"]["annotations"][POD_TEMPLATE] = "as below".into();
    objects.push(deployment);
    let documents: Vec<String> = objects
        .into_iter()
        .map(|mut object| {
            object.sort_all_objects();
            format!("---\n{}", serde_saphyr::to_string(&object).unwrap())
        })
        .collect();
    documents.concat()
}

/// Any object as JSON.
mod erased {
    pub trait Json {
        fn json(&self) -> serde_json::Value;
    }

    impl<K: serde::Serialize> Json for K {
        fn json(&self) -> serde_json::Value {
            serde_json::to_value(self).unwrap()
        }
    }
}

/// Compares with the file; `UPDATE_GOLDEN=1` writes it anew, to be looked at.
fn is_golden(name: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/broker_controller/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == text, "{name} differs: look at it with UPDATE_GOLDEN=1 and git diff");
}

#[test]
fn a_broker_with_every_field_is_made_of_these_objects() {
    is_golden("everything.yaml", &yaml(&everything()));
}

#[test]
fn a_broker_that_says_only_where_its_state_lives_is_made_of_these_objects() {
    is_golden("smallest.yaml", &yaml(&durable()));
}

#[test]
fn the_same_is_built_each_time() {
    assert_eq!(yaml(&everything()), yaml(&everything()));
}

#[test]
fn the_broker_takes_every_configuration_that_is_rendered() {
    let folder = tempfile::tempdir().unwrap();
    for broker in [everything(), durable(), broker(json!({ "persistence": { "level": "Memory" } }))] {
        let config = children(&broker).config;
        let toml = &config.data.unwrap()["broker.toml"];
        let path = folder.path().join("broker.toml");
        std::fs::write(&path, toml).unwrap();
        let loaded = Config::load(Some(&path), std::iter::empty(), &Default::default()).unwrap_or_else(|error| panic!("{error}\n{toml}"));
        assert_eq!(loaded.config.listeners.len(), broker.spec.listeners.len());
    }
}

#[test]
fn what_is_reloaded_replaces_no_pod_and_everything_else_does() {
    let hash = |patch: Value| {
        let mut spec = json!({ "persistence": { "bucket": { "name": "bucket" } } });
        for (key, value) in patch.as_object().unwrap() {
            spec[key] = value.clone();
        }
        restart_hash(&broker(spec))
    };
    let before = hash(json!({}));
    for patch in [
        json!({ "limits": { "maxQos": 1 } }),
        json!({ "listeners": [{ "name": "other", "port": 1884 }] }),
        json!({ "replicas": 0 }),
        json!({ "authentication": { "certificateRoles": ["a"] } }),
        json!({ "observability": { "logging": { "level": "Debug" } } }),
        json!({ "updateStrategy": { "minReadySeconds": 9 } }),
        json!({ "networkPolicy": { "enabled": false } }),
        json!({ "persistence": { "level": "Buffered", "bucket": { "name": "bucket" }, "flushIntervalMilliseconds": 100, "deletionPolicy": "Delete" } }),
    ] {
        assert_eq!(hash(patch.clone()), before, "{patch}");
    }
    for patch in [
        json!({ "image": "other" }),
        json!({ "workload": { "nodeSelector": { "a": "b" } } }),
        json!({ "observability": { "logging": { "format": "Text" } } }),
        json!({ "persistence": { "bucket": { "name": "bucket", "region": "x" } } }),
        json!({ "persistence": { "bucket": { "name": "bucket" }, "snapshots": { "schedule": "@hourly" } } }),
        json!({ "persistence": { "level": "Memory" } }),
    ] {
        assert_ne!(hash(patch.clone()), before, "{patch}");
    }
}

#[test]
fn a_release_of_the_operator_with_another_image_leaves_the_pod_alone() {
    let broker = durable();
    let (files, users) = (Files::default(), Users::default());
    let first = build(&validate(&broker, &[], &files, &users, None, &settings()).unwrap(), &settings()).deployment;
    let mut newer = settings();
    newer.image = "registry.example/broker:2".to_owned();
    let again = build(&validate(&broker, &[], &files, &users, Some(&first), &newer).unwrap(), &newer).deployment;
    assert_eq!(first, again);
    let mut asked = broker.clone();
    asked.metadata.annotations = Some([("bucketmq.io/restart".to_owned(), "now".to_owned())].into());
    let restarted = build(&validate(&asked, &[], &files, &users, Some(&first), &newer).unwrap(), &newer).deployment;
    assert_eq!(restarted.spec.unwrap().template.spec.unwrap().containers[0].image.as_deref(), Some("registry.example/broker:2"));
}

#[test]
fn a_held_back_template_lets_everything_else_through() {
    let before = durable();
    let (files, users) = (Files::default(), Users::default());
    let first = build(&validate(&before, &[], &files, &users, None, &settings()).unwrap(), &settings()).deployment;
    let mut after = before;
    after.spec.image = Some("other".to_owned());
    after.spec.replicas = 0;
    let mut valid = validate(&after, &[], &files, &users, Some(&first), &settings()).unwrap();
    valid.holds_template = true;
    let held = build(&valid, &settings()).deployment.spec.unwrap();
    assert_eq!(held.replicas, Some(0));
    assert_eq!(held.template, first.spec.unwrap().template);
}

#[test]
fn another_content_of_a_file_is_another_revision() {
    let broker = durable();
    let users = Users::default();
    let revision = |files: &Files, users: &Users| validate(&broker, &[], files, users, None, &settings()).unwrap().rendered.revision;
    let files = |bytes: &[u8]| Files { data: [("a".to_owned(), bytes.to_vec())].into(), ..Files::default() };
    assert_eq!(revision(&files(b"1"), &users), revision(&files(b"1"), &users));
    assert_ne!(revision(&files(b"1"), &users), revision(&files(b"2"), &users));
    assert_ne!(revision(&files(b"1"), &users), revision(&files(b"1"), &Users { text: "a:!:\n".to_owned(), ..Users::default() }));
}

#[test]
fn a_broker_with_a_certificate_of_its_own_ca_gets_the_secret_of_the_ca() {
    let broker = broker(
        json!({ "persistence": { "level": "Memory" }, "listeners": [{ "name": "mqtts", "port": 8883, "tls": { "internal": {} } }] }),
    );
    let files = gather(&broker, &Default::default(), None, None, &Default::default(), &Lives::default(), NOW);
    assert_eq!(files.problems, []);
    let users = Users::default();
    let children = build(&validate(&broker, &[], &files, &users, None, &settings()).unwrap(), &settings());
    let data = children.authority.unwrap().data.unwrap();
    assert_eq!(data.keys().collect::<Vec<_>>(), ["ca.crt", "ca.key"]);
    let known = data.into_iter().map(|(key, bytes)| (key, bytes.0)).collect();
    assert!(Authority::get_or_make(Some(&known), "x", NOW).is_ok());
}

#[test]
fn the_job_that_deletes_gets_its_image_as_the_broker_does() {
    let job = super::deletion_job(&everything(), None, &settings());
    let pod = job.spec.and_then(|job| job.template.spec).unwrap();
    assert_eq!(pod.image_pull_secrets.unwrap()[0].name, "registry");
    assert_eq!(pod.containers[0].image.as_deref(), Some("registry.example/bucketmq/broker:0.1.0"));
    assert_eq!(pod.containers[0].image_pull_policy.as_deref(), Some("Always"));
}
