//! Reconciles an MqttBroker: observe, validate, build, apply, report.
//!
//! Promise: what is wrong with one object stops no other; what cannot be applied leaves what was applied before in force; nothing is written that is there.

mod apply;
pub mod build;
pub mod files;
mod issuing;
mod observe;
pub mod report;
pub mod users;
mod validate;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use serde_json::json;
use tracing::{info, warn};

pub use validate::wrong_rule;

use crate::apply::{Applier, ApplyError};
use crate::context::Context;
use crate::crd::{DeletionPolicy, MqttBroker, MqttBrokerStatus};
use crate::events::tell;
use crate::names::{self, FINALIZER, INPUTS, PAUSED, RESTART_HASH, annotation, short_hash};
use issuing::NOT_ISSUED;
use observe::{Observed, named};
use report::{Applied, Outcome};
use users::Users;
use validate::{Valid, validate};

/// A broker whose pods run and are not where they should be is looked at again so soon.
const SOON: Duration = Duration::from_secs(1);
/// One whose pods are waited for: events come first, this is for those that get lost.
const LATER: Duration = Duration::from_secs(15);
/// One that waits for others' rollouts.
const SLOT: Duration = Duration::from_secs(5);
/// One at rest: pods are asked how they are.
const REST: Duration = Duration::from_secs(60);
/// One without a running pod, at rest.
const LONG: Duration = Duration::from_secs(600);

/// Why a reconcile is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server said no, or nothing.
    #[error("the API server: {0}")]
    Api(#[from] kube::Error),
    /// A child could not be written.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// No users file could be made.
    #[error(transparent)]
    Users(#[from] users::RenderError),
    /// A hash was not finished.
    #[error("hashing passwords was given up: {0}")]
    Hashing(#[from] tokio::task::JoinError),
}

impl Error {
    /// One word for the metric.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Api(_) | Self::Apply(_) => "api",
            Self::Users(_) | Self::Hashing(_) => "other",
        }
    }
}

/// Makes one broker what it should be.
pub async fn reconcile(broker: Arc<MqttBroker>, context: &Context) -> Result<Action, Error> {
    if annotation(broker.as_ref(), PAUSED) == Some("true") {
        write_status(&broker, report::paused(&broker, now()), context).await?;
        return Ok(Action::requeue(LONG));
    }
    if broker.meta().deletion_timestamp.is_some() {
        return delete(broker, context).await;
    }
    if let Some(action) = set_finalizer(&broker, context).await? {
        return Ok(action);
    }
    let observed = observe::observe(broker.clone(), context).await?;
    let mut outcome = Outcome::default();
    let wait = match make(&observed, &mut outcome, context).await {
        // Everything goes, this object too.
        Err(Error::Apply(error)) if error.is_terminating_namespace() => return Ok(Action::requeue(LONG)),
        other => other?,
    };
    let status = report::status(&observed, &outcome, &context.settings, now());
    let is_settled = report::is_settled(&status);
    write_status(&broker, status, context).await?;
    Ok(Action::requeue(wait.unwrap_or_else(|| pause(&observed, is_settled))))
}

/// Validates, builds and applies; what came of it is in `outcome`. `Some`: when to look again, whatever the status says.
async fn make(observed: &Observed, outcome: &mut Outcome, context: &Context) -> Result<Option<Duration>, Error> {
    let broker = &observed.broker;
    let (namespace, name, uid) = (broker.namespace().unwrap_or_default(), broker.name_any(), broker.uid().unwrap_or_default());
    let users = make_users(observed, &namespace, context).await?;
    let kept = named(&observed.live.secrets, &names::files(&name)).map(AsRef::as_ref);
    let authority = named(&observed.live.secrets, &names::authority(&name)).map(AsRef::as_ref);
    let applier = Applier { client: &context.client, metrics: &context.metrics, namespace: &namespace, uid: &uid };
    let issuing = issuing::ask(&applier, broker, kept).await?;
    let time = Timestamp::now().as_second();
    let files = files::gather(broker, &observed.sources, kept, authority, &issuing.waiting, &context.lives, time);
    outcome.certificates.clone_from(&files.certificates);
    // It is told once: with the Secret that is not there, or by itself.
    if !files.problems.iter().any(|problem| problem.reason == NOT_ISSUED) {
        outcome.problems.extend(issuing.problems);
    }
    outcome.problems.extend(files.problems.iter().filter(|problem| !problem.is_blocking).cloned());

    let roles: Vec<_> = observed.roles.iter().filter(|role| role.meta().deletion_timestamp.is_none()).map(AsRef::as_ref).collect();
    let deployment = named(&observed.live.deployments, &names::broker(&name)).map(AsRef::as_ref);
    let mut valid = match validate(broker, &roles, &files, &users, deployment, &context.settings) {
        Ok(valid) => valid,
        Err(problems) => {
            // cert-manager is not watched, only the Secrets it writes.
            let waits = problems.iter().any(|problem| problem.reason == NOT_ISSUED);
            outcome.problems.extend(problems);
            return Ok(waits.then_some(LATER));
        }
    };
    keep_rendered(&mut valid, observed);
    let wanted = build::restart_hash(broker);
    outcome.waits_for_slot = must_wait(deployment, &wanted, context);
    valid.holds_template = broker.spec.update_strategy.paused || outcome.waits_for_slot;
    let children = build::build(&valid, &context.settings);
    match apply::apply(&applier, &children, &observed.live).await {
        Ok(()) => {}
        Err(error) if is_final(&error) && !error.is_terminating_namespace() => {
            warn!(namespace, name, error = %chain(&error), "cannot be applied");
            outcome.refused = Some(chain(&error));
            return Ok(Some(LATER));
        }
        Err(error) => return Err(error.into()),
    }
    let revision = valid.rendered.revision.clone();
    apply::hurry(observed, &revision, context).await?;
    outcome.applied = Some(Applied { revision, users_hash: users.hash(), restart_hash: wanted });
    if outcome.waits_for_slot {
        return Ok(Some(SLOT));
    }
    let renewal = files.renewal_at.map(|at| Duration::from_secs(u64::try_from(at - time).unwrap_or(0).max(1)));
    Ok(renewal.filter(|renewal| *renewal < REST))
}

