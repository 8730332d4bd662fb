//! A broker under test, as a process that is killed and started again.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bucketmq_packet::ProtocolVersion;
use bucketmq_servers::Access;
use rand::Rng;
use rustix::process::{Pid, Signal, kill_process};

use crate::link::{CONNACK, Identity, Link};

/// So much of a warning is shown.
const WARNING_CHARS: usize = 240;
/// The admin address answers in this time.
const ANSWER: Duration = Duration::from_secs(1);

/// Below those the system gives out by itself, by Linux's default.
const PORTS: std::ops::Range<u16> = 10_000..32_768;

/// What a broker keeps its state in.
#[derive(Debug, Clone)]
pub enum Place {
    /// A prefix of a bucket that is reached so.
    S3(Access, String),
    /// The same, with the keys in this file instead of the environment.
    S3WithFile(Access, String, PathBuf),
    /// A local directory.
    Directory(PathBuf),
    /// Nowhere.
    Memory,
}

impl Place {
    fn url(&self) -> String {
        match self {
            Self::S3(access, prefix) | Self::S3WithFile(access, prefix, _) => {
                format!("s3://{}/{prefix}?region=us-east-1&endpoint={}&path_style=true", access.bucket, access.endpoint)
            }
            Self::Directory(folder) => format!("file://{}", folder.display()),
            Self::Memory => "memory://".to_owned(),
        }
    }
}

/// Which broker.
#[derive(Debug, Clone)]
pub enum Program {
    /// BucketMQ: the binary, where its state is, and what else to say on its command line, `{pod}` being a name that
    /// is new whenever the broker is replaced by another one.
    BucketMq(PathBuf, Place, Vec<String>),
    /// Mosquitto, which saves its state once a second and so shows that losses are found.
    Mosquitto(PathBuf),
}

/// A broker that may be dead just now. Dropping it kills it.
pub struct Broker {
    program: Program,
    number: usize,
    /// Times it was replaced.
    replaced: u32,
    /// What else it is started with.
    pub environment: Vec<(&'static str, PathBuf)>,
    /// Its process does not run until it is told to go on.
    is_frozen: bool,
    folder: PathBuf,
    /// Where Clients connect, whether it lives or not.
    pub address: SocketAddr,
    /// Where `/readyz` is.
    pub admin: SocketAddr,
    process: Option<Process>,
}

/// The process, and another one that kills it when we are killed and run no destructor: its `read` returns then.
struct Process {
    child: Child,
    watchdog: Child,
}

impl Drop for Process {
    fn drop(&mut self) {
        // The watchdog first: it must not kill by a number that is somebody else's by then. Both may have ended by themselves.
        self.watchdog.kill().ok();
        self.watchdog.wait().ok();
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Broker {
    /// The broker called `number`, not started; what it writes goes into `folder`.
    pub fn new(program: Program, number: usize, folder: &Path) -> anyhow::Result<Self> {
        let folder = folder.join(format!("broker-{number}"));
        std::fs::create_dir_all(&folder)?;
        let (address, admin) = (free_address()?, free_address()?);
        Ok(Self { program, number, replaced: 0, environment: Vec::new(), is_frozen: false, folder, address, admin, process: None })
    }

    /// What is started next is another broker at the same address, as a pod that takes the place of one that died.
    pub fn is_replaced(&mut self) {
        self.replaced += 1;
    }

    /// Starts it.
    pub fn start(&mut self) -> anyhow::Result<()> {
        self.process = None;
        self.is_frozen = false;
        let log = File::options().create(true).append(true).open(self.log_file())?;
        let mut command = self.command()?;
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).current_dir(&self.folder);
        let mut child = command.spawn().with_context(|| format!("start {command:?}"))?;
        let watchdog = Command::new("sh")
            .args(["-c", r#"read -r _; kill -9 "$1""#, "watchdog", &child.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match watchdog {
            Ok(watchdog) => self.process = Some(Process { child, watchdog }),
            Err(error) => {
                child.kill().ok();
                child.wait().ok();
                return Err(error).context("start sh");
            }
        }
        Ok(())
    }

    fn command(&self) -> anyhow::Result<Command> {
        let mut command;
        match &self.program {
            Program::BucketMq(binary, place, arguments) => {
                command = Command::new(binary);
                command.args(["serve", "--bucket", &place.url(), "--admin", &format!("http://{}", self.admin)]);
                command.args(["--listen", &format!("tcp://{}?anonymous=local", self.address)]);
                let pod = format!("broker-{}-{}", self.number, self.replaced);
                command.args(arguments.iter().map(|word| word.replace("{pod}", &pod)));
                // What is asked here is whether anything is lost, not where the bounds of a queue are.
                command.env("BUCKETMQ_LIMITS__SESSION_QUEUE_MESSAGES", "10000000").env("BUCKETMQ_LIMITS__SESSION_QUEUE_BYTES", "4GiB");
                match place {
                    Place::S3(access, _) => _ = command.envs(access.environment()),
                    Place::S3WithFile(_, _, file) => {
                        command
                            .env_remove("AWS_ACCESS_KEY_ID")
                            .env_remove("AWS_SECRET_ACCESS_KEY")
                            .env("AWS_SHARED_CREDENTIALS_FILE", file);
                    }
                    Place::Directory(_) | Place::Memory => {}
                }
            }
            Program::Mosquitto(binary) => {
                let Self { address, folder, .. } = self;
                let config = format!(
                    "listener {} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {}/\nautosave_interval 1\n\
                     max_queued_messages 0\nmax_inflight_messages 0\nuser root\n",
                    address.port(),
                    folder.display()
                );
                let file = folder.join("mosquitto.conf");
                std::fs::write(&file, config)?;
                command = Command::new(binary);
                command.arg("-c").arg(file);
            }
        }
        Ok(command)
    }

    /// Kills it without a warning; answers how it had ended by itself, if it had.
    pub fn kill(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        let Some(mut process) = self.process.take() else { return Ok(None) };
        let ended = process.child.try_wait()?;
        drop(process);
        Ok(ended)
    }

    /// Asks it to end.
    pub fn terminate(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)
    }

    /// Stops its process where it is, or lets it go on.
    pub fn freeze(&mut self, freeze: bool) -> anyhow::Result<()> {
        self.is_frozen = freeze;
        self.signal(if freeze { Signal::STOP } else { Signal::CONT })
    }

    /// To a process that has not ended.
    fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        if let Some(process) = &mut self.process
            && process.child.try_wait()?.is_none()
            && let Some(pid) = i32::try_from(process.child.id()).ok().and_then(Pid::from_raw)
        {
            kill_process(pid, signal)?;
        }
        Ok(())
    }

