//! Writes what a broker is made of, in an order in which nothing names what is not there yet, and deletes what it is not made of any more.

use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::build::Children;
use super::observe::{Live, Observed, PodView, named};
use crate::apply::{Applier, ApplyError};
use crate::context::Context;
use crate::names::RELOAD;

/// Makes everything what it should be.
pub async fn apply(applier: &Applier<'_>, children: &Children, live: &Live) -> Result<(), ApplyError> {
    // Without `..`: whoever adds a kind is told here that it has to be applied.
    let Children { service_account, authority, files, users, config, services, network_policy, deployment } = children;

    if let Some(account) = service_account {
        applier.apply(account, named(&live.service_accounts, &account.name_any())).await?;
    }
    for secret in authority.iter().chain([files, users]) {
        applier.apply(secret, named(&live.secrets, &secret.name_any())).await?;
    }
    applier.apply(config, named(&live.config_maps, &config.name_any())).await?;
    for service in services {
        applier.apply(service, named(&live.services, &service.name_any())).await?;
    }
    if let Some(policy) = network_policy {
        applier.apply(policy, named(&live.network_policies, &policy.name_any())).await?;
    }
    applier.apply(deployment, named(&live.deployments, &deployment.name_any())).await?;

    let accounts: Vec<String> = service_account.iter().map(ResourceExt::name_any).collect();
    applier.prune(&live.service_accounts, &texts(&accounts)).await?;
    let secrets: Vec<String> = authority.iter().chain([files, users]).map(ResourceExt::name_any).collect();
    applier.prune(&live.secrets, &texts(&secrets)).await?;
    applier.prune(&live.config_maps, &[&config.name_any()]).await?;
    let wanted: Vec<String> = services.iter().map(ResourceExt::name_any).collect();
    applier.prune(&live.services, &texts(&wanted)).await?;
    let policies: Vec<String> = network_policy.iter().map(ResourceExt::name_any).collect();
    applier.prune(&live.network_policies, &texts(&policies)).await?;
    applier.prune(&live.deployments, &[&deployment.name_any()]).await
}

fn texts(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

/// Has the kubelet look at the pods' volumes now: it does so when a pod changes, and else each minute.
pub async fn hurry(observed: &Observed, revision: &str, context: &Context) -> Result<(), ApplyError> {
    let namespace = observed.broker.namespace().unwrap_or_default();
    let api = Api::<k8s_openapi::api::core::v1::Pod>::namespaced(context.client.clone(), &namespace);
    for pod in &observed.pods {
        if !is_behind(pod, revision) {
            continue;
        }
        let patch = json!({ "metadata": { "annotations": { RELOAD: revision } } });
        match api.patch_metadata(&pod.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Ok(_) => context.metrics.applied("Pod", true),
            // It went meanwhile.
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(source) => return Err(ApplyError::Api { kind: "Pod".to_owned(), name: pod.name.clone(), source }),
        }
    }
    Ok(())
}

/// Whether a running pod has another configuration, or waits for a bucket that the last keys did not open, and was not told yet.
fn is_behind(pod: &PodView, revision: &str) -> bool {
    let is_behind = pod.says.as_ref().is_some_and(|says| match &says.revision {
        Some(says) => says != revision,
        // It serves nothing yet. What it waits for may be in the files that it is given.
        None => says.bucket.as_ref().is_some_and(|bucket| !bucket.healthy),
    });
    !pod.is_terminating && is_behind && pod.told.as_deref() != Some(revision)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::readyz::{Bucket, Readiness};

    fn pod(says: Readiness, told: Option<&str>) -> PodView {
        let (name, restart_hash, told) = ("fleet-1".to_owned(), "t1".to_owned(), told.map(str::to_owned));
        PodView { name, restart_hash, told, is_ready: false, is_terminating: false, says: Some(says), trouble: None }
    }

    #[test]
    fn a_pod_is_told_once_of_each_configuration_it_does_not_have() {
        let older = Readiness { revision: Some("r0".to_owned()), ..Readiness::default() };
        assert!(is_behind(&pod(older.clone(), None), "r1") && is_behind(&pod(older.clone(), Some("r0")), "r1"));
        assert!(!is_behind(&pod(older.clone(), Some("r1")), "r1") && !is_behind(&pod(older, None), "r0"));
    }

    #[test]
    fn a_pod_that_waits_for_its_bucket_is_told_of_other_keys_and_one_that_starts_is_left_alone() {
        let bucket = |healthy| Some(Bucket { healthy, ..Bucket::default() });
        let waits = Readiness { bucket: bucket(false), ..Readiness::default() };
        assert!(is_behind(&pod(waits.clone(), Some("r0")), "r1") && !is_behind(&pod(waits, Some("r1")), "r1"));
        for starts in [Readiness::default(), Readiness { bucket: bucket(true), ..Readiness::default() }] {
            assert!(!is_behind(&pod(starts, None), "r1"));
        }
    }
}
