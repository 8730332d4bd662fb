//! The process: watches, the lease, the controllers, health and metrics, and the end.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::{StreamExt, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::Api;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::controller::{self, Action, Config, ReconcileRequest};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::{ObjectRef, store::Writer};
use kube::runtime::{applier, watcher::Event};
use kube::{Client, Resource, ResourceExt};
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder};
use parking_lot::Mutex;
use prometheus::Registry;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tracing::{debug, error, info, warn};

use crate::broker_controller::{self, Error, build::Settings};
use crate::cache::{Cache, Key, Scope};
use crate::cli::RunOptions;
use crate::context::{Context, Triggers, watch};
use crate::crd::{MqttBroker, MqttRole, MqttUser};
use crate::events::tell;
use crate::health::{self, Health};
use crate::metrics::Metrics;
use crate::{role_controller, user_controller};

/// After a failure an object is tried again so soon, and each time later.
const RETRY_FIRST: Duration = Duration::from_secs(5);
const RETRY_LAST: Duration = Duration::from_secs(300);
/// Seconds of the lease, and how long before its end it is renewed: whoever is cut off stops before another one begins.
const LEASE_SECONDS: u64 = 15;
const LEASE_GRACE_SECONDS: u64 = 5;
const LEASE_NAME: &str = "bucketmq-operator";
/// What is under way at the end gets this long.
const DRAIN: Duration = Duration::from_secs(10);

/// Runs until SIGTERM, or until another process has the lease.
pub async fn run(options: RunOptions) -> anyhow::Result<()> {
    let registry = Registry::new();
    let metrics = Arc::new(Metrics::new(&registry)?);
    let health = Arc::new(Health::default());
    let mut tasks = JoinSet::new();
    let server = health::bind(options.listen).await?;
    tasks.spawn(health::serve(server, health.clone(), registry));

    let config = kube::Config::infer().await.context("no access to a cluster: run in a pod, or set KUBECONFIG")?;
    let namespace = config.default_namespace.clone();
    let client = Client::try_from(config)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let cluster_id = tokio::select! {
        id = cluster_id(&client, options.cluster_id.clone()) => id?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    info!(version = env!("CARGO_PKG_VERSION"), cluster_id, namespaces = ?options.watch_namespaces, "starting");

    let (brokers, brokers_queue) = mpsc::unbounded_channel();
    let (users, users_queue) = mpsc::unbounded_channel();
    let (roles, roles_queue) = mpsc::unbounded_channel();
    let triggers = Triggers { brokers, users, roles };
    let scope = Scope(options.watch_namespaces.clone());
    let (caches, watches) = watch(&client, &scope, &triggers, &metrics);
    for running in watches {
        tasks.spawn(running);
    }
    let identity = std::env::var("POD_NAME").unwrap_or_else(|_| format!("operator-{}", std::process::id()));
    let reporter = Reporter { controller: "bucketmq-operator".to_owned(), instance: Some(identity.clone()) };
    let context = Arc::new(Context {
        http: reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build()?,
        caches,
        metrics: metrics.clone(),
        settings: Settings { image: options.broker_image.clone(), operator_namespace: std::env::var("POD_NAMESPACE").ok(), cluster_id },
        lives: options.lives(),
        recorder: Recorder::new(client.clone(), reporter),
        rollouts_max: options.max_concurrent_rollouts.max(1),
        hashing: Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from)),
        client: client.clone(),
    });
    health.watch(context.clone());

    let mut lease = None;
    if options.leader_elect {
        let namespace = options.lease_namespace.clone().unwrap_or(namespace);
        let manager = lease_manager(&client, &namespace, &identity).await?;
        let (state, task) = manager.watch().await;
        lease = Some(Lease { state, task });
    }
    let leading = async {
        if let Some(lease) = &mut lease {
            info!("waiting for the lease");
            if lease.state.wait_for(|has| *has).await.is_err() {
                anyhow::bail!("the lease cannot be held");
            }
        }
        // Whoever reconciles before everything is known takes away what it has not seen yet.
        while !context.caches.awaiting().is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        outcome = leading => outcome?,
        _ = terminate.recv() => return end(lease).await,
        _ = interrupt.recv() => return end(lease).await,
    }
    metrics.set_leader(true);
    info!("reconciling");

    let (stop, stopped) = watch::channel(false);
    let mut controllers = JoinSet::new();
    let concurrency = options.concurrency;
    let caches = &context.caches;
    controllers.spawn(control(
        brokers_queue,
        caches.brokers.clone(),
        context.clone(),
        stopped.clone(),
        concurrency,
        |broker: Arc<MqttBroker>, context| Box::pin(async move { broker_controller::reconcile(broker, &context).await }),
    ));
    controllers.spawn(control(
        users_queue,
        caches.users.clone(),
        context.clone(),
        stopped.clone(),
        concurrency,
        |user: Arc<MqttUser>, context| Box::pin(async move { user_controller::reconcile(user, &context).await }),
    ));
    controllers.spawn(control(roles_queue, caches.roles.clone(), context.clone(), stopped, concurrency, |role: Arc<MqttRole>, context| {
        Box::pin(async move { role_controller::reconcile(role, &context).await })
    }));

    let lost = async {
        match &mut lease {
            Some(lease) => {
                let _ = lease.state.wait_for(|has| !*has).await;
            }
            None => std::future::pending().await,
        }
    };
    let is_lost = tokio::select! {
        () = lost => true,
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
    };
    metrics.set_leader(false);
    if is_lost {
        // Another process may begin at any moment: nothing is finished.
        anyhow::bail!("the lease is lost: this process ends, so that only one reconciles");
    }
    info!("stopping");
    stop.send_replace(true);
    let finish = async { while controllers.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, finish).await.is_err() {
        warn!("what was under way is given up");
    }
    end(lease).await
}

