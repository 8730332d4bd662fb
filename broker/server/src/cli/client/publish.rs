//! `bucketmq pub`.

use std::collections::BTreeMap;
use std::io::{BufRead, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bucketmq_packet::{Ack, Packet, PacketIdentifier, PacketType, ProtocolVersion, Publish, QoS, ReasonCode};
use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::connection::Connection;
use super::error::ClientError;
use super::message::{Incoming, Outcome};
use super::options::{ConnectionOptions, Settings, qos};
use super::properties::Target;

/// Lines of stdin that are read ahead.
const LINES_AHEAD: usize = 1024;

/// Publish messages
#[derive(Debug, Clone, clap::Args)]
#[command(
    disable_help_flag = true,
    disable_version_flag = true,
    after_help = "Exit codes: 0 when every message was sent, and with QoS 1 and 2 acknowledged; the Reason Code where the server refused; otherwise \
                  as mosquitto_pub."
)]
pub struct PubArgs {
    /// Topic to publish to
    #[arg(short, long)]
    topic: Option<String>,
    #[command(flatten)]
    source: Source,
    /// Quality of Service
    #[arg(short, long, default_value = "0", value_parser = qos)]
    qos: QoS,
    /// The server keeps the message for those who subscribe later
    #[arg(short, long)]
    retain: bool,
    /// Publish the message of -m, -f, -n or -s this often
    #[arg(long, value_name = "COUNT", default_value_t = 1, conflicts_with = "stdin_line")]
    repeat: u64,
    /// Seconds to wait before each repetition
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0, requires = "repeat")]
    repeat_delay: f64,
    /// Messages of QoS 1 and 2 that may be on their way
    #[arg(short = 'M', long, value_name = "COUNT", default_value_t = 20)]
    max_inflight: u16,
    #[command(flatten)]
    connection: ConnectionOptions,
}

/// Where the payload comes from: one of these.
#[derive(Debug, Clone, clap::Args)]
#[group(required = true, multiple = false)]
struct Source {
    /// Payload
    #[arg(short, long, allow_hyphen_values = true)]
    message: Option<String>,
    /// Send the contents of this file
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Send each line of stdin as a message
    #[arg(short = 'l', long)]
    stdin_line: bool,
    /// Send an empty message
    #[arg(short, long)]
    null_message: bool,
    /// Send all of stdin as one message
    #[arg(short, long)]
    stdin_file: bool,
}

impl PubArgs {
    /// Does it. The exit code says how it went.
    pub fn run(self) -> ExitCode {
        super::run(self.connection.quiet, async {
            let settings = self.connection.settle(&[Target::Publish])?;
            let topic = self.topic.as_deref().or(settings.topic.as_deref());
            let topic = topic.ok_or_else(|| ClientError::Usage("no topic: give one by -t, or in the URL of -L".to_owned()))?;
            bucketmq_packet::topic::check_name(topic).map_err(|error| ClientError::Usage(format!("-t {topic}: {error}")))?;
            let payloads = self.payloads()?;
            let connection = Connection::open(&settings).await?;
            Publisher::new(&self, topic, &settings, connection)?.publish(payloads).await
        })
    }

    fn payloads(&self) -> Result<Payloads, ClientError> {
        let once = |payload| {
            let delay =
                Duration::try_from_secs_f64(self.repeat_delay).map_err(|error| ClientError::Usage(format!("--repeat-delay: {error}")))?;
            Ok(Payloads::Same { payload, left: self.repeat, delay, next_at: None })
        };
        match &self.source {
            Source { message: Some(message), .. } => once(message.clone().into_bytes()),
            Source { file: Some(file), .. } => once(std::fs::read(file).map_err(ClientError::file(file))?),
            Source { stdin_line: true, .. } => Ok(Payloads::Lines(lines())),
            Source { stdin_file: true, .. } => {
                let mut payload = Vec::new();
                std::io::stdin().read_to_end(&mut payload)?;
                once(payload)
            }
            _ => once(Vec::new()),
        }
    }
}

/// What is still to be published.
enum Payloads {
    Same { payload: Vec<u8>, left: u64, delay: Duration, next_at: Option<Instant> },
    Lines(mpsc::Receiver<std::io::Result<Vec<u8>>>),
}

impl Payloads {
    /// The next one, when its time has come; none after the last. Nothing is lost when the future is dropped.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        match self {
            Self::Same { left: 0, .. } => Ok(None),
            Self::Same { payload, left, delay, next_at } => {
                if let Some(at) = *next_at {
                    sleep_until(at).await;
                }
                *next_at = (!delay.is_zero()).then(|| Instant::now() + *delay);
                *left -= 1;
                Ok(Some(payload.clone()))
            }
            Self::Lines(lines) => Ok(lines.recv().await.transpose()?),
        }
    }
}

/// A thread of its own reads stdin, because nothing else can be waited for there.
fn lines() -> mpsc::Receiver<std::io::Result<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel(LINES_AHEAD);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().split(b'\n') {
            let line = line.map(|mut line| {
                line.pop_if(|last| *last == b'\r');
                line
            });
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Publishes over one connection.
struct Publisher<'a> {
    topic: &'a str,
    settings: &'a Settings,
    connection: Connection,
    qos: QoS,
    retain: bool,
    /// QoS 1 and 2 messages that may be without their last acknowledgement.
    window: usize,
    /// Each with the acknowledgement that comes next.
    inflight: BTreeMap<PacketIdentifier, PacketType>,
    next_id: u16,
    /// The first message that was refused.
    refused: Option<Outcome>,
}

