//! Certificates from cert-manager: the real one, as a process of this machine.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use bucketmq_local_cluster::cache;
use bucketmq_operator::crd::MqttBroker;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::Verdict;
use crate::operator::Options;
use crate::space::condition;
use crate::world::OPERATOR_USER;
use crate::{Measured, Space, World};

/// Until cert-manager has done something, on a machine that is busy.
const ISSUED: Duration = Duration::from_secs(60);

/// A file of the cert-manager that `e2e/cluster/install` has built.
fn installed(name: &str) -> anyhow::Result<PathBuf> {
    let path = cache()?.join("cert-manager").join(name);
    ensure!(path.exists(), "{} is missing: run `e2e/cluster/install cert-manager`", path.display());
    Ok(path)
}

/// Starts it; it ends with the handle.
fn start(world: &World) -> anyhow::Result<Child> {
    let log = std::fs::File::create(world.folder.path().join("cert-manager.log"))?;
    let mut command = Command::new(installed("cert-manager")?);
    command.env("KUBECONFIG", &world.kubeconfig).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
    command.spawn().context("start cert-manager")
}

/// An Issuer of the namespace: `spec` is what kind of.
async fn issuer(space: &Space, name: &str, spec: Value) -> anyhow::Result<()> {
    create(space, "Issuer", name, spec).await
}

async fn create(space: &Space, kind: &str, name: &str, spec: Value) -> anyhow::Result<()> {
    let object = json!({ "apiVersion": "cert-manager.io/v1", "kind": kind, "metadata": { "name": name }, "spec": spec });
    let object: DynamicObject = serde_json::from_value(object)?;
    let parameters = PatchParams::apply("bucketmq-kubernetes");
    api(space, kind).patch(name, &parameters, &Patch::Apply(&object)).await.with_context(|| format!("{kind} {name}"))?;
    Ok(())
}

fn api(space: &Space, kind: &str) -> Api<DynamicObject> {
    let plural = format!("{}s", kind.to_lowercase());
    let resource = kube::api::ApiResource::from_gvk_with_plural(&kube::api::GroupVersionKind::gvk("cert-manager.io", "v1", kind), &plural);
    Api::namespaced_with(space.client.clone(), &space.name, &resource)
}

fn fingerprint(broker: &MqttBroker) -> Option<String> {
    Some(broker.status.as_ref()?.listeners.first()?.tls.as_ref()?.fingerprint.clone())
}

