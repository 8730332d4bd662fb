//! One connection to a Server: CONNECT to DISCONNECT, Keep Alive, packets in and out. What they mean is up to the commands.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use bucketmq_access::authentication::ScramClient;
use bucketmq_packet::{
    Auth, Connect, Disconnect, Packet, PacketType, ProtocolVersion, Publish, QoS, ReasonCode, Sender, Violation, Will, decode,
};
use tokio::time::{Instant, timeout, timeout_at};

use super::error::ClientError;
use super::link::Link;
use super::message::Incoming;
use super::options::Settings;
use super::properties::Target;

/// How long to wait for CONNACK.
const CONNACK_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes that may gather before they are sent.
const OUTPUT_SIZE: usize = 64 * 1024;

/// A connection that CONNACK accepted.
pub struct Connection {
    link: Link,
    version: ProtocolVersion,
    debug: bool,
    input: Vec<u8>,
    /// Bytes of `input` that were decoded.
    used: usize,
    output: Vec<u8>,
    /// The largest packet we take.
    max_packet_size: u32,
    keep_alive: Option<Duration>,
    last_sent: Instant,
    /// When a PINGREQ that has no answer yet was sent.
    ping_sent: Option<Instant>,
    aliases: HashMap<u16, String>,
    /// What the Server grants.
    pub granted: Granted,
}

/// What CONNACK says, with the specification's defaults.
#[derive(Debug, Clone)]
pub struct Granted {
    /// The Session was there.
    pub session_present: bool,
    /// QoS 1 and 2 messages at a time.
    pub receive_maximum: u16,
    /// The largest packet.
    pub maximum_packet_size: Option<u32>,
    /// The highest QoS.
    pub maximum_qos: QoS,
    /// There are retained messages.
    pub retain_available: bool,
}

impl Connection {
    /// Connects, sends CONNECT and waits for CONNACK.
    pub async fn open(settings: &Settings) -> Result<Self, ClientError> {
        let connect_given = settings.properties.of(Target::Connect);
        let mut properties = connect_given.connect();
        properties.session_expiry_interval = settings.session_expiry_interval;
        properties.receive_maximum = settings.receive_maximum.or(properties.receive_maximum);
        let (scram, client_first) = begin(settings)?.unzip();
        if let Some(scram) = &scram {
            properties.authentication_method = Some(scram.mechanism().name());
            properties.authentication_data = client_first.as_deref();
        }
        let connect = Connect {
            version: settings.version,
            clean_start: settings.clean_start,
            keep_alive: settings.keep_alive,
            client_id: &settings.client_id,
            // Where the password is proven, neither it nor the name has to be sent as well.
            username: settings.username.as_deref().filter(|_| scram.is_none()),
            password: settings.password.as_deref().map(str::as_bytes).filter(|_| scram.is_none()),
            will: settings.will.as_ref().map(|will| Will {
                topic: &will.topic,
                payload: will.payload.as_bytes(),
                qos: will.qos,
                retain: will.retain,
                delay_interval: will.properties.number("will-delay-interval").unwrap_or_default(),
                message_expiry_interval: will.properties.number("message-expiry-interval"),
                forward: will.properties.forward().into(),
            }),
            properties,
        };
        let mut connection = Self {
            link: Link::open(settings).await?,
            version: settings.version,
            debug: settings.debug,
            input: Vec::new(),
            used: 0,
            output: Vec::new(),
            max_packet_size: connect.properties.maximum_packet_size.unwrap_or(u32::MAX),
            keep_alive: None,
            last_sent: Instant::now(),
            ping_sent: None,
            aliases: HashMap::new(),
            granted: Granted {
                session_present: false,
                receive_maximum: u16::MAX,
                maximum_packet_size: None,
                maximum_qos: QoS::ExactlyOnce,
                retain_available: true,
            },
        };
        connection.queue(&Packet::Connect(connect));
        connection.flush().await?;
        let timed_out = |_| ClientError::Lost(io::Error::new(io::ErrorKind::TimedOut, "no CONNACK"));
        timeout(CONNACK_TIMEOUT, connection.connack(settings.keep_alive, scram)).await.map_err(timed_out)??;
        Ok(connection)
    }

