//! A node: a process tree in network, mount and process namespaces of its own, with its own `/run`, `/var/lib` and `/var/log`, so that every program runs on
//! its usual paths. Its first process does nothing but wait; killing it takes kubelet, containerd, pods and links at once, as a power cut would. What it
//! has on disk stays.

mod configuration;
mod containers;

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::Signal;

use crate::addresses::Ranges;
use crate::certificates::{Authority, Purpose};
use crate::cluster::Cluster;
use crate::folder::{Folder, make_folder};
use crate::process::{self, Part, Process};
use crate::{cgroups, furniture, installed, network, wait};

/// Long enough for machines that are busy; idle ones take a tenth of a second.
const START_LIMIT: Duration = Duration::from_secs(30);
/// What is private to a node, by its name in the node's folder. `/run` is empty when a machine starts.
const MOUNTS: [(&str, &str); 3] = [("run", "/run"), ("lib", "/var/lib"), ("log", "/var/log")];
const RUN: &str = "run";

/// A node of a cluster of stage B, powered on or off.
#[derive(Debug, Clone)]
pub struct Node {
    cluster: Cluster,
    ranges: Ranges,
    number: u8,
}

impl Node {
    pub(crate) fn new(cluster: &Cluster, ranges: Ranges, number: u8) -> Self {
        Self { cluster: cluster.clone(), ranges, number }
    }

    /// Its name in Kubernetes: `n1`, `n2`, `n3`.
    pub fn name(&self) -> String {
        format!("n{}", self.number)
    }

    /// Its address, where NodePorts listen.
    pub fn address(&self) -> IpAddr {
        self.ranges.node(self.number).into()
    }

    /// Its `topology.kubernetes.io/zone`: a, b, c.
    pub fn zone(&self) -> char {
        char::from(b'a' + self.number - 1)
    }

    /// Whether it has power. Ready is another thing: that says Kubernetes.
    pub fn is_on(&self) -> bool {
        self.first().is_ok()
    }

    /// Ends all of it in an instant, as a power cut would. Nothing is told to anybody.
    pub fn power_off(&self) -> anyhow::Result<()> {
        self.end().with_context(|| format!("power node {} off", self.name()))
    }

    fn end(&self) -> anyhow::Result<()> {
        if let Ok(first) = self.first() {
            // It is gone when all of its namespace is.
            first.kill()?;
        }
        remove_traces(&self.cluster.folder, self.ranges, self.number)
    }

    /// Starts it, with what is left on its disk, and images that were loaded meanwhile. Back when its kubelet runs; it is Ready about a second later.
    pub fn power_on(&self) -> anyhow::Result<()> {
        ensure!(!self.is_on(), "node {} has power already", self.name());
        self.end().and_then(|()| self.start()).with_context(|| format!("power node {} on", self.name()))?;
        self.start_kubernetes().with_context(|| format!("start Kubernetes on node {}", self.name()))
    }

    /// Stops the kubelet in its tracks. To Kubernetes that is a dead node; its containers go on.
    pub fn freeze_kubelet(&self) -> anyhow::Result<()> {
        self.part("kubelet")?.process.signal(Signal::STOP)
    }

    /// Lets it go on.
    pub fn thaw_kubelet(&self) -> anyhow::Result<()> {
        self.part("kubelet")?.process.signal(Signal::CONT)
    }

    /// Its keys and configurations.
    pub(crate) fn prepare(&self, authority: &Authority) -> anyhow::Result<()> {
        let name = self.name();
        let keys = self.cluster.folder.keys();
        let pair = authority.issue(&format!("system:node:{name}"), Some("system:nodes"), Purpose::Client, &[])?;
        self.cluster.control_plane().write_kubeconfig(authority, &name, &pair)?;
        let names = [name.as_str(), &self.address().to_string()];
        authority.issue(&format!("system:node:{name}"), None, Purpose::Server, &names)?.write(&keys, &name)?;
        for (folder, _) in MOUNTS {
            make_folder(&self.folder().join(folder))?;
        }
        self.write_configurations()
    }

