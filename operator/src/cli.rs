//! The command line.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use kube::ResourceExt;

use crate::pki::Lives;

/// Reconciles MqttBroker, MqttUser and MqttRole.
#[derive(Debug, Parser)]
#[command(name = "bucketmq-operator", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the operator, in a pod or with KUBECONFIG.
    Run(RunOptions),
    /// Prints the custom resource definitions, or writes each into a folder.
    Crds {
        /// Write them there, as <plural>.bucketmq.io.yaml; nothing is written that is the same.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

/// How the operator runs.
#[derive(Clone, Debug, clap::Args)]
pub struct RunOptions {
    /// Watch this namespace only; may be repeated. Default: all.
    #[arg(long = "watch-namespace", value_name = "NAMESPACE", env = "BUCKETMQ_OPERATOR_WATCH_NAMESPACES", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,
    /// Image of brokers that name none.
    #[arg(long, value_name = "IMAGE", env = "BUCKETMQ_OPERATOR_BROKER_IMAGE", default_value = concat!("ghcr.io/bucketmq/broker:", env!("CARGO_PKG_VERSION")))]
    pub broker_image: String,
    /// Brokers whose pod is replaced at one time.
    #[arg(long, value_name = "NUMBER", env = "BUCKETMQ_OPERATOR_MAX_CONCURRENT_ROLLOUTS", default_value_t = 5)]
    pub max_concurrent_rollouts: usize,
    /// Objects of a kind that are reconciled at one time.
    #[arg(long, value_name = "NUMBER", default_value_t = 16)]
    pub concurrency: u16,
    /// Whether a Lease decides which of several operators reconciles.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub leader_elect: bool,
    /// Namespace of the Lease. Default: the pod's.
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE")]
    pub lease_namespace: Option<String>,
    /// Where /livez, /readyz and /metrics are served.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// How long a certificate made by the operator is valid; it is renewed when a third of that is left.
    #[arg(long, value_name = "SECONDS", default_value_t = 7_776_000, value_parser = clap::value_parser!(u64).range(30..))]
    pub certificate_seconds: u64,
    /// What tells this cluster from others that use the same bucket. Default: the uid of the namespace kube-system.
    #[arg(long, value_name = "TEXT", env = "BUCKETMQ_OPERATOR_CLUSTER_ID")]
    pub cluster_id: Option<String>,
    /// off, error, warn, info, debug or trace; also of parts, such as info,kube=debug.
    #[arg(long, value_name = "LEVEL", env = "BUCKETMQ_OPERATOR_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
    /// How a line of the log looks.
    #[arg(long, value_name = "FORMAT", env = "BUCKETMQ_OPERATOR_LOG_FORMAT", default_value = "json")]
    pub log_format: LogFormat,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

impl RunOptions {
    /// How long certificates are valid.
    pub fn lives(&self) -> Lives {
        Lives { certificate: Duration::from_secs(self.certificate_seconds) }
    }
}

/// Does what the command line says.
pub fn run() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(options) => operate(options),
        Command::Crds { out } => crds(out),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "bucketmq-operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn operate(options: RunOptions) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(&options.log_level).context("--log-level")?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match options.log_format {
        LogFormat::Json => log.json().init(),
        LogFormat::Text => log.init(),
    }
    // Several of the libraries could bring their own: there is one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(crate::run::run(options));
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// Said at the top of each file.
const HEADER: &str = "# Made by `cargo crds` from operator/src/crd: edit that instead.\n";

fn crds(out: Option<PathBuf>) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    for crd in crate::crd::all() {
        let text = crate::crd::yaml(&crd)?;
        let Some(folder) = &out else {
            writeln!(stdout, "---\n{text}")?;
            continue;
        };
        let path = folder.join(format!("{}.yaml", crd.name_any()));
        let text = format!("{HEADER}{text}");
        if std::fs::read_to_string(&path).ok().as_deref() == Some(&text) {
            continue;
        }
        std::fs::create_dir_all(folder)?;
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        writeln!(stdout, "wrote {}", path.display())?;
    }
    Ok(())
}
