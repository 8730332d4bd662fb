//! Mosquitto's persistence file, `mosquitto.db`: formats 2 to 4 (Mosquitto 0.15 to 1.5), 5 (1.6) and 6 (2.x).
//!
//! A file is 15 bytes of magic, 4 bytes of checksum that is never used, a version, and chunks: kind, length, body. Since format 5 bodies are C
//! structs as they stood in the writer's memory, so that some of their numbers are big-endian, others the machine's, and their padding depends on it. There is no end mark: a
//! file cut off between two chunks looks whole.
//!
//! What breaks the chain of chunks is an [`Error`]. A chunk that stands in the chain and makes no sense is passed over and named
//! ([`Contents::passed_over`]). No length is believed before the bytes are there.

mod chunk;

use std::collections::HashMap;
use std::fmt;
use std::io::{self, BufReader, Read};

use bucketmq_packet::QoS;
use thiserror::Error;

pub use chunk::{Chunk, Chunks};

/// Everything in a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The format, 2 to 6.
    pub version: u32,
    /// The first chunk.
    pub config: Config,
    /// Clients whose Session lasts, in the file's order, with their messages.
    pub clients: Vec<Client>,
    /// Messages that are queued or retained, by number.
    pub messages: HashMap<u64, StoredMessage>,
    /// Subscriptions of all Clients. Shared ones Mosquitto does not write.
    pub subscriptions: Vec<Subscription>,
    /// Numbers of the retained messages.
    pub retained: Vec<u64>,
    /// Chunks that make no sense.
    pub passed_over: Vec<PassedOver>,
    /// Client Identifiers of messages that belong to no Client, one for each message.
    pub strays: Vec<String>,
}

/// About the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Config {
    /// It was written when Mosquitto ended, not while it was running.
    pub shutdown: bool,
    /// The last number given to a message.
    pub last_store_id: u64,
}

/// A Client whose Session lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Client Identifier.
    pub id: String,
    /// User name, since format 6.
    pub username: Option<String>,
    /// The user name may be another Client's: see [`Chunk::Client`].
    pub username_uncertain: bool,
    /// Session Expiry Interval in seconds, since format 5; `u32::MAX`: for ever, which is also what Clients before MQTT 5.0 have.
    pub session_expiry_interval: u32,
    /// When the Session ends, in seconds since 1970. None: the Client was connected, or its Session lasts for ever.
    pub session_expiry_time: Option<u64>,
    /// When the Client left, in seconds since 1970; formats 3 and 4 only.
    pub disconnected_at: Option<u64>,
    /// The last Packet Identifier the Server used.
    pub last_mid: u16,
    /// The port of its listener; 0: not known.
    pub listener_port: u16,
    /// Both directions, in flight before queued, oldest first.
    pub messages: Vec<ClientMessage>,
}

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the Client.
    In,
    /// To it.
    Out,
}

/// How far a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are Mosquitto's")]
pub enum State {
    Invalid = 0,
    PublishQos0 = 1,
    PublishQos1 = 2,
    WaitForPuback = 3,
    PublishQos2 = 4,
    WaitForPubrec = 5,
    ResendPubrel = 6,
    WaitForPubrel = 7,
    ResendPubcomp = 8,
    WaitForPubcomp = 9,
    SendPubrec = 10,
    Queued = 11,
}

impl State {
    const ALL: [Self; 12] = [
        Self::Invalid,
        Self::PublishQos0,
        Self::PublishQos1,
        Self::WaitForPuback,
        Self::PublishQos2,
        Self::WaitForPubrec,
        Self::ResendPubrel,
        Self::WaitForPubrel,
        Self::ResendPubcomp,
        Self::WaitForPubcomp,
        Self::SendPubrec,
        Self::Queued,
    ];
}

/// A message on its way from or to a Client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientMessage {
    /// The number of its content.
    pub store_id: u64,
    /// Packet Identifier; 0 at QoS 0.
    pub mid: u16,
    /// QoS of this delivery.
    pub qos: QoS,
    /// Which way.
    pub direction: Direction,
    /// How far.
    pub state: State,
    /// It has been sent before.
    pub dup: bool,
    /// RETAIN as the Client shall see it.
    pub retain: bool,
    /// Subscription Identifiers.
    pub identifiers: Vec<u32>,
}

/// The content of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its number.
    pub store_id: u64,
    /// Topic Name.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// Properties a Server forwards, encoded and without their length.
    pub properties: Vec<u8>,
    /// When it expires, in seconds since 1970.
    pub expiry_time: Option<u64>,
    /// Client Identifier of the publisher; empty: Mosquitto itself.
    pub source_id: String,
    /// Its user name.
    pub source_username: Option<String>,
    /// Its Packet Identifier.
    pub source_mid: u16,
    /// The port it came in by; 0: not known.
    pub source_port: u16,
    /// QoS it was published with.
    pub qos: QoS,
    /// RETAIN it was published with.
    pub retain: bool,
}

