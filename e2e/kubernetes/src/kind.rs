//! A cluster of kind, for machines with Docker: the same cases, and NetworkPolicies that are enforced.
//!
//! kind, Docker (or what `KIND_EXPERIMENTAL_PROVIDER` names), kubectl and helm are the machine's own. The host reaches Services and pods by routes over the
//! node that stays, so this wants Linux and root.

use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use bucketmq_local_cluster::{AUDIT_POLICY, S3_PORT, STAYS, Stage, Unavailable, cache, in_path, s3_archive, s3_objects};

/// Ranges of pods and Services: kind's own defaults.
const PODS: &str = "10.244.0.0/16";
const SERVICES: &str = "10.96.0.0/16";
/// Where the S3 server is.
const S3: Ipv4Addr = Ipv4Addr::new(10, 96, 200, 20);

/// A cluster that runs.
#[derive(Clone, Debug)]
pub struct Kind {
    name: String,
    folder: PathBuf,
    engine: String,
}

/// One of its nodes.
#[derive(Clone, Debug)]
pub struct KindNode {
    engine: String,
    name: String,
}

impl Kind {
    /// Makes the cluster `name` unless it is there, with an S3 server in it.
    pub fn up(name: &str, image: Option<&str>, progress: fn(&str)) -> anyhow::Result<Self> {
        let engine = engine(std::env::var("KIND_EXPERIMENTAL_PROVIDER").ok().as_deref());
        check(&["kind", &engine, "kubectl", "helm", "ip"])?;
        let kind = Self { name: name.to_owned(), folder: cache()?.join("kind").join(name), engine };
        let is_there = run("kind", &["get", "clusters"], "")?.lines().any(|line| line.trim() == name);
        if !is_there {
            progress(&format!("kind makes the cluster {name}"));
            std::fs::create_dir_all(&kind.folder)?;
            std::fs::write(kind.folder.join("policy.yaml"), AUDIT_POLICY)?;
            std::fs::write(kind.audit_log(), "")?;
            std::fs::write(kind.folder.join("kind.yaml"), configuration(&kind.folder))?;
            run("kind", &kind.creation(image).iter().map(String::as_str).collect::<Vec<_>>(), "")?;
        }
        let stays =
            kind.kubectl(&["get", "nodes", "--selector", &format!("{STAYS}=always"), "--output", "jsonpath={.items[0].metadata.name}"])?;
        let address =
            run(&kind.engine, &["inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", stays.trim()], "")?;
        for range in [SERVICES, PODS] {
            run("ip", &["route", "replace", range, "via", address.trim()], "").context("a route to the cluster: this wants root")?;
        }
        progress("loading the S3 server");
        kind.load_image(&s3_archive(progress)?)?;
        run("kubectl", &["--kubeconfig", &text(&kind.kubeconfig()), "apply", "--server-side", "--filename=-"], &s3_objects(S3))?;
        kind.kubectl(&["rollout", "status", "deployment/s3", "--namespace", "s3", "--timeout=180s"])?;
        Ok(kind)
    }

    /// What `kind create cluster` is told.
    fn creation(&self, image: Option<&str>) -> Vec<String> {
        let mut words = ["create", "cluster", "--name", &self.name, "--wait", "180s"].map(str::to_owned).to_vec();
        words.extend(["--config".to_owned(), text(&self.folder.join("kind.yaml")), "--kubeconfig".to_owned(), text(&self.kubeconfig())]);
        words.extend(image.into_iter().flat_map(|image| ["--image".to_owned(), image.to_owned()]));
        words
    }

    /// Ends it.
    pub fn down(&self) -> anyhow::Result<()> {
        run("kind", &["delete", "cluster", "--name", &self.name, "--kubeconfig", &text(&self.kubeconfig())], "")?;
        for range in [SERVICES, PODS] {
            // The route may have gone with the node.
            let _ = run("ip", &["route", "delete", range], "");
        }
        std::fs::remove_dir_all(&self.folder).with_context(|| self.folder.display().to_string())
    }

    /// Of its administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// What the API server notes.
    pub fn audit_log(&self) -> PathBuf {
        self.folder.join("audit.log")
    }

    /// Where the S3 server is, for pods and for this machine.
    pub fn s3_endpoint(&self) -> String {
        format!("http://{S3}:{S3_PORT}")
    }

    /// Loads an archive with images into every node.
    pub fn load_image(&self, archive: &Path) -> anyhow::Result<()> {
        run("kind", &["load", "image-archive", &text(archive), "--name", &self.name], "").map(drop)
    }

    /// A node by its name in Kubernetes.
    pub fn node(&self, name: &str) -> KindNode {
        KindNode { engine: self.engine.clone(), name: name.to_owned() }
    }

    fn kubectl(&self, words: &[&str]) -> anyhow::Result<String> {
        run("kubectl", &[&["--kubeconfig", &text(&self.kubeconfig())], words].concat(), "")
    }
}

