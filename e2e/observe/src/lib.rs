//! Proves what the charts carry for people who watch brokers: alerts, their runbooks and dashboards.
//!
//! A real Prometheus scrapes a live broker, or operator, with the labels that a ServiceMonitor adds, and is asked every expression there is. `e2e/observe/install` builds it.

pub mod alerts;
pub mod asked;
pub mod dashboards;
mod http;
mod process;
pub mod prometheus;
pub mod scene;

use std::path::PathBuf;

/// A chart, and whom its alerts and dashboards are about in the tests.
#[derive(Clone, Copy, Debug)]
pub struct Chart {
    /// Its folder in `charts/`.
    pub name: &'static str,
    /// The namespace of what is watched.
    pub namespace: &'static str,
    /// The Service that is scraped, and so the job.
    pub job: &'static str,
    /// The pod.
    pub pod: &'static str,
    /// The variable of the dashboards that stands for the job.
    pub variable: &'static str,
    /// The metric that is there as long as the process is: the variables ask for its labels.
    pub build_info: &'static str,
}

/// The chart of a broker.
pub const BROKER: Chart = Chart {
    name: "bucketmq-broker",
    namespace: "mqtt",
    job: "fleet-admin",
    pod: "fleet-7d9f8b6c5d-x2k4q",
    variable: "broker",
    build_info: "mqtt_build_info",
};

/// The chart of the operator.
pub const OPERATOR: Chart = Chart {
    name: "bucketmq-operator",
    namespace: "bucketmq-operator",
    job: "bucketmq-operator-metrics",
    pod: "bucketmq-operator-6c9d7f5b4-m8t2w",
    variable: "operator",
    build_info: "mqtt_operator_build_info",
};

impl Chart {
    /// Where it is.
    pub fn folder(&self) -> PathBuf {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts")).join(self.name)
    }

    /// Names and values of the variables of its dashboards.
    pub fn variables(&self) -> [(&'static str, &'static str); 3] {
        [("namespace", self.namespace), (self.variable, self.job), ("pod", self.pod)]
    }
}