    /// Everything but what needs an API server.
    pub(crate) fn start(&self) -> anyhow::Result<()> {
        let run = self.folder().join(RUN);
        std::fs::remove_dir_all(&run).with_context(|| format!("empty {}", run.display()))?;
        make_folder(&run.join("containerd"))?;
        cgroups::make(&self.cgroup())?;
        let first = self.start_first()?;
        self.connect(first)?;
        let script = "mount --make-rshared / && for pair; do mount --bind \"${pair%%:*}\" \"${pair#*:}\" || exit 1; done";
        let pairs = MOUNTS.map(|(folder, path)| format!("{}:{path}", self.folder().join(folder).display()));
        self.run(&[&["sh", "-c", script, "sh"], pairs.each_ref().map(String::as_str).as_slice()].concat())?;
        let configuration = self.folder().join("containerd.toml").display().to_string();
        let containerd = self.start_part("containerd", &["containerd", "--config", &configuration])?;
        wait::until_true("containerd", START_LIMIT, || {
            process::check(&self.cluster.folder, &containerd)?;
            Ok(self.run(&["ctr", "version"]).is_ok())
        })?;
        self.import_images()
    }

    /// What needs one.
    pub(crate) fn start_kubernetes(&self) -> anyhow::Result<()> {
        let program =
            |name: &str| Ok::<_, anyhow::Error>(installed::kubernetes(&self.cluster.description.kubernetes, name)?.display().to_string());
        let configuration = |name: &str| format!("--config={}", self.folder().join(name).display());
        let name = format!("--hostname-override={}", self.name());
        self.start_part("kube-proxy", &[&program("kube-proxy")?, &configuration("kube-proxy.yaml"), &name])?;
        let kubeconfig = format!("--kubeconfig={}", self.cluster.control_plane().kubeconfig(&self.name()));
        // Kubernetes lets no kubelet give itself a label below kubernetes.io that is not its own.
        let stays = if self.number == 1 { format!(",{}=always", furniture::STAYS) } else { String::new() };
        let labels = format!("--node-labels=topology.kubernetes.io/region=local,topology.kubernetes.io/zone={}{stays}", self.zone());
        let address = format!("--node-ip={}", self.address());
        self.start_part("kubelet", &[&program("kubelet")?, &configuration("kubelet.yaml"), &kubeconfig, &name, &labels, &address])?;
        Ok(())
    }

