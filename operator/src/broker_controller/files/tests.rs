//! Secrets that are missing, wrong, changed, or as before.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;

use super::{Files, Source, gather, known_versions, referenced};
use crate::broker_controller::fixtures::{NOW, broker};
use crate::crd::MqttBroker;
use crate::names::SOURCES;
use crate::pki::{Authority, Lives};

fn tls_broker() -> MqttBroker {
    broker(
        json!({ "persistence": { "level": "Memory" }, "listeners": [{ "name": "mqtts", "port": 8883, "tls": { "secretRef": { "name": "server" } } }] }),
    )
}

fn pair() -> BTreeMap<String, ByteString> {
    let authority = Authority::get_or_make(None, "test", NOW).unwrap();
    let (chain, key) = authority.issue(&["a.example".to_owned()], Lives::default().certificate, NOW).unwrap();
    [("tls.crt".to_owned(), ByteString(chain.into_bytes())), ("tls.key".to_owned(), ByteString(key.into_bytes()))].into()
}

fn read(data: BTreeMap<String, ByteString>) -> BTreeMap<String, Source> {
    [("server".to_owned(), Source::Read { version: "v2".to_owned(), data })].into()
}

fn kept(files: &Files) -> Secret {
    let data = files.data.iter().map(|(key, bytes)| (key.clone(), ByteString(bytes.clone()))).collect();
    let mut secret = Secret { data: Some(data), ..Secret::default() };
    secret.metadata.annotations = Some([(SOURCES.to_owned(), files.sources_text())].into());
    secret
}

fn gathered(broker: &MqttBroker, sources: &BTreeMap<String, Source>, kept: Option<&Secret>) -> Files {
    gather(broker, sources, kept, None, &BTreeMap::new(), &Lives::default(), NOW)
}

#[test]
fn a_secret_that_is_not_there_is_named_and_blocks_the_first_time() {
    let files = gathered(&tls_broker(), &[("server".to_owned(), Source::Missing)].into(), None);
    assert_eq!(files.problems.len(), 1);
    assert_eq!(files.problems[0].reason, "SecretNotFound");
    assert!(files.problems[0].is_blocking);
    assert!(files.problems[0].message.contains("listener mqtts, tls: there is no Secret server"), "{}", files.problems[0].message);
}

#[test]
fn a_pair_that_does_not_fit_leaves_the_one_before_in_force() {
    let broker = tls_broker();
    let good = gathered(&broker, &read(pair()), None);
    assert_eq!(good.problems, []);
    assert_eq!(good.certificates["mqtts"].fingerprint.len(), 64);
    let mut wrong = pair();
    wrong.insert("tls.key".to_owned(), pair()["tls.key"].clone());
    let after = gathered(&broker, &read(wrong), Some(&kept(&good)));
    assert_eq!(after.data, good.data);
    assert_eq!((after.problems[0].reason, after.problems[0].is_blocking), ("KeyMismatch", false));
    assert!(!after.sources.contains_key("server"), "it is read again when it changes");
}

#[test]
fn what_has_not_changed_is_kept_without_reading_it() {
    let broker = tls_broker();
    let good = gathered(&broker, &read(pair()), None);
    assert_eq!(known_versions(Some(&kept(&good)))["server"], "v2");
    let unchanged = [("server".to_owned(), Source::Unchanged { version: "v2".to_owned() })].into();
    assert_eq!(gathered(&broker, &unchanged, Some(&kept(&good))), good);
}

#[test]
fn a_certificate_that_ends_soon_or_has_ended_is_told() {
    let broker = tls_broker();
    let good = gathered(&broker, &read(pair()), None);
    let unchanged = [("server".to_owned(), Source::Unchanged { version: "v2".to_owned() })].into();
    let later = gather(&broker, &unchanged, Some(&kept(&good)), None, &BTreeMap::new(), &Lives::default(), NOW + 84 * 86_400);
    assert_eq!(later.problems[0].reason, "Expiring");
    assert!(!later.problems[0].is_blocking);
    let ended = gather(&broker, &read(pair()), None, None, &BTreeMap::new(), &Lives::default(), NOW + 91 * 86_400);
    assert_eq!((ended.problems[0].reason, ended.problems[0].is_blocking), ("Expired", true));
}