/// There is none, then it is there without its issuer, then it issues, renews, and is not wanted any more.
pub async fn certificates_come_from_cert_manager(world: &World) -> Verdict {
    let operator = world.operator(&Options::default()).await?;
    let space = Space::new(world, "issuing").await?;
    let tls = json!({ "certManager": { "issuerRef": { "name": "team" }, "dnsNames": ["mqtt.example"], "durationSeconds": 7200, "renewBeforeSeconds": 1800 } });
    let listeners = json!([{ "name": "mqtts", "port": 8883, "tls": tls }]);
    space.broker("fleet", json!({ "persistence": { "level": "Memory" }, "listeners": listeners })).await?;
    let message = space.wait_condition("fleet", "CertificatesValid", "False", "NotIssued").await?;
    ensure!(message.contains("this cluster has no cert-manager"), "{message}");
    ensure!(space.get::<Deployment>("fleet").await?.is_none(), "a broker without its certificate");
    let asked = world.mark()?;
    tokio::time::sleep(Duration::from_secs(18)).await;
    let writes = asked.writes_since(OPERATOR_USER)?;
    ensure!(
        !writes.keys().any(|(_, kind, _)| kind == "certificates"),
        "it asks a cluster without cert-manager again and again: {writes:?}"
    );

    // It is installed, and its issuer is not there yet.
    let definitions = installed("crds")?;
    world.kubectl(&["apply", "--server-side", "-f", &definitions.display().to_string()]).await?;
    world
        .kubectl(&[
            "wait",
            "--for=condition=Established",
            "crd/certificates.cert-manager.io",
            "crd/issuers.cert-manager.io",
            "--timeout=30s",
        ])
        .await?;
    let _cert_manager = start(world)?;
    let about = |part: &'static str| {
        move |broker: &MqttBroker| condition(broker, "CertificatesValid").is_some_and(|(_, _, message)| message.contains(part))
    };
    space.wait_for::<MqttBroker>("fleet", "waiting for cert-manager", ISSUED, about("has not issued Certificate fleet-mqtts yet")).await?;
    let certificate = api(&space, "Certificate").get("fleet-mqtts").await?;
    let spec = &certificate.data["spec"];
    ensure!(spec["secretName"] == "fleet-mqtts-tls" && spec["duration"] == "2h0m0s" && spec["renewBefore"] == "0h30m0s", "{spec}");
    ensure!(spec["dnsNames"].as_array().is_some_and(|names| names.contains(&"mqtt.example".into())), "{spec}");

    // A CA of the team.
    issuer(&space, "root", json!({ "selfSigned": {} })).await?;
    let authority = json!({ "isCA": true, "commonName": "team", "secretName": "team-ca", "issuerRef": { "name": "root" }, "privateKey": { "algorithm": "ECDSA" } });
    create(&space, "Certificate", "team-ca", authority).await?;
    issuer(&space, "team", json!({ "ca": { "secretName": "team-ca" } })).await?;
    let valid =
        |broker: &MqttBroker| condition(broker, "CertificatesValid").is_some_and(|(is, ..)| is == "True") && fingerprint(broker).is_some();
    let (broker, took) = space.wait_for::<MqttBroker>("fleet", "given its certificate", ISSUED, valid).await?;
    let first = fingerprint(&broker);
    let (deployment, _) = space.wait::<Deployment>("fleet", "there", |_| true).await?;
    let files = space.get::<Secret>("fleet-files").await?.context("no files")?;
    let issued = space.get::<Secret>("fleet-mqtts-tls").await?.context("no Secret of cert-manager")?;
    let of = |secret: &Secret, key: &str| secret.data.as_ref().and_then(|data| data.get(key).cloned());
    ensure!(of(&files, "tls-mqtts.crt") == of(&issued, "tls.crt"), "the pod does not get what was issued");

    // At rest nothing is written, with Certificates too.
    world.wait_quiet(Duration::from_secs(200)).await?;
    let mark = world.mark()?;
    space.patch::<MqttBroker>("fleet", json!({ "metadata": { "labels": { "looked": "at" } } })).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let writes = mark.writes_since(OPERATOR_USER)?;
    ensure!(writes.is_empty(), "{writes:?}");

    // A renewal is a reload.
    let renew = json!({ "status": { "conditions": [{ "type": "Issuing", "status": "True", "reason": "ManuallyTriggered", "message": "renewed by a test", "lastTransitionTime": "2026-01-01T00:00:00Z" }] } });
    api(&space, "Certificate").patch_status("fleet-mqtts", &PatchParams::default(), &Patch::Merge(&renew)).await?;
    let renewed = |broker: &MqttBroker| fingerprint(broker).is_some_and(|now| Some(now) != first);
    let (_, renewal) = space.wait_for::<MqttBroker>("fleet", "given a new certificate", ISSUED, renewed).await?;
    let after = space.get::<Deployment>("fleet").await?.context("no Deployment")?;
    ensure!(after.metadata.generation == deployment.metadata.generation, "a renewal replaced the pod");

    // Another source: the Certificate goes.
    space
        .patch::<MqttBroker>("fleet", json!({ "spec": { "listeners": [{ "name": "mqtts", "port": 8883, "tls": { "internal": {} } }] } }))
        .await?;
    let begin = std::time::Instant::now();
    while api(&space, "Certificate").get_opt("fleet-mqtts").await?.is_some() {
        ensure!(begin.elapsed() < ISSUED, "the Certificate stays although nobody wants it");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ensure!(
        api(&space, "Certificate").get_opt("team-ca").await?.is_some_and(|other| other.name_any() == "team-ca"),
        "somebody else's Certificate went"
    );
    operator.stop().await?;
    space.end().await?;
    Ok(vec![
        Measured::time("issuer made until the broker has its certificate", took),
        Measured::time("renewed until the broker has the new one", renewal),
    ])
}
