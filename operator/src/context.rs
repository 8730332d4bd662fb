//! What every reconcile needs: the API server, the caches, the settings.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::events::Recorder;
use kube::{Client, ResourceExt};
use tokio::sync::{Semaphore, mpsc};

use crate::broker_controller::build::Settings;
use crate::broker_controller::files;
use crate::broker_controller::users::password_source;
use crate::cache::{self, Cache, Key, Scope, Watch};
use crate::crd::{MqttBroker, MqttRole, MqttUser};
use crate::metrics::Metrics;
use crate::names::{INSTANCE, MANAGED, USER};
use crate::pki::Lives;

/// Everything a reconcile needs.
pub struct Context {
    /// To the API server.
    pub client: Client,
    /// To the pods.
    pub http: reqwest::Client,
    /// What is known.
    pub caches: Caches,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// What the operator brings in.
    pub settings: Settings,
    /// How long certificates are valid.
    pub lives: Lives,
    /// Tells what happened.
    pub recorder: Recorder,
    /// Brokers whose pod may be replaced at one time.
    pub rollouts_max: usize,
    /// Hashes of passwords take CPU for long: few at a time.
    pub hashing: Semaphore,
}

/// One cache for each kind.
pub struct Caches {
    /// MqttBrokers.
    pub brokers: Cache<DeserializeGuard<MqttBroker>>,
    /// MqttUsers, by broker.
    pub users: Cache<DeserializeGuard<MqttUser>>,
    /// MqttRoles, by broker.
    pub roles: Cache<DeserializeGuard<MqttRole>>,
    /// Names and versions of all Secrets.
    pub all_secrets: Cache<PartialObjectMeta<Secret>>,
    /// The operator's Secrets, by broker.
    pub secrets: Cache<Secret>,
    /// Its ConfigMaps.
    pub config_maps: Cache<ConfigMap>,
    /// Its Services.
    pub services: Cache<Service>,
    /// Its ServiceAccounts.
    pub service_accounts: Cache<ServiceAccount>,
    /// Its NetworkPolicies.
    pub network_policies: Cache<NetworkPolicy>,
    /// Its Deployments.
    pub deployments: Cache<Deployment>,
    /// Its Jobs.
    pub jobs: Cache<Job>,
    /// Its pods.
    pub pods: Cache<Pod>,
}

impl Caches {
    /// The kinds that have not been seen whole yet.
    pub fn awaiting(&self) -> Vec<&'static str> {
        let all = [
            ("MqttBroker", self.brokers.is_ready()),
            ("MqttUser", self.users.is_ready()),
            ("MqttRole", self.roles.is_ready()),
            ("Secret", self.all_secrets.is_ready() && self.secrets.is_ready()),
            ("ConfigMap", self.config_maps.is_ready()),
            ("Service", self.services.is_ready()),
            ("ServiceAccount", self.service_accounts.is_ready()),
            ("NetworkPolicy", self.network_policies.is_ready()),
            ("Deployment", self.deployments.is_ready()),
            ("Job", self.jobs.is_ready()),
            ("Pod", self.pods.is_ready()),
        ];
        all.into_iter().filter(|(_, is_ready)| !is_ready).map(|(kind, _)| kind).collect()
    }

    /// The MqttBroker of this name, if it can be read.
    pub fn broker(&self, namespace: &str, name: &str) -> Option<Arc<MqttBroker>> {
        self.brokers.get(namespace, name)?.0.as_ref().ok().cloned().map(Arc::new)
    }
}

/// Keys of objects to look at; the other ends are the controllers.
#[derive(Clone)]
pub struct Triggers {
    /// MqttBrokers.
    pub brokers: mpsc::UnboundedSender<Key>,
    /// MqttUsers.
    pub users: mpsc::UnboundedSender<Key>,
    /// MqttRoles.
    pub roles: mpsc::UnboundedSender<Key>,
}

impl Triggers {
    // Whoever reads has gone only when the process ends. What waits here is bounded by the objects of the cluster: the reader takes each at once and keeps one
    // of a kind.
    fn broker(&self, namespace: &str, name: &str) {
        let _ = self.brokers.send(Key::new(namespace, name));
    }

    fn user(&self, namespace: &str, name: &str) {
        let _ = self.users.send(Key::new(namespace, name));
    }

    fn role(&self, namespace: &str, name: &str) {
        let _ = self.roles.send(Key::new(namespace, name));
    }
}

