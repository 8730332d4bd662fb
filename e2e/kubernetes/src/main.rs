//! `bucketmq-kubernetes`: runs the cases on a cluster and says what came of them.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use bucketmq_binary::{OPERATOR, find_program};
use bucketmq_kubernetes::cases::{self, Case, Needs, STAGE_A, STAGE_B};
use bucketmq_kubernetes::ground::Ground;
use bucketmq_kubernetes::kind::Kind;
use bucketmq_kubernetes::operator::{Operator, Options as Flags};
use bucketmq_kubernetes::report::{Outcome, say, table};
use bucketmq_kubernetes::{World, cases::scale};
use bucketmq_local_cluster::{Cluster, Options, Stage, Unavailable};
use clap::{Parser, Subcommand};

/// This machine cannot run the cluster, as sysexits.h numbers it.
const UNAVAILABLE: u8 = 69;
/// The versions of Kubernetes that are supported, by their folders in the cache: the one all cases run on, the oldest and the newest.
const ALL_VERSIONS: [&str; 3] = ["kubernetes", "kubernetes-1.34", "kubernetes-1.37"];
/// Cases that share one operator run at one time.
const AT_ONCE: usize = 4;

/// The operator and its brokers on a real Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "bucketmq-kubernetes", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// The operator's binary. Default: the newest build.
    #[arg(long, value_name = "FILE", global = true)]
    operator: Option<PathBuf>,
    /// Name of the local cluster; it is started, and ended unless --keep.
    #[arg(long, value_name = "NAME", default_value = "suite", global = true)]
    cluster: String,
    /// Where `nodes` run. kind wants kind, Docker, kubectl and helm in the PATH, Linux and root; NetworkPolicies are enforced only there.
    #[arg(long, value_enum, default_value_t = Place::Local, global = true)]
    on: Place,
    /// With --on kind: the image of its nodes, such as kindest/node:v1.36.2. Default: kind's own.
    #[arg(long, value_name = "IMAGE", global = true)]
    node_image: Option<String>,
    /// Kubernetes' folder in the cache, such as kubernetes-1.34: `e2e/cluster/install` builds it.
    #[arg(long, value_name = "FOLDER", default_value = "kubernetes", global = true)]
    kubernetes: String,
    /// Leave the cluster running.
    #[arg(long, global = true)]
    keep: bool,
    /// Write the outcomes there as JSON.
    #[arg(long, value_name = "FILE", global = true)]
    json: Option<PathBuf>,
}

/// Whose cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Place {
    /// The Kubernetes of one machine in e2e/cluster.
    Local,
    /// kind.
    Kind,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The cases of a control plane without nodes; needs no root.
    Objects {
        /// Only cases whose name holds one of these.
        filter: Vec<String>,
    },
    /// The cases of a cluster with nodes; needs root. Images are built by `e2e/cluster/images` before.
    Nodes {
        /// Only cases whose name holds one of these.
        filter: Vec<String>,
    },
    /// Only what the API server checks by itself, for other versions of Kubernetes.
    Rules {
        /// One after the other with the oldest and the newest version that is supported too; they are built first, once.
        #[arg(long)]
        all_versions: bool,
    },
    /// Many brokers and users.
    Scale {
        /// MqttBrokers.
        #[arg(long, default_value_t = 500)]
        brokers: usize,
        /// MqttUsers of each.
        #[arg(long, default_value_t = 10)]
        users: usize,
    },
    /// The names of all cases.
    List,
}

fn main() -> ExitCode {
    // Several libraries bring one: there is one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&format!("no runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(&cli)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("bucketmq-kubernetes: {error:#}"));
            if error.is::<Unavailable>() { UNAVAILABLE.into() } else { ExitCode::FAILURE }
        }
    }
}

async fn run(cli: &Cli) -> anyhow::Result<bool> {
    if matches!(cli.command, Command::List) {
        STAGE_A.iter().chain(STAGE_B).for_each(|case| say(case.name));
        return Ok(true);
    }
    if let Command::Rules { all_versions: true } = cli.command {
        let mut are_all_right = true;
        for version in ALL_VERSIONS {
            say(&format!("== {version}"));
            are_all_right &= Box::pin(on(cli, version)).await?;
        }
        return Ok(are_all_right);
    }
    on(cli, &cli.kubernetes).await
}

/// The cluster that was asked for.
async fn ground(cli: &Cli, kubernetes: &str) -> anyhow::Result<Ground> {
    if cli.on == Place::Kind {
        anyhow::ensure!(
            matches!(cli.command, Command::Nodes { .. }),
            "--on kind goes with `nodes`: the other cases want a cluster without nodes"
        );
        let (name, image) = (cli.cluster.clone(), cli.node_image.clone());
        return tokio::task::spawn_blocking(move || Kind::up(&name, image.as_deref(), progress).map(Ground::Kind)).await?;
    }
    let options = Options {
        name: cli.cluster.clone(),
        stage: if matches!(cli.command, Command::Nodes { .. }) { Stage::B } else { Stage::A },
        nodes: 3,
        kubernetes: kubernetes.to_owned(),
        controllers: !matches!(cli.command, Command::Rules { .. }),
        install: true,
        progress,
        ..Options::default()
    };
    tokio::task::spawn_blocking(move || Cluster::up(&options).map(Ground::Local)).await?
}