    /// The first process of a new namespace, which takes in what others leave behind.
    fn start_first(&self) -> anyhow::Result<Process> {
        let folder = &self.cluster.folder;
        let program = installed::program(installed::PAUSE)?;
        let mut command = process::command(folder, &self.name(), "sh")?;
        // Whoever kills `unshare` kills what it waits for.
        let namespaces = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
        command.args(["-c", process::LEAVE_RUNNING, "sh"]).args(namespaces).arg(&program);
        let parent = Process::of(process::number_from(&mut command)?);
        let first = wait::until("the first process of a node", START_LIMIT, || {
            ensure!(parent.is_some_and(Process::is_alive), "no namespaces: {}", process::end_of_log(folder, &self.name()));
            let children = parent.and_then(|Process { pid, .. }| std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok());
            let child = children.and_then(|children| children.split_whitespace().next()?.parse().ok());
            // Its namespaces are set up when it is what it shall be.
            let is_set_up = |pid: &u32| std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == program);
            Ok(child.filter(is_set_up).and_then(Process::of))
        })?;
        Ok(process::note(folder, &self.name(), Some(first))?.process)
    }

    /// Its link to the bridge, addresses and routes: to Services by this machine, to pods of other nodes straight, and nowhere else.
    fn connect(&self, first: Process) -> anyhow::Result<()> {
        let (link, bridge) = (self.ranges.link(self.number), self.ranges.bridge());
        network::ip(&format!(
            "link add {link} type veth peer name eth0 netns {}\nlink set {link} master {bridge}\nlink set {link} up\n",
            first.pid
        ))?;
        let mut commands = format!("link set lo up\naddress add {}/24 dev eth0\nlink set eth0 up\n", self.address());
        commands += &format!("route add {} via {}\nroute add unreachable default\n", self.ranges.services(), self.ranges.host());
        for other in (1..=self.cluster.description.nodes).filter(|other| *other != self.number) {
            commands += &format!("route add {} via {}\n", self.ranges.pods_of(other), self.ranges.node(other));
        }
        let mut command = self.enter(first);
        command.arg(installed::in_path("ip").context("ip is missing")?);
        network::ip_by(command, &commands)?;
        // The second: traffic between pods of one node passes the rules of Services, too.
        self.run(&["sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables"])?;
        network::make_routes(self.ranges, self.number)
    }

    /// Imports what this node does not have yet of what was loaded into the cluster, oldest first.
    pub(crate) fn import_images(&self) -> anyhow::Result<()> {
        let list = self.folder().join("imported");
        let imported = std::fs::read_to_string(&list).unwrap_or_default();
        let mut due = Vec::new();
        for entry in std::fs::read_dir(self.cluster.folder.images())?.filter_map(Result::ok) {
            let modified = entry.metadata()?.modified()?;
            let line = format!("{} {modified:?}", entry.file_name().to_string_lossy());
            let is_due = !line.starts_with('.') && !imported.lines().any(|other| other == line);
            due.extend(is_due.then(|| (modified, line, entry.path().display().to_string())));
        }
        due.sort();
        for (_, line, path) in due {
            self.run(&["ctr", "--namespace", "k8s.io", "images", "import", &path])?;
            let mut imported = std::fs::read_to_string(&list).unwrap_or_default();
            imported += &format!("{line}\n");
            std::fs::write(&list, imported).with_context(|| format!("write {}", list.display()))?;
        }
        Ok(())
    }

    /// The names of the images it has.
    pub fn images(&self) -> anyhow::Result<Vec<String>> {
        let names = self.run(&["ctr", "--namespace", "k8s.io", "images", "list", "--quiet"])?;
        // Each stands there a second time by its digest.
        let mut names: Vec<String> = names.lines().filter(|name| !name.starts_with("sha256:")).map(str::to_owned).collect();
        names.sort();
        Ok(names)
    }

    /// Starts a program of the node and notes it.
    fn start_part(&self, part: &str, words: &[&str]) -> anyhow::Result<Part> {
        let first = self.first()?;
        let name = format!("{}-{part}", self.name());
        let mut command = self.enter(first);
        let log = process::log(&self.cluster.folder, &name)?;
        command.args(["sh", "-c", process::LEAVE_RUNNING, "sh"]).args(words).stderr(log);
        let pid = process::number_from(&mut command)?;
        process::note(&self.cluster.folder, &name, containers::of_node(first, pid))
    }

    /// Runs a command in the node, to its end.
    fn run(&self, words: &[&str]) -> anyhow::Result<String> {
        let output = self.enter(self.first()?).args(words).output().context("start nsenter")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`{}` failed on node {}: {}", words.join(" "), self.name(), said.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A command that ends where the one begins that runs in the node.
    fn enter(&self, first: Process) -> Command {
        let mut command = process::marked(&self.cluster.folder, "nsenter");
        command.args(["--target", &first.pid.to_string(), "--net", "--mount", "--pid", "--"]).stdin(Stdio::null());
        command
    }

    fn first(&self) -> anyhow::Result<Process> {
        let part = process::part(&self.cluster.folder, &self.name()).filter(|part| part.process.is_alive());
        Ok(part.with_context(|| format!("node {} has no power", self.name()))?.process)
    }

    fn part(&self, part: &str) -> anyhow::Result<Part> {
        let name = format!("{}-{part}", self.name());
        let part = process::part(&self.cluster.folder, &name).filter(|part| part.process.is_alive());
        part.with_context(|| format!("{name} does not run"))
    }

    fn folder(&self) -> PathBuf {
        self.cluster.folder.node(&self.name())
    }

    /// Below each hierarchy of cgroups.
    fn cgroup(&self) -> String {
        self.ranges.link(self.number)
    }
}

/// What the machine has of a node that has no power.
pub(crate) fn remove_traces(folder: &Folder, ranges: Ranges, number: u8) -> anyhow::Result<()> {
    // A cluster that was cut off as it was made may name a slot that is another's by now.
    if network::is_owner(folder, ranges) {
        // The kernel takes its time to remove what was in a network namespace.
        network::remove_link(&ranges.link(number))?;
        cgroups::remove(&ranges.link(number))?;
    }
    Ok(())
}
