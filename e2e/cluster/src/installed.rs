//! Where `e2e/cluster/install` puts things, and running it where they are missing or are of other versions than the checkout asks for.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use crate::options::Options;

/// What runs in every pod before its containers do.
pub(crate) const PAUSE: &str = "pause/pause";
/// Cluster DNS.
pub(crate) const COREDNS: &str = "coredns/coredns";

/// The programs of Kubernetes that stage A may have, and those that a node needs.
pub(crate) const CONTROLLERS: [&str; 2] = ["kube-controller-manager", "kube-scheduler"];
pub(crate) const NODE: [&str; 2] = ["kubelet", "kube-proxy"];

/// The cache directory of this crate.
pub fn cache() -> anyhow::Result<PathBuf> {
    Ok(base()?.join("cluster"))
}

/// The S3 server, which belongs to `e2e/servers`.
pub(crate) fn versitygw() -> anyhow::Result<PathBuf> {
    there(base()?.join("servers/versitygw/versitygw"), "versitygw")
}

fn base() -> anyhow::Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::home_dir().map(|home| home.join(".cache"));
    Ok(base.or_else(home).context("neither XDG_CACHE_HOME nor a home directory")?.join("bucketmq"))
}

/// The program at `path` below the cache directory.
pub(crate) fn program(path: &str) -> anyhow::Result<PathBuf> {
    let name = Path::new(path).components().next().map(|part| part.as_os_str().to_string_lossy()).unwrap_or_default();
    there(cache()?.join(path), &name)
}

fn there(program: PathBuf, name: &str) -> anyhow::Result<PathBuf> {
    ensure!(program.exists(), "{} is missing: run `e2e/cluster/install {name}`", program.display());
    Ok(program)
}

/// A program of Kubernetes, from the folder of one of its versions.
pub(crate) fn kubernetes(version: &str, program: &str) -> anyhow::Result<PathBuf> {
    self::program(&format!("{version}/{program}"))
}

/// `kubectl`, which comes with the newest one only.
pub(crate) fn kubectl() -> anyhow::Result<PathBuf> {
    kubernetes("kubernetes", "kubectl")
}

/// `helm`, for who installs charts in a cluster.
pub(crate) fn helm() -> anyhow::Result<PathBuf> {
    program("helm/helm")
}

/// A program of the system, as a shell would find it; Debian keeps those of root elsewhere.
pub fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|program| program.is_file())
}

/// Installs those of `tools` that are missing or were built from other sources than the checkout has now, if `options` say so.
pub(crate) fn install(tools: &[&str], options: &Options) -> anyhow::Result<()> {
    let due: Vec<&str> = tools.iter().copied().filter(|tool| !is_installed(tool)).collect();
    if due.is_empty() {
        return Ok(());
    }
    ensure!(options.install, "missing, or built from other sources than these: run `e2e/cluster/install {}`", due.join(" "));
    (options.progress)(&format!("installing {}", due.join(", ")));
    let script = checkout().join("install");
    // What it says is progress: the output of this program is read by others.
    let status = Command::new(&script).args(&due).stdin(Stdio::null()).stdout(std::io::stderr()).status();
    let status = status.with_context(|| format!("run {}", script.display()))?;
    ensure!(status.success(), "`e2e/cluster/install {}` failed with {status}: what it needs stands above", due.join(" "));
    Ok(())
}

/// The folder of this crate.
fn checkout() -> PathBuf {
    // A build cache may have it from a checkout that is gone: then the one it is run in.
    let built = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    if built.is_dir() { built } else { PathBuf::from("e2e/cluster") }
}

/// Programs of Debian's packages, by what tells that a package is there.
const PACKAGES: [&str; 8] = ["etcd", "containerd", "runc", "ip", "nft", "iptables", "conntrack", "modprobe"];

fn is_installed(tool: &str) -> bool {
    match tool {
        "etcd" => in_path("etcd").is_some(),
        "packages" => PACKAGES.into_iter().all(|program| in_path(program).is_some()) && Path::new(PLUGINS).is_dir(),
        "versitygw" => versitygw().is_ok(),
        "pause" => program(PAUSE).is_ok() && was_built_from(tool, &["pause/pause.c"]),
        _ => was_built_from(tool, &[&format!("{tool}/go.mod"), &format!("{tool}/go.sum")]),
    }
}

/// Where Debian keeps the plugins that connect pods.
pub(crate) const PLUGINS: &str = "/usr/lib/cni";

/// What was built says which files it was built from; the version of Go that stands behind them is the script's business.
fn was_built_from(tool: &str, sources: &[&str]) -> bool {
    let sources: Option<Vec<Vec<u8>>> = sources.iter().map(|source| std::fs::read(checkout().join(source)).ok()).collect();
    let installed = cache().ok().and_then(|cache| std::fs::read(cache.join(tool).join(".installed")).ok());
    match (sources, installed) {
        (Some(sources), Some(installed)) => installed.starts_with(&sources.concat()),
        // Without a checkout, what is there has to do.
        (None, installed) => installed.is_some(),
        (Some(_), None) => false,
    }
}
