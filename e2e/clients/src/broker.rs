//! The broker under test: the built binary on free ports with a configuration of its own. With `E2E_BROKER=mosquitto` it is Mosquitto, which tells
//! whether a failure is the client's.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;

use crate::{Certificates, Transport};

const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A running broker. Dropping it ends it.
pub struct Broker {
    child: Child,
    is_mosquitto: bool,
    tcp: u16,
    tls: u16,
    ws: u16,
    certificates: Certificates,
    directory: TempDir,
}

impl Broker {
    /// Starts one and waits until it listens.
    pub fn start() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let certificates = Certificates::make(directory.path())?;
        let [tcp, tls, ws] = free_ports()?;
        let is_mosquitto = std::env::var("E2E_BROKER").is_ok_and(|name| name == "mosquitto");
        let config = directory.path().join("broker.conf");
        std::fs::write(
            &config,
            if is_mosquitto { mosquitto_config(tcp, tls, &certificates) } else { bucketmq_config(tcp, tls, ws, &certificates) },
        )?;
        let child = spawn(is_mosquitto, directory.path())?;
        let mut broker = Self { child, is_mosquitto, tcp, tls, ws, certificates, directory };
        broker.wait()?;
        Ok(broker)
    }

    /// Ends it as a power cut would, and starts it again with the same configuration.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.child = spawn(self.is_mosquitto, self.directory.path())?;
        self.wait()
    }

    fn wait(&mut self) -> anyhow::Result<()> {
        let ports = if self.is_mosquitto { vec![self.tcp, self.tls] } else { vec![self.tcp, self.tls, self.ws] };
        self.wait_for(&ports).with_context(|| self.log())
    }

    fn wait_for(&mut self, ports: &[u16]) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        for port in ports {
            while TcpStream::connect(("127.0.0.1", *port)).is_err() {
                if let Some(status) = self.child.try_wait()? {
                    bail!("the broker ended with {status}");
                }
                ensure!(Instant::now() < deadline, "nobody listens on port {port}");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    }

    /// Where it listens for `transport`.
    pub fn port(&self, transport: Transport) -> u16 {
        match transport {
            Transport::Tcp => self.tcp,
            Transport::Tls => self.tls,
            Transport::Ws => self.ws,
        }
    }

    /// What a Client trusts and shows.
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// What it has logged, for the message of a failed test.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("broker.log")).unwrap_or_default()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Starts it in `directory`, where its configuration is and its log goes.
fn spawn(is_mosquitto: bool, directory: &Path) -> anyhow::Result<Child> {
    let log = std::fs::File::options().create(true).append(true).open(directory.join("broker.log"))?;
    let mut command = if is_mosquitto { Command::new("/usr/sbin/mosquitto") } else { Command::new(bucketmq_binary::beside_test()?) };
    command.args(if is_mosquitto { ["-c"].as_slice() } else { &["serve", "--config"] });
    command.arg(directory.join("broker.conf")).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().with_context(|| format!("start {command:?}"))
}

/// Ports nobody listens on. Another process could take one before the broker does; the system gives out others first.
fn free_ports() -> anyhow::Result<[u16; 3]> {
    let bind = || TcpListener::bind(("127.0.0.1", 0));
    let listeners = [bind()?, bind()?, bind()?];
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

/// Every bound that 10,000 messages at once could meet is out of the way: what is tested here is the protocol.
fn bucketmq_config(tcp: u16, tls: u16, ws: u16, certificates: &Certificates) -> String {
    let Certificates { ca, server_cert, server_key, .. } = certificates;
    format!(
        r#"
[[listeners]]
url = "tcp://127.0.0.1:{tcp}"
anonymous = "local"

[[listeners]]
url = "ws://127.0.0.1:{ws}"
anonymous = "local"

[[listeners]]
url = "tls://127.0.0.1:{tls}"
[listeners.tls]
client_ca = {ca:?}
certificates = [{{ cert = {server_cert:?}, key = {server_key:?} }}]

[access]
certificate_roles = ["local"]

[limits]
session_queue_messages = 100000
session_queue_bytes = "64MiB"
output_buffer_bytes = "8MiB"

[admin]
listen = ""
"#
    )
}

fn mosquitto_config(tcp: u16, tls: u16, certificates: &Certificates) -> String {
    let Certificates { ca, server_cert, server_key, .. } = certificates;
    let [ca, cert, key] = [ca, server_cert, server_key].map(|path| path.display().to_string());
    format!(
        "user root\nallow_anonymous true\nmax_queued_messages 0\nlistener {tcp} 127.0.0.1\nlistener {tls} 127.0.0.1\ncafile {ca}\n\
         certfile {cert}\nkeyfile {key}\nrequire_certificate true\nuse_identity_as_username true\n"
    )
}
