//! A real Mosquitto with persistence, and a Client that does only what it is told.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{fs, thread};

use bucketmq_packet::{
    Ack, Connect, ConnectProperties, Packet, PacketIdentifier, ProtocolVersion, Publish, PublishProperties, QoS, Sender, Subscribe,
    SubscriptionOptions,
};
use tempfile::TempDir;

/// Mosquitto in a folder of its own.
pub struct Mosquitto {
    folder: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Mosquitto {
    /// Starts one. None: it is not installed, and nothing can be tested.
    pub fn start(more: &str) -> Option<Self> {
        Self::start_with(more, None)
    }

    /// Starts one that finds `file`.
    pub fn start_with(more: &str, file: Option<&[u8]>) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).expect("a free port").port();
        let mut config = format!("listener {port} 127.0.0.1\nallow_anonymous true\npersistence true\nmax_inflight_messages 3\n");
        // As root, Mosquitto would turn into a user that may not write here.
        writeln!(config, "persistence_location {}/\nlog_type error\nuser root\n{more}", folder.path().display()).expect("written");
        fs::write(folder.path().join("mosquitto.conf"), config).expect("written");
        if let Some(file) = file {
            fs::write(folder.path().join("mosquitto.db"), file).expect("written");
        }
        let mut mosquitto = Self { folder, port, child: None };
        mosquitto.run().then_some(mosquitto)
    }

    /// Runs it, again after a stop.
    pub fn run(&mut self) -> bool {
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
        let config = self.folder.path().join("mosquitto.conf");
        let child = Command::new("mosquitto").arg("-c").arg(config).env("PATH", path).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let Ok(child) = child else {
            let _ = std::io::stderr().write_all(b"mosquitto is not installed: nothing tested\n");
            return false;
        };
        self.child = Some(child);
        for _ in 0..500 {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return true;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("mosquitto does not listen");
    }

    /// Ends it as systemd does, and gives the file it wrote.
    pub fn stop(&mut self) -> PathBuf {
        let mut child = self.child.take().expect("it runs");
        // SAFETY: kill has no memory to go wrong with; the process is our child and not waited for yet, so its number is not another's.
        let sent = unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGTERM) };
        assert_eq!(sent, 0);
        assert!(child.wait().expect("it ends").success());
        self.folder.path().join("mosquitto.db")
    }

    /// A new Client of it.
    pub fn client(&self, id: &str, session: Session<'_>) -> Client {
        Client::connect(self.port, id, session)
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// How a Client connects.
#[derive(Clone, Copy, Default)]
pub struct Session<'a> {
    /// Before 5.0, with Clean Session 0.
    pub old: bool,
    /// Session Expiry Interval.
    pub expiry: u32,
    /// User Name.
    pub user: Option<&'a str>,
}

/// What came, but for its properties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Came {
    /// PUBLISH: Packet Identifier and payload.
    Publish(u16, String),
    /// Anything else, by its number.
    Other(u8),
}

/// A Client.
pub struct Client {
    stream: TcpStream,
    version: ProtocolVersion,
    received: Vec<u8>,
}

impl Client {
    fn connect(port: u16, id: &str, session: Session<'_>) -> Self {
        let version = if session.old { ProtocolVersion::V3_1_1 } else { ProtocolVersion::V5 };
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time");
        stream.set_nodelay(true).expect("no delay");
        let mut client = Self { stream, version, received: Vec::new() };
        let session_expiry_interval = (!session.old).then_some(session.expiry);
        client.send(&Packet::Connect(Connect {
            version,
            clean_start: false,
            keep_alive: 0,
            client_id: id,
            username: session.user,
            password: session.user.map(|_| &b"x"[..]),
            will: None,
            properties: ConnectProperties { session_expiry_interval, ..ConnectProperties::default() },
        }));
        assert_eq!(client.next(), Came::Other(2));
        client
    }

    /// Sends `packet`.
    pub fn send(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes);
        self.stream.write_all(&bytes).expect("it reads");
    }

    /// The next packet.
    pub fn next(&mut self) -> Came {
        loop {
            if let Some(length) = bucketmq_packet::packet_length(&self.received).expect("a length")
                && length <= self.received.len()
            {
                let bytes: Vec<u8> = self.received.drain(..length).collect();
                let decoded = bucketmq_packet::decode(&bytes, self.version, Sender::Server, u32::MAX).expect("a packet");
                return match decoded.expect("whole").0 {
                    Packet::Publish(publish) => Came::Publish(
                        publish.packet_id.map_or(0, PacketIdentifier::get),
                        String::from_utf8(publish.payload.to_vec()).expect("text"),
                    ),
                    _ => Came::Other(bytes[0] >> 4),
                };
            }
            let mut buffer = [0; 4096];
            let count = self.stream.read(&mut buffer).expect("something comes");
            assert!(count > 0, "it closed");
            self.received.extend_from_slice(&buffer[..count]);
        }
    }

    /// SUBSCRIBE, and waits for SUBACK.
    pub fn subscribe(&mut self, filter: &str, options: SubscriptionOptions, subscription_identifier: Option<u32>) {
        let packet_id = PacketIdentifier::new(1).expect("not 0");
        let filters = vec![(filter, options)];
        self.send(&Packet::Subscribe(Subscribe { packet_id, subscription_identifier, user_properties: Vec::new(), filters }));
        assert_eq!(self.next(), Came::Other(9));
    }

    /// PUBREC for `id`, and waits for PUBREL.
    pub fn pubrec(&mut self, id: u16) {
        self.send(&Packet::PubRec(Ack::success(PacketIdentifier::new(id).expect("not 0"))));
        assert_eq!(self.next(), Came::Other(6));
    }

    /// One message and its handshake, to the end.
    pub fn publish(&mut self, topic: &str, qos: QoS, retain: bool, payload: &str, properties: PublishProperties<'_>) {
        self.publish_only(7, topic, qos, retain, payload, properties);
        match qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => assert_eq!(self.next(), Came::Other(4)),
            QoS::ExactlyOnce => {
                assert_eq!(self.next(), Came::Other(5));
                self.send(&Packet::PubRel(Ack::success(PacketIdentifier::new(7).expect("not 0"))));
                assert_eq!(self.next(), Came::Other(7));
            }
        }
    }

    /// One message, whatever is answered.
    pub fn publish_only(&mut self, id: u16, topic: &str, qos: QoS, retain: bool, payload: &str, properties: PublishProperties<'_>) {
        let packet_id = PacketIdentifier::new(id).filter(|_| qos > QoS::AtMostOnce);
        self.send(&Packet::Publish(Publish { dup: false, qos, retain, topic, packet_id, properties, payload: payload.as_bytes() }));
    }

    /// DISCONNECT, and waits until the connection is closed.
    pub fn disconnect(mut self) {
        self.stream.write_all(&[0xE0, 0]).expect("it reads");
        let _ = self.stream.read(&mut [0; 64]);
    }
}