/// A watch that runs.
pub type Running = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Starts all watches; they run as long as the futures do.
pub fn watch(client: &Client, scope: &Scope, triggers: &Triggers, metrics: &Arc<Metrics>) -> (Caches, Vec<Running>) {
    let mut running: Vec<Running> = Vec::new();
    // The caches that others look through are filled by the same futures, so they are made first.
    let start = Start { client, scope, metrics };

    let told = triggers.clone();
    let (users, run) = start.run(Watch {
        labels: None,
        group: |user: &DeserializeGuard<MqttUser>| Some(user.0.as_ref().ok()?.spec.broker_ref.name.clone()),
        strip: |_| {},
        touched: Box::new(move |user: &DeserializeGuard<MqttUser>, exists| {
            let namespace = user.namespace().unwrap_or_default();
            if exists {
                told.user(&namespace, &user.name_any());
            }
            if let Ok(user) = &user.0 {
                told.broker(&namespace, &user.spec.broker_ref.name);
            }
        }),
    });
    running.push(run);

    let told = triggers.clone();
    let (roles, run) = start.run(Watch {
        labels: None,
        group: |role: &DeserializeGuard<MqttRole>| Some(role.0.as_ref().ok()?.spec.broker_ref.name.clone()),
        strip: |_| {},
        touched: Box::new(move |role: &DeserializeGuard<MqttRole>, exists| {
            let namespace = role.namespace().unwrap_or_default();
            if exists {
                told.role(&namespace, &role.name_any());
            }
            if let Ok(role) = &role.0 {
                told.broker(&namespace, &role.spec.broker_ref.name);
            }
        }),
    });
    running.push(run);

    let told = triggers.clone();
    let (of_users, of_roles) = (users.clone(), roles.clone());
    let (brokers, run) = start.run(Watch {
        labels: None,
        group: |_: &DeserializeGuard<MqttBroker>| None,
        strip: |_| {},
        touched: Box::new(move |broker: &DeserializeGuard<MqttBroker>, exists| {
            let (namespace, name) = (broker.namespace().unwrap_or_default(), broker.name_any());
            if exists {
                told.broker(&namespace, &name);
            }
            for user in of_users.of(&namespace, &name) {
                told.user(&namespace, &user.name_any());
            }
            for role in of_roles.of(&namespace, &name) {
                told.role(&namespace, &role.name_any());
            }
        }),
    });
    running.push(run);

    let told = triggers.clone();
    let (of_users, of_brokers) = (users.clone(), brokers.clone());
    let (all_secrets, run) = start.run(Watch {
        labels: None,
        group: |_: &PartialObjectMeta<Secret>| None,
        strip: |secret| {
            secret.metadata.annotations = None;
            secret.metadata.labels = None;
            secret.metadata.owner_references = None;
        },
        touched: Box::new(move |secret: &PartialObjectMeta<Secret>, _| {
            let (namespace, name) = (secret.namespace().unwrap_or_default(), secret.name_any());
            for broker in of_brokers.all() {
                let Ok(broker) = &broker.0 else { continue };
                if broker.namespace().as_deref() != Some(&namespace) {
                    continue;
                }
                let broker_name = broker.name_any();
                if files::referenced(broker).contains(&name) {
                    told.broker(&namespace, &broker_name);
                }
                let users = of_users.of(&namespace, &broker_name);
                let named = users
                    .iter()
                    .filter_map(|user| user.0.as_ref().ok())
                    .filter(|user| password_source(user).is_some_and(|(secret, _, brought)| brought && secret == name));
                for user in named {
                    told.broker(&namespace, &broker_name);
                    told.user(&namespace, &user.name_any());
                }
            }
        }),
    });
    running.push(run);

    let told = triggers.clone();
    let of_users = users.clone();
    let (secrets, run) = start.run(Watch {
        labels: Some(MANAGED),
        group: instance::<Secret>,
        strip: |_| {},
        touched: Box::new(move |secret: &Secret, _| {
            let namespace = secret.namespace().unwrap_or_default();
            let Some(broker) = instance(secret) else { return };
            told.broker(&namespace, &broker);
            if let Some(user) = secret.labels().get(USER) {
                told.user(&namespace, user);
            }
            if secret.name_any() == crate::names::users(&broker) || secret.name_any() == crate::names::authority(&broker) {
                for user in of_users.of(&namespace, &broker) {
                    told.user(&namespace, &user.name_any());
                }
            }
        }),
    });
    running.push(run);

    let told = triggers.clone();
    let of_roles = roles.clone();
    let (config_maps, run) = start.run(Watch {
        labels: Some(MANAGED),
        group: instance::<ConfigMap>,
        strip: |_| {},
        touched: Box::new(move |config: &ConfigMap, _| {
            let namespace = config.namespace().unwrap_or_default();
            let Some(broker) = instance(config) else { return };
            told.broker(&namespace, &broker);
            for role in of_roles.of(&namespace, &broker) {
                told.role(&namespace, &role.name_any());
            }
        }),
    });
    running.push(run);

    let (services, run) = start.children::<Service>(triggers, |_| {});
    running.push(run);
    let (service_accounts, run) = start.children::<ServiceAccount>(triggers, |_| {});
    running.push(run);
    let (network_policies, run) = start.children::<NetworkPolicy>(triggers, |_| {});
    running.push(run);
    let (deployments, run) = start.children::<Deployment>(triggers, |_| {});
    running.push(run);
    let (jobs, run) = start.children::<Job>(triggers, |_| {});
    running.push(run);
    let (pods, run) = start.children::<Pod>(triggers, |pod| {
        // Of a pod only labels, annotations and status are read.
        pod.spec = None;
    });
    running.push(run);

    let caches = Caches {
        brokers,
        users,
        roles,
        all_secrets,
        secrets,
        config_maps,
        services,
        service_accounts,
        network_policies,
        deployments,
        jobs,
        pods,
    };
    (caches, running)
}

/// What all watches share.
struct Start<'a> {
    client: &'a Client,
    scope: &'a Scope,
    metrics: &'a Arc<Metrics>,
}

impl Start<'_> {
    fn run<K>(&self, watch: Watch<K>) -> (Cache<K>, Running)
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        let (cache, run) = cache::start(self.client, self.scope, watch, self.metrics.clone());
        (cache, Box::pin(run))
    }

    /// Objects that only their broker is told of.
    fn children<K>(&self, triggers: &Triggers, strip: fn(&mut K)) -> (Cache<K>, Running)
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        let told = triggers.clone();
        self.run(Watch {
            labels: Some(MANAGED),
            group: instance::<K>,
            strip,
            touched: Box::new(move |child: &K, _| {
                if let Some(broker) = instance(child) {
                    told.broker(&child.namespace().unwrap_or_default(), &broker);
                }
            }),
        })
    }
}

/// The broker an object belongs to, by its label.
fn instance<K: kube::Resource>(object: &K) -> Option<String> {
    object.labels().get(INSTANCE).cloned()
}
