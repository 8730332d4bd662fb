//! What changes while a broker runs, and what is left when it does not.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bucketmq_durable::link::{Came, Identity, Link};
use bucketmq_local_cluster::{S3_ACCESS_KEY, S3_SECRET_KEY};
use bucketmq_operator::crd::{DeletionPolicy, MqttBroker};
use bucketmq_packet::{ProtocolVersion, QoS};
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use serde_json::json;

use super::{Fleet, NAME, START};
use crate::cases::Verdict;
use crate::load::blocking;
use crate::{Measured, World};

const ANSWER: Duration = Duration::from_secs(5);

fn lasting(client_id: &str) -> Identity {
    Identity { client_id: client_id.to_owned(), version: ProtocolVersion::V5, lasts: true }
}

/// Subscribes with a Session that lasts, and leaves.
fn subscribe(address: SocketAddr) -> anyhow::Result<()> {
    let (mut link, _) = open(address)?;
    link.subscribe(["kept/#"], QoS::AtLeastOnce).map_err(|gone| anyhow::anyhow!(gone.0))?;
    while !matches!(link.next(ANSWER).map_err(|gone| anyhow::anyhow!(gone.0))?.context("no SUBACK")?, Came::Subscribed(_)) {}
    link.leave();
    Ok(())
}

/// Whether the Session is there.
fn is_kept(address: SocketAddr) -> anyhow::Result<bool> {
    let (link, present) = open(address)?;
    link.leave();
    Ok(present)
}

