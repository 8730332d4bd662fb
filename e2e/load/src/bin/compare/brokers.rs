//! The brokers that are compared: how each is configured, started and ended.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bucketmq_load::certificates;

/// How long a broker may take to listen.
const START: Duration = Duration::from_secs(10);
/// How long it may take to end before it is killed.
const STOP: Duration = Duration::from_secs(5);

/// A broker to compare.
pub struct Broker {
    /// Its name in the table.
    pub name: String,
    kind: Kind,
}

enum Kind {
    BucketMq(PathBuf),
    Mosquitto(PathBuf),
    Template(Vec<String>),
}

/// Where one process lives.
pub struct Place<'a> {
    /// A fresh directory.
    pub dir: &'a Path,
    /// Port for plain TCP.
    pub port: u16,
    /// Port for TLS.
    pub tls_port: u16,
    /// Whether TLS is wanted.
    pub tls: bool,
}

impl Broker {
    /// BucketMQ as it is released; limits are raised so that they hold what the scenarios queue and retain.
    pub fn bucketmq(binary: &Path) -> Broker {
        Broker { name: "bucketmq".into(), kind: Kind::BucketMq(binary.to_owned()) }
    }

    /// Mosquitto with its default socket options and the same limits raised.
    pub fn mosquitto(binary: &Path) -> Broker {
        Broker { name: "mosquitto".into(), kind: Kind::Mosquitto(binary.to_owned()) }
    }

    /// Any other one: NAME=COMMAND.
    pub fn from_template(text: &str) -> anyhow::Result<Broker> {
        let (name, command) = text.split_once('=').with_context(|| format!("--broker {text}: expected NAME=COMMAND"))?;
        let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        if words.is_empty() {
            bail!("--broker {name} has no command");
        }
        Ok(Broker { name: name.to_owned(), kind: Kind::Template(words) })
    }

    fn program(&self) -> &Path {
        match &self.kind {
            Kind::BucketMq(binary) | Kind::Mosquitto(binary) => binary,
            Kind::Template(words) => Path::new(&words[0]),
        }
    }

    /// Whether the program can be run at all.
    pub fn check(&self) -> anyhow::Result<()> {
        let program = self.program();
        if program.components().count() > 1 && !program.is_file() {
            bail!("{} is not there ({}); build it, or leave it out with --only", program.display(), self.name);
        }
        Ok(())
    }

    /// The version it tells.
    pub fn version(&self) -> String {
        let argument = match &self.kind {
            Kind::BucketMq(_) => "version",
            Kind::Mosquitto(_) => "-h",
            Kind::Template(_) => "--version",
        };
        let output = Command::new(self.program()).arg(argument).stdin(Stdio::null()).output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        text.lines().find(|line| !line.trim().is_empty()).map_or_else(|| "version unknown".to_owned(), |line| line.trim().to_owned())
    }

    fn command(&self, place: &Place<'_>) -> anyhow::Result<Command> {
        let (dir, port, tls_port) = (place.dir.display(), place.port, place.tls_port);
        let mut command = Command::new(self.program());
        match &self.kind {
            Kind::BucketMq(_) => {
                let config = place.dir.join("bucketmq.toml");
                fs::write(&config, BUCKETMQ_CONFIG)?;
                command.arg("serve").arg("--config").arg(config);
                command.arg("--listen").arg(format!("tcp://127.0.0.1:{port}?anonymous=local"));
                if place.tls {
                    let files = format!("cert={dir}/server.pem&key={dir}/server.key");
                    command.arg("--listen").arg(format!("tls://127.0.0.1:{tls_port}?{files}&anonymous=local"));
                }
            }
            Kind::Mosquitto(_) => {
                let mut text = format!("{MOSQUITTO_CONFIG}listener {port} 127.0.0.1\n");
                if place.tls {
                    text += &format!("listener {tls_port} 127.0.0.1\ncertfile {dir}/server.pem\nkeyfile {dir}/server.key\n");
                }
                let config = place.dir.join("mosquitto.conf");
                fs::write(&config, text)?;
                command.arg("-c").arg(config);
            }
            Kind::Template(words) => {
                for word in &words[1..] {
                    let word = word.replace("{port}", &port.to_string()).replace("{tls_port}", &tls_port.to_string());
                    command.arg(word.replace("{dir}", &dir.to_string()));
                }
            }
        }
        Ok(command)
    }

    /// Starts a process and waits until it listens.
    pub fn start(&self, place: &Place<'_>) -> anyhow::Result<Running> {
        if place.tls {
            certificates::write(place.dir)?;
        }
        let log = File::create(place.dir.join("log"))?;
        let mut command = self.command(place)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).current_dir(place.dir);
        let child = command.spawn().with_context(|| format!("cannot start {}", self.program().display()))?;
        let mut running = Running(child);
        let port = if place.tls { place.tls_port } else { place.port };
        let start = Instant::now();
        while TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_err() {
            if let Some(status) = running.0.try_wait()? {
                bail!("{} ended at once ({status}): {}", self.name, last_lines(place.dir));
            }
            if start.elapsed() > START {
                bail!("{} does not listen on port {port}: {}", self.name, last_lines(place.dir));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(running)
    }
}

/// The end of a broker's log.
pub fn last_lines(dir: &Path) -> String {
    let text = fs::read_to_string(dir.join("log")).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join(" | ")
}

/// A broker process; dropping it ends it.
pub struct Running(Child);

impl Running {
    /// The process id.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // SAFETY: plain system call. The child has not been waited for unless it is gone, so the id is still its own.
        if self.is_alive() && unsafe { libc::kill(self.0.id() as libc::pid_t, libc::SIGTERM) } == 0 {
            let start = Instant::now();
            while self.is_alive() && start.elapsed() < STOP {
                thread::sleep(Duration::from_millis(20));
            }
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const BUCKETMQ_CONFIG: &str = r#"
[limits]
max_inflight = 30000
session_queue_messages = 1000000
session_queue_bytes = "1GiB"
retained_messages = 2000000
retained_bytes = "2GiB"

[admin]
listen = ""
"#;

const MOSQUITTO_CONFIG: &str = "\
allow_anonymous true
persistence false
max_queued_messages 0
max_queued_bytes 0
max_inflight_messages 0
log_dest stderr
log_type error
log_type warning
";
