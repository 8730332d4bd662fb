//! The cluster under test, and how the operator gets into it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bucketmq_local_cluster::{S3_ACCESS_KEY, S3_SECRET_KEY};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, ResourceExt};
use tokio::process::Command;

use crate::audit::Mark;
use crate::ground::Ground;
use crate::operator::{Operator, Options};

/// Where the operator's ServiceAccount is.
pub const OPERATOR_NAMESPACE: &str = "bucketmq-operator";
/// How the API server calls the operator.
pub const OPERATOR_USER: &str = "system:serviceaccount:bucketmq-operator:bucketmq-operator";

/// The operator as a pod, on the node that no case takes away.
pub const OPERATOR_VALUES: &[&str] = &[
    "image.repository=bucketmq.local/operator",
    "image.tag=dev",
    "image.pullPolicy=Never",
    "brokerImage=bucketmq.local/broker:dev",
    "nodeSelector.bucketmq\\.local/stays=always",
];

/// Who has written nothing for so long has come to rest.
const QUIET: Duration = Duration::from_secs(10);

/// A cluster that runs.
pub struct World {
    /// To its API server, as its administrator.
    pub client: Client,
    /// Of its administrator.
    pub kubeconfig: PathBuf,
    /// What the API server notes.
    pub audit_log: PathBuf,
    /// The operator's binary.
    pub binary: PathBuf,
    /// kubectl.
    pub kubectl: PathBuf,
    /// helm.
    pub helm: PathBuf,
    /// Logs and files of a run.
    pub folder: tempfile::TempDir,
    /// The cluster.
    pub ground: Ground,
}

impl World {
    /// Connects to a cluster and gets it ready for the operator.
    pub async fn new(ground: Ground, binary: PathBuf) -> anyhow::Result<Self> {
        let (kubeconfig, audit_log, [kubectl, helm]) = (ground.kubeconfig(), ground.audit_log(), ground.tools()?);
        let config = Kubeconfig::read_from(&kubeconfig)?;
        let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
        let folder = tempfile::Builder::new().prefix("bucketmq-kubernetes-").tempdir()?;
        Ok(Self { client: Client::try_from(config)?, kubeconfig, audit_log, binary, kubectl, helm, folder, ground })
    }

