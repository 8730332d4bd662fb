//! A namespace for one case, and what is done in it.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bucketmq_operator::crd::{MqttBroker, MqttRole, MqttUser};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::World;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// What takes longer does not happen, unless a case says otherwise.
pub const SOON: Duration = Duration::from_secs(30);
/// Kubernetes' garbage collector looks for new kinds of owners every 30 seconds, so the first child of one may stay that long.
pub const COLLECTED: Duration = Duration::from_secs(90);

/// A namespace that goes when the case ends well; after a failure it stays until the cluster goes, to be looked at.
pub struct Space {
    /// To the API server.
    pub client: Client,
    /// Its name.
    pub name: String,
}

/// What all kinds of ours and of Kubernetes have in common.
pub trait Kind: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned {}
impl<K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned> Kind for K {}

impl Space {
    /// A new namespace whose name begins so.
    pub async fn new(world: &World, case: &str) -> anyhow::Result<Self> {
        Self::labelled(world, case, json!({})).await
    }

    /// The same with labels, such as those of Pod Security.
    pub async fn labelled(world: &World, case: &str, labels: Value) -> anyhow::Result<Self> {
        let name = format!("{}-{:04x}", case.replace('_', "-"), rand::random::<u16>());
        let namespace: Namespace = serde_json::from_value(json!({ "metadata": { "name": name, "labels": labels } }))?;
        Api::<Namespace>::all(world.client.clone()).create(&PostParams::default(), &namespace).await?;
        Ok(Self { client: world.client.clone(), name })
    }

    /// The API of a kind in it.
    pub fn api<K: Kind>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// Creates an object.
    pub async fn create<K: Kind>(&self, object: Value) -> anyhow::Result<K> {
        let object: K = serde_json::from_value(with_types::<K>(object))?;
        let created = self.api::<K>().create(&PostParams::default(), &object).await;
        created.with_context(|| format!("create {} {}", K::kind(&()), object.name_any()))
    }

    /// A broker of this spec.
    pub async fn broker(&self, name: &str, spec: Value) -> anyhow::Result<MqttBroker> {
        self.create(json!({ "metadata": { "name": name }, "spec": spec })).await
    }

    /// A user of a broker.
    pub async fn user(&self, name: &str, broker: &str, labels: Value) -> anyhow::Result<MqttUser> {
        self.create(json!({ "metadata": { "name": name, "labels": labels }, "spec": { "brokerRef": { "name": broker } } })).await
    }

    /// A role of a broker that may do everything.
    pub async fn role(&self, name: &str, broker: &str, subjects: Value) -> anyhow::Result<MqttRole> {
        let rules = json!([{ "operations": ["Connect"] }, { "operations": ["Publish", "Subscribe"], "topics": ["#"] }]);
        self.create(
            json!({ "metadata": { "name": name }, "spec": { "brokerRef": { "name": broker }, "rules": rules, "subjects": subjects } }),
        )
        .await
    }

    /// A Secret.
    pub async fn secret(&self, name: &str, data: Value) -> anyhow::Result<Secret> {
        self.create(json!({ "metadata": { "name": name }, "stringData": data })).await
    }

    /// JSON Merge Patch, as `kubectl patch --type=merge` does.
    pub async fn patch<K: Kind>(&self, name: &str, patch: Value) -> anyhow::Result<K> {
        let patched = self.api::<K>().patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        patched.with_context(|| format!("patch {} {name}", K::kind(&())))
    }

    /// Deletes an object.
    pub async fn delete<K: Kind>(&self, name: &str) -> anyhow::Result<()> {
        self.api::<K>().delete(name, &DeleteParams::background()).await.with_context(|| format!("delete {} {name}", K::kind(&())))?;
        Ok(())
    }

    /// An object as it is.
    pub async fn get<K: Kind>(&self, name: &str) -> anyhow::Result<Option<K>> {
        Ok(self.api::<K>().get_opt(name).await?)
    }

    /// Waits until an object is as wanted, and says how long that took.
    pub async fn wait<K: Kind>(&self, name: &str, what: &str, is_so: impl Fn(&K) -> bool) -> anyhow::Result<(K, Duration)> {
        self.wait_for(name, what, SOON, is_so).await
    }

    /// The same with a time.
    pub async fn wait_for<K: Kind>(
        &self,
        name: &str,
        what: &str,
        patience: Duration,
        is_so: impl Fn(&K) -> bool,
    ) -> anyhow::Result<(K, Duration)> {
        let begin = Instant::now();
        let mut last = None;
        loop {
            if let Some(object) = self.get::<K>(name).await? {
                if is_so(&object) {
                    return Ok((object, begin.elapsed()));
                }
                last = Some(object);
            }
            if begin.elapsed() > patience {
                let seen =
                    last.map(|object| serde_json::to_string_pretty(&object)).transpose()?.unwrap_or_else(|| "it is not there".to_owned());
                bail!("{} {name}: not {what} after {patience:?}: {seen}", K::kind(&()));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until an object is gone.
    pub async fn wait_gone<K: Kind>(&self, name: &str, patience: Duration) -> anyhow::Result<Duration> {
        let begin = Instant::now();
        while let Some(object) = self.get::<K>(name).await? {
            if begin.elapsed() > patience {
                bail!("{} {name} is still there after {patience:?}: {:?}", K::kind(&()), object.meta());
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(begin.elapsed())
    }

    /// Waits until a condition of a broker has this status and reason; gives its message.
    pub async fn wait_condition(&self, broker: &str, type_: &str, status: &str, reason: &str) -> anyhow::Result<String> {
        let what = format!("{type_}={status} {reason}");
        let is_so = |broker: &MqttBroker| condition(broker, type_).is_some_and(|(is, why, _)| is == status && why == reason);
        let (broker, _) = self.wait::<MqttBroker>(broker, &what, is_so).await?;
        Ok(condition(&broker, type_).map(|(_, _, message)| message).unwrap_or_default())
    }

    /// Waits for an event about an object with this reason; gives its note.
    pub async fn wait_event(&self, name: &str, reason: &str) -> anyhow::Result<String> {
        let begin = Instant::now();
        loop {
            let events = self.api::<Event>().list(&ListParams::default()).await?;
            let found = events.items.into_iter().find(|event| {
                event.reason.as_deref() == Some(reason) && event.regarding.as_ref().and_then(|object| object.name.as_deref()) == Some(name)
            });
            if let Some(event) = found {
                return Ok(event.note.unwrap_or_default());
            }
            if begin.elapsed() > SOON {
                bail!("no event {reason} about {name}");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Has the namespace deleted; nobody waits for that.
    pub async fn end(self) -> anyhow::Result<()> {
        Api::<Namespace>::all(self.client.clone()).delete(&self.name, &DeleteParams::background()).await?;
        Ok(())
    }
}

/// Status, reason and message of a condition.
pub fn condition(broker: &MqttBroker, type_: &str) -> Option<(String, String, String)> {
    let conditions = broker.status.as_ref()?.conditions.iter();
    let found = conditions.into_iter().find(|condition| condition.type_ == type_)?;
    Some((found.status.clone(), found.reason.clone(), found.message.clone()))
}

/// Whether the object's status is about what its spec says now.
pub fn is_current(broker: &MqttBroker) -> bool {
    broker.status.as_ref().is_some_and(|status| status.observed_generation == broker.metadata.generation)
}

fn with_types<K: Resource<DynamicType = ()>>(mut object: Value) -> Value {
    object["apiVersion"] = K::api_version(&()).into();
    object["kind"] = K::kind(&()).into();
    object
}
