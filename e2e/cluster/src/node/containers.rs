//! Processes of a node and of its containers, as this machine counts them.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::Signal;

use super::Node;
use crate::process::{self, Process, STOPPED};
use crate::wait;

/// For all processes of a container to stand still, those included that were forked meanwhile.
const FREEZE_LIMIT: Duration = Duration::from_secs(5);

impl Node {
    /// Kills the main process of a container with signal 9, as the kernel's memory killer would: neither the kubelet nor containerd knows why.
    ///
    /// `id` as Kubernetes has it, `containerd://...`, or without that.
    pub fn kill_container(&self, id: &str) -> anyhow::Result<()> {
        self.main_process(id)?.kill()
    }

    /// Stops all processes of a container in their tracks. To others it hangs.
    pub fn freeze_container(&self, id: &str) -> anyhow::Result<()> {
        let id = plain(id)?;
        wait::until_true(&format!("a container {id} that stands still"), FREEZE_LIMIT, || {
            let running: Vec<Process> = of_container(id).filter(|process| process.state() != Some(STOPPED)).collect();
            running.iter().try_for_each(|process| process.signal(Signal::STOP))?;
            Ok(running.is_empty())
        })?;
        ensure!(of_container(id).next().is_some(), "node {} runs no container {id}", self.name());
        Ok(())
    }

    /// Lets them go on.
    pub fn thaw_container(&self, id: &str) -> anyhow::Result<()> {
        let id = plain(id)?;
        of_container(id).try_for_each(|process| process.signal(Signal::CONT))
    }

    fn main_process(&self, id: &str) -> anyhow::Result<Process> {
        let id = plain(id)?;
        let first = self.first()?;
        let path = self.folder().join("run/containerd/io.containerd.runtime.v2.task/k8s.io").join(id).join("init.pid");
        let pid = std::fs::read_to_string(&path).with_context(|| format!("node {} runs no container {id}", self.name()))?;
        let pid: u32 = pid.trim().parse().with_context(|| format!("read {}", path.display()))?;
        // As the node counts, whose namespace is so deep.
        let depth = numbers(first.pid).len();
        let found = of_container(id).find(|process| depth > 0 && numbers(process.pid).get(depth - 1) == Some(&pid));
        found.with_context(|| format!("the main process of container {id} has ended"))
    }
}

/// An identifier without the name of its runtime.
fn plain(id: &str) -> anyhow::Result<&str> {
    let plain = id.rsplit_once("://").map_or(id, |(_, plain)| plain);
    ensure!(plain.len() == 64 && plain.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id:?} is no identifier of a container");
    Ok(plain)
}

/// The process that the node of `first` calls `pid`.
pub(super) fn of_node(first: Process, pid: u32) -> Option<Process> {
    let namespace = |pid: u32| std::fs::read_link(Path::new("/proc").join(pid.to_string()).join("ns/pid")).ok();
    let node = namespace(first.pid)?;
    let found = process::all().find(|other| numbers(*other).last() == Some(&pid) && namespace(*other).as_ref() == Some(&node));
    found.and_then(Process::of)
}

/// All processes of a container, which are in a cgroup of its name.
fn of_container(id: &str) -> impl Iterator<Item = Process> {
    let is_in = move |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|groups| groups.contains(id));
    process::all().filter(is_in).filter_map(Process::of)
}

/// The numbers of a process in all namespaces it is in, from this machine's inwards.
fn numbers(pid: u32) -> Vec<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    line.split_whitespace().filter_map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_taken_with_and_without_its_runtime() {
        let id = "0123456789abcdef".repeat(4);
        assert_eq!(plain(&format!("containerd://{id}")).expect("an identifier"), id);
        assert_eq!(plain(&id).expect("an identifier"), id);
        for bad in ["", "containerd://", "../../../etc", "broker"] {
            assert!(plain(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_process_has_a_number_in_its_own_namespace() {
        assert_eq!(numbers(std::process::id()).first(), Some(&std::process::id()));
    }
}
