//! A cluster: found, started, ended.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use crate::addresses::Ranges;
use crate::control_plane::ControlPlane;
use crate::folder::{Description, Folder, Ports};
use crate::node::{self, Node};
use crate::options::{NODES_MAX, Options, Stage};
use crate::{furniture, installed, kubectl, machine, network, process};

/// A cluster that runs. It goes on when this is dropped: [`Cluster::down`] ends it.
#[derive(Debug, Clone)]
pub struct Cluster {
    pub(crate) folder: Folder,
    pub(crate) description: Description,
}

impl Cluster {
    /// The running cluster of this name. Some of its nodes may be powered off.
    pub fn find(name: &str) -> anyhow::Result<Self> {
        let folder = Folder::of(name)?;
        match Self::running(&folder) {
            Some(cluster) => Ok(cluster),
            None if folder.exists() => bail!("the cluster {name} does not answer; e2e/cluster/status tells, e2e/cluster/up starts it anew"),
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
        let mut cluster = Self { folder, description };
        match cluster.start(progress) {
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

    fn start(&mut self, progress: fn(&str)) -> anyhow::Result<()> {
        match self.stage() {
            Stage::A => self.folder.make(&self.description)?,
            Stage::B => {
                let _lock = network::lock()?;
                let slot = network::free_slot()?;
                (self.description.slot, self.description.ports.api_server) = (Some(slot), API_SERVER_PORT);
                // Known before it is made: who takes down what was cut off here finds the bridge.
                self.folder.make(&self.description)?;
                network::make_bridge(&self.folder, Ranges::new(slot))?;
            }
        }
        let control_plane = self.control_plane();
        let authority = control_plane.prepare()?;
        let nodes = self.nodes();
        for node in &nodes {
            node.prepare(&authority)?;
        }
        if !nodes.is_empty() {
            for archive in furniture::archives(progress)? {
                self.keep_image(&archive)?;
            }
        }
        progress("starting etcd and the API server");
        control_plane.start()?;
        // Nodes get as far as they can without one meanwhile.
        let (ready, started) = std::thread::scope(|scope| {
            let nodes = nodes.iter().map(|node| scope.spawn(|| node.start().with_context(|| format!("start node {}", node.name()))));
            let nodes: Vec<_> = nodes.collect();
            let ready = control_plane.wait_ready();
            let started: anyhow::Result<()> = nodes.into_iter().try_for_each(|node| node.join().expect("a start does not panic"));
            (ready, started)
        });
        ready?;
        started?;
        if self.description.controllers {
            progress("starting controller manager and scheduler");
            control_plane.start_controllers()?;
        }
        for node in &nodes {
            node.start_kubernetes()?;
        }
        control_plane.wait_furnished()?;
        if let Some(ranges) = self.description.ranges() {
            progress("waiting for nodes, DNS and S3");
            furniture::apply(self, ranges)?;
            furniture::wait_furnished(self)?;
        }
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
        let all_run = process::parts(folder).iter().all(|part| part.process.is_running());
        Self::running(folder).filter(|_| all_run)
    }

    /// That of `folder`, if it was started to the end and answers.
    fn running(folder: &Folder) -> Option<Self> {
        let description = folder.description().filter(|_| folder.finished().exists())?;
        let cluster = Self { folder: folder.clone(), description };
        cluster.control_plane().is_ready().then_some(cluster)
    }

    /// An error when a process of it has ended.
    pub(crate) fn check_parts(&self) -> anyhow::Result<()> {
        process::parts(&self.folder).iter().try_for_each(|part| process::check(&self.folder, part))
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

    /// Its nodes, powered on or not. None in stage A.
    pub fn nodes(&self) -> Vec<Node> {
        let of = |ranges| (1..=self.description.nodes).map(|number| Node::new(self, ranges, number)).collect();
        self.description.ranges().map(of).unwrap_or_default()
    }

    /// The node of this name. n1 has DNS and S3: tests leave it alone.
    pub fn node(&self, name: &str) -> anyhow::Result<Node> {
        let found = self.nodes().into_iter().find(|node| node.name() == name);
        found.with_context(|| format!("the cluster {} has no node {name}, but {} of them", self.name(), self.nodes().len()))
    }

    /// The names of the nodes that Kubernetes calls Ready.
    pub fn ready_nodes(&self) -> anyhow::Result<Vec<String>> {
        let ready = r#"jsonpath={range .items[*]}{.metadata.name} {.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}"#;
        let lines = kubectl::run(&self.folder, &["get", "nodes", "--output", ready], "")?;
        Ok(lines.lines().filter_map(|line| line.strip_suffix(" True")).map(str::to_owned).collect())
    }

    /// The S3 server, as pods and this machine reach it. `None` in stage A.
    pub fn s3_endpoint(&self) -> Option<String> {
        self.description.ranges().map(|ranges| format!("http://{}:{}", ranges.s3(), furniture::S3_PORT))
    }

    /// Imports an archive with images into every node, also into one that is powered on later. One of the same file name takes the place of the one before.
    pub fn load_image(&self, archive: impl AsRef<Path>) -> anyhow::Result<()> {
        let archive = archive.as_ref();
        ensure!(self.stage() == Stage::B, "the cluster {} has no nodes that could take {}", self.name(), archive.display());
        self.keep_image(archive)?;
        let nodes: Vec<Node> = self.nodes().into_iter().filter(Node::is_on).collect();
        std::thread::scope(|scope| {
            let imports: Vec<_> = nodes.iter().map(|node| scope.spawn(|| node.import_images())).collect();
            imports.into_iter().try_for_each(|import| import.join().expect("an import does not panic"))
        })
        .with_context(|| format!("load {}", archive.display()))
    }

    /// For nodes to import.
    fn keep_image(&self, archive: &Path) -> anyhow::Result<()> {
        let name = archive.file_name().with_context(|| format!("{} is no name of a file", archive.display()))?;
        let unfinished = self.folder.images().join(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
        let copied = std::fs::copy(archive, &unfinished).and_then(|_| std::fs::rename(&unfinished, self.folder.images().join(name)));
        copied.with_context(|| format!("copy {} into {}", archive.display(), self.folder.images().display()))
    }

    /// The `kubectl` it came with.
    pub fn kubectl(&self) -> anyhow::Result<PathBuf> {
        installed::kubectl()
    }

    /// `helm`, of the version the project tests its charts with.
    pub fn helm(&self) -> anyhow::Result<PathBuf> {
        installed::helm()
    }

    /// Moves its logs aside, where the next ones that are kept replace them.
    fn keep_logs(&self) -> PathBuf {
        let kept = self.folder.path.with_file_name(format!(".{}.failed", self.folder.name));
        std::fs::remove_dir_all(&kept).ok();
        std::fs::rename(self.logs(), &kept).ok();
        kept
    }
}

/// Kubernetes' usual one: the address is the cluster's own.
const API_SERVER_PORT: u16 = 6443;

/// Installs what is missing, and decides what is left open.
fn install(options: &Options) -> anyhow::Result<Description> {
    installed::install(&["etcd", "kubernetes", "helm"], options)?;
    if options.kubernetes != "kubernetes" {
        installed::install(&[&options.kubernetes], options)?;
    }
    if options.stage == Stage::B {
        installed::install(&["packages", "coredns", "versitygw", "pause"], options)?;
        // Now that the tools are there with which some of it is looked at.
        machine::check(Stage::B)?;
    }
    // Folders of other versions have an API server only.
    let has = |programs: &[&str]| programs.iter().all(|program| installed::kubernetes(&options.kubernetes, program).is_ok());
    let controllers = options.controllers && has(&installed::CONTROLLERS);
    if options.stage == Stage::B {
        ensure!(controllers && has(&installed::NODE), "stage b needs all of Kubernetes, and {} has an API server only", options.kubernetes);
    }
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
    if let Some(description) = folder.description()
        && let Some(ranges) = description.ranges()
    {
        for number in 1..=description.nodes {
            node::remove_traces(folder, ranges, number)?;
        }
        network::remove_bridge(folder, ranges)?;
    }
    folder.remove()
}
