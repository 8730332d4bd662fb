//! Asks cert-manager for certificates. This comes before everything else: what is issued is what the rest waits for.
//!
//! Promise: what cert-manager does not do is told with its own words; what it issued before stays in force meanwhile.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, Preconditions};
use kube::core::Status;

use super::build::{certificate_resource, certificates};
use super::files;
use super::validate::{About, Problem};
use crate::apply::{Applier, ApplyError};
use crate::crd::MqttBroker;
use crate::names::{self, FIELD_MANAGER, INSTANCE, MANAGED};

/// The reason of what cert-manager has not done.
pub const NOT_ISSUED: &str = "NotIssued";

/// What came of asking.
#[derive(Debug, Default)]
pub struct Issuing {
    /// Why a Secret that cert-manager shall write may not be there, by its name.
    pub waiting: BTreeMap<String, String>,
    /// What keeps cert-manager from renewing what is there.
    pub problems: Vec<Problem>,
}

/// Makes the Certificates that `broker` wants, and deletes those it does not want any more. `kept`: the Secret with what was issued before.
pub async fn ask(applier: &Applier<'_>, broker: &MqttBroker, kept: Option<&Secret>) -> Result<Issuing, ApplyError> {
    let wanted = certificates(broker);
    let mut issuing = Issuing::default();
    for certificate in &wanted {
        let name = certificate.name_any();
        let secret = certificate.data["spec"]["secretName"].as_str().unwrap_or_default().to_owned();
        match make(applier, certificate).await {
            Ok(live) => {
                issuing.waiting.extend(
                    why_not_ready(live.as_ref()).map(|why| (secret, format!("cert-manager has not issued Certificate {name} yet: {why}"))),
                );
            }
            Err(error) => {
                let why = refusal(error)?;
                issuing.problems.push(Problem { about: About::Certificates, reason: NOT_ISSUED, message: why.clone(), is_blocking: false });
                issuing.waiting.insert(secret, why);
            }
        }
    }
    if may_have_others(broker, kept) {
        prune(applier, broker, &wanted).await?;
    }
    Ok(issuing)
}

fn api(applier: &Applier<'_>) -> Api<DynamicObject> {
    Api::namespaced_with(applier.client.clone(), applier.namespace, &certificate_resource())
}

/// Makes one what it should be. cert-manager's kinds are not watched: few brokers have them, and the cluster may not know them.
async fn make(applier: &Applier<'_>, wanted: &DynamicObject) -> Result<Option<DynamicObject>, ApplyError> {
    let (api, name) = (api(applier), wanted.name_any());
    let failed = |source| ApplyError::Api { kind: certificate_resource().kind, name: name.clone(), source };
    let live = match api.get(&name).await {
        Ok(live) => Some(live),
        Err(kube::Error::Api(status)) if is_absent(&status) => None,
        Err(error) => return Err(failed(error)),
    };
    if !crate::apply::differs(wanted, live.as_ref(), applier.uid)? {
        return Ok(live);
    }
    let marked = crate::apply::marked(wanted);
    let live = api.patch(&name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&marked)).await.map_err(failed)?;
    applier.metrics.applied("Certificate", true);
    Ok(Some(live))
}

/// Whether there is no object of this name, and not no such kind: of that the API server says less. Then nothing is tried that cannot be.
fn is_absent(status: &Status) -> bool {
    status.code == 404 && status.details.as_ref().is_some_and(|details| !details.name.is_empty())
}

/// What a person has to change; `Err`: what is worth another try.
fn refusal(error: ApplyError) -> Result<String, ApplyError> {
    match &error {
        ApplyError::Foreign { .. } => Ok(error.to_string()),
        ApplyError::Api { source: kube::Error::Api(status), .. } if status.code == 404 => {
            Ok("tls.certManager: this cluster has no cert-manager: install it, or use tls.internal or tls.secretRef".to_owned())
        }
        ApplyError::Api { source: kube::Error::Api(status), name, .. }
            if matches!(status.code, 400 | 403 | 422) && !error.is_terminating_namespace() =>
        {
            Ok(format!("tls.certManager: the API server refuses Certificate {name}: {}", status.message))
        }
        ApplyError::Api { .. } => Err(error),
    }
}

/// What the Certificate's condition says, unless it is Ready.
fn why_not_ready(live: Option<&DynamicObject>) -> Option<String> {
    let none = Vec::new();
    let conditions = live.and_then(|live| live.data["status"]["conditions"].as_array()).unwrap_or(&none);
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready");
    match ready {
        Some(ready) if ready["status"] == "True" => None,
        Some(ready) => Some(ready["message"].as_str().filter(|text| !text.is_empty()).unwrap_or("it does not say why").to_owned()),
        None => Some("it has not looked at it. Is cert-manager running?".to_owned()),
    }
}

