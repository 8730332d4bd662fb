//! A Network Connection of a test Client: packets out, packets in, and the end of it whenever the broker dies.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bucketmq_packet::{
    Ack, Connect, ConnectProperties, Disconnect, Packet, PacketIdentifier, PacketType, ProtocolVersion, Publish, PublishProperties, QoS,
    ReasonCode, Sender, Subscribe, SubscriptionOptions, Will, decode,
};

/// A broker that takes a connection and does not answer CONNECT for so long is left again, where nobody is in a hurry.
pub const CONNACK: Duration = Duration::from_secs(10);
/// To open a TCP connection on the same machine.
const TCP: Duration = Duration::from_secs(1);
/// Identifier of every SUBSCRIBE; those of PUBLISH stay below.
const SUBSCRIBE_ID: u16 = 65_535;

/// What came, as far as these Clients care.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Came {
    /// PUBLISH.
    Publish {
        /// Topic Name.
        topic: String,
        /// Payload.
        payload: Vec<u8>,
        /// QoS.
        qos: QoS,
        /// Identifier, 0 at QoS 0.
        packet_id: u16,
        /// DUP.
        dup: bool,
        /// RETAIN.
        retain: bool,
    },
    /// PUBACK, PUBREC, PUBREL or PUBCOMP.
    Ack(PacketType, u16, ReasonCode),
    /// SUBACK: what was granted, filter by filter.
    Subscribed(Vec<ReasonCode>),
    /// DISCONNECT.
    Disconnect(ReasonCode),
}

/// The connection is over, or what came makes no sense.
#[derive(Debug)]
pub struct Gone(pub String);

impl From<std::io::Error> for Gone {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

/// Who connects, and how.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Client Identifier.
    pub client_id: String,
    /// 3.1.1 or 5.0.
    pub version: ProtocolVersion,
    /// The Session outlives its connections, for ever; otherwise it begins and ends with each.
    pub lasts: bool,
}

/// A Will Message.
#[derive(Debug, Clone)]
pub struct Testament {
    /// Topic Name.
    pub topic: String,
    /// Payload.
    pub payload: String,
    /// QoS.
    pub qos: QoS,
    /// Seconds it waits; of 5.0 only.
    pub delay: u32,
}

/// An open connection.
pub struct Link {
    stream: TcpStream,
    version: ProtocolVersion,
    input: Vec<u8>,
    /// Bytes of `input` that were decoded already.
    used: usize,
    /// Messages the broker takes at a time.
    pub receive_maximum: u16,
    /// When it said something last.
    heard: Instant,
}

impl Link {
    /// Connects, if CONNACK comes within `patience`. Also says whether the Session was there.
    pub fn open(address: SocketAddr, identity: &Identity, will: Option<&Testament>, patience: Duration) -> Result<(Self, bool), Gone> {
        let stream = TcpStream::connect_timeout(&address, TCP)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(CONNACK))?;
        let version = identity.version;
        let mut link = Self { stream, version, input: Vec::new(), used: 0, receive_maximum: u16::MAX, heard: Instant::now() };
        let expiry = (identity.lasts && version == ProtocolVersion::V5).then_some(u32::MAX);
        link.send(&Packet::Connect(Connect {
            version,
            clean_start: !identity.lasts,
            keep_alive: 0,
            client_id: &identity.client_id,
            username: None,
            password: None,
            will: will.map(|will| Will {
                topic: &will.topic,
                payload: will.payload.as_bytes(),
                qos: will.qos,
                retain: false,
                delay_interval: will.delay,
                message_expiry_interval: None,
                forward: (&[]).into(),
            }),
            properties: ConnectProperties { session_expiry_interval: expiry, ..ConnectProperties::default() },
        }))?;
        let deadline = Instant::now() + patience;
        loop {
            if let Some((Packet::ConnAck(ack), length)) = decode(link.rest(), version, Sender::Server, u32::MAX).map_err(bad)? {
                if ack.reason_code != ReasonCode::Success {
                    return Err(Gone(format!("CONNACK {:?}", ack.reason_code)));
                }
                let (present, maximum) = (ack.session_present, ack.properties.receive_maximum);
                link.used += length;
                link.receive_maximum = maximum.unwrap_or(u16::MAX);
                return Ok((link, present));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || !link.read(left)? {
                return Err(Gone("no CONNACK".to_owned()));
            }
        }
    }

