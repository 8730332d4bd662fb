//! A Network Connection of a test Client: packets out, packets in, and the end of it whenever the broker dies.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bucketmq_packet::{
    Ack, Connect, ConnectProperties, Packet, PacketIdentifier, PacketType, ProtocolVersion, Publish, PublishProperties, QoS, ReasonCode,
    Sender, Subscribe, SubscriptionOptions, decode,
};

/// What came, as far as these Clients care.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Came {
    /// PUBLISH: topic, payload, QoS, identifier (0 at QoS 0), DUP.
    Publish(String, Vec<u8>, QoS, u16, bool),
    /// PUBACK, PUBREC, PUBREL or PUBCOMP.
    Ack(PacketType, u16, ReasonCode),
    /// SUBACK.
    Subscribed,
    /// PINGRESP.
    Pong,
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

/// An open connection.
pub struct Link {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Link {
    /// Connects with MQTT 5 and a Session that lasts. Also says whether it was there.
    pub fn open(address: SocketAddr, client_id: &str) -> Result<(Self, bool), Gone> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(40)))?;
        let mut link = Self { stream, input: Vec::new() };
        link.send(&Packet::Connect(Connect {
            version: ProtocolVersion::V5,
            clean_start: false,
            keep_alive: 0,
            client_id,
            username: None,
            password: None,
            will: None,
            properties: ConnectProperties { session_expiry_interval: Some(u32::MAX), ..ConnectProperties::default() },
        }))?;
        loop {
            if let Some((Packet::ConnAck(ack), length)) = decode(&link.input, ProtocolVersion::V5, Sender::Server, u32::MAX).map_err(bad)? {
                if ack.reason_code != ReasonCode::Success {
                    return Err(Gone(format!("CONNACK {:?}", ack.reason_code)));
                }
                let present = ack.session_present;
                link.input.drain(..length);
                return Ok((link, present));
            }
            if !link.read()? {
                return Err(Gone("no CONNACK".to_owned()));
            }
        }
    }

    /// Sends one packet.
    pub fn send(&mut self, packet: &Packet<'_>) -> Result<(), Gone> {
        let mut bytes = Vec::new();
        packet.encode(ProtocolVersion::V5, &mut bytes);
        Ok(self.stream.write_all(&bytes)?)
    }

    /// Sends PUBLISH.
    pub fn publish(&mut self, topic: &str, payload: &[u8], qos: QoS, id: u16, dup: bool, retain: bool) -> Result<(), Gone> {
        let packet_id = PacketIdentifier::new(id);
        self.send(&Packet::Publish(Publish { dup, qos, retain, topic, packet_id, properties: PublishProperties::default(), payload }))
    }

    /// Sends PUBACK, PUBREC, PUBREL or PUBCOMP.
    pub fn acknowledge(&mut self, kind: PacketType, id: u16) -> Result<(), Gone> {
        let packet_id = PacketIdentifier::new(id).ok_or_else(|| Gone("identifier 0".to_owned()))?;
        let ack = Ack { packet_id, reason_code: ReasonCode::Success, reason_string: None, user_properties: Vec::new() };
        self.send(&match kind {
            PacketType::PubAck => Packet::PubAck(ack),
            PacketType::PubRec => Packet::PubRec(ack),
            PacketType::PubRel => Packet::PubRel(ack),
            _ => Packet::PubComp(ack),
        })
    }

    /// Sends SUBSCRIBE for one filter.
    pub fn subscribe(&mut self, filter: &str, qos: QoS) -> Result<(), Gone> {
        let packet_id = PacketIdentifier::new(65_535).ok_or_else(|| Gone("identifier 0".to_owned()))?;
        let filters = vec![(filter, SubscriptionOptions::with_qos(qos))];
        self.send(&Packet::Subscribe(Subscribe { packet_id, subscription_identifier: None, user_properties: Vec::new(), filters }))
    }

    /// The next packet; None: nothing came within `patience`.
    pub fn next(&mut self, patience: Duration) -> Result<Option<Came>, Gone> {
        self.stream.set_read_timeout(Some(patience))?;
        loop {
            if let Some((packet, length)) = decode(&self.input, ProtocolVersion::V5, Sender::Server, u32::MAX).map_err(bad)? {
                let came = match packet {
                    Packet::Publish(publish) => Came::Publish(
                        publish.topic.to_owned(),
                        publish.payload.to_vec(),
                        publish.qos,
                        publish.packet_id.map_or(0, PacketIdentifier::get),
                        publish.dup,
                    ),
                    Packet::PubAck(ack) => Came::Ack(PacketType::PubAck, ack.packet_id.get(), ack.reason_code),
                    Packet::PubRec(ack) => Came::Ack(PacketType::PubRec, ack.packet_id.get(), ack.reason_code),
                    Packet::PubRel(ack) => Came::Ack(PacketType::PubRel, ack.packet_id.get(), ack.reason_code),
                    Packet::PubComp(ack) => Came::Ack(PacketType::PubComp, ack.packet_id.get(), ack.reason_code),
                    Packet::SubAck(_) => Came::Subscribed,
                    Packet::PingResp => Came::Pong,
                    Packet::Disconnect(disconnect) => Came::Disconnect(disconnect.reason_code),
                    other => return Err(Gone(format!("unexpected {other:?}"))),
                };
                self.input.drain(..length);
                return Ok(Some(came));
            }
            if !self.read()? {
                return Ok(None);
            }
        }
    }

    /// Reads once. False: nothing came in time.
    fn read(&mut self) -> Result<bool, Gone> {
        let mut bytes = [0; 16 * 1024];
        match self.stream.read(&mut bytes) {
            Ok(0) => Err(Gone("closed".to_owned())),
            Ok(count) => {
                self.input.extend_from_slice(&bytes[..count]);
                Ok(true)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

fn bad(violation: bucketmq_packet::Violation) -> Gone {
    Gone(format!("the broker sent a bad packet: {}", violation.detail))
}