    /// kubectl with these arguments; what it prints.
    pub async fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.command(&self.kubectl, arguments).await
    }

    /// helm with these arguments; what it prints.
    pub async fn helm(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.command(&self.helm, arguments).await
    }

    async fn command(&self, program: &Path, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(program);
        // Helm keeps caches of its own.
        command.args(arguments).env("KUBECONFIG", &self.kubeconfig).env("HELM_CACHE_HOME", self.folder.path()).stdin(Stdio::null());
        let output = command.output().await.with_context(|| program.display().to_string())?;
        let (answer, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "{} {}: {error}{answer}", program.display(), arguments.join(" "));
        Ok(answer.into_owned())
    }

    /// Installs or changes the operator's chart, with these values besides those that every case has.
    pub async fn operator_chart(&self, values: &[&str]) -> anyhow::Result<()> {
        let chart = repository().join("charts/bucketmq-operator").display().to_string();
        let mut arguments =
            vec!["upgrade", "--install", "bucketmq-operator", &chart, "--namespace", OPERATOR_NAMESPACE, "--create-namespace"];
        // Cases delete and change the definitions: they are theirs.
        arguments.extend(["--set", "crds.install=false"]);
        values.iter().for_each(|value| arguments.extend(["--set", value]));
        self.helm(&arguments).await.map(drop)
    }

    /// Installs the custom resource definitions from `crds/` and waits until the API server serves and explains them.
    pub async fn install_crds(&self) -> anyhow::Result<()> {
        let api = Api::<CustomResourceDefinition>::all(self.client.clone());
        for crd in bucketmq_operator::crd::all() {
            let path = repository().join("crds").join(format!("{}.yaml", crd.name_any()));
            let crd: CustomResourceDefinition = serde_saphyr::from_str(&std::fs::read_to_string(&path)?)?;
            let parameters = PatchParams::apply("bucketmq-kubernetes").force();
            api.patch(&crd.name_any(), &parameters, &Patch::Apply(&crd)).await.with_context(|| path.display().to_string())?;
        }
        let begin = Instant::now();
        loop {
            let established = api.list(&Default::default()).await?.items.into_iter().filter(|crd| {
                let conditions = crd.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
                crd.spec.group == bucketmq_operator::crd::GROUP
                    && conditions.iter().any(|condition| condition.type_ == "Established" && condition.status == "True")
            });
            if established.count() == bucketmq_operator::crd::all().len() && self.explained().await {
                return Ok(());
            }
            ensure!(begin.elapsed() < Duration::from_secs(30), "the custom resource definitions are not served");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Whether the published OpenAPI document, which `kubectl explain` reads, has all our kinds: it comes a second or two after they are served.
    async fn explained(&self) -> bool {
        let path = format!("/openapi/v3/apis/{}/v1alpha1", bucketmq_operator::crd::GROUP);
        let Ok(document) = self.kubectl(&["get", "--raw", &path]).await else { return false };
        bucketmq_operator::crd::all().iter().all(|crd| document.contains(&format!("/{}\"", crd.spec.names.plural)))
    }

    /// A kubeconfig of the operator's ServiceAccount.
    pub async fn operator_kubeconfig(&self) -> anyhow::Result<PathBuf> {
        let path = self.folder.path().join("operator.kubeconfig");
        if path.exists() {
            return Ok(path);
        }
        // Its ServiceAccount and its rights as the chart has them, and no pod.
        self.operator_chart(&["replicas=0"]).await?;
        let token = self.kubectl(&["create", "token", "bucketmq-operator", "-n", OPERATOR_NAMESPACE, "--duration", "10h"]).await?;
        let mut config = Kubeconfig::read_from(&self.kubeconfig)?;
        for user in &mut config.auth_infos {
            user.auth_info = Some(serde_json::from_value(serde_json::json!({ "token": token.trim() }))?);
        }
        std::fs::write(&path, serde_saphyr::to_string(&config)?)?;
        Ok(path)
    }

    /// Starts the operator as its ServiceAccount and waits until it has seen everything.
    pub async fn operator(&self, options: &Options) -> anyhow::Result<Operator> {
        let kubeconfig = self.operator_kubeconfig().await?;
        let mut operator = Operator::start(&self.binary, &kubeconfig, self.folder.path(), options)?;
        operator.wait_ready().await?;
        Ok(operator)
    }

    /// The S3 server in the cluster.
    pub fn s3(&self) -> anyhow::Result<String> {
        self.ground.s3_endpoint()
    }

    /// Makes a bucket there.
    pub async fn make_bucket(&self, name: &str) -> anyhow::Result<()> {
        let endpoint = self.s3()?;
        let address = endpoint.trim_start_matches("http://").parse().with_context(|| endpoint.clone())?;
        let name = name.to_owned();
        tokio::task::spawn_blocking(move || bucketmq_servers::create_bucket_at(address, S3_ACCESS_KEY, S3_SECRET_KEY, &name)).await?
    }

    /// The pod of the S3 server.
    pub async fn store_pod(&self) -> anyhow::Result<Pod> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), "s3").list(&Default::default()).await?.items;
        pods.into_iter().find(|pod| pod.labels().get("app").is_some_and(|app| app == "s3")).context("no pod of the S3 server")
    }

    /// Has the operator run as a pod, and waits until it is ready.
    pub async fn deploy_operator(&self) -> anyhow::Result<()> {
        self.operator_chart(OPERATOR_VALUES).await?;
        self.kubectl(&["rollout", "status", "deployment/bucketmq-operator", "-n", OPERATOR_NAMESPACE, "--timeout=90s"]).await?;
        Ok(())
    }

    /// Waits until no other namespace is being deleted: what the operator does about those is not what is counted.
    pub async fn wait_tidy(&self, namespace: &str) -> anyhow::Result<()> {
        let api = Api::<Namespace>::all(self.client.clone());
        let begin = Instant::now();
        loop {
            let others = api.list(&Default::default()).await?.items;
            let going = others.into_iter().filter(|other| other.metadata.deletion_timestamp.is_some() && other.name_any() != namespace);
            let going: Vec<String> = going.map(|other| other.name_any()).collect();
            if going.is_empty() {
                return Ok(());
            }
            ensure!(begin.elapsed() < Duration::from_secs(120), "still being deleted: {}", going.join(", "));
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Waits until the operator has written nothing for [`QUIET`].
    pub async fn wait_quiet(&self, patience: Duration) -> anyhow::Result<()> {
        let begin = Instant::now();
        loop {
            let mark = self.mark()?;
            tokio::time::sleep(QUIET).await;
            let writes = mark.writes_since(OPERATOR_USER)?;
            if writes.is_empty() {
                return Ok(());
            }
            ensure!(begin.elapsed() < patience, "the operator still writes after {patience:?}: {writes:?}");
        }
    }

    /// The end of the audit log.
    pub fn mark(&self) -> anyhow::Result<Mark> {
        Mark::now(&self.audit_log)
    }
}

/// The checkout this runs in, or the one it was built from.
pub fn repository() -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    let found = here.ancestors().find(|folder| folder.join("operator/tests/rules.yaml").is_file());
    found.map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."), Path::to_owned)
}
