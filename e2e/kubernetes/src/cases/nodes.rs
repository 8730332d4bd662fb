//! Brokers on real nodes.

pub mod charts;
pub mod failures;
pub mod life;
pub mod moves;
pub mod smoke;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use bucketmq_local_cluster::{S3_ACCESS_KEY, S3_SECRET_KEY};
use bucketmq_operator::crd::MqttBroker;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::load::{Load, blocking};
use crate::space::condition;
use crate::{Space, World};

/// A broker that has to start first.
pub const START: Duration = Duration::from_secs(90);
/// The broker's name in every case.
pub const NAME: &str = "fleet";

/// A broker with its state in the cluster's S3 server, in a bucket of its own, that lets anybody in.
pub struct Fleet<'a> {
    /// The cluster.
    pub world: &'a World,
    /// Where it is.
    pub space: Space,
}

/// Its spec: everything that is needed, and `more` laid over it.
pub fn spec(bucket: &str, endpoint: &str, more: &Value) -> Value {
    let mut spec = json!({
        "listeners": [{ "name": "mqtt", "anonymousRole": "anybody" }],
        "persistence": { "bucket": {
            "name": bucket, "endpoint": endpoint, "allowInsecure": true, "region": "us-east-1",
            "credentials": { "type": "SecretRef", "secretRef": { "name": "keys" } },
        } },
        "imagePullPolicy": "Never",
        // Subscribers stay away for seconds: what is dropped from a full queue is not what these cases are about.
        "limits": { "sessionQueue": { "maxMessages": 10000000, "maxBytes": "4Gi" } },
        "workload": { "resources": { "requests": { "cpu": "50m", "memory": "128Mi" } } },
    });
    lay_over(&mut spec, more);
    spec
}

fn lay_over(base: &mut Value, patch: &Value) {
    match (base, patch) {
        (Value::Object(base), Value::Object(patch)) => {
            patch.iter().for_each(|(key, value)| lay_over(base.entry(key.clone()).or_insert(Value::Null), value))
        }
        (base, patch) => base.clone_from(patch),
    }
}

impl<'a> Fleet<'a> {
    /// A namespace with everything but the broker.
    pub async fn prepare(world: &'a World, case: &str, labels: Value) -> anyhow::Result<Self> {
        let space = Space::labelled(world, case, labels).await?;
        world.make_bucket(&space.name).await?;
        space.secret("keys", json!({ "accessKeyId": S3_ACCESS_KEY, "secretAccessKey": S3_SECRET_KEY })).await?;
        space.role("anybody", NAME, json!({})).await?;
        Ok(Self { world, space })
    }

    /// The broker, with `more` in its spec, and how long it took until it was Ready.
    pub async fn start(world: &'a World, case: &str, more: &Value) -> anyhow::Result<(Self, Duration)> {
        let fleet = Self::prepare(world, case, json!({})).await?;
        let took = fleet.apply(more).await?;
        Ok((fleet, took))
    }

    /// Makes the broker and waits until it is Ready.
    pub async fn apply(&self, more: &Value) -> anyhow::Result<Duration> {
        self.space.broker(NAME, spec(&self.space.name, &self.world.s3()?, more)).await?;
        self.ready().await
    }

    /// Waits until the broker is Ready.
    pub async fn ready(&self) -> anyhow::Result<Duration> {
        let is_ready = |broker: &MqttBroker| {
            crate::space::is_current(broker) && condition(broker, "Ready").is_some_and(|(status, ..)| status == "True")
        };
        let (_, took) = self.space.wait_for::<MqttBroker>(NAME, "Ready", START, is_ready).await?;
        Ok(took)
    }

    /// The address of a listener's Service.
    pub async fn address(&self, listener: &str) -> anyhow::Result<SocketAddr> {
        let service = self.space.get::<Service>(&format!("{NAME}-{listener}")).await?.context("no Service")?;
        let spec = service.spec.context("no spec")?;
        let address: IpAddr = spec.cluster_ip.context("no ClusterIP")?.parse()?;
        let port = spec.ports.context("no ports")?[0].port;
        Ok(SocketAddr::new(address, u16::try_from(port)?))
    }

    /// Clients come to work.
    pub async fn load(&self) -> anyhow::Result<Load> {
        let address = self.address("mqtt").await?;
        blocking(move || Load::start(address)).await
    }

    /// The broker's pods.
    pub async fn pods(&self) -> anyhow::Result<Vec<Pod>> {
        let selector = format!("app.kubernetes.io/name=bucketmq,app.kubernetes.io/instance={NAME}");
        Ok(self.space.api::<Pod>().list(&ListParams::default().labels(&selector)).await?.items)
    }

    /// The one pod that serves.
    pub async fn pod(&self) -> anyhow::Result<Pod> {
        let serving = self.pods().await?.into_iter().find(|pod| is_ready(pod) && pod.metadata.deletion_timestamp.is_none());
        serving.context("no pod is ready")
    }

    /// What the pods tell and wrote, for a case that failed.
    pub async fn explain(&self) -> String {
        let namespace = &self.space.name;
        let mut text = self.world.kubectl(&["get", "mqb,pods,events", "-n", namespace, "-o", "wide"]).await.unwrap_or_default();
        for pod in self.pods().await.unwrap_or_default() {
            let name = pod.name_any();
            text.push_str(&format!("--- {name}\n"));
            text.push_str(&self.world.kubectl(&["logs", "-n", namespace, &name, "--tail=40"]).await.unwrap_or_default());
        }
        text
    }
}

/// Whether Kubernetes sends it Clients.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The node a pod is on.
pub fn node_of(pod: &Pod) -> anyhow::Result<String> {
    pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).context("the pod is on no node")
}

/// The id of its container.
pub fn container_of(pod: &Pod) -> anyhow::Result<String> {
    let status = pod.status.as_ref().context("no status")?.container_statuses.as_ref().context("no containers")?;
    status[0].container_id.clone().context("the container has no id")
}