/// What the API server will say again: the object has to be changed.
fn is_final(error: &ApplyError) -> bool {
    match error {
        ApplyError::Foreign { .. } => true,
        ApplyError::Api { source: kube::Error::Api(status), .. } => matches!(status.code, 400 | 403 | 404 | 422),
        ApplyError::Api { .. } => false,
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The users file, with the hashes that are there already.
async fn make_users(observed: &Observed, namespace: &str, context: &Context) -> Result<Users, Error> {
    let secret: Option<&Arc<Secret>> = named(&observed.live.secrets, &names::users(&observed.broker.name_any()));
    let before = secret.map(|secret| Users::of_secret(secret)).unwrap_or_default();
    let owners = users::owners(&observed.users);
    let roles: Vec<_> = observed.roles.iter().filter(|role| role.meta().deletion_timestamp.is_none()).cloned().collect();
    let roles = users::roles_by_user(&observed.users, &roles);
    let passwords = observe::passwords(&owners, &before, namespace, context).await?;
    let _lane = context.hashing.acquire().await;
    Ok(tokio::task::spawn_blocking(move || users::render(&owners, &roles, &passwords, &before)).await??)
}

/// A configuration that says the same stays as it is, whichever release of the operator rendered it: the broker that runs may be older, too.
fn keep_rendered(valid: &mut Valid<'_>, observed: &Observed) {
    let Some(live) = named(&observed.live.config_maps, &names::config(&valid.broker.name_any())) else { return };
    let Some(toml) = live.data.as_ref().and_then(|data| data.get("broker.toml")) else { return };
    let is_ours = annotation(live.as_ref(), names::CONTENT) == Some(&short_hash(toml));
    if !is_ours || annotation(live.as_ref(), INPUTS) != Some(&valid.rendered.inputs) {
        return;
    }
    let revision = toml.parse::<toml::Table>().ok().and_then(|table| table.get("revision")?.as_str().map(str::to_owned));
    if let Some(revision) = revision {
        valid.rendered.toml.clone_from(toml);
        valid.rendered.revision = revision;
    }
}

/// Whether this broker's pod has to wait for others': no more than so many are replaced at one time.
fn must_wait(deployment: Option<&Deployment>, wanted: &str, context: &Context) -> bool {
    let others = context.caches.deployments.all();
    let rolling = others.iter().filter(|other| is_replacing(other)).count();
    context.metrics.set_rollouts(rolling);
    let Some(deployment) = deployment else { return false };
    let changes = annotation(deployment, RESTART_HASH) != Some(wanted);
    changes && !is_replacing(deployment) && rolling >= context.rollouts_max
}

/// Whether a pod takes over from another one: a first pod does not.
fn is_replacing(deployment: &Deployment) -> bool {
    let status = deployment.status.as_ref();
    let replicas = status.and_then(|status| status.replicas).unwrap_or_default();
    let updated = status.and_then(|status| status.updated_replicas).unwrap_or_default();
    let seen = status.and_then(|status| status.observed_generation) == deployment.metadata.generation;
    replicas > 0 && (updated < replicas || !seen)
}

fn pause(observed: &Observed, is_settled: bool) -> Duration {
    let runs = observed.pods.iter().any(|pod| pod.says.is_some());
    match (is_settled, runs) {
        (true, true) => REST,
        (true, false) => LONG,
        (false, true) => SOON,
        // Pods that are not there yet make events when they come.
        (false, false) if observed.pods.is_empty() => LONG,
        (false, false) => LATER,
    }
}

fn now() -> Time {
    // Conditions have whole seconds.
    Time(Timestamp::from_second(Timestamp::now().as_second()).expect("the present is in range"))
}

/// Writes the status if it says something else, and tells what changed.
async fn write_status(broker: &MqttBroker, status: MqttBrokerStatus, context: &Context) -> Result<(), kube::Error> {
    if !crate::status::write(broker, broker.status.as_ref(), &status, &context.caches.brokers, context).await? {
        return Ok(());
    }
    let before = broker.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    for (is_warning, reason, message) in report::transitions(before, &status.conditions) {
        tell(broker, is_warning, &reason, &message, context).await;
    }
    Ok(())
}

/// The finalizer is there exactly with deletionPolicy Delete. `Some`: it was changed, and the object comes again.
async fn set_finalizer(broker: &MqttBroker, context: &Context) -> Result<Option<Action>, kube::Error> {
    let is_wanted = broker.spec.persistence.deletion_policy == DeletionPolicy::Delete;
    let is_there = broker.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
    if is_wanted == is_there {
        return Ok(None);
    }
    patch_finalizer(broker, is_wanted, context).await?;
    Ok(Some(Action::await_change()))
}

async fn patch_finalizer(broker: &MqttBroker, add: bool, context: &Context) -> Result<(), kube::Error> {
    let mut finalizers: Vec<String> = broker.finalizers().iter().filter(|finalizer| *finalizer != FINALIZER).cloned().collect();
    if add {
        finalizers.push(FINALIZER.to_owned());
    }
    // With the version, so that what somebody else adds meanwhile is not lost.
    let patch = json!({ "metadata": { "finalizers": finalizers, "resourceVersion": broker.resource_version() } });
    let api = Api::<MqttBroker>::namespaced(context.client.clone(), &broker.namespace().unwrap_or_default());
    match api.patch(&broker.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await {
        Err(kube::Error::Api(error)) if error.is_not_found() => Ok(()),
        other => other.map(|_| ()),
    }
}

/// Deletes the prefix before the object goes: pods first, then a Job that has what the pods had.
async fn delete(broker: Arc<MqttBroker>, context: &Context) -> Result<Action, Error> {
    if !broker.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        return Ok(Action::await_change());
    }
    let is_wanted = broker.spec.persistence.deletion_policy == DeletionPolicy::Delete && build::is_durable(&broker);
    if !is_wanted || was_never_ours(&broker) {
        return release(&broker, context).await;
    }
    let observed = observe::observe(broker.clone(), context).await?;
    let (namespace, name, uid) = (broker.namespace().unwrap_or_default(), broker.name_any(), broker.uid().unwrap_or_default());
    let applier = Applier { client: &context.client, metrics: &context.metrics, namespace: &namespace, uid: &uid };
    if let Some(deployment) = named(&observed.live.deployments, &names::broker(&name)) {
        applier.delete::<Deployment>(&deployment.name_any(), deployment.uid()).await?;
        return say(&broker, "Stopping", "the pods are being stopped", context).await;
    }
    let running = observed.pods.iter().filter(|pod| !pod.restart_hash.is_empty()).count();
    if running > 0 {
        return say(&broker, "Stopping", "the pods are being stopped", context).await;
    }
    let job = named(&observed.live.jobs, &names::deletion(&name));
    let Some(job) = job else {
        let image = broker.status.as_ref().and_then(|status| status.image.as_deref());
        let wanted = build::deletion_job(&broker, image, &context.settings);
        return match applier.apply(&wanted, None).await {
            Ok(_) => say(&broker, "DeletingBucket", "a Job deletes what is in the bucket", context).await,
            Err(error) if error.is_terminating_namespace() => {
                let text = "the namespace is being deleted, so that no Job can run: what is in the bucket stays";
                tell(broker.as_ref(), true, "BucketRetained", text, context).await;
                release(&broker, context).await
            }
            Err(error) => Err(error.into()),
        };
    };
    let has = |type_: &str| {
        let conditions = job.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        conditions.iter().any(|condition| condition.type_ == type_ && condition.status == "True")
    };
    if has("Complete") {
        info!(namespace, name, "what was in the bucket is deleted");
        return release(&broker, context).await;
    }
    if has("Failed") {
        let text = format!(
            "the Job {} could not delete what is in the bucket: see its log. Delete the Job to try again, or set deletionPolicy Retain",
            job.name_any()
        );
        return say(&broker, "BucketNotDeleted", &text, context).await;
    }
    say(&broker, "DeletingBucket", "a Job deletes what is in the bucket", context).await
}

/// The prefix belongs to another broker: there is nothing of this one.
fn was_never_ours(broker: &MqttBroker) -> bool {
    let conditions = broker.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "PrefixInUse" && condition.status == "True")
}

async fn release(broker: &MqttBroker, context: &Context) -> Result<Action, Error> {
    patch_finalizer(broker, false, context).await?;
    Ok(Action::await_change())
}

async fn say(broker: &MqttBroker, reason: &str, message: &str, context: &Context) -> Result<Action, Error> {
    write_status(broker, report::deleting(broker, reason, message, now()), context).await?;
    Ok(Action::requeue(LATER))
}

#[cfg(test)]
mod fixtures;
