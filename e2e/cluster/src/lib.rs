//! A real Kubernetes of one machine, without Docker: a control plane, nodes that can lose their power, and images for them.

pub mod oci;
