//! `kubectl` as the administrator of one cluster.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use crate::folder::Folder;
use crate::installed;

/// Runs it with these arguments and `input`, and gives what it prints.
pub(crate) fn run(folder: &Folder, arguments: &[&str], input: &str) -> anyhow::Result<String> {
    let mut command = Command::new(installed::kubectl()?);
    command.arg("--kubeconfig").arg(folder.kubeconfig());
    // What it remembers of an API server is true of this one only.
    command.arg("--cache-dir").arg(folder.path.join("kubectl")).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("start {command:?}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).context("write to kubectl")?;
    }
    let output = child.wait_with_output().context("wait for kubectl")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`kubectl {}` failed: {}", arguments.join(" "), said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
