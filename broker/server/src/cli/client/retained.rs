//! The retained messages a Server has, one after another, for `bucketmq import retained`.
//!
//! MQTT does not say where they end. Here they do when for a while no topic has come that did not come before, and the answer to a PINGREQ sent then
//! shows that the Server has nothing more on its way and the connection lives. Filters are subscribed to one after another, so that no more waits in
//! the Server at a time than has to: it may drop what it cannot queue, and does not say so. Mosquitto does that, and it counts what it has in `$SYS`:
//! where everything is asked for, that number is asked for as well.
//!
//! With 5.0, Retain As Published tells what is retained among what is published meanwhile, so each topic ends with its newest value. Before 5.0 a
//! Server sends it with RETAIN 0, and it cannot be told from other messages. What comes last counts: a Server that lets a new value overtake the
//! retained one it is about to send leaves the older one here.

use std::collections::HashSet;
use std::time::Duration;

use bucketmq_packet::topic::check_filter;
use bucketmq_packet::{
    Ack, Packet, PacketIdentifier, PacketType, ProtocolVersion, QoS, ReasonCode, RetainHandling, Subscribe, SubscriptionOptions,
};
use tokio::time::{Instant, timeout_at};

use super::connection::Connection;
use super::error::ClientError;
use super::message::{Incoming, Message};
use super::options::{ConnectionOptions, Settings, WayOptions, version};
use super::url::Url;

/// QoS 1 and 2 messages on their way to us. Said aloud, because Mosquitto takes 20 for who says nothing, and queues 1,000 behind them.
const RECEIVE_MAXIMUM: u16 = u16::MAX;
/// For the answer to the PINGREQ at the end.
const ANSWER_PATIENCE: Duration = Duration::from_secs(60);

const EVERYTHING: &str = "#";
const FIGURES: &str = "$SYS/#";
/// Mosquitto's figure: all retained messages, those below `$SYS` included.
const RETAINED_COUNT: &str = "$SYS/broker/retained messages/count";
/// Mosquitto publishes its figures each 10 seconds.
const FIGURES_INTERVAL: Duration = Duration::from_secs(11);

/// Where the retained messages are, and which.
#[derive(Debug, Clone, clap::Args)]
pub struct SourceOptions {
    /// The broker: mqtt://[USER[:PASSWORD]@]HOST[:PORT], or mqtts://, ws:// (at /mqtt, or --ws=PATH), wss://
    #[arg(value_name = "URL")]
    url: String,
    /// Topic Filter; may be repeated: they are asked for one after another [default: #, compared with the number in Mosquitto's $SYS]
    #[arg(short, long = "topic", value_name = "FILTER")]
    topics: Vec<String>,
    /// How long no new topic must have come until a filter counts as done
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    quiet: Duration,
    /// Gives up when it is not done after this time; what has come stays
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
    /// MQTT version: 5, 311 or 31 [default: 5, or 311 where the broker does not know that]
    #[arg(short = 'V', long, value_name = "VERSION", value_parser = version)]
    protocol_version: Option<ProtocolVersion>,
    /// Client Identifier [default: the server chooses; before MQTT 5 a random one]
    #[arg(short, long)]
    id: Option<String>,
    #[command(flatten)]
    way: WayOptions,
    /// Tell on stderr which packets come and go
    #[arg(short, long)]
    debug: bool,
}

/// A Server that is being asked.
pub struct Source {
    settings: Settings,
    connection: Connection,
    /// Those that were not subscribed to yet.
    topics: std::vec::IntoIter<String>,
    stage: Stage,
    quiet: Duration,
    /// When `timeout` passes.
    gives_up_at: Option<Instant>,
    next_id: PacketIdentifier,
    /// Some: what `$SYS` says is looked at.
    figures: Option<Figures>,
    /// Everything has come, and only figures are awaited.
    counting: bool,
}

/// What the Server says of itself.
#[derive(Debug, Default)]
struct Figures {
    topics: HashSet<String>,
    retained: Option<u64>,
}

/// How far the filter is that was subscribed to last.
#[derive(Debug)]
enum Stage {
    /// There is none, or it is done.
    Done,
    /// SUBSCRIBE was sent.
    Subscribing(String),
    /// Since when no new topic has come.
    Quiet(Instant),
    /// It was quiet for long enough; PINGREQ was sent.
    Asked(Instant),
    /// The figures are to become newer until then.
    Figures(Instant),
}

