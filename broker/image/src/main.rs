//! `bucketmq-image`: writes what a container image carries beside its program into a folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use bucketmq_image::{Features, Materials, host_target, standard_library_notices};
use clap::Parser;

/// Writes `sbom.cdx.json`, `third-party.txt` and `rust-standard-library.html` for a program of this workspace.
///
/// Exits with 0 when they are written, with 1 when they cannot be, with 2 when the command line is wrong.
#[derive(Parser)]
#[command(version)]
struct CommandLine {
    /// The package the program is built from.
    #[arg(long)]
    package: String,
    /// What the program is built for, as a triple. This machine by default.
    #[arg(long, value_name = "TRIPLE")]
    target: Option<String>,
    /// The program was built with the features of all packages, as `cargo build --workspace` does.
    #[arg(long)]
    workspace: bool,
    /// Where the files go.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

fn main() -> ExitCode {
    match CommandLine::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bucketmq-image: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl CommandLine {
    fn run(self) -> anyhow::Result<()> {
        let target = self.target.map_or_else(host_target, Ok)?;
        let features = if self.workspace { Features::Workspace } else { Features::Package };
        let materials = Materials::of(Path::new("."), &self.package, &target, features)?;
        fs::create_dir_all(&self.out).with_context(|| format!("make {}", self.out.display()))?;
        let write = |name: &str, bytes: &[u8]| {
            let path = self.out.join(name);
            fs::write(&path, bytes).with_context(|| format!("write {}", path.display()))
        };
        write("sbom.cdx.json", materials.cyclonedx()?.as_bytes())?;
        write("third-party.txt", materials.licences()?.as_bytes())?;
        if let Some(notices) = standard_library_notices()? {
            write("rust-standard-library.html", &notices)?;
        }
        Ok(())
    }
}
