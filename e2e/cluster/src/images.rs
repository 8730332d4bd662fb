//! The images of broker and operator as OCI archives, for machines without Docker: the same scripts that the Dockerfiles run lay out what is in them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use clap::ValueEnum;
use serde::Serialize;

use crate::installed;
use crate::oci::{Archive, Layer};

/// An image of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Image {
    /// The broker.
    Broker,
    /// The operator.
    Operator,
}

/// How its program is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// As it ships.
    Release,
    /// Optimized, and compiled quickly.
    Fast,
    /// As tests are built: what `cargo build --workspace --bins` has built already is used.
    Dev,
}

/// An image that was written.
#[derive(Debug, Clone, Serialize)]
pub struct Built {
    /// Its name, tag included.
    pub name: String,
    /// The archive.
    pub archive: PathBuf,
    /// Of its manifest.
    pub digest: String,
    /// What a registry would keep, in bytes.
    pub compressed_bytes: u64,
}

impl Image {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Broker, Self::Operator];

    /// Its name without a tag.
    pub fn repository(self) -> &'static str {
        match self {
            Self::Broker => "bucketmq.local/broker",
            Self::Operator => "bucketmq.local/operator",
        }
    }

    /// The package, which its program is called after.
    fn package(self) -> &'static str {
        match self {
            Self::Broker => "bucketmq",
            Self::Operator => "bucketmq-operator",
        }
    }

    /// Title and description, as the Dockerfile has them.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Broker => ("BucketMQ broker", "An MQTT broker whose state lives in a bucket"),
            Self::Operator => ("BucketMQ operator", "Reconciles MqttBroker, MqttUser and MqttRole in Kubernetes"),
        }
    }

    /// The folder of its file in archives' names.
    fn short(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Operator => "operator",
        }
    }
}

impl Profile {
    fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Fast => "fast",
            Self::Dev => "dev",
        }
    }
}

/// Builds an image and writes its archive into `out`, or the tool cache. `tag`: behind the colon of its name.
pub fn build(image: Image, profile: Profile, tag: &str, out: Option<&Path>, progress: fn(&str)) -> anyhow::Result<Built> {
    let root = repository();
    let work = tempfile::Builder::new().prefix("bucketmq-image-").tempdir()?;
    let package = image.package();
    progress(&format!("building {package}, profile {}", profile.name()));
    compile(&root, package, profile, work.path())?;
    let rootfs = work.path().join("rootfs");
    progress("laying out what is in it");
    let program = work.path().join(package);
    let mut command = Command::new(root.join("broker/image/rootfs"));
    command.arg("--program").arg(&program).arg("--materials").arg(work.path()).arg("--out").arg(&rootfs);
    run(&mut command)?;
    let folder = match out {
        Some(out) => out.to_owned(),
        None => self::folder()?,
    };
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let path = folder.join(format!("{}-{tag}.tar", image.short()));
    let name = format!("{}:{tag}", image.repository());
    let (title, description) = image.words();
    let archive = Archive::new(&name)
        .layer(layer(&rootfs.join("base"))?)
        .layer(layer(&rootfs.join("program"))?)
        .user("65532:65532")
        .entrypoint([format!("/usr/bin/{package}")])
        .env("PATH", "/usr/bin")
        .label("org.opencontainers.image.title", title)
        .label("org.opencontainers.image.description", description)
        .label("org.opencontainers.image.licenses", "Apache-2.0")
        .label("org.opencontainers.image.version", env!("CARGO_PKG_VERSION"));
    let written = archive.write(&path)?;
    Ok(Built { name, archive: path, digest: written.digest, compressed_bytes: written.compressed_bytes })
}

/// Where archives go when nobody says where.
pub fn folder() -> anyhow::Result<PathBuf> {
    Ok(installed::cache()?.join("images"))
}

/// The program without debug information, and what is said of it, in `out`.
fn compile(root: &Path, package: &str, profile: Profile, out: &Path) -> anyhow::Result<()> {
    if profile != Profile::Dev {
        let mut command = Command::new(root.join("broker/image/compile"));
        command.args(["--package", package, "--profile", profile.name(), "--out"]).arg(out);
        return run(&mut command);
    }
    run(cargo(root).args(["build", "--locked", "--workspace", "--bins"]))?;
    let program = targets(root).join("debug").join(package);
    run(Command::new("strip").arg("--strip-debug").arg("-o").arg(out.join(package)).arg(&program))?;
    run(cargo(root)
        .args(["run", "--locked", "--quiet", "--package", "bucketmq-image", "--", "--workspace", "--package", package, "--out"])
        .arg(out))
}

fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

fn targets(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

/// The checkout this is in: where it runs, or where it was built.
fn repository() -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    let found = here.ancestors().find(|folder| folder.join("broker/image/rootfs").is_file());
    found.map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."), Path::to_owned)
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let name = Path::new(command.get_program()).file_name().map(OsStr::to_string_lossy).unwrap_or_default().into_owned();
    // What it prints belongs to whoever watches, and not into an answer in JSON.
    let output = command.stdin(Stdio::null()).stdout(Stdio::null()).output().with_context(|| format!("run {name}"))?;
    ensure!(output.status.success(), "{name} failed:\n{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// All of a folder, with the modes its files have.
fn layer(folder: &Path) -> anyhow::Result<Layer> {
    let mut layer = Layer::new();
    let mut left = vec![folder.to_owned()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(&next).with_context(|| format!("read {}", next.display()))? {
            let path = entry?.path();
            let metadata = fs::symlink_metadata(&path)?;
            let inside = path.strip_prefix(folder)?.to_str().with_context(|| format!("{} is no text", path.display()))?.to_owned();
            let mode = metadata.permissions().mode() & 0o7777;
            if metadata.is_dir() {
                layer = layer.directory(&inside, mode);
                left.push(path);
            } else if metadata.is_symlink() {
                let target = fs::read_link(&path)?;
                layer = layer.link(&inside, target.to_str().context("a link to what is no text")?);
            } else {
                layer = layer.file(&inside, fs::read(&path)?, mode);
            }
        }
    }
    Ok(layer)
}
