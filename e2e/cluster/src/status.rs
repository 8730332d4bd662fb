//! What runs of a cluster, also of one that is not whole.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

use crate::cluster::Cluster;
use crate::folder::Folder;
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
        Ok(Some(Self {
            name: name.to_owned(),
            is_whole: is_ready && all_run,
            stage: cluster.as_ref().map(Cluster::stage),
            api_server: cluster.as_ref().map(|cluster| format!("https://{}", cluster.api_server())),
            is_ready,
            kubeconfig: folder.kubeconfig().display().to_string(),
            parts,
        }))
    }
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
        Ok(())
    }
}