impl<'a> Publisher<'a> {
    fn new(args: &PubArgs, topic: &'a str, settings: &'a Settings, connection: Connection) -> Result<Self, ClientError> {
        let granted = &connection.granted;
        // [MQTT-3.2.2-11]
        if args.qos > granted.maximum_qos {
            let reason_string = Some(format!("it takes {} at most", granted.maximum_qos as u8));
            return Err(ClientError::Denied { what: "the server", reason_code: ReasonCode::QoSNotSupported, reason_string });
        }
        let window = usize::from(args.max_inflight.min(granted.receive_maximum).max(1));
        let (qos, retain) = (args.qos, args.retain);
        Ok(Self { topic, settings, connection, qos, retain, window, inflight: BTreeMap::new(), next_id: 0, refused: None })
    }

    async fn publish(mut self, mut payloads: Payloads) -> Result<(), ClientError> {
        let mut is_last = false;
        let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
        loop {
            while let Some(incoming) = self.connection.buffered()? {
                self.handle(incoming);
            }
            if is_last && self.inflight.is_empty() {
                break;
            }
            let may_send = !is_last && self.inflight.len() < self.window;
            // What is at hand is gathered, and sent when there is no more of it.
            let payload = if may_send && !self.connection.is_full() { payloads.next().now_or_never() } else { None };
            let payload = match payload {
                Some(payload) => payload?,
                None => {
                    self.connection.flush().await?;
                    tokio::select! {
                        payload = payloads.next(), if may_send => payload?,
                        received = self.connection.wait() => {
                            received?;
                            continue;
                        }
                        _ = &mut interrupted => {
                            self.connection.close(self.settings).await?;
                            return Err(ClientError::Interrupted(self.inflight.len()));
                        }
                    }
                }
            };
            match payload {
                Some(payload) => self.send(&payload)?,
                None => is_last = true,
            }
        }
        self.connection.close(self.settings).await?;
        match self.refused {
            Some(Outcome { reason_code, reason_string }) => {
                Err(ClientError::Denied { what: "a message was refused", reason_code, reason_string })
            }
            None => Ok(()),
        }
    }

    fn send(&mut self, payload: &[u8]) -> Result<(), ClientError> {
        let packet_id = (self.qos != QoS::AtMostOnce).then(|| self.packet_id());
        let properties = match self.settings.version {
            ProtocolVersion::V5 => self.settings.properties.of(Target::Publish).publish(),
            _ => Default::default(),
        };
        let publish = Publish { dup: false, qos: self.qos, retain: self.retain, topic: self.topic, packet_id, properties, payload };
        // [MQTT-3.2.2-15]
        if let Some(maximum) = self.connection.granted.maximum_packet_size {
            let mut encoded = Vec::new();
            publish.encode(self.settings.version, &mut encoded);
            if encoded.len() > maximum as usize {
                let reason_string = Some(format!("{} bytes, the server takes {maximum}", encoded.len()));
                return Err(ClientError::Denied { what: "the message", reason_code: ReasonCode::PacketTooLarge, reason_string });
            }
        }
        self.connection.queue(&Packet::Publish(publish));
        match (packet_id, self.qos) {
            (Some(id), QoS::AtLeastOnce) => drop(self.inflight.insert(id, PacketType::PubAck)),
            (Some(id), _) => drop(self.inflight.insert(id, PacketType::PubRec)),
            (None, _) => {}
        }
        Ok(())
    }

    /// One that is not in use: the window is far smaller than what there is.
    fn packet_id(&mut self) -> PacketIdentifier {
        loop {
            self.next_id = self.next_id.wrapping_add(1);
            if let Some(id) = PacketIdentifier::new(self.next_id).filter(|id| !self.inflight.contains_key(id)) {
                return id;
            }
        }
    }

    fn handle(&mut self, incoming: Incoming) {
        let Incoming::Ack(packet_type, id, outcome) = incoming else { return };
        let awaited = self.inflight.get(&id).copied();
        let failed = outcome.reason_code.is_error();
        match packet_type {
            PacketType::PubAck | PacketType::PubComp if awaited == Some(packet_type) => drop(self.inflight.remove(&id)),
            // [MQTT-4.3.3-4] A PUBREC that fails ends the delivery.
            PacketType::PubRec if failed && awaited == Some(packet_type) => drop(self.inflight.remove(&id)),
            PacketType::PubRec => {
                let is_known = awaited.is_some();
                if is_known {
                    self.inflight.insert(id, PacketType::PubComp);
                }
                let code = if is_known { ReasonCode::Success } else { ReasonCode::PacketIdentifierNotFound };
                self.connection.queue(&Packet::PubRel(Ack::new(id, code)));
            }
            _ => return,
        }
        if failed && self.refused.is_none() {
            self.refused = Some(outcome);
        }
    }
}
