//! The folder of one cluster: all that is known of it, so that any process can find, use and end what another one started.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::options::{Options, Stage};
use crate::{addresses, installed};

/// What was decided when a cluster was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Description {
    pub(crate) stage: Stage,
    pub(crate) nodes: u8,
    pub(crate) kubernetes: String,
    pub(crate) controllers: bool,
    pub(crate) fast: bool,
    /// Which of the address ranges it has; stage A has none.
    pub(crate) slot: Option<u8>,
    pub(crate) ports: Ports,
}

/// Where its control plane listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ports {
    pub(crate) api_server: u16,
    pub(crate) etcd: u16,
    pub(crate) etcd_peers: u16,
    pub(crate) controller_manager: u16,
    pub(crate) scheduler: u16,
}

impl Description {
    /// True when it is what `options` ask for.
    pub(crate) fn is(&self, options: &Options) -> bool {
        let same_nodes = self.stage == Stage::A || self.nodes == options.nodes;
        let same = (self.stage, self.fast, self.controllers) == (options.stage, options.fast, options.controllers);
        same && same_nodes && self.kubernetes == options.kubernetes
    }

    pub(crate) fn ranges(&self) -> Option<addresses::Ranges> {
        self.slot.map(addresses::Ranges::new)
    }
}

/// `run/NAME` in the cache directory.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

impl Folder {
    /// That of the cluster `name`, which need not be there.
    pub(crate) fn of(name: &str) -> anyhow::Result<Self> {
        // It is part of the names of contexts and groups.
        let good = (1..=20).contains(&name.len()) && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        ensure!(good && !name.starts_with('-'), "{name:?} is no name of a cluster: up to 20 of a to z, 0 to 9 and -");
        Ok(Self { name: name.to_owned(), path: installed::cache()?.join("run").join(name) })
    }

    /// Holds everybody else off who starts or ends a cluster of this name, until it is dropped.
    pub(crate) fn lock(&self) -> anyhow::Result<Lock> {
        let path = self.path.with_file_name(format!(".{}.lock", self.name));
        let file = lock(&path)?;
        Ok(Lock { path, _file: file })
    }

    pub(crate) fn exists(&self) -> bool {
        self.path.exists()
    }

    /// An empty one, with what is known from the start.
    pub(crate) fn make(&self, description: &Description) -> anyhow::Result<()> {
        for folder in [self.path.clone(), self.keys(), self.path.join("logs"), self.path.join("pids"), self.images()] {
            make_folder(&folder)?;
        }
        write_secret(&self.path.join("cluster.json"), &serde_json::to_string_pretty(description)?)
    }

    /// What was decided when it was made; `None` where no cluster is, or one that was not written to the end.
    pub(crate) fn description(&self) -> Option<Description> {
        serde_json::from_slice(&std::fs::read(self.path.join("cluster.json")).ok()?).ok()
    }

    /// Written when all of it runs.
    pub(crate) fn finished(&self) -> PathBuf {
        self.path.join("finished")
    }

    pub(crate) fn keys(&self) -> PathBuf {
        self.path.join("keys")
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.path.join("kubeconfig")
    }

    pub(crate) fn audit_log(&self) -> PathBuf {
        self.path.join("logs/audit.log")
    }

    pub(crate) fn log(&self, part: &str) -> PathBuf {
        self.path.join("logs").join(format!("{part}.log"))
    }

    /// What every node has, also one that comes later.
    pub(crate) fn images(&self) -> PathBuf {
        self.path.join("images")
    }

    pub(crate) fn node(&self, node: &str) -> PathBuf {
        self.path.join("nodes").join(node)
    }

    /// Removes all of it.
    pub(crate) fn remove(&self) -> anyhow::Result<()> {
        match std::fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error).with_context(|| format!("remove {}", self.path.display())),
            _ => Ok(()),
        }
    }

    /// The clusters there are folders of.
    pub(crate) fn all() -> anyhow::Result<Vec<Self>> {
        let Ok(folders) = std::fs::read_dir(installed::cache()?.join("run")) else { return Ok(Vec::new()) };
        let mut found: Vec<Self> = folders
            .filter_map(|folder| folder.ok().filter(|folder| folder.path().is_dir()))
            .filter_map(|folder| Self::of(&folder.file_name().to_string_lossy()).ok())
            .collect();
        found.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(found)
    }
}

/// The right to start or end a cluster.
pub(crate) struct Lock {
    path: PathBuf,
    /// Unlocked when it is closed.
    _file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).ok();
    }
}

/// Locks the file at `path` until it is closed. Who has it may remove it.
pub(crate) fn lock(path: &Path) -> anyhow::Result<File> {
    loop {
        make_folder(path.parent().context("a folder above")?)?;
        let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
        flock(&file, FlockOperation::LockExclusive).with_context(|| format!("lock {}", path.display()))?;
        // It may have been removed meanwhile, and somebody else made another.
        if std::fs::metadata(path).is_ok_and(|now| file.metadata().is_ok_and(|held| held.ino() == now.ino())) {
            return Ok(file);
        }
    }
}

/// For its owner only.
pub(crate) fn make_folder(path: &Path) -> anyhow::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(|| format!("make {}", path.display()))
}

/// A file for its owner only.
pub(crate) fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    let write = || OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?.write_all(text.as_bytes());
    write().with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_plain() {
        for good in ["local", "a", "suite-2"] {
            assert!(Folder::of(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "A", "a/b", "..", "a_b", "twenty-one-characters"] {
            assert!(Folder::of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_description_is_read_as_it_was_written() {
        let ports = Ports { api_server: 1, etcd: 2, etcd_peers: 3, controller_manager: 4, scheduler: 5 };
        let kubernetes = "kubernetes".to_owned();
        let written = Description { stage: Stage::B, nodes: 3, kubernetes, controllers: true, fast: false, slot: Some(2), ports };
        let text = serde_json::to_string(&written).expect("written");
        assert_eq!(serde_json::from_str::<Description>(&text).expect("read"), written);
        assert!(written.is(&Options { stage: Stage::B, nodes: 3, ..Options::default() }));
        assert!(!written.is(&Options { stage: Stage::B, ..Options::default() }));
    }
}