    async fn connack(&mut self, keep_alive: u16, mut scram: Option<ScramClient>) -> Result<(), ClientError> {
        loop {
            let unread = &self.input[self.used..];
            if let Some((packet, length)) =
                decode(unread, self.version, Sender::Server, self.max_packet_size).map_err(ClientError::Protocol)?
            {
                let connack = match (packet, &mut scram) {
                    (Packet::ConnAck(connack), _) => connack,
                    (Packet::Auth(auth), Some(scram)) if auth.reason_code == ReasonCode::ContinueAuthentication => {
                        let proof = prove(scram, &auth)?;
                        self.used += length;
                        let auth = Auth {
                            reason_code: ReasonCode::ContinueAuthentication,
                            authentication_method: Some(scram.mechanism().name()),
                            authentication_data: Some(&proof),
                            ..Auth::default()
                        };
                        self.queue(&Packet::Auth(auth));
                        self.flush().await?;
                        continue;
                    }
                    (packet, _) => return Err(unexpected(packet.packet_type(), "something else than CONNACK came first")),
                };
                if self.debug {
                    let session = if connack.session_present { ", session present" } else { "" };
                    eprintln!("received CONNACK ({}{session})", connack.reason_code);
                }
                let properties = connack.properties;
                if connack.reason_code.is_error() {
                    let reason_string = properties.reason_string.map(str::to_owned);
                    return Err(ClientError::Refused { version: self.version, reason_code: connack.reason_code, reason_string });
                }
                if let Some(scram) = &scram {
                    // Who cannot sign does not know the user, and is not the Server we meant.
                    scram.check(properties.authentication_data.unwrap_or_default()).map_err(failed)?;
                }
                self.granted = Granted {
                    session_present: connack.session_present,
                    receive_maximum: properties.receive_maximum.unwrap_or(u16::MAX),
                    maximum_packet_size: properties.maximum_packet_size,
                    maximum_qos: properties.maximum_qos.unwrap_or(QoS::ExactlyOnce),
                    retain_available: properties.retain_available.unwrap_or(true),
                };
                // [MQTT-3.1.2-21]
                let seconds = properties.server_keep_alive.unwrap_or(keep_alive);
                self.keep_alive = Some(Duration::from_secs(seconds.into())).filter(|keep_alive| !keep_alive.is_zero());
                self.used += length;
                return Ok(());
            }
            if !self.link.receive(&mut self.input).await.map_err(ClientError::Lost)? {
                return Err(closed());
            }
        }
    }

    /// Puts `packet` to what is sent next.
    pub fn queue(&mut self, packet: &Packet<'_>) {
        if self.debug {
            eprintln!("sending {}", described(packet));
        }
        packet.encode(self.version, &mut self.output);
    }

    /// True when what is queued should be flushed before more is added.
    pub fn is_full(&self) -> bool {
        self.output.len() >= OUTPUT_SIZE
    }

    /// Sends what is queued.
    pub async fn flush(&mut self) -> Result<(), ClientError> {
        if !self.output.is_empty() {
            self.link.send(&mut self.output).await.map_err(ClientError::Lost)?;
            self.last_sent = Instant::now();
        }
        Ok(())
    }

    /// The next packet that is here already.
    pub fn buffered(&mut self) -> Result<Option<Incoming>, ClientError> {
        let Some((packet, length)) =
            decode(&self.input[self.used..], self.version, Sender::Server, self.max_packet_size).map_err(ClientError::Protocol)?
        else {
            self.input.drain(..self.used);
            self.used = 0;
            return Ok(None);
        };
        if self.debug {
            eprintln!("received {}", described(&packet));
        }
        let mut incoming = Incoming::from(&packet);
        self.used += length;
        match &mut incoming {
            Incoming::Message(message) => {
                if let Some(alias) = message.properties.topic_alias {
                    if message.topic.is_empty() {
                        let known = self.aliases.get(&alias).cloned();
                        message.topic = known.ok_or_else(|| unexpected(PacketType::Publish, "topic alias that was never set"))?;
                    } else {
                        self.aliases.insert(alias, message.topic.clone());
                    }
                }
            }
            Incoming::PingResp => self.ping_sent = None,
            Incoming::Disconnect(outcome) => {
                return Err(ClientError::Disconnected { reason_code: outcome.reason_code, reason_string: outcome.reason_string.take() });
            }
            Incoming::Unexpected(packet_type) => return Err(unexpected(*packet_type, "packet has no place here")),
            _ => {}
        }
        Ok(Some(incoming))
    }

