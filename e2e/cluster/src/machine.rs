//! What a machine has to have.

use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::geteuid;

use crate::options::Stage;
use crate::{cgroups, installed};

/// A machine cannot run what it was asked to: nothing is broken, and nothing was started.
#[derive(Debug, thiserror::Error)]
#[error("stage {} is not available on this machine: {}", match .stage { Stage::A => "a", Stage::B => "b" }, .missing.join("; "))]
pub struct Unavailable {
    /// What was asked for.
    pub stage: Stage,
    /// What is not there, one by one.
    pub missing: Vec<String>,
}

/// Bits of the effective set in `/proc/self/status`.
const CAPABILITIES: [(&str, u32); 2] = [("CAP_NET_ADMIN", 12), ("CAP_SYS_ADMIN", 21)];
/// What a kubelet asks of cgroups before it starts.
const CONTROLLERS: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];
/// What may be there, or come as modules.
const MODULES: [&str; 5] = ["overlay", "bridge", "br_netfilter", "veth", "nf_tables"];

/// Whether `stage` can run here. What `e2e/cluster/install` installs does not count; what needs a tool that is not installed yet is looked at by
/// [`Cluster::up`](crate::Cluster::up).
pub fn check(stage: Stage) -> Result<(), Unavailable> {
    let mut missing = Vec::new();
    if stage == Stage::B {
        if !geteuid().is_root() {
            missing.push("it needs root".to_owned());
        } else {
            missing.extend(missing_of_nodes());
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(Unavailable { stage, missing }) }
}

fn missing_of_nodes() -> Vec<String> {
    let mut missing = Vec::new();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    for (name, bit) in CAPABILITIES {
        if effective.is_none_or(|bits| bits & (1 << bit) == 0) {
            missing.push(format!("root without {name}"));
        }
    }
    let hierarchies = cgroups::hierarchies();
    for controller in CONTROLLERS {
        if !hierarchies.iter().any(|hierarchy| hierarchy.has(controller)) {
            missing.push(format!("no cgroup controller {controller} below /sys/fs/cgroup"));
        }
    }
    load_modules();
    let filesystems = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !filesystems.split_whitespace().any(|name| name == "overlay") {
        missing.push("no overlayfs in this kernel".to_owned());
    }
    if !Path::new("/proc/sys/net/bridge").exists() {
        missing.push("no br_netfilter in this kernel".to_owned());
    }
    missing.extend(missing_in_namespaces());
    missing
}

/// Where they are built in or loaded, nothing happens.
fn load_modules() {
    if let Some(modprobe) = installed::in_path("modprobe") {
        Command::new(modprobe).args(["--quiet", "--all"]).args(MODULES).stdout(Stdio::null()).stderr(Stdio::null()).status().ok();
    }
}

/// Tries what a node does in namespaces that are gone at once.
fn missing_in_namespaces() -> Option<String> {
    let (Some(_), Some(_)) = (installed::in_path("ip"), installed::in_path("nft")) else { return None };
    let script = "ip link add probe0 type bridge && ip link add probe1 type veth peer name probe2 && nft add table ip probe";
    let output = Command::new("unshare").args(["--net", "--mount", "--pid", "--fork", "sh", "-c", script]).stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!("no bridge, veth or nf_tables in namespaces: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Some(format!("no unshare: {error}")),
    }
}
