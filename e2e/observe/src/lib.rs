//! Proves what the charts carry for people who watch brokers: alerts, their runbooks and dashboards.
//!
//! A real Prometheus scrapes a live broker with the labels that a ServiceMonitor adds, and is asked every expression there is. `e2e/observe/install` builds it.

pub mod alerts;
pub mod dashboards;
mod http;
mod process;
pub mod prometheus;
pub mod scene;

use std::path::PathBuf;

/// The chart of a broker.
pub fn chart() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/bucketmq-broker"))
}

/// The namespace of the broker under test.
pub const NAMESPACE: &str = "mqtt";
/// The Service that is scraped, and so the job.
pub const JOB: &str = "fleet-admin";
/// The pod.
pub const POD: &str = "fleet-7d9f8b6c5d-x2k4q";