impl SourceOptions {
    /// Those that were given, checked.
    fn connection(&self, version: ProtocolVersion) -> Result<Settings, ClientError> {
        let url: Url = self.url.parse().map_err(|problem| ClientError::Usage(format!("the URL: {problem}")))?;
        if url.topic.is_some() {
            let problem = "the URL: nothing may stand behind the host; a Topic Filter is given by -t, the path of a WebSocket by --ws=PATH";
            return Err(ClientError::Usage(problem.to_owned()));
        }
        for filter in &self.topics {
            check_filter(filter).map_err(|error| ClientError::Usage(format!("-t {filter}: {error}")))?;
        }
        let mut settings = ConnectionOptions::to(url, self.way.clone(), version, self.id.clone(), self.debug).settle(&[])?;
        settings.receive_maximum = (version == ProtocolVersion::V5).then_some(RECEIVE_MAXIMUM);
        Ok(settings)
    }

    /// Connects, with 3.1.1 where the Server does not take 5.0 and no version was asked for.
    pub async fn open(&self) -> Result<Source, ClientError> {
        let settings = self.connection(self.protocol_version.unwrap_or(ProtocolVersion::V5))?;
        let (settings, connection) = match Connection::open(&settings).await {
            Err(error) if self.protocol_version.is_none() && is_about_the_version(&error) => {
                let settings = self.connection(ProtocolVersion::V3_1_1)?;
                let connection = Connection::open(&settings).await?;
                (settings, connection)
            }
            opened => (settings, opened?),
        };
        if !connection.granted.retain_available {
            let reason_code = ReasonCode::RetainNotSupported;
            return Err(ClientError::Denied { what: "the server keeps no retained messages", reason_code, reason_string: None });
        }
        let all = self.topics.is_empty();
        let topics = if all { vec![EVERYTHING.to_owned(), FIGURES.to_owned()] } else { self.topics.clone() };
        Ok(Source {
            settings,
            connection,
            topics: topics.into_iter(),
            figures: all.then(Figures::default),
            counting: false,
            stage: Stage::Done,
            quiet: self.quiet,
            gives_up_at: self.timeout.map(|timeout| Instant::now() + timeout),
            next_id: PacketIdentifier::new(1).expect("not 0"),
        })
    }
}

/// A Server that knows 3.1.1 only answers in its own way, or closes.
fn is_about_the_version(error: &ClientError) -> bool {
    match error {
        ClientError::Refused { reason_code, .. } => *reason_code == ReasonCode::UnsupportedProtocolVersion,
        ClientError::Protocol(_) | ClientError::Lost(_) => true,
        _ => false,
    }
}

impl Source {
    /// Host and port, and the version that is spoken: without user and password.
    pub fn name(&self) -> String {
        let version = match self.settings.version {
            ProtocolVersion::V5 => "5.0",
            ProtocolVersion::V3_1_1 => "3.1.1",
            ProtocolVersion::V3_1 => "3.1",
        };
        format!("{} by MQTT {version}", self.settings.place)
    }

    /// The next message with RETAIN 1; an empty one says that its topic was cleared meanwhile. None: there is nothing more.
    pub async fn next(&mut self) -> Result<Option<Message>, ClientError> {
        match self.advance().await {
            // Some servers close where a Client asks for what it may not see. Nothing is missing but the figures.
            Err(error) if self.counting && !matches!(error, ClientError::TimedOut) => {
                self.stage = Stage::Done;
                Ok(None)
            }
            advanced => advanced,
        }
    }

    async fn advance(&mut self) -> Result<Option<Message>, ClientError> {
        loop {
            while let Some(incoming) = self.connection.buffered()? {
                if let Some(message) = self.handle(incoming)? {
                    return Ok(Some(message));
                }
            }
            if matches!(self.stage, Stage::Done) {
                let Some(filter) = self.topics.next() else { return Ok(None) };
                self.subscribe(filter);
            }
            self.connection.flush().await?;
            match self.gives_up_at {
                // Something may always be there.
                Some(at) if at <= Instant::now() => return Err(ClientError::TimedOut),
                Some(at) => timeout_at(at, self.wait()).await.map_err(|_| ClientError::TimedOut)??,
                None => self.wait().await?,
            }
        }
    }

    /// The message that came last is of a topic that did not come before.
    pub fn came_anew(&mut self) {
        if matches!(self.stage, Stage::Quiet(_) | Stage::Asked(_)) {
            self.stage = Stage::Quiet(Instant::now());
        }
    }

    /// How many retained messages the Server says it has, if everything was asked for and it says so.
    pub fn counted(&self) -> Option<u64> {
        let figures = self.figures.as_ref()?;
        Some(figures.retained?.saturating_sub(figures.topics.len() as u64))
    }

    /// Lets [`next`](Self::next) wait until the figures are newer than what has come.
    pub fn count_again(&mut self) {
        self.stage = Stage::Figures(Instant::now() + FIGURES_INTERVAL);
    }

    /// Sends DISCONNECT.
    pub async fn close(self) -> Result<(), ClientError> {
        self.connection.close(&self.settings).await
    }

