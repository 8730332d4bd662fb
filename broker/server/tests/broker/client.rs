//! A Client on a raw socket, and the real binary as a child process.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use bucketmq_packet::{
    Connect, ConnectProperties, Packet, PacketIdentifier, ProtocolVersion, Publish, PublishProperties, QoS, ReasonCode, Sender, Subscribe,
    SubscriptionOptions, decode,
};

/// Long enough for a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running broker with a configuration of its own.
pub struct Broker {
    process: Child,
    pub folder: tempfile::TempDir,
    pub address: SocketAddr,
    pub admin: SocketAddr,
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

pub fn binary() -> Command {
    Command::new(env!("CARGO_BIN_EXE_bucketmq"))
}

impl Broker {
    /// Starts a broker with `config`, in which `@ADDRESS@` and `@ADMIN@` are filled in, and waits until it is ready.
    pub fn start(config: &str) -> Self {
        Self::start_with_users(config, "")
    }

    /// The same with a users file.
    pub fn start_with_users(config: &str, users: &str) -> Self {
        let (address, admin) = (free_address(), free_address());
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("users"), users).unwrap();
        let broker_log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut broker = Self {
            process: binary()
                .args(["serve", "--config", "broker.toml"])
                .current_dir({
                    let text = config.replace("@ADDRESS@", &address.to_string()) + &format!("\n[admin]\nlisten = \"{admin}\"\n");
                    std::fs::write(folder.path().join("broker.toml"), text).unwrap();
                    folder.path()
                })
                .stderr(Stdio::from(broker_log))
                .spawn()
                .unwrap(),
            folder,
            address,
            admin,
        };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(admin).is_err() || !broker.get("/readyz").contains("\"ready\":true") {
            assert!(broker.process.try_wait().unwrap().is_none(), "{}", broker.log());
            assert!(Instant::now() < deadline, "not ready: {}", broker.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        broker
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap()
    }

    /// Replaces the configuration and waits until it is in force, or refused.
    pub fn reconfigure(&self, change: impl Fn(&str) -> String) -> String {
        let before = self.get("/readyz");
        let text = std::fs::read_to_string(self.path("broker.toml")).unwrap();
        std::fs::write(self.path("broker.toml"), change(&text)).unwrap();
        self.signal("HUP");
        until(|| {
            let now = self.get("/readyz");
            (now != before && now.contains("\"last_reload\":{")).then_some(now)
        })
    }

    pub fn signal(&self, name: &str) {
        let done = Command::new("kill").args([&format!("-{name}"), &self.process.id().to_string()]).status().unwrap();
        assert!(done.success());
    }

    pub fn wait(&mut self) -> ExitStatus {
        until(|| self.process.try_wait().unwrap())
    }

    /// Resident bytes.
    pub fn resident(&self) -> u64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.process.id())).unwrap();
        statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    }

    /// The body, or what there is of an answer, of an HTTP request.
    pub fn get(&self, path: &str) -> String {
        let Ok(mut stream) = TcpStream::connect(self.admin) else { return String::new() };
        let _ = write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    }

    /// The value of a metric, labels included in `name`.
    pub fn metric(&self, name: &str) -> u64 {
        let text = self.get("/metrics");
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} is not in {text}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    pub fn client(&self, id: &str) -> Client {
        Client::open(self.address, id, true, None).unwrap()
    }
}

/// Asks again and again.
pub fn until<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "it never came");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What came from the broker, as far as these tests look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Came {
    ConnAck(ReasonCode, bool),
    Publish(String, Vec<u8>),
    PubAck(ReasonCode),
    SubAck(Vec<ReasonCode>),
    Disconnect(ReasonCode),
    Other,
    Closed,
}

pub struct Client {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects with MQTT 5. Err: what CONNACK said.
    pub fn open(address: SocketAddr, id: &str, clean_start: bool, user: Option<(&str, &str)>) -> Result<Self, Came> {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = Self { stream, buffer: Vec::new() };
        let connect = Connect {
            version: ProtocolVersion::V5,
            clean_start,
            keep_alive: 0,
            client_id: id,
            username: user.map(|(name, _)| name),
            password: user.map(|(_, password)| password.as_bytes()),
            will: None,
            properties: ConnectProperties { session_expiry_interval: (!clean_start).then_some(600), ..ConnectProperties::default() },
        };
        client.send(&Packet::Connect(connect));
        match client.next() {
            Came::ConnAck(ReasonCode::Success, _) => Ok(client),
            other => Err(other),
        }
    }

    pub fn send(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(ProtocolVersion::V5, &mut bytes);
        // A broker that has closed is seen by the next read.
        let _ = self.stream.write_all(&bytes);
    }

    pub fn subscribe(&mut self, filter: &str, qos: QoS) -> Came {
        self.send(&Packet::Subscribe(Subscribe {
            packet_id: PacketIdentifier::new(9).unwrap(),
            subscription_identifier: None,
            user_properties: Vec::new(),
            filters: vec![(filter, SubscriptionOptions::with_qos(qos))],
        }));
        self.next()
    }

    pub fn publish(&mut self, topic: &str, payload: &[u8], qos: QoS) {
        self.send(&Packet::Publish(Publish {
            dup: false,
            qos,
            retain: false,
            topic,
            packet_id: (qos != QoS::AtMostOnce).then(|| PacketIdentifier::new(7).unwrap()),
            properties: PublishProperties::default(),
            payload,
        }));
    }

    /// Sets a retained message at QoS 0.
    pub fn retain(&mut self, topic: &str, payload: &[u8]) {
        self.send(&Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: true,
            topic,
            packet_id: None,
            properties: PublishProperties::default(),
            payload,
        }));
    }

    pub fn next(&mut self) -> Came {
        loop {
            if let Some((packet, length)) = decode(&self.buffer, ProtocolVersion::V5, Sender::Server, u32::MAX).unwrap() {
                let came = match packet {
                    Packet::ConnAck(ack) => Came::ConnAck(ack.reason_code, ack.session_present),
                    Packet::Publish(publish) => Came::Publish(publish.topic.to_owned(), publish.payload.to_vec()),
                    Packet::PubAck(ack) => Came::PubAck(ack.reason_code),
                    Packet::SubAck(ack) => Came::SubAck(ack.reason_codes),
                    Packet::Disconnect(disconnect) => Came::Disconnect(disconnect.reason_code),
                    _ => Came::Other,
                };
                self.buffer.drain(..length);
                return came;
            }
            let mut bytes = [0; 65_536];
            match self.stream.read(&mut bytes) {
                Ok(0) | Err(_) => return Came::Closed,
                Ok(count) => self.buffer.extend_from_slice(&bytes[..count]),
            }
        }
    }
}

/// Runs `bucketmq` to its end: exit code, standard output, standard error.
pub fn run(arguments: &[&str], folder: &Path, input: &str) -> (i32, String, String) {
    let mut child =
        binary().args(arguments).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}
