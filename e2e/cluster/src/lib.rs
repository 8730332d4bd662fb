//! A real Kubernetes of one machine, without Docker: a control plane, nodes that can lose their power, and images for them.
//!
//! ```no_run
//! use bucketmq_local_cluster::{Cluster, Options};
//!
//! let cluster = Cluster::up(&Options::default())?;
//! println!("export KUBECONFIG={}", cluster.kubeconfig().display());
//! Cluster::down("local")?;
//! # anyhow::Ok(())
//! ```

mod addresses;
mod certificates;
mod cgroups;
mod cluster;
mod control_plane;
mod folder;
mod furniture;
pub mod images;
mod installed;
mod kubectl;
mod machine;
mod network;
mod node;
pub mod oci;
mod options;
mod process;
mod status;
mod wait;

pub use cluster::Cluster;
pub use control_plane::AUDIT_POLICY;
pub use furniture::{S3_ACCESS_KEY, S3_PORT, S3_SECRET_KEY, STAYS, s3_archive, s3_objects};
pub use installed::{cache, in_path};
pub use machine::{Unavailable, check};
pub use node::Node;
pub use options::{DEFAULT_NAME, Options, Stage};
pub use status::{PartStatus, Status};
