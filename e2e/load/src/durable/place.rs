//! Where a row runs: an S3 server behind a proxy that makes it as slow as a cloud, and the broker as a process of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bucketmq_servers::{Counts, FaultProxy, Latency, Operation, Options, ProxyOptions, Server, Versitygw};
use serde::{Deserialize, Serialize};

use super::flow;
use crate::process;
use crate::socket::Target;
use crate::wire;

/// Shards of a prefix as the broker makes them.
pub const SHARDS: u32 = 16;
/// What the keys of the broker begin with.
const PREFIX: &str = "load";
/// How long a broker may take to listen.
const START: Duration = Duration::from_secs(60);
/// How long a CONNACK may take.
const ANSWER: Duration = Duration::from_secs(5);
/// How long it may take to write what is left and end.
const STOP: Duration = Duration::from_secs(120);

/// What is added to each request.
pub const LATENCY: Latency = Latency { read: Duration::from_millis(15), write: Duration::from_millis(30) };

/// Requests to the bucket, and what they carried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// Objects written, parts of larger ones included.
    pub puts: u64,
    /// Lists, which cost as much as writing.
    pub lists: u64,
    /// Objects or parts of them read, and heads asked for.
    pub gets: u64,
    /// Deletes, which cost nothing.
    pub deletes: u64,
    /// Bytes written.
    pub bytes_up: u64,
    /// Bytes read.
    pub bytes_down: u64,
}

impl Traffic {
    fn of(counts: Counts) -> Self {
        Self {
            puts: counts.of(Operation::Put) + counts.of(Operation::Multipart) + counts.of(Operation::Post),
            lists: counts.of(Operation::List),
            gets: counts.of(Operation::Get) + counts.of(Operation::Head),
            deletes: counts.of(Operation::Delete),
            bytes_up: counts.bytes_up,
            bytes_down: counts.bytes_down,
        }
    }

    /// What has passed since `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            puts: self.puts - earlier.puts,
            lists: self.lists - earlier.lists,
            gets: self.gets - earlier.gets,
            deletes: self.deletes - earlier.deletes,
            bytes_up: self.bytes_up - earlier.bytes_up,
            bytes_down: self.bytes_down - earlier.bytes_down,
        }
    }

    /// All requests.
    pub fn requests(self) -> u64 {
        self.puts + self.lists + self.gets + self.deletes
    }
}

/// An S3 server over an empty directory, behind the proxy.
pub struct Bucket {
    // First, so that it ends before the server it stands before.
    proxy: FaultProxy,
    server: Server,
}

impl Bucket {
    /// A new one.
    pub fn start() -> anyhow::Result<Self> {
        let server = Versitygw::start(Options::default()).context("versitygw (e2e/servers/install installs it)")?;
        let proxy = FaultProxy::start(&server, ProxyOptions { latency: LATENCY, ..ProxyOptions::default() })?;
        Ok(Self { proxy, server })
    }

    /// Everything that has passed.
    pub fn traffic(&self) -> Traffic {
        Traffic::of(self.proxy.counts())
    }

    /// What has passed for each shard.
    pub fn traffic_of_shards(&self) -> Vec<Traffic> {
        (0..SHARDS).map(|shard| Traffic::of(self.proxy.counts_under(&format!("{PREFIX}/shards/{shard:02}/")))).collect()
    }

    /// Bytes written into the logs, and into tables.
    pub fn written(&self) -> (u64, u64) {
        let of = |folder: &str| {
            (0..SHARDS).map(|shard| self.proxy.counts_under(&format!("{PREFIX}/shards/{shard:02}/{folder}/")).bytes_up).sum()
        };
        (of("wal"), of("compacted"))
    }

    /// Bytes of all objects there are.
    pub fn stored_bytes(&self) -> u64 {
        size_of(self.server.data())
    }

    fn url(&self) -> String {
        let access = self.proxy.access();
        format!("s3://{}/{PREFIX}?region=us-east-1&endpoint={}", access.bucket, access.endpoint)
    }
}

fn size_of(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => size_of(&entry.path()),
            Ok(kind) if kind.is_file() => entry.metadata().map_or(0, |metadata| metadata.len()),
            _ => 0,
        })
        .sum()
}