/// A lease that is held, or waited for, by a task.
struct Lease {
    state: watch::Receiver<bool>,
    task: tokio::task::JoinHandle<kube_lease_manager::Result<LeaseManager>>,
}

/// Gives the lease back, so that the next process need not wait for its end.
async fn end(lease: Option<Lease>) -> anyhow::Result<()> {
    if let Some(Lease { state, task }) = lease {
        drop(state);
        if let Ok(Ok(Ok(manager))) = tokio::time::timeout(DRAIN, task).await {
            let _ = manager.release().await;
        }
    }
    info!("stopped");
    Ok(())
}

async fn lease_manager(client: &Client, namespace: &str, identity: &str) -> anyhow::Result<LeaseManager> {
    let builder = LeaseManagerBuilder::new(client.clone(), LEASE_NAME)
        .with_namespace(namespace)
        .with_identity(identity)
        .with_field_manager(format!("bucketmq-operator-{identity}"))
        .with_duration(LEASE_SECONDS)
        .with_grace(LEASE_GRACE_SECONDS);
    builder.build().await.with_context(|| format!("the Lease {LEASE_NAME} in namespace {namespace} cannot be used"))
}

/// What tells this cluster from others: the uid of kube-system.
async fn cluster_id(client: &Client, chosen: Option<String>) -> anyhow::Result<String> {
    if let Some(id) = chosen {
        return Ok(id);
    }
    loop {
        match Api::<Namespace>::all(client.clone()).get_metadata("kube-system").await {
            Ok(namespace) => return namespace.uid().context("kube-system has no uid"),
            Err(kube::Error::Api(status)) if status.is_forbidden() => {
                anyhow::bail!("not allowed to read the namespace kube-system: name this cluster by --cluster-id, or give the right");
            }
            Err(error) => {
                warn!(error = %error, "the API server does not answer yet");
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
        }
    }
}

/// A reconcile of one kind.
type Reconcile<K> = fn(Arc<K>, Arc<Context>) -> futures_util::future::BoxFuture<'static, Result<Action, Error>>;

/// Reconciles one kind until told to stop.
async fn control<K>(
    mut triggered: mpsc::UnboundedReceiver<Key>,
    cache: Cache<DeserializeGuard<K>>,
    context: Arc<Context>,
    mut stopped: watch::Receiver<bool>,
    concurrency: u16,
    reconcile: Reconcile<K>,
) where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + Sync + 'static,
{
    let kind = K::kind(&()).into_owned();
    // The runtime wants a store of its own; it gets names only.
    let mut writer = Writer::<PartialObjectMeta<K>>::new(());
    let store = writer.as_reader();
    writer.apply_watcher_event(&Event::Init);
    writer.apply_watcher_event(&Event::InitDone);
    let known = cache.clone();
    let queue = stream::poll_fn(move |task| {
        triggered.poll_recv(task).map(|key| {
            key.map(|key| {
                let mut stub = PartialObjectMeta::<K> { types: None, metadata: Default::default(), _phantom: std::marker::PhantomData };
                stub.metadata.name = Some(key.name.clone());
                stub.metadata.namespace = Some(key.namespace.clone());
                let exists = known.get(&key.namespace, &key.name).is_some();
                writer.apply_watcher_event(&if exists { Event::Apply(stub) } else { Event::Delete(stub) });
                Ok::<_, std::convert::Infallible>(ReconcileRequest::from(
                    ObjectRef::<PartialObjectMeta<K>>::new(&key.name).within(&key.namespace),
                ))
            })
        })
    });
    let queue = queue.take_until(async move {
        let _ = stopped.wait_for(|stopped| *stopped).await;
    });
    let failures: Arc<Mutex<HashMap<Key, u32>>> = Arc::default();
    let (count, forget) = (failures.clone(), failures);
    let label = kind.clone();
    let one = move |stub: Arc<PartialObjectMeta<K>>, context: Arc<Context>| {
        let (cache, kind, forget) = (cache.clone(), label.clone(), forget.clone());
        let run = async move {
            let key = Key::of(stub.as_ref());
            let Some(guard) = cache.get(&key.namespace, &key.name) else {
                forget.lock().remove(&key);
                return Ok(Action::await_change());
            };
            let object = match &guard.0 {
                Ok(object) => Arc::new(object.clone()),
                Err(invalid) => {
                    warn!(kind, namespace = key.namespace, name = key.name, error = %invalid.error, "this object cannot be read: it is left alone");
                    context.metrics.reconciled(&kind, Duration::ZERO, Some("other"));
                    tell(stub.as_ref(), true, "Unreadable", &format!("the operator cannot read this object: {}", invalid.error), &context)
                        .await;
                    return Ok(Action::await_change());
                }
            };
            let started = Instant::now();
            let outcome = reconcile(object, context.clone()).await;
            context.metrics.reconciled(&kind, started.elapsed(), outcome.as_ref().err().map(Error::reason));
            debug!(kind, namespace = key.namespace, name = key.name, took_us = started.elapsed().as_micros(), "reconciled");
            if outcome.is_ok() {
                forget.lock().remove(&key);
            }
            outcome
        };
        Box::pin(run)
    };
    let policy = move |stub: Arc<PartialObjectMeta<K>>, error: &Error, _: Arc<Context>| {
        let mut failures = count.lock();
        let times = failures.entry(Key::of(stub.as_ref())).or_default();
        let wait = (RETRY_FIRST * 2_u32.saturating_pow((*times).min(10))).min(RETRY_LAST);
        *times += 1;
        warn!(namespace = stub.namespace(), name = stub.name_any(), error = %chain(error), again_s = wait.as_secs(), "failed, and is tried again");
        Action::requeue(wait)
    };
    let config = Config::default().concurrency(concurrency);
    applier(one, policy, context, store, queue, config)
        .for_each(|outcome| async {
            if let Err(controller::Error::RunnerError(error)) = outcome {
                error!(error = %error, "the controller stopped");
            }
        })
        .await;
    debug!(kind, "the controller has ended");
}

fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
