//! What runs of a cluster, also of one that is not whole.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

use crate::cluster::Cluster;
use crate::folder::Folder;
use crate::node::Node;
use crate::options::Stage;
use crate::process;

/// What is known of a cluster.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Its name.
    pub name: String,
    /// Whether all of it runs and answers, and every node is Ready.
    pub is_whole: bool,
    /// How much of Kubernetes it was to have.
    pub stage: Option<Stage>,
    /// `https://ADDRESS:PORT`.
    pub api_server: Option<String>,
    /// Whether the API server says that it is ready.
    pub is_ready: bool,
    /// The administrator's.
    pub kubeconfig: String,
    /// The processes it was started with.
    pub parts: Vec<PartStatus>,
    /// Its nodes, in stage B.
    pub nodes: Vec<NodeStatus>,
}

/// A node of a cluster.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Its name in Kubernetes.
    pub name: String,
    /// Where NodePorts listen.
    pub address: String,
    /// Its zone.
    pub zone: char,
    /// Whether it has power.
    pub is_on: bool,
    /// Whether Kubernetes calls it Ready.
    pub is_ready: bool,
    /// The images it has.
    pub images: Vec<String>,
}

/// A process of a cluster.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PartStatus {
    /// The program, after the node it runs on.
    pub name: String,
    /// Its number on this machine.
    pub pid: u32,
    /// `running`, `stopped` by a signal that lets it go on later, or `ended`.
    pub state: &'static str,
}

impl Status {
    /// Of the cluster of this name; `None` where there is none.
    pub fn of(name: &str) -> anyhow::Result<Option<Self>> {
        let folder = Folder::of(name)?;
        if !folder.exists() {
            return Ok(None);
        }
        let parts: Vec<PartStatus> = process::parts(&folder)
            .into_iter()
            .map(|part| {
                let state = match part.process.state() {
                    Some(process::STOPPED) => "stopped",
                    Some(_) if part.process.is_alive() => "running",
                    _ => "ended",
                };
                PartStatus { name: part.name, pid: part.process.pid, state }
            })
            .collect();
        let cluster = folder.description().map(|description| Cluster { folder: folder.clone(), description });
        let is_ready = cluster.as_ref().is_some_and(|cluster| cluster.control_plane().is_ready());
        let all_run = folder.finished().exists() && parts.iter().all(|part| part.state == "running");
        let nodes: Vec<NodeStatus> = cluster.as_ref().map(|cluster| nodes(cluster, is_ready)).unwrap_or_default();
        Ok(Some(Self {
            name: name.to_owned(),
            is_whole: is_ready && all_run && nodes.iter().all(|node| node.is_ready),
            stage: cluster.as_ref().map(Cluster::stage),
            api_server: cluster.as_ref().map(|cluster| format!("https://{}", cluster.api_server())),
            is_ready,
            kubeconfig: folder.kubeconfig().display().to_string(),
            parts,
            nodes,
        }))
    }
}

fn nodes(cluster: &Cluster, is_ready: bool) -> Vec<NodeStatus> {
    let ready = if is_ready { cluster.ready_nodes().unwrap_or_default() } else { Vec::new() };
    let status = |node: Node| NodeStatus {
        name: node.name(),
        address: node.address().to_string(),
        zone: node.zone(),
        is_on: node.is_on(),
        is_ready: ready.contains(&node.name()),
        images: node.images().unwrap_or_default(),
    };
    cluster.nodes().into_iter().map(status).collect()
}

impl Display for Status {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let stage = self.stage.map_or("?", |stage| match stage {
            Stage::A => "a",
            Stage::B => "b",
        });
        writeln!(f, "{}: stage {stage}, {}", self.name, if self.is_whole { "all of it runs" } else { "NOT whole" })?;
        let ready = if self.is_ready { "ready" } else { "not ready" };
        writeln!(f, "API server {}: {ready}", self.api_server.as_deref().unwrap_or("?"))?;
        for PartStatus { name, pid, state } in &self.parts {
            writeln!(f, "{name:<26} {state:<8} {pid}")?;
        }
        for node in &self.nodes {
            let NodeStatus { name, address, zone, is_on, is_ready, images } = node;
            let power = if *is_on { "on" } else { "off" };
            let ready = if *is_ready { "Ready" } else { "not Ready" };
            writeln!(f, "node {name}, {address}, zone {zone}: {power}, {ready}; images {}", images.join(" "))?;
        }
        Ok(())
    }
}