/// A Subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Whose.
    pub client_id: String,
    /// Topic Filter.
    pub filter: String,
    /// QoS granted.
    pub qos: QoS,
    /// No Local, since format 5.
    pub no_local: bool,
    /// Retain As Published, since format 5.
    pub retain_as_published: bool,
    /// Subscription Identifier, since format 5.
    pub identifier: Option<u32>,
}

/// A chunk that makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassedOver {
    /// Its kind.
    pub kind: Kind,
    /// Where it begins.
    pub offset: u64,
    /// What is wrong.
    pub fault: Fault,
}

impl fmt::Display for PassedOver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} chunk at byte {}: {}", self.kind, self.offset, self.fault)
    }
}

/// Kinds of chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are Mosquitto's")]
pub enum Kind {
    Config,
    Message,
    ClientMessage,
    Retained,
    Subscription,
    Client,
    /// None that Mosquitto 2.1 and older write.
    Unknown(u32),
}

impl Kind {
    fn of(number: u32) -> Self {
        match number {
            1 => Self::Config,
            2 => Self::Message,
            3 => Self::ClientMessage,
            4 => Self::Retained,
            5 => Self::Subscription,
            6 => Self::Client,
            other => Self::Unknown(other),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Config => "configuration",
            Self::Message => "message",
            Self::ClientMessage => "client message",
            Self::Retained => "retained",
            Self::Subscription => "subscription",
            Self::Client => "client",
            Self::Unknown(number) => return write!(formatter, "unknown ({number})"),
        })
    }
}

/// What is wrong with a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Fault {
    /// The file ends inside it.
    #[error("the file ends inside it")]
    CutOff,
    /// It says it is larger than any there can be.
    #[error("it says it has {0} bytes, more than there can be")]
    Length(u32),
    /// It is too short for its fields.
    #[error("it is too short for what it says it holds")]
    Short,
    /// It is too long for them.
    #[error("it has {0} bytes more than its fields")]
    Long(usize),
    /// A string is not UTF-8, or holds U+0000.
    #[error("its {0} is no UTF-8 string")]
    Text(&'static str),
    /// A field has a value that does not exist.
    #[error("its {0} is none there can be")]
    Value(&'static str),
    /// Nobody knows what it is.
    #[error("its kind is not known")]
    Kind,
}

impl Fault {
    /// True when the chunks behind it cannot be trusted either.
    fn breaks_chain(self) -> bool {
        matches!(self, Self::CutOff | Self::Length(_) | Self::Short | Self::Long(_))
    }
}

/// The file cannot be read.
#[derive(Debug, Error)]
pub enum Error {
    /// Its bytes did not come.
    #[error("the file cannot be read")]
    Read(#[from] io::Error),
    /// It is something else.
    #[error(
        "this is no persistence file of Mosquitto: name the file that `persistence_location` and `persistence_file` of its configuration make, mosquitto.db by default"
    )]
    NotMosquitto,
    /// A format this release does not know.
    #[error("the file has format {0}, and 2 to 6 are known: ask for a newer release of BucketMQ, naming the version of Mosquitto")]
    Version(u32),
    /// Not written by a 64-bit-numbered Mosquitto.
    #[error("the configuration chunk says that numbers of messages have {0} bytes instead of 8: the file is damaged")]
    NumberSize(u8),
    /// The chain of chunks is broken.
    #[error(
        "{kind} chunk at byte {offset}: {fault}. The file is damaged or was copied while it was written: stop Mosquitto, which writes it anew, and use that; or let Mosquitto load it first"
    )]
    Chunk {
        /// Which.
        kind: Kind,
        /// Where it begins.
        offset: u64,
        /// Why.
        fault: Fault,
    },
}

/// Reads a whole file. Memory: what the file holds, once.
pub fn read(input: &mut impl Read) -> Result<Contents, Error> {
    let mut chunks = Chunks::new(BufReader::new(input))?;
    let mut contents = Contents { version: chunks.version(), ..Contents::default() };
    // Places in `contents.clients`.
    let mut places: HashMap<String, usize> = HashMap::new();
    while let Some(chunk) = chunks.next()? {
        match chunk {
            Chunk::Config(config) => contents.config = config,
            Chunk::Message(message) => {
                contents.messages.insert(message.store_id, message);
            }
            Chunk::Client(client) => match places.get(&client.id) {
                Some(place) => {
                    let messages = std::mem::take(&mut contents.clients[*place].messages);
                    contents.clients[*place] = Client { messages, ..client };
                }
                None => {
                    places.insert(client.id.clone(), contents.clients.len());
                    contents.clients.push(client);
                }
            },
            Chunk::ClientMessage(client_id, message) => match places.get(&client_id) {
                Some(place) => contents.clients[*place].messages.push(message),
                None => contents.strays.push(client_id),
            },
            Chunk::Subscription(subscription) => contents.subscriptions.push(subscription),
            Chunk::Retained(store_id) => contents.retained.push(store_id),
            Chunk::PassedOver(passed_over) => contents.passed_over.push(passed_over),
        }
    }
    Ok(contents)
}

#[cfg(test)]
mod tests;