#[test]
fn a_certificate_that_lives_for_hours_is_not_always_about_to_end() {
    let authority = Authority::get_or_make(None, "test", NOW).unwrap();
    let (chain, key) = authority.issue(&["a.example".to_owned()], std::time::Duration::from_secs(2 * 3600), NOW).unwrap();
    let data =
        BTreeMap::from([("tls.crt".to_owned(), ByteString(chain.into_bytes())), ("tls.key".to_owned(), ByteString(key.into_bytes()))]);
    let at = |now| gather(&tls_broker(), &read(data.clone()), None, None, &BTreeMap::new(), &Lives::default(), now).problems;
    assert!(at(NOW + 90 * 60).is_empty());
    assert_eq!(at(NOW + 110 * 60)[0].reason, "Expiring");
}

#[test]
fn what_cert_manager_has_not_issued_is_told_with_its_reason() {
    let tls = json!({ "certManager": { "issuerRef": { "name": "team" } } });
    let broker = broker(json!({ "persistence": { "level": "Memory" }, "listeners": [{ "name": "mqtts", "port": 8883, "tls": tls }] }));
    let secret = referenced(&broker).into_iter().next().unwrap();
    let waiting = BTreeMap::from([(secret.clone(), "cert-manager has not issued it yet: no issuer".to_owned())]);
    let missing = BTreeMap::from([(secret, Source::Missing)]);
    let files = gather(&broker, &missing, None, None, &waiting, &Lives::default(), NOW);
    assert_eq!((files.problems[0].reason, files.problems[0].is_blocking), ("NotIssued", true));
    assert!(files.problems[0].message.ends_with("no issuer"), "{}", files.problems[0].message);
}

#[test]
fn our_own_certificate_is_made_once_and_again_before_it_ends() {
    let broker = broker(
        json!({ "persistence": { "level": "Memory" }, "listeners": [{ "name": "mqtts", "port": 8883, "tls": { "internal": { "dnsNames": ["mqtt.example"] } } }] }),
    );
    let first = gathered(&broker, &BTreeMap::new(), None);
    let authority = Secret {
        data: first.authority.clone().map(|data| data.into_iter().map(|(key, bytes)| (key, ByteString(bytes))).collect()),
        ..Secret::default()
    };
    let at = |now| gather(&broker, &BTreeMap::new(), Some(&kept(&first)), Some(&authority), &BTreeMap::new(), &Lives::default(), now);
    assert_eq!(at(NOW + 59 * 86_400).data, first.data);
    let renewed = at(NOW + 61 * 86_400);
    assert_ne!(renewed.data["tls-mqtts.crt"], first.data["tls-mqtts.crt"]);
    assert_eq!(renewed.authority, first.authority);
    assert_eq!(first.renewal_at, Some(NOW + 60 * 86_400));
}

#[test]
fn credentials_become_the_file_their_provider_reads() {
    let broker = broker(
        json!({ "persistence": { "bucket": { "name": "bucket", "credentials": { "type": "SecretRef", "secretRef": { "name": "keys" } } } } }),
    );
    assert_eq!(referenced(&broker).into_iter().collect::<Vec<_>>(), ["keys"]);
    let data = |pairs: &[(&str, &str)]| -> BTreeMap<String, Source> {
        let data = pairs.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec()))).collect();
        [("keys".to_owned(), Source::Read { version: "v".to_owned(), data })].into()
    };
    let files = gathered(&broker, &data(&[("accessKeyId", "id"), ("secretAccessKey", "secret\n")]), None);
    let text = String::from_utf8(files.data["bucket-credentials"].clone()).unwrap();
    assert_eq!(text, "[default]\naws_access_key_id = id\naws_secret_access_key = secret\n");
    let files = gathered(&broker, &data(&[("accessKeyId", "id")]), None);
    assert_eq!(files.problems[0].reason, "KeyNotFound");
    assert!(files.problems[0].message.contains("the key secretAccessKey is missing"), "{}", files.problems[0].message);
    assert!(!files.problems[0].message.contains("id\n"));
}
