//! All that happened, in the order in which it happened: what Clients sent and got, and what was done to the broker.
//!
//! What is sent is written down before it leaves, what comes after it has come. So "A stands before B" means that A really was before B, whichever
//! Clients they concern.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A Client by its place in [`History::clients`].
pub type ClientNumber = u16;

/// The Client that stands for the brokers and what is done to them.
pub const BROKER: ClientNumber = 0;

/// A message by its stream's place in [`History::streams`] and its number in it, from 0 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Message {
    /// The place in [`History::streams`].
    pub stream: u32,
    /// Counts the messages of the stream.
    pub number: u32,
}

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Messages for whoever subscribed.
    Live,
    /// The same, retained.
    Retained,
    /// Retained messages of which every second one, those with odd numbers, clears the topic.
    Cleared,
    /// Wills; number N is that of the Nth CONNECT.
    Will,
    /// Between Clients whose Sessions end with their connections: nothing is promised.
    Transient,
}

/// Numbered messages of one Client to one topic at one QoS.
#[derive(Debug, Clone)]
pub struct Stream {
    /// Who publishes.
    pub publisher: ClientNumber,
    /// Topic Name.
    pub topic: Arc<str>,
    /// QoS.
    pub qos: u8,
    /// What for.
    pub kind: Kind,
}

impl Stream {
    /// Whether message `number` clears its topic.
    pub fn clears(&self, number: u32) -> bool {
        self.kind == Kind::Cleared && number % 2 == 1
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// CONNACK came. `owed`: a Session was promised by an earlier acknowledgement.
    Connected {
        /// Session Present.
        present: bool,
        /// It had to be.
        owed: bool,
    },
    /// The connection is over, and why.
    Gone(Arc<str>),
    /// SUBACK came.
    Subscribed {
        /// Topic Filter.
        filter: Arc<str>,
        /// Granted.
        qos: u8,
    },
    /// PUBLISH leaves.
    Sent {
        /// Which.
        message: Message,
        /// Its identifier, 0 at QoS 0.
        packet_id: u16,
        /// DUP.
        dup: bool,
    },
    /// PUBACK or the first PUBREC came.
    Acknowledged(Message),
    /// PUBACK or PUBREC came with an error: the message is given up.
    Refused(Message, u8),
    /// PUBCOMP came.
    Completed(Message),
    /// PUBLISH came, and the application got it.
    Arrived {
        /// Which.
        message: Message,
        /// Its identifier, 0 at QoS 0.
        packet_id: u16,
        /// QoS it came with.
        qos: u8,
        /// DUP.
        dup: bool,
        /// RETAIN.
        retain: bool,
    },
    /// A PUBLISH at QoS 2 came again before its PUBREL: the application does not see it.
    Repeated(Message),
    /// The CONNECT with this Will rests in what was acknowledged since.
    Armed(Message),
    /// The connection of this Will ended without DISCONNECT.
    Due {
        /// Which.
        message: Message,
        /// Seconds it is to wait.
        delay: u32,
    },
    /// At the end: a handshake that did not come to its end, ours or the broker's.
    Unfinished(Message),
    /// At the end: what a new Subscription got for the topic of this stream.
    RetainedFound {
        /// The place in [`History::streams`].
        stream: u32,
        /// None: nothing.
        number: Option<u32>,
    },
    /// Something came that nobody can have sent.
    Nonsense(Arc<str>),
    /// Of [`BROKER`]: what was done.
    Done(Arc<str>),
    /// Of [`BROKER`]: it ended, or did not come back, unasked.
    Failed(Arc<str>),
}

impl What {
    /// The message it is about.
    pub fn message(&self) -> Option<Message> {
        match self {
            Self::Sent { message, .. } | Self::Arrived { message, .. } => Some(*message),
            Self::Acknowledged(message) | Self::Refused(message, _) | Self::Completed(message) | Self::Repeated(message) => Some(*message),
            Self::Armed(message) | Self::Due { message, .. } | Self::Unfinished(message) => Some(*message),
            _ => None,
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flag = |set: bool, text: &'static str| if set { text } else { "" };
        match self {
            Self::Connected { present, owed } => write!(f, "CONNACK, Session Present {}{}", u8::from(*present), flag(*owed, ", owed")),
            Self::Gone(why) => write!(f, "connection over: {why}"),
            Self::Subscribed { filter, qos } => write!(f, "SUBACK {filter} at QoS {qos}"),
            Self::Sent { packet_id, dup, .. } => write!(f, "sends PUBLISH, identifier {packet_id}{}", flag(*dup, ", DUP")),
            Self::Acknowledged(_) => f.write_str("gets its acknowledgement"),
            Self::Refused(_, code) => write!(f, "gets Reason Code 0x{code:02X}"),
            Self::Completed(_) => f.write_str("gets PUBCOMP"),
            Self::Arrived { packet_id, qos, dup, retain, .. } => {
                write!(f, "gets PUBLISH at QoS {qos}, identifier {packet_id}{}{}", flag(*dup, ", DUP"), flag(*retain, ", RETAIN"))
            }
            Self::Repeated(_) => f.write_str("gets PUBLISH again before PUBREL"),
            Self::Armed(_) => f.write_str("its Will is acknowledged"),
            Self::Due { delay, .. } => write!(f, "its Will is due in {delay} s"),
            Self::Unfinished(_) => f.write_str("its handshake did not end"),
            Self::RetainedFound { number: Some(number), .. } => write!(f, "finds retained message {number}"),
            Self::RetainedFound { number: None, .. } => f.write_str("finds no retained message"),
            Self::Nonsense(what) | Self::Done(what) | Self::Failed(what) => f.write_str(what),
        }
    }
}

/// Something that happened, when, and to whom.
#[derive(Debug, Clone)]
pub struct Event {
    /// Since the beginning.
    pub at: Duration,
    /// To whom.
    pub client: ClientNumber,
    /// What.
    pub what: What,
}

/// Everything.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Client Identifiers.
    pub clients: Vec<String>,
    /// Who publishes what.
    pub streams: Vec<Stream>,
    /// What happened.
    pub events: Vec<Event>,
}

impl History {
    /// With nobody but the brokers.
    pub fn new() -> Self {
        Self { clients: vec!["broker".to_owned()], ..Self::default() }
    }