    /// Waits until something has come or has to be sent to keep the connection alive. Nothing is lost when the future is dropped, because it only
    /// reads: what is queued is flushed before.
    pub async fn wait(&mut self) -> Result<(), ClientError> {
        debug_assert!(self.output.is_empty(), "flush comes first");
        let Some(keep_alive) = self.keep_alive else {
            return self.received().await;
        };
        let deadline = match self.ping_sent {
            // Half the time again, as a Server waits for us [MQTT-3.1.2-22].
            Some(sent) => sent + keep_alive + keep_alive / 2,
            None => self.last_sent + keep_alive,
        };
        if let Ok(received) = timeout_at(deadline, self.received()).await {
            return received;
        }
        if self.ping_sent.is_some() {
            return Err(ClientError::Lost(io::Error::new(io::ErrorKind::TimedOut, "no PINGRESP")));
        }
        self.ping();
        Ok(())
    }

    /// Asks for PINGRESP, unless one is awaited already.
    pub fn ping(&mut self) {
        if self.ping_sent.is_none() {
            self.queue(&Packet::PingReq);
            self.ping_sent = Some(Instant::now());
        }
    }

    async fn received(&mut self) -> Result<(), ClientError> {
        match self.link.receive(&mut self.input).await.map_err(ClientError::Lost)? {
            true => Ok(()),
            false => Err(closed()),
        }
    }

    /// Sends DISCONNECT and closes.
    pub async fn close(mut self, settings: &Settings) -> Result<(), ClientError> {
        let given = settings.properties.of(Target::Disconnect);
        let mut disconnect = Disconnect::new(ReasonCode::Success);
        disconnect.session_expiry_interval = given.number("session-expiry-interval");
        disconnect.user_properties = given.user();
        self.queue(&Packet::Disconnect(disconnect));
        self.flush().await?;
        // The Server may have closed first, which is its right.
        self.link.close().await.ok();
        Ok(())
    }
}

/// The Client's side of an exchange, if one was asked for, and its first message.
fn begin(settings: &Settings) -> Result<Option<(ScramClient, Vec<u8>)>, ClientError> {
    let (Some(mechanism), Some(username), Some(password)) = (settings.auth_method, &settings.username, &settings.password) else {
        return Ok(None);
    };
    ScramClient::start(mechanism, username, password.as_bytes()).map(Some).map_err(failed)
}

fn prove(scram: &mut ScramClient, auth: &Auth<'_>) -> Result<Vec<u8>, ClientError> {
    if auth.authentication_method != Some(scram.mechanism().name()) {
        return Err(unexpected(PacketType::Auth, "another Authentication Method than in CONNECT"));
    }
    scram.prove(auth.authentication_data.unwrap_or_default()).map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> ClientError {
    ClientError::Authentication(error.to_string())
}

fn closed() -> ClientError {
    ClientError::Lost(io::Error::new(io::ErrorKind::UnexpectedEof, "closed by the server"))
}

fn unexpected(packet_type: PacketType, detail: &'static str) -> ClientError {
    ClientError::Protocol(Violation::protocol_error("4.13", detail).within(packet_type))
}

/// A packet on one line, without payloads and passwords.
fn described(packet: &Packet<'_>) -> String {
    let name = packet.packet_type().name();
    match packet {
        Packet::Connect(connect) => format!("{name} (client id {:?}, protocol version {})", connect.client_id, connect.version.number()),
        Packet::Publish(publish) => {
            let Publish { dup, qos, retain, topic, payload, .. } = publish;
            let id = publish.packet_id.map_or(0, |id| id.get());
            let flags = format!("d{}, q{}, r{}, m{id}", u8::from(*dup), *qos as u8, u8::from(*retain));
            format!("{name} ({flags}, {topic:?}, {} bytes)", payload.len())
        }
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            format!("{name} (m{}, {})", ack.packet_id.get(), ack.reason_code)
        }
        Packet::Subscribe(subscribe) => {
            let filters: Vec<_> = subscribe.filters.iter().map(|(filter, options)| format!("{filter:?} q{}", options.qos as u8)).collect();
            format!("{name} (m{}, {})", subscribe.packet_id.get(), filters.join(", "))
        }
        Packet::Unsubscribe(unsubscribe) => format!("{name} (m{}, {:?})", unsubscribe.packet_id.get(), unsubscribe.filters),
        Packet::SubAck(ack) => format!("{name} (m{}, {})", ack.packet_id.get(), codes(&ack.reason_codes)),
        Packet::UnsubAck(ack) => format!("{name} (m{}, {})", ack.packet_id.get(), codes(&ack.reason_codes)),
        Packet::Disconnect(disconnect) => format!("{name} ({})", disconnect.reason_code),
        Packet::Auth(auth) => format!("{name} ({})", auth.reason_code),
        _ => name.to_owned(),
    }
}

fn codes(codes: &[ReasonCode]) -> String {
    codes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
