//! The broker under test, as a process that is killed and started again.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, ensure};
use bucketmq_servers::{Options, Server, Versitygw};

/// Where its state is.
pub enum Store {
    /// versitygw over a directory: S3 as it is spoken.
    S3(Box<Server>),
    /// A local directory.
    Directory(tempfile::TempDir),
    /// Nowhere: everything is lost, and the checker has to see it.
    Nowhere,
}

impl Store {
    /// versitygw, started.
    pub fn s3() -> anyhow::Result<Self> {
        Ok(Self::S3(Box::new(Versitygw::start(Options::default())?)))
    }

    /// A fresh directory.
    pub fn directory() -> anyhow::Result<Self> {
        Ok(Self::Directory(tempfile::tempdir()?))
    }

    fn url(&self) -> String {
        match self {
            Self::S3(server) => format!("s3://{}/crash?region=us-east-1&endpoint={}", server.bucket(), server.endpoint()),
            Self::Directory(folder) => format!("file://{}", folder.path().display()),
            Self::Nowhere => "memory://".to_owned(),
        }
    }

    fn environment(&self) -> Vec<(String, String)> {
        match self {
            Self::S3(server) => {
                server.access().environment().into_iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
            }
            Self::Directory(_) | Self::Nowhere => Vec::new(),
        }
    }

    /// As it is called in a report.
    pub fn name(&self) -> &'static str {
        match self {
            Self::S3(_) => "versitygw (s3://)",
            Self::Directory(_) => "a directory (file://)",
            Self::Nowhere => "memory://",
        }
    }
}

/// A broker that may be dead just now.
pub struct Broker {
    binary: PathBuf,
    store: Store,
    folder: tempfile::TempDir,
    /// Where Clients connect, whoever lives.
    pub address: SocketAddr,
    process: Option<Child>,
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

impl Broker {
    /// A broker over `store`, not started.
    pub fn new(binary: PathBuf, store: Store) -> anyhow::Result<Self> {
        let address = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?.local_addr()?;
        Ok(Self { binary, store, folder: tempfile::tempdir()?, address, process: None })
    }

    /// Starts it.
    pub fn start(&mut self) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(self.log_file())?;
        let process = Command::new(&self.binary)
            .args(["serve", "--admin", "", "--bucket", &self.store.url()])
            .args(["--listen", &format!("tcp://{}?anonymous=local", self.address)])
            .env("BUCKETMQ_LIMITS__SESSION_QUEUE_MESSAGES", "10000000")
            .env("BUCKETMQ_LIMITS__SESSION_QUEUE_BYTES", "4GiB")
            .envs(self.store.environment())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", self.binary.display()))?;
        self.process = Some(process);
        Ok(())
    }

    /// Kills it without a warning. Err: it had ended by itself, which nobody asked for.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        let ended = process.try_wait()?;
        let _ = process.kill();
        process.wait()?;
        ensure!(ended.is_none(), "the broker ended by itself: {ended:?}\n{}", self.log());
        Ok(())
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// The last lines of what it said.
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(self.log_file()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Where its state is.
    pub fn store(&self) -> &Store {
        &self.store
    }
}

/// The binary to test: `named`, or the newest of the builds beside this program.
pub fn find(named: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    if let Some(path) = named {
        ensure!(path.is_file(), "{} is no file", path.display());
        return Ok(path);
    }
    let program = std::env::current_exe()?;
    let target = program.ancestors().find(|folder| folder.join("debug").is_dir() || folder.join("release").is_dir());
    let target: &Path = target.context("this program stands in no target folder")?;
    ["release", "fast", "debug"]
        .iter()
        .map(|profile| target.join(profile).join("bucketmq"))
        .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
        .max()
        .map(|(_, path)| path)
        .with_context(|| format!("no bucketmq below {}: build it, or name it by --bucketmq", target.display()))
}
