//! What a judgement says.

use std::collections::BTreeMap;

use serde::Serialize;

/// A promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Promise {
    /// An acknowledged message came.
    Delivered,
    /// A message at QoS 2 came once.
    Once,
    /// Messages came in the order of their stream.
    InOrder,
    /// The retained message is the last one or a later one.
    RetainedFresh,
    /// The Session was there.
    SessionKept,
    /// The Will came, and not before its time.
    WillFired,
    /// The handshake ended.
    HandshakeEnded,
    /// The broker lived unless it was killed, and came back.
    BrokerThere,
    /// Nothing came that nobody had sent.
    Sense,
}

impl Promise {
    /// What a broken one is called.
    pub fn broken(self) -> &'static str {
        match self {
            Self::Delivered => "lost",
            Self::Once => "QoS 2 twice",
            Self::InOrder => "out of order",
            Self::RetainedFresh => "retained too old",
            Self::SessionKept => "Session lost",
            Self::WillFired => "Will lost or early",
            Self::HandshakeEnded => "handshake open",
            Self::BrokerThere => "broker gone",
            Self::Sense => "nonsense",
        }
    }
}

/// What was counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Messages that were acknowledged to their publishers.
    pub acknowledged: u64,
    /// Messages that were refused with a Reason Code.
    pub refused: u64,
    /// Deliveries owed: of each acknowledged message to each subscriber.
    pub owed: u64,
    /// Deliveries of Wills owed.
    pub wills_owed: u64,
    /// Messages that came.
    pub arrived: u64,
    /// QoS 1 deliveries that came more than once, as they may.
    pub repeated_qos1: u64,
    /// Of these, without DUP.
    pub repeated_without_dup: u64,
    /// PUBLISH packets sent again with DUP by publishers.
    pub sent_again: u64,
    /// Connections that were acknowledged.
    pub connections: u64,
    /// Sessions that had to be there and were.
    pub sessions_kept: u64,
}

/// A broken promise, with what happened around it.
#[derive(Debug, Clone, Serialize)]
pub struct Told {
    /// Which.
    pub promise: Promise,
    /// In a sentence.
    pub what: String,
    /// Event by event.
    pub history: Vec<String>,
}

/// How the promises were kept.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Verdict {
    /// What was counted.
    pub counts: Counts,
    /// How often which promise was broken.
    pub broken: BTreeMap<Promise, u64>,
    /// The first broken ones of each kind.
    pub told: Vec<Told>,
}

impl Verdict {
    /// True when every promise was kept.
    pub fn is_clean(&self) -> bool {
        self.broken.is_empty()
    }

    /// How often `promise` was broken.
    pub fn broken(&self, promise: Promise) -> u64 {
        self.broken.get(&promise).copied().unwrap_or_default()
    }
}
