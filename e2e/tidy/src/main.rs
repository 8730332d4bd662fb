//! `cargo tidy`: prints every place that breaks a house rule as `file:line: rule: what to do`; exits with 1 when there is one.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, ensure};
use bucketmq_tidy::{Tree, rules};

fn main() -> anyhow::Result<ExitCode> {
    let root = repository()?;
    let tree = Tree::tracked(Path::new(&root))?;
    let mut violations: Vec<_> = rules::ALL.iter().flat_map(|rule| rule(&tree)).collect();
    violations.extend(rules::licences::check(&dependencies(&root)?)?);
    violations.sort();
    violations.iter().for_each(|violation| println!("{violation}"));
    println!("tidy: {} files, {} violations", tree.files.len(), violations.len());
    Ok(if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn repository() -> anyhow::Result<String> {
    let output = Command::new("git").args(["rev-parse", "--show-toplevel"]).output().context("run git")?;
    ensure!(output.status.success(), "not inside a git checkout");
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}

/// What `cargo metadata` says of every package that is compiled into anything here.
fn dependencies(root: &str) -> anyhow::Result<String> {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root)
        .output()
        .context("run cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