    /// Whether its process is there.
    pub fn runs(&mut self) -> anyhow::Result<bool> {
        Ok(match &mut self.process {
            Some(process) => process.child.try_wait()?.is_none(),
            None => false,
        })
    }

    /// How it ended by itself, if it did since it was started.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        let Some(process) = &mut self.process else { return Ok(None) };
        let ended = process.child.try_wait()?;
        if ended.is_some() {
            self.process = None;
        }
        Ok(ended)
    }

    /// Whether it was started, has not ended and is not frozen.
    pub fn is_awake(&self) -> bool {
        self.process.is_some() && !self.is_frozen
    }

    /// Whether `/readyz` says that it serves.
    pub fn is_ready(&self) -> bool {
        self.is_awake() && self.get("/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    /// What its admin address answers, head and body.
    pub fn get(&self, path: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.admin, ANSWER)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: broker\r\nconnection: close\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Its process.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(|process| process.child.id())
    }

    /// Whether it answers CONNECT just now.
    pub fn serves(&self) -> bool {
        let client_id = format!("probe-{}", self.number);
        let link = Link::open(self.address, &Identity { client_id, version: ProtocolVersion::V3_1_1, lasts: false }, None, CONNACK);
        link.map(|(link, _)| link.leave()).is_ok()
    }

    /// Waits until it answers CONNECT; false if it does not within `patience`, or ends.
    pub fn wait(&mut self, patience: Duration) -> anyhow::Result<bool> {
        let deadline = Instant::now() + patience;
        while !self.serves() {
            if Instant::now() > deadline || self.process.as_mut().is_none_or(|process| !matches!(process.child.try_wait(), Ok(None))) {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(true)
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// What it warned of, each once, without time and place.
    pub fn warnings(&self) -> Vec<String> {
        let text = std::fs::read(self.log_file()).unwrap_or_default();
        let mut warnings: Vec<String> = Vec::new();
        for line in String::from_utf8_lossy(&text).lines() {
            let Some((_, said)) = line.split_once(" WARN bucketmq::durable::watch: ") else { continue };
            let said: String = said.chars().take(WARNING_CHARS).collect();
            if !warnings.contains(&said) {
                warnings.push(said);
            }
        }
        warnings
    }

    /// The last lines of what it said.
    pub fn log(&self) -> String {
        let text = std::fs::read(self.log_file()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

/// An address nobody listens at. Not one the system gives to outgoing connections: while the broker is dead a Client that tries it again and again
/// would sooner or later be given the very port it connects to, be connected with itself, and keep the broker from coming back.
fn free_address() -> anyhow::Result<SocketAddr> {
    let mut random = rand::rng();
    for _ in 0..100 {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, random.random_range(PORTS)));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("no free port in {PORTS:?}")
}