    /// Sends one packet.
    fn send(&mut self, packet: &Packet<'_>) -> Result<(), Gone> {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes);
        Ok(self.stream.write_all(&bytes)?)
    }

    /// Sends PUBLISH; `packet_id` is 0 at QoS 0.
    pub fn publish(&mut self, topic: &str, payload: &[u8], qos: QoS, packet_id: u16, dup: bool, retain: bool) -> Result<(), Gone> {
        let packet_id = PacketIdentifier::new(packet_id);
        self.send(&Packet::Publish(Publish { dup, qos, retain, topic, packet_id, properties: PublishProperties::default(), payload }))
    }

    /// Sends PUBACK, PUBREC, PUBREL or PUBCOMP.
    pub fn acknowledge(&mut self, kind: PacketType, packet_id: u16) -> Result<(), Gone> {
        let ack = Ack::success(PacketIdentifier::new(packet_id).ok_or_else(|| Gone("identifier 0".to_owned()))?);
        self.send(&match kind {
            PacketType::PubAck => Packet::PubAck(ack),
            PacketType::PubRec => Packet::PubRec(ack),
            PacketType::PubRel => Packet::PubRel(ack),
            _ => Packet::PubComp(ack),
        })
    }

    /// Sends SUBSCRIBE; its answer has to come before the next one.
    pub fn subscribe<'a>(&mut self, filters: impl IntoIterator<Item = &'a str>, qos: QoS) -> Result<(), Gone> {
        let packet_id = PacketIdentifier::new(SUBSCRIBE_ID).ok_or_else(|| Gone("identifier 0".to_owned()))?;
        let filters = filters.into_iter().map(|filter| (filter, SubscriptionOptions::with_qos(qos))).collect();
        self.send(&Packet::Subscribe(Subscribe { packet_id, subscription_identifier: None, user_properties: Vec::new(), filters }))
    }

    /// Ends the connection as one should.
    pub fn leave(mut self) {
        // Whoever leaves does not mind that nobody is there any more.
        self.send(&Packet::Disconnect(Disconnect::new(ReasonCode::Success))).ok();
    }

    /// The next packet; None: nothing came within `patience`.
    pub fn next(&mut self, patience: Duration) -> Result<Option<Came>, Gone> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some((packet, length)) = decode(self.rest(), self.version, Sender::Server, u32::MAX).map_err(bad)? {
                let came = came(packet)?;
                self.used += length;
                return Ok(Some(came));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.read(left)? {
                return Ok(None);
            }
        }
    }

    /// How long the broker has said nothing.
    pub fn silent_for(&self) -> Duration {
        self.heard.elapsed()
    }

    fn rest(&self) -> &[u8] {
        &self.input[self.used..]
    }

    /// Reads once. False: nothing came in time.
    fn read(&mut self, patience: Duration) -> Result<bool, Gone> {
        self.input.drain(..self.used);
        self.used = 0;
        self.stream.set_read_timeout(Some(patience.max(Duration::from_millis(1))))?;
        let mut bytes = [0; 16 * 1024];
        match self.stream.read(&mut bytes) {
            Ok(0) => Err(Gone("closed".to_owned())),
            Ok(count) => {
                self.heard = Instant::now();
                self.input.extend_from_slice(&bytes[..count]);
                Ok(true)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

fn came(packet: Packet<'_>) -> Result<Came, Gone> {
    let ack = |kind, ack: Ack<'_>| Came::Ack(kind, ack.packet_id.get(), ack.reason_code);
    Ok(match packet {
        Packet::Publish(publish) => Came::Publish {
            topic: publish.topic.to_owned(),
            payload: publish.payload.to_vec(),
            qos: publish.qos,
            packet_id: publish.packet_id.map_or(0, PacketIdentifier::get),
            dup: publish.dup,
            retain: publish.retain,
        },
        Packet::PubAck(packet) => ack(PacketType::PubAck, packet),
        Packet::PubRec(packet) => ack(PacketType::PubRec, packet),
        Packet::PubRel(packet) => ack(PacketType::PubRel, packet),
        Packet::PubComp(packet) => ack(PacketType::PubComp, packet),
        Packet::SubAck(packet) => Came::Subscribed(packet.reason_codes),
        Packet::Disconnect(packet) => Came::Disconnect(packet.reason_code),
        other => return Err(Gone(format!("unexpected {}", other.packet_type().name()))),
    })
}

fn bad(violation: bucketmq_packet::Violation) -> Gone {
    Gone(format!("the broker sent a bad packet: {}", violation.detail))
}
