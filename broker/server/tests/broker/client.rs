//! A Client on a raw socket, and the real binary as a child process.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use bucketmq_packet::{
    Ack, Connect, ConnectProperties, Packet, PacketIdentifier, PacketType, ProtocolVersion, Publish, PublishProperties, QoS, ReasonCode,
    Sender, Subscribe, SubscriptionOptions, decode,
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
    // Below those the system gives out by itself, and never the same one twice: two that are asked for at one time may not be one.
    const PORTS: std::ops::Range<u16> = 10_000..32_768;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = std::process::id() as u16;
    loop {
        let step = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORTS.start + step % PORTS.len() as u16));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

pub fn binary() -> Command {
    Command::new(env!("CARGO_BIN_EXE_bucketmq"))
}

fn serve(folder: &Path) -> Child {
    let log = File::options().create(true).append(true).open(folder.join("log")).unwrap();
    let mut command = binary();
    command.args(["serve", "--config", "broker.toml"]).current_dir(folder).stderr(Stdio::from(log));
    for line in std::fs::read_to_string(folder.join("environment")).unwrap_or_default().lines() {
        command.env(line.split_once('=').unwrap().0, line.split_once('=').unwrap().1);
    }
    command.spawn().unwrap()
}

impl Broker {
    /// Starts a broker with `config`, in which `@ADDRESS@` and `@FOLDER@` are filled in, and waits until it is ready.
    pub fn start(config: &str) -> Self {
        Self::start_with(config, |_| {})
    }

    /// The same with a users file.
    pub fn start_with_users(config: &str, users: &str) -> Self {
        Self::start_with(config, |folder| std::fs::write(folder.join("users"), users).unwrap())
    }

    /// The same in a folder that `prepare` has put files into; relative paths of the configuration count from there, and the lines of a file called
    /// `environment` are variables of the broker.
    pub fn start_with(config: &str, prepare: impl FnOnce(&Path)) -> Self {
        let mut broker = Self::begin(config, prepare);
        broker.until_ready();
        broker
    }

