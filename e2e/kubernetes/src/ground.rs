//! Where the cases run: the Kubernetes of one machine, or kind.

use std::path::{Path, PathBuf};

use anyhow::Context;
use bucketmq_local_cluster::{Cluster, Node, Stage, in_path};

use crate::kind::{Kind, KindNode};

/// A cluster that runs.
#[derive(Clone, Debug)]
pub enum Ground {
    /// [`bucketmq_local_cluster`].
    Local(Cluster),
    /// [`crate::kind`].
    Kind(Kind),
}

/// A node of it.
#[derive(Clone, Debug)]
pub enum Machine {
    /// Processes of this machine.
    Local(Node),
    /// A container.
    Kind(KindNode),
}

impl Ground {
    /// Of its administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        match self {
            Self::Local(cluster) => cluster.kubeconfig(),
            Self::Kind(kind) => kind.kubeconfig(),
        }
    }

    /// What the API server notes.
    pub fn audit_log(&self) -> PathBuf {
        match self {
            Self::Local(cluster) => cluster.audit_log(),
            Self::Kind(kind) => kind.audit_log(),
        }
    }

    /// kubectl and helm.
    pub fn tools(&self) -> anyhow::Result<[PathBuf; 2]> {
        match self {
            Self::Local(cluster) => Ok([cluster.kubectl()?, cluster.helm()?]),
            Self::Kind(_) => Ok([in_path("kubectl").context("kubectl is gone")?, in_path("helm").context("helm is gone")?]),
        }
    }

    /// Whether pods run.
    pub fn has_nodes(&self) -> bool {
        match self {
            Self::Local(cluster) => cluster.stage() == Stage::B,
            Self::Kind(_) => true,
        }
    }

    /// Whether what a NetworkPolicy forbids does not happen.
    pub fn enforces_policies(&self) -> bool {
        matches!(self, Self::Kind(_))
    }

    /// The S3 server in it, as pods and this machine reach it.
    pub fn s3_endpoint(&self) -> anyhow::Result<String> {
        match self {
            Self::Local(cluster) => cluster.s3_endpoint().context("the cluster has no S3 server: this case needs nodes"),
            Self::Kind(kind) => Ok(kind.s3_endpoint()),
        }
    }

    /// Loads an archive with images into every node.
    pub fn load_image(&self, archive: &Path) -> anyhow::Result<()> {
        match self {
            Self::Local(cluster) => cluster.load_image(archive),
            Self::Kind(kind) => kind.load_image(archive),
        }
    }

    /// A node by its name in Kubernetes.
    pub fn node(&self, name: &str) -> anyhow::Result<Machine> {
        match self {
            Self::Local(cluster) => cluster.node(name).map(Machine::Local),
            Self::Kind(kind) => Ok(Machine::Kind(kind.node(name))),
        }
    }

    /// Ends it.
    pub fn down(&self) -> anyhow::Result<()> {
        match self {
            Self::Local(cluster) => Cluster::down(cluster.name()).map(drop),
            Self::Kind(kind) => kind.down(),
        }
    }
}

macro_rules! on_either {
    ($($(#[$text:meta])* $name:ident($($argument:ident: $type:ty)?);)*) => {
        impl Machine {
            $($(#[$text])* pub fn $name(&self, $($argument: $type)?) -> anyhow::Result<()> {
                match self {
                    Self::Local(node) => node.$name($($argument)?),
                    Self::Kind(node) => node.$name($($argument)?),
                }
            })*
        }
    };
}

on_either! {
    /// Ends all of it in an instant, as a power cut would.
    power_off();
    /// Starts it again with what it has on disk.
    power_on();
    /// The kubelet stands still; pods run on.
    freeze_kubelet();
    /// And goes on.
    thaw_kubelet();
    /// Signal 9 for the main process of a container.
    kill_container(id: &str);
    /// A container stands still.
    freeze_container(id: &str);
    /// And goes on.
    thaw_container(id: &str);
}
