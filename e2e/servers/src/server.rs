//! What all servers have in common: a port, a directory, a process that answers, a bucket.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;

use crate::access::{Access, Credentials};
use crate::process::{Process, Usage};
use crate::proxy::{Front, ProxyOptions};
use crate::{azurite, fake_gcs, http, moto, versitygw};

/// moto and Azurite load for two seconds on an idle machine, and for twenty on one that builds.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two questions whether it answers.
const START_STEP: Duration = Duration::from_millis(20);
/// A free port may be taken before the server takes it, though the system gives out others first.
const START_ATTEMPTS: u32 = 3;

/// The servers there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Kind {
    /// versitygw: S3 over a directory.
    Versitygw,
    /// moto: S3 in memory.
    Moto,
    /// Azurite: Azure Blob Storage.
    Azurite,
    /// fake-gcs-server behind a translation: Google Cloud Storage.
    #[value(name = "gcs")]
    FakeGcs,
}

impl Kind {
    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Versitygw => "versitygw",
            Self::Moto => "moto",
            Self::Azurite => "azurite",
            Self::FakeGcs => "gcs",
        }
    }

    /// Starts one.
    pub fn start(self, options: Options) -> anyhow::Result<Server> {
        Server::start(self, options)
    }
}

/// How a server is started. The default is a free port, a temporary directory and the bucket `bucketmq`.
#[derive(Debug, Clone)]
pub struct Options {
    /// The bucket to make, at least three characters.
    pub bucket: String,
    /// Where data goes, and stays. Without it, a temporary directory that goes away with the server.
    pub data: Option<PathBuf>,
    /// Where it listens, on 127.0.0.1. Without it, a free port.
    pub port: Option<u16>,
}

impl Default for Options {
    fn default() -> Self {
        Self { bucket: "bucketmq".to_owned(), data: None, port: None }
    }
}

/// A server that answers and has a bucket. Dropping it kills it; when that happens in a panic, the end of its log is printed.
pub struct Server {
    // Before the directory, so that it is dead when its data goes.
    process: Process,
    access: Access,
    address: SocketAddr,
    /// Clients of Google's go through a translation, which lives as long as the server.
    _translation: Option<Front>,
    data: PathBuf,
    scratch: TempDir,
}