/// Whether there may be Certificates of listeners that do not want one any more: something was issued for one, or nothing had been issued yet.
fn may_have_others(broker: &MqttBroker, kept: Option<&Secret>) -> bool {
    let referenced = files::referenced(broker);
    let prefix = format!("{}-", broker.name_any());
    let was_issued = |secret: &String| secret.starts_with(&prefix) && secret.ends_with("-tls") && !referenced.contains(secret);
    let conditions = broker.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    files::known_versions(kept).keys().any(was_issued) || conditions.iter().any(|condition| condition.reason == NOT_ISSUED)
}

async fn prune(applier: &Applier<'_>, broker: &MqttBroker, wanted: &[DynamicObject]) -> Result<(), ApplyError> {
    let api = api(applier);
    let labels = format!("{MANAGED},{INSTANCE}={}", broker.name_any());
    let failed = |source| ApplyError::Api { kind: certificate_resource().kind, name: labels.clone(), source };
    let there = match api.list(&ListParams::default().labels(&labels)).await {
        Ok(list) => list.items,
        // The cluster does not know the kind.
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    for certificate in there {
        let name = certificate.name_any();
        if !names::is_child_of(&certificate, applier.uid) || wanted.iter().any(|wanted| wanted.name_any() == name) {
            continue;
        }
        let preconditions = Some(Preconditions { uid: certificate.uid(), resource_version: None });
        match api.delete(&name, &DeleteParams { preconditions, ..DeleteParams::background() }).await {
            Ok(_) => tracing::info!(kind = "Certificate", name, namespace = applier.namespace, "deleted, nobody wants it any more"),
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn certificate(conditions: serde_json::Value) -> DynamicObject {
        DynamicObject::new("fleet-mqtts", &certificate_resource()).data(json!({ "status": { "conditions": conditions } }))
    }

    #[test]
    fn a_certificate_that_is_not_ready_is_told_in_the_words_of_cert_manager() {
        let message = "Issuing certificate as Secret does not exist";
        let waits =
            certificate(json!([{ "type": "Issuing", "status": "True" }, { "type": "Ready", "status": "False", "message": message }]));
        assert_eq!(why_not_ready(Some(&waits)).as_deref(), Some(message));
        assert_eq!(why_not_ready(Some(&certificate(json!([{ "type": "Ready", "status": "True" }])))), None);
        assert!(why_not_ready(Some(&certificate(json!([])))).is_some_and(|why| why.contains("running")));
    }

    #[test]
    fn a_kind_that_is_not_there_is_not_an_object_that_is_not_there() {
        let status = |text: &str| serde_json::from_str::<Status>(text).unwrap();
        let absent = r#"{ "code": 404, "reason": "NotFound", "message": "certificates.cert-manager.io \"a\" not found", "details": { "name": "a", "group": "cert-manager.io", "kind": "certificates" } }"#;
        assert!(is_absent(&status(absent)));
        assert!(!is_absent(&status(
            r#"{ "code": 404, "reason": "NotFound", "message": "the server could not find the requested resource", "details": {} }"#
        )));
        assert!(!is_absent(&status(r#"{ "code": 404, "message": "404 page not found" }"#)));
    }

    #[test]
    fn others_are_looked_for_only_when_there_may_be_some() {
        let spec = json!({ "persistence": { "level": "Memory" }, "listeners": [{ "name": "mqtts", "tls": { "secretRef": { "name": "mine-tls" } } }] });
        let mut broker = MqttBroker::new("fleet", serde_json::from_value(spec).unwrap());
        let kept = |sources: serde_json::Value| -> Secret {
            serde_json::from_value(json!({ "metadata": { "annotations": { names::SOURCES: sources.to_string() } } })).unwrap()
        };
        assert!(!may_have_others(&broker, None) && !may_have_others(&broker, Some(&kept(json!({ "mine-tls": "7" })))));
        assert!(may_have_others(&broker, Some(&kept(json!({ "fleet-mqtts-tls": "7" })))));
        broker.status =
            serde_json::from_value(json!({ "conditions": [{ "type": "CertificatesValid", "status": "False", "reason": NOT_ISSUED,
            "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" }], "listeners": [] }))
            .unwrap();
        assert!(may_have_others(&broker, None));
    }
}
