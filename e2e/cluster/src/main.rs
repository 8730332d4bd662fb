//! `local-cluster`: starts, shows and ends Kubernetes clusters of this machine, for tests and for the shell.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use bucketmq_local_cluster::images::{self, Built, Image, Profile};
use bucketmq_local_cluster::{Cluster, DEFAULT_NAME, Options, S3_ACCESS_KEY, S3_SECRET_KEY, Stage, Status, Unavailable};
use clap::{Args, Parser, Subcommand};
use serde_json::{Value, json};

/// A real Kubernetes of one machine, without Docker.
#[derive(Parser)]
#[command(version)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts a cluster, unless it runs already, and prints how to reach it: lines for the shell to eval, or JSON. Installs what is missing.
    ///
    /// Exits with 0 when it runs, with 69 when this machine cannot run it, with 1 when it could not be started, with 2 when the command line is wrong.
    Up(Up),
    /// Ends a cluster; nothing of it is left.
    ///
    /// Exits with 0 also when there was none.
    Down(Named),
    /// Builds the images of broker and operator as OCI archives, without Docker, and loads them into every node of the clusters that run.
    ///
    /// They are called bucketmq.local/broker:TAG and bucketmq.local/operator:TAG.
    Images(Images),
    /// Tells what runs.
    ///
    /// Exits with 0 when all of it runs, with 1 when something does not, with 3 when there is no such cluster.
    Status(Show),
}

#[derive(Args)]
struct Up {
    #[command(flatten)]
    named: Named,
    /// a: a control plane on loopback, without nodes; needs no root. b: with nodes, DNS and an S3 server.
    #[arg(long, default_value = "a")]
    stage: Stage,
    /// How many nodes stage b has: 1 to 3.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=3))]
    nodes: u8,
    /// The version of Kubernetes, by its folder beside this program's sources.
    #[arg(long, value_name = "FOLDER", default_value = "kubernetes")]
    kubernetes: String,
    /// Without controller manager and scheduler.
    #[arg(long)]
    no_controllers: bool,
    /// Finds dead nodes and restarts containers sooner than Kubernetes does by default: for quick loops, not for figures.
    #[arg(long)]
    fast: bool,
    /// With the times that Kubernetes has by default, which is what happens without --fast, too.
    #[arg(long, conflicts_with = "fast")]
    defaults: bool,
    /// Prints one JSON object instead of lines for the shell.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Images {
    /// Which; both when none is named.
    images: Vec<Image>,
    /// How their programs are built: release as they ship; dev with what tests have built already.
    #[arg(long, default_value = "release")]
    profile: Profile,
    /// What stands behind the colon of their names.
    #[arg(long, default_value = "dev")]
    tag: String,
    /// Where the archives go. The tool cache by default.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Loads them into no cluster.
    #[arg(long)]
    no_load: bool,
    /// Prints one JSON array.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Named {
    /// Several clusters may run side by side under different names.
    #[arg(long, default_value = DEFAULT_NAME)]
    name: String,
}

#[derive(Args)]
struct Show {
    #[command(flatten)]
    named: Named,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

/// This machine cannot do it, as sysexits.h numbers it.
const UNAVAILABLE: u8 = 69;
/// Nothing of that name runs, as init scripts number it.
const NOT_RUNNING: u8 = 3;

fn main() -> ExitCode {
    let result = match CommandLine::parse().command {
        Command::Up(up) => up.run(),
        Command::Images(images) => images.run(),
        Command::Down(named) => down(&named.name),
        Command::Status(show) => status(&show),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("local-cluster: {error:#}");
            if error.is::<Unavailable>() { UNAVAILABLE.into() } else { ExitCode::FAILURE }
        }
    }
}

impl Up {
    fn run(self) -> anyhow::Result<ExitCode> {
        let started = Instant::now();
        let cluster = Cluster::up(&Options {
            name: self.named.name,
            stage: self.stage,
            nodes: self.nodes,
            kubernetes: self.kubernetes,
            controllers: !self.no_controllers,
            fast: self.fast,
            install: true,
            progress: |text| eprintln!("local-cluster: {text}"),
        })?;
        eprintln!("local-cluster: {} runs, {:.1} s", cluster.name(), started.elapsed().as_secs_f64());
        if self.json {
            print(&format!("{}\n", describe(&cluster)?))?;
        } else {
            let programs = cluster.kubectl()?;
            let folder = programs.parent().map(|folder| folder.display().to_string()).unwrap_or_default();
            print(&format!("export PATH=\"{folder}:$PATH\"\nexport KUBECONFIG={}\n", cluster.kubeconfig().display()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Images {
    fn run(self) -> anyhow::Result<ExitCode> {
        let chosen = if self.images.is_empty() { Image::ALL.to_vec() } else { self.images };
        let mut built = Vec::new();
        for image in chosen {
            let one = images::build(image, self.profile, &self.tag, self.out.as_deref(), |text| eprintln!("local-cluster: {text}"))?;
            if !self.json {
                print(&format!(
                    "{} {} {:.1} MB compressed, {}\n",
                    one.name,
                    one.digest,
                    one.compressed_bytes as f64 / 1e6,
                    one.archive.display()
                ))?;
            }
            built.push(one);
        }
        if !self.no_load {
            load(&built)?;
        }
        if self.json {
            print(&format!("{}\n", serde_json::to_string(&built)?))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Into every node of every cluster that has some.
fn load(built: &[Built]) -> anyhow::Result<()> {
    for name in Cluster::names()? {
        // One that is not whole is not one that images are wanted in.
        let Ok(cluster) = Cluster::find(&name) else { continue };
        if cluster.stage() == Stage::B {
            for image in built {
                cluster.load_image(&image.archive)?;
            }
            eprintln!("local-cluster: loaded into every node of {name}");
        }
    }
    Ok(())
}

fn describe(cluster: &Cluster) -> anyhow::Result<Value> {
    Ok(json!({
        "name": cluster.name(),
        "stage": cluster.stage(),
        "kubeconfig": cluster.kubeconfig(),
        "kubectl": cluster.kubectl()?,
        "apiServer": format!("https://{}", cluster.api_server()),
        "address": cluster.address(),
        "auditLog": cluster.audit_log(),
        "logs": cluster.logs(),
        "nodes": cluster.nodes().iter().map(|node| json!({ "name": node.name(), "address": node.address(), "zone": node.zone() })).collect::<Vec<_>>(),
        "s3": cluster.s3_endpoint().map(|endpoint| json!({ "endpoint": endpoint, "accessKey": S3_ACCESS_KEY, "secretKey": S3_SECRET_KEY })),
    }))
}

fn down(name: &str) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    if Cluster::down(name)? {
        eprintln!("local-cluster: {name} is down, {:.1} s", started.elapsed().as_secs_f64());
    } else {
        let others = Cluster::names()?;
        let others = if others.is_empty() { "none runs".to_owned() } else { format!("there are {}", others.join(", ")) };
        eprintln!("local-cluster: there is no cluster {name}; {others}");
    }
    Ok(ExitCode::SUCCESS)
}

fn status(show: &Show) -> anyhow::Result<ExitCode> {
    let name = &show.named.name;
    let Some(status) = Status::of(name)? else {
        eprintln!("local-cluster: there is no cluster {name}");
        if show.json {
            print("null\n")?;
        }
        return Ok(NOT_RUNNING.into());
    };
    print(&if show.json { format!("{}\n", serde_json::to_string(&status)?) } else { status.to_string() })?;
    Ok(if status.is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// In one piece; whoever read what it wanted may be gone.
fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