    /// An event in a line: when, to whom, stream and number of its message, what.
    pub fn line(&self, event: &Event) -> String {
        let number = event.what.message().map_or(String::new(), |message| format!(" [{}/{}]", message.stream, message.number));
        format!("{:>11.6} {}{number}: {}", event.at.as_secs_f64(), self.clients[usize::from(event.client)], event.what)
    }

    /// Writes all lines, those of the streams first.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        let mut out = io::BufWriter::new(File::create(file)?);
        for (stream, number) in self.streams.iter().zip(0..) {
            let Stream { publisher, topic, qos, kind } = stream;
            writeln!(out, "# [{number}/..] {} to {topic} at QoS {qos}, {kind:?}", self.clients[usize::from(*publisher)])?;
        }
        for event in &self.events {
            writeln!(out, "{}", self.line(event))?;
        }
        out.flush()
    }
}

/// Writes the history while it happens. All clones write the same one.
#[derive(Debug, Clone)]
pub struct Recorder {
    began: Instant,
    history: Arc<Mutex<History>>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { began: Instant::now(), history: Arc::new(Mutex::new(History::new())) }
    }
}

impl Recorder {
    /// One more Client.
    pub fn client(&self, client_id: &str) -> ClientNumber {
        let mut history = self.history.lock();
        history.clients.push(client_id.to_owned());
        ClientNumber::try_from(history.clients.len() - 1).expect("there are some dozen Clients")
    }

    /// One more stream; answers its place.
    pub fn stream(&self, publisher: ClientNumber, topic: &str, qos: u8, kind: Kind) -> u32 {
        let mut history = self.history.lock();
        history.streams.push(Stream { publisher, topic: topic.into(), qos, kind });
        u32::try_from(history.streams.len() - 1).expect("there are some thousand streams")
    }

    /// Now this happened.
    pub fn record(&self, client: ClientNumber, what: What) {
        let mut history = self.history.lock();
        // Under the lock, so that times grow from event to event.
        let at = self.began.elapsed();
        history.events.push(Event { at, client, what });
    }

    /// Something was done to the broker.
    pub fn done(&self, what: impl AsRef<str>) {
        self.record(BROKER, What::Done(what.as_ref().into()));
    }

    /// A broker did what it should not.
    pub fn failed(&self, what: impl AsRef<str>) {
        self.record(BROKER, What::Failed(what.as_ref().into()));
    }

    /// How long ago the beginning is.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Looks at it as it is so far; nobody records meanwhile.
    pub fn read<T>(&self, look: impl FnOnce(&History) -> T) -> T {
        look(&self.history.lock())
    }
}
