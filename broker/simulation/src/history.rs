//! What Clients and brokers of a run did and saw: all that the checker looks at.

use serde::Serialize;

/// A Client, by its place in the plan.
pub type ClientIndex = usize;
/// An Application Message, by its place in [`History::messages`]; it stands in the payload.
pub type MessageIndex = usize;

/// An Application Message that somebody wanted to publish, or a Will that was given with CONNECT.
#[derive(Debug, Clone, Serialize)]
pub struct Message {
    /// Who.
    pub publisher: ClientIndex,
    /// Where.
    pub topic: String,
    /// Quality of Service.
    pub qos: u8,
    /// With RETAIN.
    pub retain: bool,
    /// With an empty payload, which clears what is retained.
    pub empty: bool,
    /// Message Expiry Interval, seconds.
    pub expiry: Option<u32>,
    /// Seconds of the Will Delay Interval, when it is a Will.
    pub will_delay: Option<u32>,
    /// When it was first sent.
    pub sent: u64,
    /// When it was sent last, with DUP.
    pub sent_again: Option<u64>,
    /// When PUBACK or PUBREC came, and from which broker.
    pub acknowledged: Option<(u64, usize)>,
    /// The handshake is over.
    pub finished: bool,
    /// The publisher lost its Session, and with it the handshake.
    pub abandoned: bool,
}

/// How a connection ended, as its Client knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum End {
    /// DISCONNECT 0x00, and closed in order.
    Goodbye,
    /// Reset, or closed without a word, by whomever: the broker knows it, or is gone.
    Cut,
    /// Nothing arrives any more; the broker learns it by the Keep Alive at the latest.
    Silence,
}

/// Something that happened.
#[derive(Debug, Clone, Serialize)]
pub enum Event {
    /// A Client sent CONNECT.
    Connect {
        /// Who.
        client: ClientIndex,
        /// Its Will.
        will: Option<MessageIndex>,
        /// With Clean Start.
        clean: bool,
    },
    /// CONNACK with success.
    Connected {
        /// Who.
        client: ClientIndex,
        /// Which broker.
        host: usize,
        /// Session Present.
        present: bool,
    },
    /// A connection is over; only for those that sent CONNECT.
    Ended {
        /// Whose.
        client: ClientIndex,
        /// How.
        how: End,
    },
    /// SUBSCRIBE was sent.
    Subscribing {
        /// Who.
        client: ClientIndex,
        /// What.
        filter: String,
    },
    /// SUBACK.
    Subscribed {
        /// Who.
        client: ClientIndex,
        /// What.
        filter: String,
        /// Granted QoS.
        qos: u8,
    },
    /// A PUBLISH arrived.
    Received {
        /// Where.
        client: ClientIndex,
        /// What; none for an empty payload.
        message: MessageIndex,
        /// Effective QoS.
        qos: u8,
        /// DUP.
        dup: bool,
        /// RETAIN: from what is retained.
        retain: bool,
        /// Message Expiry Interval that was left.
        expiry: Option<u32>,
        /// Not the same QoS 2 PUBLISH again, which the protocol hides from the application.
        fresh: bool,
        /// From which broker.
        host: usize,
    },
    /// A broker serves.
    Up {
        /// Which.
        host: usize,
        /// When it was started; one that asks for the shards: when it got them.
        started: u64,
    },
    /// A broker is over.
    Down {
        /// Which.
        host: usize,
    },
    /// A Client saw what must never be.
    Wrong {
        /// Who.
        client: ClientIndex,
        /// What.
        what: String,
    },
}

/// Everything, in order.
#[derive(Debug, Default)]
pub struct History {
    /// Brokers ask who owns the bucket before they acknowledge.
    pub brokers_ask: bool,
    /// All messages.
    pub messages: Vec<Message>,
    /// All events and when.
    pub events: Vec<(u64, Event)>,
}

impl History {
    /// Adds an event.
    pub fn add(&mut self, now: u64, event: Event) {
        self.events.push((now, event));
    }
}
