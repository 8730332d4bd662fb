//! What a container image carries beside its program: a bill of the materials (CycloneDX) and the licences of what is compiled in.
//!
//! Cargo itself is asked what a build would compile: `cargo tree` knows the features of exactly this build. `cargo metadata`, from which other
//! tools take their lists, unites the features of every crate of the workspace, tests included, and so names crates that are in no program of
//! ours. The same lock file, toolchain and sources give the same bytes, wherever the checkout stands and whatever the time is.

mod cyclonedx;
mod licences;
mod packages;
mod tree;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use packages::Package;

/// Whose features the program was built with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Features {
    /// Its package alone, as `cargo build --package` does: what ships.
    Package,
    /// Those of all packages of the workspace, as `cargo build --workspace` does: what tests use.
    Workspace,
}

/// All that is compiled into a program.
#[derive(Debug)]
pub struct Materials {
    target: String,
    rustc: String,
    /// By name and version; the program's own package is one of them.
    packages: Vec<Package>,
    /// Where the program's own stands.
    root: usize,
}

impl Materials {
    /// Of the package `package` in the workspace that stands in `folder`, built for `target`, a triple.
    pub fn of(folder: &Path, package: &str, target: &str, features: Features) -> anyhow::Result<Self> {
        let (scope, name): (&str, &[&str]) = match features {
            Features::Package => ("--package", &[package]),
            Features::Workspace => ("--workspace", &[]),
        };
        let mut tree =
            vec!["tree", "--locked", "--target", target, "--edges", "normal,no-proc-macro", "--prefix", "depth", "--format", tree::FORMAT];
        tree.push(scope);
        tree.extend(name);
        let tree = tree::read(&run(folder, "cargo", &tree)?, package)?;
        let metadata = run(folder, "cargo", &["metadata", "--locked", "--format-version", "1", "--filter-platform", target])?;
        let lock = std::fs::read_to_string(folder.join("Cargo.lock")).context("read Cargo.lock")?;
        let packages = packages::describe(tree, &metadata, &lock)?;
        let root = packages.iter().position(|found| found.key.name == package).context("a tree without its root")?;
        let rustc = release(&run(folder, "rustc", &["-vV"])?)?;
        Ok(Self { target: target.to_owned(), rustc, packages, root })
    }

    /// The bill of materials, CycloneDX 1.6 as JSON.
    pub fn cyclonedx(&self) -> anyhow::Result<String> {
        cyclonedx::write(self)
    }

    /// Each licence text that came with the crates, once, and who is under it.
    pub fn licences(&self) -> anyhow::Result<String> {
        licences::write(self)
    }

    /// Names and versions, in order.
    pub fn names(&self) -> impl Iterator<Item = (&str, &str)> {
        self.packages.iter().map(|package| (package.key.name.as_str(), package.key.version.as_str()))
    }
}

/// The triple this machine's compiler builds for.
pub fn host_target() -> anyhow::Result<String> {
    field(&run(Path::new("."), "rustc", &["-vV"])?, "host: ")
}

/// The notices of Rust's standard library, which is compiled in too; they come with the toolchains of rustup.
pub fn standard_library_notices() -> anyhow::Result<Option<Vec<u8>>> {
    let sysroot = run(Path::new("."), "rustc", &["--print", "sysroot"])?;
    let path = Path::new(sysroot.trim()).join("share/doc/rust/COPYRIGHT-library.html");
    path.exists().then(|| std::fs::read(&path).with_context(|| format!("read {}", path.display()))).transpose()
}

fn release(version: &str) -> anyhow::Result<String> {
    field(version, "release: ")
}

fn field(text: &str, name: &str) -> anyhow::Result<String> {
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    Ok(value.with_context(|| format!("rustc -vV says no {name}"))?.to_owned())
}

/// What `program` prints when it is run in `folder`.
fn run(folder: &Path, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program).args(arguments).current_dir(folder).output().with_context(|| format!("start {program}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {} in {}: {}: {}", arguments.join(" "), folder.display(), output.status, errors.trim());
    String::from_utf8(output.stdout).with_context(|| format!("{program} prints what is no UTF-8"))
}
