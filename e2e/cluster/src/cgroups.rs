//! Groups of processes: each node has one of its own, at the same path in every hierarchy of cgroups there is, or two kubelets would end each other's
//! pods. Machines have one hierarchy for all controllers (version 2), one for each (version 1), or both.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::wait;

/// Who was killed leaves its group a moment later.
const EMPTY_LIMIT: Duration = Duration::from_secs(10);
/// Those that version 2 hands down to a kubelet.
const HANDED_DOWN: [&str; 6] = ["cpu", "cpuset", "memory", "pids", "io", "hugetlb"];

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    path: PathBuf,
    version: Version,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Version {
    /// With these controllers.
    One(Vec<String>),
    Two,
}

impl Hierarchy {
    /// Whether it has this controller.
    pub(crate) fn has(&self, controller: &str) -> bool {
        match &self.version {
            Version::One(controllers) => controllers.iter().any(|name| name == controller),
            Version::Two => self.controllers().iter().any(|name| name == controller),
        }
    }

    /// Those of version 2, which has none where version 1 has them all.
    fn controllers(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path.join("cgroup.controllers")).unwrap_or_default();
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn make(&self, name: &str) -> anyhow::Result<()> {
        let group = self.path.join(name);
        if !group.exists() {
            std::fs::create_dir(&group).with_context(|| format!("make the cgroup {}", group.display()))?;
        }
        match &self.version {
            // A group for which nobody says which processors it has takes no process.
            Version::One(controllers) if controllers.iter().any(|name| name == "cpuset") => {
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    let all = std::fs::read(self.path.join(file)).with_context(|| format!("read {file} of {}", self.path.display()))?;
                    std::fs::write(group.join(file), all).with_context(|| format!("write {file} of {}", group.display()))?;
                }
            }
            Version::One(_) => {}
            Version::Two => {
                let there = self.controllers();
                for controller in HANDED_DOWN.into_iter().filter(|name| there.iter().any(|there| there == name)) {
                    for folder in [&self.path, &group] {
                        let file = folder.join("cgroup.subtree_control");
                        std::fs::write(&file, format!("+{controller}"))
                            .with_context(|| format!("hand {controller} down in {}", file.display()))?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// All that are mounted.
pub(crate) fn hierarchies() -> Vec<Hierarchy> {
    parse(&std::fs::read_to_string("/proc/self/mounts").unwrap_or_default())
}

/// Lines of `/proc/self/mounts`: device, place, type, options.
fn parse(mounts: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        let (Some(path), Some(kind), Some(options)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let version = match kind {
            "cgroup" => Version::One(options.split(',').map(|option| option.trim_start_matches("name=").to_owned()).collect()),
            "cgroup2" => Version::Two,
            _ => continue,
        };
        if found.iter().all(|hierarchy| hierarchy.path != Path::new(path)) {
            found.push(Hierarchy { path: path.into(), version });
        }
    }
    found
}

/// Makes the group `name` in all of them.
pub(crate) fn make(name: &str) -> anyhow::Result<()> {
    let hierarchies = hierarchies();
    ensure!(!hierarchies.is_empty(), "no cgroups are mounted below /sys/fs/cgroup");
    hierarchies.iter().try_for_each(|hierarchy| hierarchy.make(name))
}

/// Removes the group `name` and those in it, of which no process may be left.
pub(crate) fn remove(name: &str) -> anyhow::Result<()> {
    for hierarchy in hierarchies() {
        let group = hierarchy.path.join(name);
        wait::until_true(&format!("an empty cgroup {}", group.display()), EMPTY_LIMIT, || Ok(remove_now(&group)))?;
    }
    Ok(())
}

/// True when it is gone.
fn remove_now(group: &Path) -> bool {
    let children = std::fs::read_dir(group).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    for child in children.filter(|child| child.is_dir()) {
        remove_now(&child);
    }
    std::fs::remove_dir(group).ok();
    !group.exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_both_versions_are_found_once() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
                      cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0\n\
                      cgroup /sys/fs/cgroup/systemd cgroup rw,name=systemd 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let found = parse(mounts);
        let paths: Vec<_> = found.iter().map(|hierarchy| hierarchy.path.to_string_lossy()).collect();
        assert_eq!(paths, ["/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"]);
        assert!(found[0].has("cpuacct") && !found[0].has("memory") && found[1].has("systemd"));
        assert_eq!(found[2].version, Version::Two);
    }
}