fn progress(text: &str) {
    say(&format!("cluster: {text}"));
}

/// Runs what was asked for on this version.
async fn on(cli: &Cli, kubernetes: &str) -> anyhow::Result<bool> {
    let ground = ground(cli, kubernetes).await?;
    let binary = find_program(OPERATOR, cli.operator.clone())?;
    let world = World::new(ground.clone(), binary).await?;
    world.install_crds().await?;
    if ground.has_nodes() {
        load_images(&ground)?;
        world.deploy_operator().await?;
    }
    let outcomes = match &cli.command {
        Command::Objects { filter } => {
            let chosen = |case: &&Case| is_chosen(case, filter);
            objects(&world, &STAGE_A.iter().filter(chosen).collect::<Vec<_>>()).await?
        }
        Command::Nodes { filter } => {
            let chosen = |case: &&Case| is_chosen(case, filter);
            alone(&world, &STAGE_B.iter().filter(chosen).collect::<Vec<_>>()).await
        }
        Command::Rules { .. } => {
            let chosen = |case: &&Case| case.name.contains("rule") || case.name.contains("golden");
            alone(&world, &STAGE_A.iter().filter(chosen).collect::<Vec<_>>()).await
        }
        Command::Scale { brokers, users } => {
            let begin = Instant::now();
            let verdict = scale::run(&world, *brokers, *users).await;
            vec![told("scale", begin, verdict)]
        }
        Command::List => Vec::new(),
    };
    say(&table(&outcomes));
    let failed = outcomes.iter().filter(|outcome| outcome.failure.is_some()).count();
    if let Some(path) = &cli.json {
        std::fs::write(path, serde_json::to_string_pretty(&outcomes)?).with_context(|| path.display().to_string())?;
    }
    if !cli.keep && failed == 0 {
        tokio::task::spawn_blocking(move || ground.down()).await??;
    }
    say(&format!("test result: {}. {} passed; {failed} failed", if failed == 0 { "ok" } else { "FAILED" }, outcomes.len() - failed));
    Ok(failed == 0)
}

fn is_chosen(case: &Case, filter: &[String]) -> bool {
    filter.is_empty() || filter.iter().any(|part| case.name.contains(part.as_str()))
}

/// The images that `e2e/cluster/images` has built, into every node.
fn load_images(ground: &Ground) -> anyhow::Result<()> {
    for archive in ["broker-dev.tar", "operator-dev.tar"] {
        let path = bucketmq_local_cluster::images::folder()?.join(archive);
        anyhow::ensure!(path.is_file(), "{} is not there: run e2e/cluster/images", path.display());
        ground.load_image(&path)?;
    }
    Ok(())
}

/// First those that share an operator, some at a time; then those that want to be alone.
async fn objects(world: &World, chosen: &[&'static Case]) -> anyhow::Result<Vec<Outcome>> {
    use futures_util::StreamExt;
    let (shared, rest): (Vec<&'static Case>, Vec<&'static Case>) = chosen.iter().copied().partition(|case| case.needs == Needs::Objects);
    let mut outcomes = Vec::new();
    if !shared.is_empty() {
        let operator: Operator = world.operator(&Flags::default()).await?;
        let running = shared.iter().map(|case| one(world, case));
        outcomes.extend(futures_util::stream::iter(running).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await);
        if outcomes.iter().any(|outcome| outcome.failure.is_some()) {
            say(&operator.log_text());
        }
        operator.stop().await?;
    }
    outcomes.extend(alone(world, &rest).await);
    Ok(outcomes)
}

/// One after the other.
async fn alone(world: &World, chosen: &[&'static Case]) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for case in chosen {
        outcomes.push(one(world, case).await);
    }
    outcomes
}

async fn one(world: &World, case: &'static Case) -> Outcome {
    let begin = Instant::now();
    let verdict = case.run(world).await;
    told(case.name, begin, verdict)
}

fn told(case: &'static str, begin: Instant, verdict: cases::Verdict) -> Outcome {
    let seconds = begin.elapsed().as_secs_f64();
    let (measured, failure) = match verdict {
        Ok(measured) => {
            // A bar that is missed is told, and fails nothing: a machine may be slow.
            (measured, None)
        }
        Err(error) => (Vec::new(), Some(format!("{error:#}"))),
    };
    match &failure {
        None => say(&format!("test {case} ... ok ({seconds:.1} s)")),
        Some(failure) => say(&format!("test {case} ... FAILED ({seconds:.1} s)\n{failure}")),
    }
    Outcome { case, seconds, measured, failure }
}