    /// The same without waiting for anything.
    pub fn begin(config: &str, prepare: impl FnOnce(&Path)) -> Self {
        let (address, admin) = (free_address(), free_address());
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path());
        let text = config.replace("@ADDRESS@", &address.to_string()).replace("@FOLDER@", folder.path().to_str().unwrap());
        std::fs::write(folder.path().join("broker.toml"), text + &format!("\n[admin]\nlisten = \"{admin}\"\n")).unwrap();
        Self { process: serve(folder.path()), folder, address, admin }
    }

    /// Kills it without a warning and starts it again.
    pub fn crash(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.start_again();
    }

    /// Starts it again after it has ended.
    pub fn start_again(&mut self) {
        self.begin_again();
        self.until_ready();
    }

    /// The same without waiting for anything.
    pub fn begin_again(&mut self) {
        self.process = serve(self.folder.path());
    }

    pub fn until_ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(self.admin).is_err() || !self.get("/readyz").contains("\"ready\":true") {
            assert!(self.process.try_wait().unwrap().is_none(), "{}", self.log());
            assert!(Instant::now() < deadline, "not ready: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Where the listener called `name`, which may have left the port to the system, listens as its log tells.
    pub fn endpoint(&self, name: &str) -> SocketAddr {
        let log = self.log();
        let line = log.lines().rfind(|line| line.contains(&format!("listening listener=\"{name}\"")));
        let endpoint = line.and_then(|line| line.split("endpoint=\"").nth(1)?.strip_suffix('"'));
        endpoint.unwrap_or_else(|| panic!("no {name} in {log}")).parse().unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap()
    }

    /// Replaces the configuration and waits until it is in force, or refused.
    pub fn reconfigure(&self, change: impl Fn(&str) -> String) -> String {
        // The head has the time of day.
        let body = |answer: &str| answer.split("\r\n\r\n").nth(1).map(str::to_owned);
        let before = body(&self.get("/readyz"));
        let text = std::fs::read_to_string(self.path("broker.toml")).unwrap();
        std::fs::write(self.path("broker.toml"), change(&text)).unwrap();
        self.signal("HUP");
        until(|| {
            let now = self.get("/readyz");
            (body(&now) != before && now.contains("\"last_reload\":{")).then_some(now)
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

    /// What `/readyz` says, as soon as it says something.
    pub fn readyz(&self) -> serde_json::Value {
        until(|| serde_json::from_str(self.get("/readyz").split("\r\n\r\n").nth(1)?).ok())
    }

    /// What `/readyz` says once it says so.
    pub fn until_readyz(&self, says: &str) -> String {
        until(|| Some(self.get("/readyz")).filter(|ready| ready.contains(says)))
    }

    /// The value of a metric, labels included in `name`.
    pub fn metric(&self, name: &str) -> u64 {
        let text = self.get("/metrics");
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} is not in {text}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// Messages dropped for this reason so far.
    pub fn dropped(&self, reason: &str) -> u64 {
        self.metric(&format!("mqtt_messages_dropped_total{{reason=\"{reason}\"}}"))
    }

    /// Waits until so many Sessions are without a connection.
    pub fn until_away(&self, sessions: u64) {
        until(|| (self.metric("mqtt_sessions{state=\"disconnected\"}") == sessions).then_some(()));
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

/// Lets time pass for what happens by time alone.
pub fn pass(time: Duration) {
    let started = Instant::now();
    until(|| (started.elapsed() >= time).then_some(()));
}

/// What came from the broker, as far as these tests look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Came {
    ConnAck(ReasonCode, bool),
    Publish(String, Vec<u8>),
    PubAck(ReasonCode),
    /// PUBREC, PUBREL or PUBCOMP: which, for which Packet Identifier.
    Step(PacketType, u16, ReasonCode),
    SubAck(Vec<ReasonCode>),
    UnsubAck(Vec<ReasonCode>),
    Disconnect(ReasonCode),
    Pong,
    Closed,
}

/// What [`Came::Publish`] leaves out.
#[derive(Debug, Clone, Copy)]
pub struct Details {
    pub qos: QoS,
    pub packet_id: Option<PacketIdentifier>,
    pub message_expiry_interval: Option<u32>,
    pub dup: bool,
}

pub struct Client<S = TcpStream> {
    pub stream: S,
    buffer: Vec<u8>,
    /// Of the PUBLISH that came last.
    pub last: Option<Details>,
}

impl Client {
    /// Connects with MQTT 5. Err: what CONNACK said.
    pub fn open(address: SocketAddr, id: &str, clean_start: bool, user: Option<(&str, &str)>) -> Result<Self, Came> {
        Self::over(tcp(address), &connect(id, clean_start, user))
    }
}

/// A connection that does not wait for ever.
pub fn tcp(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A CONNECT of MQTT 5 without a Keep Alive.
pub fn connect<'a>(client_id: &'a str, clean_start: bool, user: Option<(&'a str, &'a str)>) -> Connect<'a> {
    Connect {
        version: ProtocolVersion::V5,
        clean_start,
        keep_alive: 0,
        client_id,
        username: user.map(|(name, _)| name),
        password: user.map(|(_, password)| password.as_bytes()),
        will: None,
        properties: ConnectProperties { session_expiry_interval: (!clean_start).then_some(600), ..ConnectProperties::default() },
    }
}

/// The bytes of `packet`.
pub fn encoded(packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(ProtocolVersion::V5, &mut bytes);
    bytes
}

/// A PUBLISH without RETAIN and properties.
pub fn publish<'a>(topic: &'a str, payload: &'a [u8], qos: QoS) -> Publish<'a> {
    Publish {
        dup: false,
        qos,
        retain: false,
        topic,
        packet_id: (qos != QoS::AtMostOnce).then(|| PacketIdentifier::new(7).unwrap()),
        properties: PublishProperties::default(),
        payload,
    }
}

/// A SUBSCRIBE to one filter.
pub fn subscribe(filter: &str, qos: QoS) -> Subscribe<'_> {
    Subscribe {
        packet_id: PacketIdentifier::new(9).unwrap(),
        subscription_identifier: None,
        user_properties: Vec::new(),
        filters: vec![(filter, SubscriptionOptions::with_qos(qos))],
    }
}

/// Reads until the broker has closed; what came before comes back.
pub fn until_closed(stream: &mut impl Read) -> Vec<u8> {
    let (mut all, mut bytes) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return all,
            Ok(count) => all.extend_from_slice(&bytes[..count]),
            Err(error) if is_timeout(&error) => panic!("still open after {PATIENCE:?}"),
            Err(_) => return all,
        }
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

impl<S: Read + Write> Client<S> {
    /// A Client that has sent, or will send, CONNECT in its own way.
    pub fn reading(stream: S) -> Self {
        Self { stream, buffer: Vec::new(), last: None }
    }

    /// Sends `connect` over a stream that is there. Err: what came instead of a good CONNACK.
    pub fn over(stream: S, connect: &Connect<'_>) -> Result<Self, Came> {
        let mut client = Self::reading(stream);
        client.send(&Packet::Connect(connect.clone()));
        match client.next() {
            Came::ConnAck(ReasonCode::Success, _) => Ok(client),
            other => Err(other),
        }
    }

    pub fn send(&mut self, packet: &Packet<'_>) {
        // A broker that has closed is seen by the next read.
        let _ = self.stream.write_all(&encoded(packet)).and_then(|()| self.stream.flush());
    }

    pub fn subscribe(&mut self, filter: &str, qos: QoS) -> Came {
        self.send(&Packet::Subscribe(subscribe(filter, qos)));
        self.next()
    }

    pub fn publish(&mut self, topic: &str, payload: &[u8], qos: QoS) {
        self.send(&Packet::Publish(publish(topic, payload, qos)));
    }

    /// Publishes at QoS 1 and says what PUBACK said.
    pub fn publish_acknowledged(&mut self, topic: &str, payload: &[u8]) -> Came {
        self.publish(topic, payload, QoS::AtLeastOnce);
        self.next()
    }

    /// Sets a retained message at QoS 0.
    pub fn retain(&mut self, topic: &str, payload: &[u8]) {
        self.send(&Packet::Publish(Publish { retain: true, ..publish(topic, payload, QoS::AtMostOnce) }));
    }

    /// Sends PUBACK for the PUBLISH that came last.
    pub fn acknowledge(&mut self) {
        let packet_id = self.last.and_then(|last| last.packet_id).unwrap();
        self.send(&Packet::PubAck(Ack { packet_id, reason_code: ReasonCode::Success, reason_string: None, user_properties: Vec::new() }));
    }

    /// Sends PUBREC, PUBREL or PUBCOMP.
    pub fn step(&mut self, packet_type: PacketType, id: u16) {
        let ack = Ack {
            packet_id: PacketIdentifier::new(id).unwrap(),
            reason_code: ReasonCode::Success,
            reason_string: None,
            user_properties: Vec::new(),
        };
        self.send(&match packet_type {
            PacketType::PubRec => Packet::PubRec(ack),
            PacketType::PubRel => Packet::PubRel(ack),
            _ => Packet::PubComp(ack),
        });
    }

    /// Everything that is on its way to this Client now, acknowledged.
    pub fn take_all(&mut self) -> Vec<(String, Vec<u8>)> {
        let mut taken = Vec::new();
        // The answer to a first PINGREQ may overtake what others have just published; that to a second comes behind it.
        for _ in 0..2 {
            self.send(&Packet::PingReq);
            loop {
                match self.next() {
                    Came::Pong => break,
                    Came::Publish(topic, payload) => taken.push((topic, payload)),
                    other => panic!("unexpected {other:?}"),
                }
                if self.last.is_some_and(|last| last.qos == QoS::AtLeastOnce) {
                    self.acknowledge();
                }
            }
        }
        taken
    }

    /// True when everything sent before has been handled and nothing is on its way.
    pub fn is_quiet(&mut self) -> bool {
        self.take_all().is_empty()
    }

    pub fn next(&mut self) -> Came {
        loop {
            if let Some((packet, length)) = decode(&self.buffer, ProtocolVersion::V5, Sender::Server, u32::MAX).unwrap() {
                let came = match packet {
                    Packet::ConnAck(ack) => Came::ConnAck(ack.reason_code, ack.session_present),
                    Packet::Publish(publish) => {
                        let message_expiry_interval = publish.properties.message_expiry_interval;
                        self.last =
                            Some(Details { qos: publish.qos, packet_id: publish.packet_id, message_expiry_interval, dup: publish.dup });
                        Came::Publish(publish.topic.to_owned(), publish.payload.to_vec())
                    }
                    Packet::PubAck(ack) => Came::PubAck(ack.reason_code),
                    Packet::PubRec(ack) => Came::Step(PacketType::PubRec, ack.packet_id.get(), ack.reason_code),
                    Packet::PubRel(ack) => Came::Step(PacketType::PubRel, ack.packet_id.get(), ack.reason_code),
                    Packet::PubComp(ack) => Came::Step(PacketType::PubComp, ack.packet_id.get(), ack.reason_code),
                    Packet::SubAck(ack) => Came::SubAck(ack.reason_codes),
                    Packet::UnsubAck(ack) => Came::UnsubAck(ack.reason_codes),
                    Packet::Disconnect(disconnect) => Came::Disconnect(disconnect.reason_code),
                    Packet::PingResp => Came::Pong,
                    other => panic!("unexpected {other:?}"),
                };
                self.buffer.drain(..length);
                return came;
            }
            let mut bytes = [0; 65_536];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Came::Closed,
                Ok(count) => self.buffer.extend_from_slice(&bytes[..count]),
                Err(error) if is_timeout(&error) => panic!("nothing came for {PATIENCE:?}"),
                Err(_) => return Came::Closed,
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

/// A users file with these users and their roles; the password of all is `secret`.
pub fn users_file(users: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    for (user, roles) in users {
        let (code, _, errors) = run(&["passwd", "users", user, "--roles", roles], folder.path(), "secret");
        assert_eq!(code, 0, "{errors}");
    }
    std::fs::read_to_string(folder.path().join("users")).unwrap()
}
