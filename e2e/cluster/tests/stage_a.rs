//! A control plane without nodes: started, used, ended, and nothing is left of it.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use bucketmq_local_cluster::{Cluster, Options, Stage, Status};

/// Ends its cluster also when the test fails.
struct Ended(String);

impl Drop for Ended {
    fn drop(&mut self) {
        if let Err(error) = Cluster::down(&self.0) {
            eprintln!("{error:#}");
        }
    }
}

fn kubectl(cluster: &Cluster, arguments: &[&str], input: &str) -> anyhow::Result<String> {
    use std::io::Write;

    let mut command = Command::new(cluster.kubectl()?);
    command.env("KUBECONFIG", cluster.kubeconfig()).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    child.stdin.take().context("its input")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "kubectl {} failed", arguments.join(" "));
    Ok(String::from_utf8(output.stdout)?)
}

/// Processes that were started with a path below `folder`.
fn processes_of(folder: &Path) -> Vec<String> {
    let folder = folder.display().to_string();
    let entries = std::fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
    let lines = entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.contains(&folder)).map(|line| line.replace('\0', " ")).collect()
}

#[test]
fn a_control_plane_keeps_objects_and_leaves_nothing() -> anyhow::Result<()> {
    let name = format!("test-{}", std::process::id());
    let _ended = Ended(name.clone());
    let options = Options { name: name.clone(), ..Options::default() };
    let cluster = Cluster::up(&options)?;
    assert_eq!(cluster.stage(), Stage::A);
    let folder = cluster.kubeconfig().parent().context("a folder")?.to_owned();
    assert_eq!(processes_of(&folder).len(), 4, "etcd and three of Kubernetes");

    // Strict: it needs the API server's own description of its kinds.
    let object = "{apiVersion: v1, kind: ConfigMap, metadata: {name: here}, data: {key: value}}";
    kubectl(&cluster, &["apply", "--validate=strict", "-f", "-"], object)?;
    assert_eq!(kubectl(&cluster, &["get", "configmap", "here", "--output=jsonpath={.data.key}"], "")?, "value");
    assert!(kubectl(&cluster, &["auth", "whoami"], "")?.contains("system:masters"));
    let audit = std::fs::read_to_string(cluster.audit_log())?;
    let written = audit.lines().filter(|line| line.contains(r#""name":"here""#) && line.contains(r#""verb":"create""#));
    assert_eq!(written.count(), 1);

    // The same again, and another one under the same name.
    assert_eq!(Cluster::up(&options)?.api_server(), cluster.api_server());
    let other = Cluster::up(&Options { controllers: false, ..options.clone() });
    assert!(other.expect_err("other options").to_string().contains("e2e/cluster/down"));
    assert_eq!(Cluster::find(&name)?.kubeconfig(), cluster.kubeconfig());

    // Half of it dies.
    let status = Status::of(&name)?.context("a status")?;
    assert!(status.is_whole, "{status}");
    let scheduler = status.parts.iter().find(|part| part.name == "kube-scheduler").context("a scheduler")?;
    Command::new("kill").args(["-9", &scheduler.pid.to_string()]).status()?;
    while Status::of(&name)?.is_some_and(|status| status.is_whole) {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let status = Status::of(&name)?.context("a status")?;
    assert!(!status.is_whole && status.is_ready, "{status}");
    assert!(Cluster::find(&name).is_ok(), "it answers still");

    assert!(Cluster::down(&name)?);
    assert!(!Cluster::down(&name)?);
    assert_eq!(processes_of(&folder), [] as [String; 0]);
    assert!(!folder.exists());
    assert!(Status::of(&name)?.is_none());
    Ok(())
}

#[test]
fn a_cluster_that_is_not_there_is_not_found() {
    let error = Cluster::find("nobody-made-this").expect_err("none");
    assert!(error.to_string().contains("e2e/cluster/up --name nobody-made-this"), "{error:#}");
}
