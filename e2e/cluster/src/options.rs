//! What a cluster is asked to be.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// How much of Kubernetes runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// A control plane on loopback: objects, controllers, admission, no pods. Needs no root.
    A,
    /// Nodes too, with real pods, services and DNS, and an S3 server among them. Needs root.
    B,
}

/// How a cluster is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// Several may run side by side under different names.
    pub name: String,
    /// How much of it.
    pub stage: Stage,
    /// How many nodes stage B has: 1 to 3, called n1, n2, n3.
    pub nodes: u8,
    /// The folder of Kubernetes' programs in the cache directory: `kubernetes`, or another version that `e2e/cluster/install` builds. One that has
    /// nothing but an API server is for stage A.
    pub kubernetes: String,
    /// Whether controller manager and scheduler run. Stage B needs them.
    pub controllers: bool,
    /// Finds dead nodes and restarts containers sooner than Kubernetes does by default. Not for figures that are quoted.
    pub fast: bool,
    /// Whether what is missing is installed, which takes ten minutes where nothing is. Otherwise it is an error that says how.
    pub install: bool,
    /// Is told what happens meanwhile.
    pub progress: fn(&str),
}

/// The name of a cluster when none is given.
pub const DEFAULT_NAME: &str = "local";
/// As many as there are zones.
pub(crate) const NODES_MAX: u8 = 3;

impl Default for Options {
    fn default() -> Self {
        Self {
            name: DEFAULT_NAME.to_owned(),
            stage: Stage::A,
            nodes: 2,
            kubernetes: "kubernetes".to_owned(),
            controllers: true,
            fast: false,
            install: false,
            progress: |_| {},
        }
    }
}
