//! A cluster: found, started, ended.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context, bail, ensure};

use crate::control_plane::ControlPlane;
use crate::folder::{Description, Folder, Ports};
use crate::options::{NODES_MAX, Options, Stage};
use crate::{installed, machine, process};

/// A cluster that runs. It goes on when this is dropped: [`Cluster::down`] ends it.
#[derive(Debug, Clone)]
pub struct Cluster {
    pub(crate) folder: Folder,
    pub(crate) description: Description,
}

impl Cluster {
    /// The running cluster of this name.
    pub fn find(name: &str) -> anyhow::Result<Self> {
        let folder = Folder::of(name)?;
        match Self::whole(&folder) {
            Some(cluster) => Ok(cluster),
            None if folder.exists() => {
                bail!("the cluster {name} is not whole, `e2e/cluster/status --name {name}` tells: start it anew by e2e/cluster/up")
            }
            None => bail!("there is no cluster {name}: start it by `e2e/cluster/up --name {name}`"),
        }
    }

    /// The cluster that `options` ask for: the running one of that name, or a new one. One of that name that is not whole makes room.
    ///
    /// Fails with [`Unavailable`](machine::Unavailable) where this machine cannot run it.
    pub fn up(options: &Options) -> anyhow::Result<Self> {
        let progress = options.progress;
        let folder = Folder::of(&options.name)?;
        ensure!((1..=NODES_MAX).contains(&options.nodes), "a cluster has 1 to {NODES_MAX} nodes, not {}", options.nodes);
        let _lock = folder.lock()?;
        if let Some(cluster) = Self::whole(&folder) {
            let name = &options.name;
            ensure!(
                cluster.description.is(options),
                "the cluster {name} runs with other options: end it by `e2e/cluster/down --name {name}`, or take another name"
            );
            return Ok(cluster);
        }
        machine::check(options.stage)?;
        if folder.exists() {
            progress("taking down what is left of it");
            take_down(&folder)?;
        }
        let description = install(options)?;
        let cluster = Self { folder, description };
        match cluster.start(options) {
            Ok(()) => Ok(cluster),
            Err(error) => {
                let logs = cluster.keep_logs();
                let ended = take_down(&cluster.folder);
                let error = error.context(format!("start the cluster {}; its logs are kept in {}", options.name, logs.display()));
                Err(match ended {
                    Ok(()) => error,
                    Err(other) => error.context(format!("take it down again: {other:#}")),
                })
            }
        }
    }

    fn start(&self, options: &Options) -> anyhow::Result<()> {
        let progress = options.progress;
        self.folder.make(&self.description)?;
        let control_plane = self.control_plane();
        control_plane.prepare()?;
        progress("starting etcd and the API server");
        control_plane.start()?;
        control_plane.wait_ready()?;
        if self.description.controllers {
            progress("starting controller manager and scheduler");
            control_plane.start_controllers()?;
        }
        control_plane.wait_furnished()?;
        std::fs::write(self.folder.finished(), "").context("note that it runs")
    }

    /// Ends it: nothing of it is left. `false` when there was none of this name.
    pub fn down(name: &str) -> anyhow::Result<bool> {
        let folder = Folder::of(name)?;
        let _lock = folder.lock()?;
        let existed = folder.exists();
        take_down(&folder).with_context(|| format!("take down the cluster {name}"))?;
        Ok(existed)
    }

    /// The names of the clusters that run, and of those that are not whole.
    pub fn names() -> anyhow::Result<Vec<String>> {
        Ok(Folder::all()?.into_iter().map(|folder| folder.name).collect())
    }

    /// That of `folder`, if all of its parts run and it answers.
    fn whole(folder: &Folder) -> Option<Self> {
        let description = folder.description().filter(|_| folder.finished().exists())?;
        let cluster = Self { folder: folder.clone(), description };
        let all_run = process::parts(folder).iter().all(|part| part.process.is_alive());
        (all_run && cluster.control_plane().is_ready()).then_some(cluster)
    }

    pub(crate) fn control_plane(&self) -> ControlPlane<'_> {
        ControlPlane { folder: &self.folder, description: &self.description }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.folder.name
    }

    /// How much of Kubernetes it has.
    pub fn stage(&self) -> Stage {
        self.description.stage
    }

    /// The administrator's kubeconfig; it names no other file.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.kubeconfig()
    }

    /// One line of JSON for each request that the API server has answered.
    pub fn audit_log(&self) -> PathBuf {
        self.folder.audit_log()
    }

    /// Where the logs of its parts are.
    pub fn logs(&self) -> PathBuf {
        self.folder.path.join("logs")
    }

    /// Where the API server listens.
    pub fn api_server(&self) -> SocketAddr {
        self.control_plane().address()
    }

    /// This machine, as the cluster reaches it: webhooks and servers of tests listen here. Loopback in stage A.
    pub fn address(&self) -> IpAddr {
        self.api_server().ip()
    }

    /// The `kubectl` it came with.
    pub fn kubectl(&self) -> anyhow::Result<PathBuf> {
        installed::kubectl()
    }

    /// Moves its logs aside, where the next ones that are kept replace them.
    fn keep_logs(&self) -> PathBuf {
        let kept = self.folder.path.with_file_name(format!(".{}.failed", self.folder.name));
        std::fs::remove_dir_all(&kept).ok();
        std::fs::rename(self.logs(), &kept).ok();
        kept
    }
}

/// Installs what is missing, and decides what is left open.
fn install(options: &Options) -> anyhow::Result<Description> {
    installed::install(&["etcd", "kubernetes"], options)?;
    if options.kubernetes != "kubernetes" {
        installed::install(&[&options.kubernetes], options)?;
    }
    // Folders of other versions have an API server only.
    let has = |programs: &[&str]| programs.iter().all(|program| installed::kubernetes(&options.kubernetes, program).is_ok());
    let controllers = options.controllers && has(&installed::CONTROLLERS);
    Ok(Description {
        stage: options.stage,
        nodes: options.nodes,
        kubernetes: options.kubernetes.clone(),
        controllers,
        fast: options.fast,
        slot: None,
        ports: Ports::free()?,
    })
}

/// Whatever is left of a cluster, and even if nothing is.
fn take_down(folder: &Folder) -> anyhow::Result<()> {
    process::kill_all(folder)?;
    folder.remove()
}