impl Server {
    pub(crate) fn start(kind: Kind, options: Options) -> anyhow::Result<Self> {
        let scratch = tempfile::Builder::new().prefix(&format!("bucketmq-{}-", kind.name())).tempdir()?;
        let data = options.data.unwrap_or_else(|| scratch.path().join("data"));
        std::fs::create_dir_all(&data).with_context(|| format!("make {}", data.display()))?;
        let credentials = match kind {
            Kind::Versitygw => versitygw::credentials()?,
            Kind::Moto => moto::credentials(),
            Kind::Azurite => azurite::credentials(),
            Kind::FakeGcs => fake_gcs::credentials(scratch.path()),
        };
        // Where there is a translation, that listens on the given port.
        let fixed_port = options.port.filter(|_| kind != Kind::FakeGcs);
        let mut attempts = if fixed_port.is_some() { 1 } else { START_ATTEMPTS };
        let (process, address) = loop {
            attempts -= 1;
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, fixed_port.map_or_else(free_port, Ok)?));
            match launch(kind, address, &data, &credentials, scratch.path()) {
                Ok(process) => break (process, address),
                Err(error) if attempts == 0 => return Err(error),
                Err(_) => {}
            }
        };
        let translation = match kind {
            Kind::FakeGcs => Some(Front::start(kind, address, ProxyOptions { port: options.port, ..ProxyOptions::default() })?),
            _ => None,
        };
        let access = Access { kind, endpoint: String::new(), bucket: options.bucket, credentials };
        let mut server = Self { process, access, address, _translation: translation, data, scratch };
        server.access = server.access_at(server._translation.as_ref().map_or(address, |front| front.address))?;
        server.create_bucket(&server.access.bucket)?;
        Ok(server)
    }

    /// How a client reaches it through something that listens at `address`.
    pub(crate) fn access_at(&self, address: SocketAddr) -> anyhow::Result<Access> {
        let mut access = Access { endpoint: format!("http://{address}"), ..self.access.clone() };
        match &mut access.credentials {
            Credentials::S3 { .. } => {}
            Credentials::Azure { account, .. } => access.endpoint.push_str(&format!("/{account}")),
            Credentials::Gcs { service_account } => *service_account = fake_gcs::service_account(self.scratch.path(), address)?,
        }
        Ok(access)
    }

    /// How a client reaches it.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Base URL without a slash at its end.
    pub fn endpoint(&self) -> &str {
        &self.access.endpoint
    }

    /// The bucket that was made.
    pub fn bucket(&self) -> &str {
        &self.access.bucket
    }

    /// What a client shows.
    pub fn credentials(&self) -> &Credentials {
        &self.access.credentials
    }

    /// Where the server itself listens, whatever stands before it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its data is, if it keeps any on disk: for looking at, and for damaging.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What its process has used so far.
    pub fn usage(&self) -> anyhow::Result<Usage> {
        self.process.usage()
    }

    /// The end of what it has printed.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// An error when its process has ended by itself.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.process.ended()? {
            Some(status) => bail!("{} ended with {status}: {}", self.access.kind.name(), self.process.log()),
            None => Ok(()),
        }
    }

    /// Makes another bucket, unless it is there already.
    pub fn create_bucket(&self, name: &str) -> anyhow::Result<()> {
        ensure!(name.len() >= 3, "a bucket's name has three characters or more: {name:?}");
        match self.access.kind {
            Kind::Versitygw => versitygw::create_bucket(self.address, &self.access.credentials, name),
            Kind::Moto => moto::create_bucket(self.address, name),
            Kind::Azurite => azurite::create_bucket(self.address, &self.access.credentials, name),
            Kind::FakeGcs => fake_gcs::create_bucket(self.address, name),
        }
        .with_context(|| format!("make the bucket {name} of {}: {}", self.access.kind.name(), self.log()))
    }

    /// Ends it as a power cut would. Until [`Server::restart`] connections to it are refused.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same port with the same data, after killing it if it runs. moto keeps nothing on disk, so its bucket is made anew and is
    /// empty; Azurite loses what it took in during its last seconds.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.process.kill();
        self.process = launch(self.access.kind, self.address, &self.data, &self.access.credentials, self.scratch.path())?;
        if self.access.kind == Kind::Moto {
            self.create_bucket(&self.access.bucket)?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("access", &self.access).field("pid", &self.pid()).finish_non_exhaustive()
    }
}

/// Starts the process and waits until it answers.
fn launch(kind: Kind, address: SocketAddr, data: &Path, credentials: &Credentials, scratch: &Path) -> anyhow::Result<Process> {
    let (command, health): (Command, &str) = match kind {
        Kind::Versitygw => (versitygw::command(address, data, credentials, scratch)?, versitygw::HEALTH),
        Kind::Moto => (moto::command(address)?, moto::HEALTH),
        Kind::Azurite => (azurite::command(address, data)?, azurite::HEALTH),
        Kind::FakeGcs => (fake_gcs::command(address, data)?, fake_gcs::HEALTH),
    };
    let mut process = Process::start(kind.name(), command, scratch.join("log"), scratch)?;
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        // Any answer will do: Azurite has none to give without a signature.
        let answered = http::request(address, "GET", health, &[], "").is_ok_and(|(status, _)| status < 500);
        if let Some(status) = process.ended()? {
            bail!("{} ended with {status}: {}", kind.name(), process.log());
        }
        if answered {
            return Ok(process);
        }
        ensure!(Instant::now() < deadline, "{} does not answer at {address}: {}", kind.name(), process.log());
        std::thread::sleep(START_STEP);
    }
}

/// A port nobody listens on.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
