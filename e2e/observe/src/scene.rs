//! A broker with TLS, a user and a bucket on a real S3 server, and Clients that keep it busy.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, ensure};
use bucketmq_servers::{Options, Server, Versitygw};
use tempfile::TempDir;

use crate::http;
use crate::process::Process;
use crate::prometheus::wait_until;

/// A broker opens sixteen shards on a server that is new, on a machine that is busy.
const START: Duration = Duration::from_secs(60);
/// Between two rounds of messages.
const PAUSE: Duration = Duration::from_millis(100);
const PASSWORD: &str = "correct horse";

/// All of it. Dropping it ends all of it.
pub struct Scene {
    bucket: Server,
    process: Option<Process>,
    busy: Option<Busy>,
    /// Where `/metrics` is.
    pub admin: SocketAddr,
    tcp: SocketAddr,
    tls: SocketAddr,
    broker: PathBuf,
    folder: TempDir,
}

struct Busy {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<()>>,
    _subscribers: Vec<Process>,
}

impl Scene {
    /// Starts it; Clients come with [`Scene::begin_traffic`].
    pub fn start() -> anyhow::Result<Self> {
        let broker = bucketmq_binary::beside_test()?;
        let bucket = Versitygw::start(Options::default())?;
        let folder = tempfile::tempdir()?;
        let (admin, tcp, tls) = (http::free_address()?, http::free_address()?, http::free_address()?);
        let mut scene = Self { bucket, process: None, busy: None, admin, tcp, tls, broker, folder };
        let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        std::fs::write(scene.path("server.pem"), certificate.cert.pem())?;
        std::fs::write(scene.path("server.key"), certificate.signing_key.serialize_pem())?;
        scene.add_user()?;
        std::fs::write(scene.path("broker.toml"), scene.configuration())?;
        let mut command = Command::new(&scene.broker);
        command.args(["serve", "--config"]).arg(scene.path("broker.toml")).envs(scene.bucket.access().environment());
        let process = scene.process.insert(Process::start(&command, &scene.folder.path().join("broker.log"))?);
        let ready = || Ok(http::get(admin, "/readyz").is_ok_and(|(status, _)| status == 200));
        wait_until("the broker is ready", START, ready).with_context(|| process.log())?;
        Ok(scene)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn add_user(&self) -> anyhow::Result<()> {
        let mut command = Command::new(&self.broker);
        command.args(["passwd", "users", "ann", "--roles", "operator"]).current_dir(self.folder.path());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        child.stdin.take().context("its stdin")?.write_all(PASSWORD.as_bytes())?;
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "bucketmq passwd: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    fn configuration(&self) -> String {
        let folder = self.folder.path().display();
        format!(
            r#"[[listeners]]
url = "tls://{tls}"
[listeners.tls]
certificates = [{{ cert = "{folder}/server.pem", key = "{folder}/server.key" }}]

[[listeners]]
url = "tcp://{tcp}"
anonymous = "local"

[access]
users_file = "{folder}/users"
[access.roles.operator]
rules = ["allow connect", "allow publish #", "allow subscribe #", "deny publish secret"]

[bucket]
url = "s3://{bucket}/observe?region=us-east-1&endpoint={endpoint}&path_style=true"

[admin]
listen = "{admin}"
"#,
            tls = self.tls,
            tcp = self.tcp,
            bucket = self.bucket.bucket(),
            endpoint = self.bucket.endpoint(),
            admin = self.admin,
        )
    }

    fn clients(&self) -> Clients {
        Clients { program: self.broker.clone(), folder: self.folder.path().to_owned(), tcp: self.tcp.port(), tls: self.tls.port() }
    }

    /// Has Clients come: some that stay, one that goes and leaves its Session, one that is refused, and others that publish at each QoS until the end.
    pub fn begin_traffic(&mut self) -> anyhow::Result<()> {
        let clients = self.clients();
        clients.run(&clients.tcp("sub", "-i station -c -x 3600 -q 2 -t work/# -W 1"))?;
        let subscribers = [
            clients.tls("sub", "-i watcher -c -x 3600 -q 2 -t work/#"),
            clients.tcp("sub", "-q 1 -t $share/group/work/#"),
            clients.tcp("sub", "-q 0 -t work/#"),
        ];
        let started =
            subscribers.iter().enumerate().map(|(number, command)| Process::start(command, &self.path(&format!("sub{number}.log"))));
        let subscribers = started.collect::<anyhow::Result<_>>()?;
        let mut refused = clients.tls("pub", "-t work/1 -m x");
        refused.env("BUCKETMQ_PASSWORD", "wrong");
        ensure!(!clients.run(&refused)?, "a wrong password was accepted");
        clients.run(&clients.tls("pub", "-q 1 -t secret -m x"))?;
        ensure!(clients.run(&clients.tls("pub", "-q 1 -t work/retained -m x -r"))?, "a retained message was not taken");
        let ends = Arc::new(AtomicBool::new(false));
        let stop = ends.clone();
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                for qos in 0..3 {
                    let over = if qos == 1 { Clients::tcp } else { Clients::tls };
                    let command = over(&clients, "pub", &format!("-q {qos} -t work/{qos} -m x --repeat 5"));
                    ensure!(clients.run(&command)?, "{command:?} failed");
                    std::thread::sleep(PAUSE);
                }
            }
            Ok(())
        });
        self.busy = Some(Busy { ends, thread, _subscribers: subscribers });
        Ok(())
    }

    /// Has them go. Before the bucket does: who publishes waits for it.
    pub fn end_traffic(&mut self) -> anyhow::Result<()> {
        let Some(Busy { ends, thread, .. }) = self.busy.take() else { return Ok(()) };
        ends.store(true, Ordering::Relaxed);
        thread.join().map_err(|_| anyhow::anyhow!("the thread that publishes panicked"))?
    }

    /// What the broker tells Prometheus.
    pub fn metrics(&self) -> anyhow::Result<String> {
        Ok(http::get(self.admin, "/metrics")?.1)
    }

    /// Takes the bucket away from the broker.
    pub fn lose_bucket(&mut self) {
        self.bucket.kill();
    }

    /// Kills the broker.
    pub fn lose_broker(&mut self) {
        self.process = None;
    }
}

/// Makes the command lines of Clients.
struct Clients {
    program: PathBuf,
    folder: PathBuf,
    tcp: u16,
    tls: u16,
}

impl Clients {
    fn command(&self, name: &str, port: u16, line: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(name).args(["-h", "localhost", "-p", &port.to_string()]).args(line.split(' '));
        command
    }

    fn tcp(&self, name: &str, line: &str) -> Command {
        self.command(name, self.tcp, line)
    }

    fn tls(&self, name: &str, line: &str) -> Command {
        let mut command = self.command(name, self.tls, line);
        let authority: &Path = &self.folder.join("server.pem");
        command.arg("--cafile").arg(authority).env("BUCKETMQ_USERNAME", "ann").env("BUCKETMQ_PASSWORD", PASSWORD);
        command
    }

    /// Whether it went well.
    fn run(&self, command: &Command) -> anyhow::Result<bool> {
        let mut copy = Command::new(command.get_program());
        copy.args(command.get_args()).envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Ok(copy.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?.success())
    }
}