/// A broker process.
pub struct Broker {
    process: Child,
    folder: tempfile::TempDir,
    /// Where Clients connect.
    pub address: SocketAddr,
}

impl Broker {
    /// Starts `binary` over `bucket`, or in memory, and waits until it lets a Client in.
    pub fn start(binary: &Path, bucket: Option<&Bucket>) -> anyhow::Result<Self> {
        Self::start_with(binary, bucket, &[])
    }

    /// The same with more variables in its environment.
    pub fn start_with(binary: &Path, bucket: Option<&Bucket>, environment: &[(&str, &str)]) -> anyhow::Result<Self> {
        let mut broker = Self::spawn(binary, bucket, free_address()?, environment)?;
        let began = Instant::now();
        while session_present(broker.address, "is-it-there", false).is_none() {
            broker.check()?;
            ensure!(began.elapsed() < START, "the broker does not answer: {}", broker.log());
            thread::sleep(Duration::from_millis(10));
        }
        Ok(broker)
    }

    /// Starts it at `address`, where it will listen some time later.
    pub fn spawn(binary: &Path, bucket: Option<&Bucket>, address: SocketAddr, environment: &[(&str, &str)]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let log = File::create(folder.path().join("log"))?;
        let mut command = Command::new(binary);
        // Thousands connect before the first of them says CONNECT, which takes a busy machine a while.
        command.args(["serve", "--admin", "", "--listen", &format!("tcp://{address}?anonymous=local&connect_timeout=120s")]);
        if let Some(bucket) = bucket {
            command.args(["--bucket", &bucket.url()]).envs(bucket.proxy.access().environment());
        }
        // As it is released, but for queues that hold what the rows put there.
        command.env("BUCKETMQ_LIMITS__SESSION_QUEUE_MESSAGES", "1000000").env("BUCKETMQ_LIMITS__SESSION_QUEUE_BYTES", "1GiB");
        // These Clients send no PINGREQ.
        command.env("BUCKETMQ_LIMITS__KEEP_ALIVE_DEFAULT", "0s");
        command.envs(environment.iter().copied());
        command.current_dir(folder.path()).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // SAFETY: between fork and exec only a system call is made, which takes a number.
        unsafe {
            command.pre_exec(|| Ok(rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?));
        }
        let process = command.spawn().with_context(|| format!("start {}", binary.display()))?;
        Ok(Self { process, folder, address })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Where `sources` local addresses connect to; 0: the kernel chooses.
    pub fn target(&self, sources: usize) -> Target {
        Target { address: self.address, tls: None, sources: sources as u32, send_buffer: None }
    }

    /// Resident memory.
    pub fn rss(&self) -> anyhow::Result<u64> {
        process::rss_bytes(self.pid()).with_context(|| format!("the broker is gone: {}", self.log()))
    }

    /// Err: it has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.process.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the broker has ended ({status}): {}", self.log()),
        }
    }

    /// Asks it to end; says how long that took.
    pub fn stop(mut self) -> anyhow::Result<Duration> {
        self.check()?;
        let began = Instant::now();
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        loop {
            if let Some(status) = self.process.try_wait()? {
                ensure!(status.success(), "the broker ended with {status}: {}", self.log());
                return Ok(began.elapsed());
            }
            ensure!(began.elapsed() < STOP, "the broker does not end: {}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills it without a warning.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.check()?;
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// The last lines of what it said.
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].join(" | ")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a Client is told about its Session; None: it is not let in yet. Its connection ends with DISCONNECT.
pub fn session_present(address: SocketAddr, client_id: &str, lasts: bool) -> Option<bool> {
    let ask = || -> std::io::Result<Option<bool>> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.write_all(&flow::connect(client_id, lasts))?;
        let mut connack = [0; 5];
        stream.read_exact(&mut connack)?;
        stream.write_all(&wire::DISCONNECT_PACKET)?;
        Ok((connack[0] == wire::CONNACK && connack[3] == 0).then_some(connack[2] & 1 == 1))
    };
    ask().ok().flatten()
}

fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?.local_addr()?)
}