impl KindNode {
    /// Ends all of it in an instant.
    pub fn power_off(&self) -> anyhow::Result<()> {
        run(&self.engine, &["kill", &self.name], "").map(drop)
    }

    /// Starts it again, with what it had on disk.
    pub fn power_on(&self) -> anyhow::Result<()> {
        run(&self.engine, &["start", &self.name], "").map(drop)
    }

    /// The kubelet stands still.
    pub fn freeze_kubelet(&self) -> anyhow::Result<()> {
        self.inside(&["pkill", "-STOP", "-x", "kubelet"]).map(drop)
    }

    /// And goes on.
    pub fn thaw_kubelet(&self) -> anyhow::Result<()> {
        self.inside(&["pkill", "-CONT", "-x", "kubelet"]).map(drop)
    }

    /// Signal 9 for the main process of a container.
    pub fn kill_container(&self, id: &str) -> anyhow::Result<()> {
        self.signal("-KILL", id)
    }

    /// A container of one process stands still.
    pub fn freeze_container(&self, id: &str) -> anyhow::Result<()> {
        self.signal("-STOP", id)
    }

    /// And goes on.
    pub fn thaw_container(&self, id: &str) -> anyhow::Result<()> {
        self.signal("-CONT", id)
    }

    fn signal(&self, signal: &str, id: &str) -> anyhow::Result<()> {
        let id = id.rsplit_once("://").map_or(id, |(_, plain)| plain);
        let process = self.inside(&["crictl", "inspect", "--output", "go-template", "--template", "{{.info.pid}}", id])?;
        let process: u32 = process.trim().parse().with_context(|| format!("the process of container {id}: {process:?}"))?;
        self.inside(&["kill", signal, &process.to_string()]).map(drop)
    }

    fn inside(&self, words: &[&str]) -> anyhow::Result<String> {
        run(&self.engine, &[&["exec", self.name.as_str()], words].concat(), "")
    }
}

/// The program that runs the nodes, as kind chooses it.
fn engine(provider: Option<&str>) -> String {
    provider.filter(|provider| !provider.is_empty()).unwrap_or("docker").to_owned()
}

/// The configuration, with its audit log in this folder.
fn configuration(folder: &Path) -> String {
    let words = [("$PODS", PODS), ("$SERVICES", SERVICES), ("$STAYS", STAYS), ("$FOLDER", &text(folder))];
    words.iter().fold(include_str!("kind.yaml").to_owned(), |text, (word, value)| text.replace(word, value))
}

/// Says at once what the machine lacks.
fn check(programs: &[&str]) -> anyhow::Result<()> {
    let lacks = |program: &&&str| in_path(program).is_none();
    let missing: Vec<String> =
        programs.iter().filter(lacks).map(|program| format!("{program} is not in the PATH, which --on kind needs")).collect();
    ensure!(missing.is_empty(), Unavailable { stage: Stage::B, missing });
    Ok(())
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Runs a program with these words and this input; what it prints.
fn run(program: &str, words: &[&str], input: &str) -> anyhow::Result<String> {
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("start {program}"))?;
    child.stdin.take().context("no input")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {}: {}", words.join(" "), said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_configuration_is_left_to_fill_in() {
        let text = configuration(Path::new("/cache/kind/suite"));
        assert!(!text.contains('$'), "{text}");
        let whole: serde_json::Value = serde_saphyr::from_str(&text).expect("YAML");
        assert_eq!(whole["nodes"].as_array().map(Vec::len), Some(4));
        assert_eq!(whole["nodes"][0]["extraMounts"][0]["hostPath"], "/cache/kind/suite");
        assert_eq!(whole["nodes"][1]["labels"][STAYS], "always");
        let patch = whole["nodes"][0]["kubeadmConfigPatches"][0].as_str().expect("a text");
        let patch: serde_json::Value = serde_saphyr::from_str(patch).expect("YAML in YAML");
        assert_eq!(patch["apiServer"]["extraArgs"][1]["value"], "/audit/audit.log");
    }

    #[test]
    fn the_provider_of_kind_is_the_program_that_is_called() {
        assert_eq!([engine(None), engine(Some("")), engine(Some("podman"))], ["docker", "docker", "podman"]);
    }

    #[test]
    fn a_machine_that_lacks_something_is_told_what() {
        let error = check(&["sh", "no-such-program-anywhere"]).expect_err("it is not there");
        assert!(error.is::<Unavailable>(), "{error:#}");
        let text = error.to_string();
        assert!(text.contains("no-such-program-anywhere is not in the PATH") && !text.contains("sh is not"), "{text}");
    }

    #[test]
    fn an_image_of_the_nodes_is_passed_on() {
        let kind = Kind { name: "suite".to_owned(), folder: "/f".into(), engine: "docker".to_owned() };
        let words = kind.creation(Some("kindest/node:v1.36.2"));
        assert_eq!(words[..4], ["create", "cluster", "--name", "suite"]);
        assert_eq!(words[words.len() - 2..], ["--image", "kindest/node:v1.36.2"]);
        assert!(!kind.creation(None).contains(&"--image".to_owned()));
    }
}