fn open(address: SocketAddr) -> anyhow::Result<(Link, bool)> {
    let begin = Instant::now();
    loop {
        match Link::open(address, &lasting("kept"), None, ANSWER) {
            Ok(opened) => return Ok(opened),
            Err(gone) => ensure!(begin.elapsed() < START, "nobody serves: {}", gone.0),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A limit and a role, without a restart; and until every pod has it.
pub async fn configuration_changes_live(world: &World) -> Verdict {
    let (fleet, _) = Fleet::start(world, "live", &json!({})).await?;
    let pod = fleet.pod().await?;
    let begin = Instant::now();
    fleet.space.patch::<MqttBroker>(NAME, json!({ "spec": { "limits": { "maxQos": 1 } } })).await?;
    let is_applied = |broker: &MqttBroker| {
        let hashes = broker.status.as_ref().map(|status| (status.reload_hash.clone(), status.applied_reload_hash.clone()));
        crate::space::is_current(broker)
            && hashes.is_some_and(|(wanted, applied)| wanted.is_some() && wanted == applied)
            && crate::space::condition(broker, "ConfigApplied").is_some_and(|(status, ..)| status == "True")
    };
    fleet.space.wait_for::<MqttBroker>(NAME, "applied by every pod", Duration::from_secs(90), is_applied).await?;
    let took = begin.elapsed();
    let after = fleet.pod().await?;
    ensure!(after.name_any() == pod.name_any() && restarts(&after) == 0, "the pod was replaced or restarted");
    fleet.space.end().await?;
    Ok(vec![Measured::time("limit changed until every pod has it", took).at_most(60.0)])
}

fn restarts(pod: &k8s_openapi::api::core::v1::Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    statuses.iter().map(|status| status.restart_count).sum()
}

/// Another certificate in the Secret.
pub async fn certificate_changes_without_a_restart(world: &World) -> Verdict {
    let fleet = Fleet::prepare(world, "rotated", json!({})).await?;
    let pair = || {
        let certified = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()])?;
        anyhow::Ok(json!({ "tls.crt": certified.cert.pem(), "tls.key": certified.signing_key.serialize_pem() }))
    };
    fleet.space.secret("server", pair()?).await?;
    let listeners = json!([{ "name": "mqtt", "anonymousRole": "anybody" }, { "name": "mqtts", "port": 8883, "tls": { "secretRef": { "name": "server" } } }]);
    fleet.apply(&json!({ "listeners": listeners })).await?;
    let pod = fleet.pod().await?;
    let fingerprint = |broker: &MqttBroker| {
        Some(broker.status.as_ref()?.listeners.iter().find(|listener| listener.name == "mqtts")?.tls.as_ref()?.fingerprint.clone())
    };
    let before = fleet.space.get::<MqttBroker>(NAME).await?.as_ref().and_then(fingerprint).context("no certificate in the status")?;
    let begin = Instant::now();
    fleet.space.patch::<k8s_openapi::api::core::v1::Secret>("server", json!({ "stringData": pair()? })).await?;
    let is_new = |broker: &MqttBroker| {
        fingerprint(broker).is_some_and(|now| now != before)
            && crate::space::condition(broker, "Ready").is_some_and(|(status, ..)| status == "True")
    };
    fleet.space.wait_for::<MqttBroker>(NAME, "presenting the new certificate", Duration::from_secs(120), is_new).await?;
    let took = begin.elapsed();
    let after = fleet.pod().await?;
    ensure!(after.name_any() == pod.name_any() && restarts(&after) == 0, "the pod was replaced or restarted");
    fleet.space.end().await?;
    Ok(vec![Measured::time("certificate changed until every pod presents it", took).at_most(120.0)])
}

/// Retain: Sessions are there when an object of the same name comes again; another name has to adopt.
pub async fn deleted_with_retain_and_made_again(world: &World) -> Verdict {
    let (fleet, _) = Fleet::start(world, "retained", &json!({})).await?;
    let address = fleet.address("mqtt").await?;
    blocking(move || subscribe(address)).await?;
    let owner =
        fleet.space.get::<MqttBroker>(NAME).await?.and_then(|broker| broker.status?.bucket_owner).context("no owner in the status")?;
    fleet.space.delete::<MqttBroker>(NAME).await?;
    fleet.space.wait_gone::<Deployment>(NAME, Duration::from_secs(60)).await?;
    fleet.apply(&json!({})).await?;
    let address = fleet.address("mqtt").await?;
    ensure!(blocking(move || is_kept(address)).await?, "the Session is gone");

    // Another object on the same prefix waits, and says for whom.
    let prefix = json!({ "persistence": { "bucket": { "prefix": format!("{}/{NAME}", fleet.space.name) } } });
    let mut second = super::spec(&fleet.space.name, &world.s3()?, &prefix);
    second["listeners"] = json!([{ "name": "mqtt" }]);
    fleet.space.broker("second", second).await?;
    let message = fleet.space.wait_condition("second", "PrefixInUse", "True", "OwnedByAnother").await?;
    ensure!(message.contains(&owner), "{message}");
    fleet.space.wait_event("second", "PrefixInUse").await.or(fleet.space.wait_event("second", "OwnedByAnother").await)?;
    fleet.ready().await.context("the first one is not disturbed")?;
    fleet.space.delete::<MqttBroker>("second").await?;
    fleet.space.delete::<MqttBroker>(NAME).await?;
    fleet.space.wait_gone::<Deployment>("second", Duration::from_secs(60)).await?;
    fleet.space.wait_gone::<Deployment>(NAME, Duration::from_secs(60)).await?;
    // Who names the owner takes the prefix over, Sessions and all.
    let adopts = json!({ "persistence": { "adopt": owner, "bucket": { "prefix": format!("{}/{NAME}", fleet.space.name) } } });
    fleet.space.broker("third", super::spec(&fleet.space.name, &world.s3()?, &adopts)).await?;
    let is_ready = |broker: &MqttBroker| crate::space::condition(broker, "Ready").is_some_and(|(status, ..)| status == "True");
    fleet.space.role("anybody-else", "third", json!({})).await?;
    fleet
        .space
        .patch::<MqttBroker>("third", json!({ "spec": { "listeners": [{ "name": "mqtt", "anonymousRole": "anybody-else" }] } }))
        .await?;
    fleet.space.wait_for::<MqttBroker>("third", "Ready", START, is_ready).await?;
    fleet.space.end().await?;
    Ok(Vec::new())
}

/// Delete: a Job takes everything away before the object goes.
pub async fn deleted_with_everything_in_the_bucket(world: &World) -> Verdict {
    let (fleet, _) = Fleet::start(world, "wiped", &json!({ "persistence": { "deletionPolicy": "Delete" } })).await?;
    let address = fleet.address("mqtt").await?;
    blocking(move || subscribe(address)).await?;
    let begin = Instant::now();
    fleet.space.delete::<MqttBroker>(NAME).await?;
    fleet.space.wait_gone::<MqttBroker>(NAME, Duration::from_secs(120)).await.with_context(|| "deletionPolicy Delete")?;
    let took = begin.elapsed();
    let policy = DeletionPolicy::Retain;
    fleet.apply(&json!({ "persistence": { "deletionPolicy": policy } })).await?;
    let address = fleet.address("mqtt").await?;
    ensure!(!blocking(move || is_kept(address)).await?, "the Session is still there");
    fleet.space.end().await?;
    Ok(vec![Measured::time("deletionPolicy Delete until the object is gone", took)])
}

/// Keys that the store refuses, then the right ones; a bucket that is not there; an endpoint where nobody is.
pub async fn a_bucket_that_cannot_be_used_is_told(world: &World) -> Verdict {
    let fleet = Fleet::prepare(world, "denied", json!({})).await?;
    fleet.space.patch::<k8s_openapi::api::core::v1::Secret>("keys", json!({ "stringData": { "secretAccessKey": "not-the-key" } })).await?;
    fleet.space.broker(NAME, super::spec(&fleet.space.name, &world.s3()?, &json!({}))).await?;
    let message = fleet.space.wait_condition(NAME, "BucketHealthy", "False", "AccessDenied").await.with_context(|| "wrong keys")?;
    ensure!(!message.contains("not-the-key") && message.contains(&fleet.space.name), "{message}");
    fleet.space.wait_event(NAME, "AccessDenied").await?;
    let right = json!({ "stringData": { "accessKeyId": S3_ACCESS_KEY, "secretAccessKey": S3_SECRET_KEY } });
    fleet.space.patch::<k8s_openapi::api::core::v1::Secret>("keys", right).await?;
    let healed = fleet.ready().await?;
    let pod = fleet.pod().await?.name_any();
    // An endpoint where nobody is: the new pod waits, the old one serves.
    fleet
        .space
        .patch::<MqttBroker>(
            NAME,
            json!({ "spec": { "persistence": { "bucket": { "endpoint": "http://nowhere.s3.svc.cluster.local:7070" } } } }),
        )
        .await?;
    fleet.space.wait_condition(NAME, "BucketHealthy", "False", "Unreachable").await?;
    ensure!(fleet.pod().await?.name_any() == pod, "the old pod does not serve any more");
    let address = fleet.address("mqtt").await?;
    blocking(move || subscribe(address)).await?;
    fleet.space.patch::<MqttBroker>(NAME, json!({ "spec": { "persistence": { "bucket": { "endpoint": world.s3()? } } } })).await?;
    fleet.ready().await?;
    fleet.space.end().await?;
    Ok(vec![Measured::time("right keys given until Ready, without a restart", healed)])
}

/// `replicas: 0` and back.
pub async fn hibernated_and_woken(world: &World) -> Verdict {
    let (fleet, _) = Fleet::start(world, "asleep", &json!({})).await?;
    let address = fleet.address("mqtt").await?;
    blocking(move || subscribe(address)).await?;
    world.kubectl(&["scale", "mqttbroker", NAME, "--replicas=0", "-n", &fleet.space.name]).await?;
    fleet.space.wait_condition(NAME, "Hibernated", "True", "Replicas0").await?;
    let begin = Instant::now();
    while !fleet.pods().await?.is_empty() {
        ensure!(begin.elapsed() < Duration::from_secs(60), "pods stay");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let begin = Instant::now();
    world.kubectl(&["scale", "mqttbroker", NAME, "--replicas=1", "-n", &fleet.space.name]).await?;
    fleet.ready().await?;
    let took = begin.elapsed();
    ensure!(blocking(move || is_kept(address)).await?, "the Session is gone");
    fleet.space.end().await?;
    Ok(vec![Measured::time("hibernated broker woken until Ready", took).at_most(15.0)])
}