    /// Waits until something has come or it is time for the next stage.
    async fn wait(&mut self) -> Result<(), ClientError> {
        match self.stage {
            Stage::Done | Stage::Subscribing(_) => self.connection.wait().await,
            Stage::Quiet(since) => {
                let Ok(received) = timeout_at(since + self.quiet, self.connection.wait()).await else {
                    self.connection.ping();
                    self.stage = Stage::Asked(Instant::now());
                    return Ok(());
                };
                received
            }
            Stage::Figures(until) => {
                let Ok(received) = timeout_at(until, self.connection.wait()).await else {
                    self.stage = Stage::Done;
                    return Ok(());
                };
                received
            }
            Stage::Asked(at) => {
                let silent = |_| ClientError::Lost(std::io::Error::new(std::io::ErrorKind::TimedOut, "no PINGRESP"));
                timeout_at(at + ANSWER_PATIENCE, self.connection.wait()).await.map_err(silent)?
            }
        }
    }

    fn subscribe(&mut self, filter: String) {
        let v5 = self.settings.version == ProtocolVersion::V5;
        let options = SubscriptionOptions {
            // The highest there is: each message keeps its own. Figures come before PINGRESP, because at QoS 0 they wait for nothing.
            qos: if self.are_figures(&filter) { QoS::AtMostOnce } else { QoS::ExactlyOnce },
            no_local: false,
            retain_as_published: v5,
            retain_handling: RetainHandling::SendAtSubscribe,
        };
        self.connection.queue(&Packet::Subscribe(Subscribe {
            packet_id: self.next_id,
            subscription_identifier: None,
            user_properties: Vec::new(),
            filters: vec![(&filter, options)],
        }));
        self.next_id = PacketIdentifier::new(self.next_id.get().wrapping_add(1)).unwrap_or(self.next_id);
        self.counting = self.are_figures(&filter);
        self.stage = Stage::Subscribing(filter);
    }

    fn are_figures(&self, filter: &str) -> bool {
        filter == FIGURES && self.figures.is_some()
    }

    fn handle(&mut self, incoming: Incoming) -> Result<Option<Message>, ClientError> {
        match incoming {
            Incoming::Message(message) => {
                // A QoS 2 message is taken at once, and not kept until PUBREL comes: to take it twice changes nothing.
                match (message.qos, message.packet_id) {
                    (QoS::AtLeastOnce, Some(id)) => self.connection.queue(&Packet::PubAck(Ack::success(id))),
                    (QoS::ExactlyOnce, Some(id)) => self.connection.queue(&Packet::PubRec(Ack::success(id))),
                    _ => {}
                }
                if let Some(figures) = self.figures.as_mut().filter(|_| message.topic.starts_with("$SYS/")) {
                    figures.take(message);
                    return Ok(None);
                }
                Ok(Some(message).filter(|message| message.retain))
            }
            Incoming::Ack(PacketType::PubRel, id, _) => {
                self.connection.queue(&Packet::PubComp(Ack::success(id)));
                Ok(None)
            }
            Incoming::Answer(PacketType::SubAck, reason_codes, reason_string) => {
                let now = Instant::now();
                match std::mem::replace(&mut self.stage, Stage::Quiet(now)) {
                    // They come at once, or not at all, and are not needed.
                    Stage::Subscribing(filter) if self.are_figures(&filter) => {
                        self.connection.ping();
                        self.stage = Stage::Asked(now);
                    }
                    Stage::Subscribing(filter) => granted(&filter, reason_codes.first().copied(), reason_string)?,
                    other => self.stage = other,
                }
                Ok(None)
            }
            Incoming::PingResp => {
                if matches!(self.stage, Stage::Asked(_)) {
                    self.stage = Stage::Done;
                }
                Ok(None)
            }
            _ => Ok(None),
        }
    }
}

impl Figures {
    fn take(&mut self, message: Message) {
        if message.topic == RETAINED_COUNT {
            self.retained = std::str::from_utf8(&message.payload).ok().and_then(|text| text.parse().ok());
        }
        self.topics.insert(message.topic);
    }
}

/// Err: the Subscription was refused. A lower QoS, and one that never gets retained messages, are told.
fn granted(filter: &str, reason_code: Option<ReasonCode>, reason_string: Option<String>) -> Result<(), ClientError> {
    let reason_code = reason_code.unwrap_or(ReasonCode::UnspecifiedError);
    if reason_code.is_error() {
        return Err(ClientError::Unsubscribed { filter: filter.to_owned(), reason_code, reason_string });
    }
    if reason_code.value() < QoS::ExactlyOnce as u8 {
        eprintln!("Warning: the server grants QoS {} for {filter}: messages of a higher one become that", reason_code.value());
    }
    if check_filter(filter).is_ok_and(|filter| filter.share_name.is_some()) {
        eprintln!("Warning: for a Shared Subscription as {filter} servers send no retained messages");
    }
    Ok(())
}
