//! The Client of the tests: it can behave, misbehave, and be asked what exactly came back.
//!
//! Every packet the broker sends is decoded as strictly as the specification allows; a malformed one fails the test that got it. By
//! default QoS 1 and 2 messages are acknowledged at once; a `manual` Client leaves that to the test.

mod expectations;
mod requests;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use bucketmq_packet::{PacketType, ProtocolVersion, Sender, decode};

use crate::ensure;
use crate::outcome::{Failure, Outcome, failed};
use crate::reply::{Acked, Reply};
use crate::stream::Stream;

pub use requests::filter;

/// An open Network Connection and what was read from it.
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    version: ProtocolVersion,
    wait: Duration,
    input: Vec<u8>,
    inbox: VecDeque<Reply>,
    /// Acknowledgements are the test's.
    pub manual: bool,
    /// Topic Alias Maximum this Client granted.
    pub alias_maximum: u16,
    /// Maximum Packet Size this Client told.
    pub maximum_packet_size: Option<u32>,
    aliases: HashMap<u16, String>,
    /// Topic Aliases the broker used.
    pub aliases_seen: Vec<u16>,
    /// Identifiers of QoS 2 messages whose PUBREL has not come.
    pub unreleased: BTreeSet<u16>,
    next_id: u16,
    closed: bool,
}

impl Client {
    /// A connection nothing has been sent on.
    pub fn new(stream: Stream, version: ProtocolVersion, wait: Duration) -> Self {
        Self {
            stream,
            version,
            wait,
            input: Vec::new(),
            inbox: VecDeque::new(),
            manual: false,
            alias_maximum: 0,
            maximum_packet_size: None,
            aliases: HashMap::new(),
            aliases_seen: Vec::new(),
            unreleased: BTreeSet::new(),
            next_id: 100,
            closed: false,
        }
    }

    /// The stream, for what only a transport can do.
    pub fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// Sends bytes. That the broker has closed shows when reading.
    pub fn send(&mut self, bytes: &[u8]) {
        self.closed |= self.stream.send(bytes).is_err();
    }

    fn fresh_id(&mut self) -> u16 {
        self.next_id += 1;
        self.next_id
    }

    /// The next packet, or `None` at the end of the connection.
    fn read_packet(&mut self, deadline: Instant) -> Outcome<Option<Reply>> {
        loop {
            let limit = self.maximum_packet_size.unwrap_or(u32::MAX);
            match decode(&self.input, self.version, Sender::Server, limit) {
                Ok(Some((packet, length))) => {
                    let reply = Reply::from_packet(&packet);
                    let what = packet.packet_type().name();
                    self.input.drain(..length);
                    let Some(reply) = reply else { return failed(format!("the broker sent {what}, which only Clients send")) };
                    return self.checked(reply).map(Some);
                }
                Ok(None) => {}
                Err(violation) => {
                    return failed(format!("the broker sent a bad packet: {violation} ({:02X?})", &self.input[..self.input.len().min(24)]));
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return failed("nothing more came in time");
            }
            if self.stream.read(&mut self.input, left)? == Some(0) {
                self.closed = true;
                return Ok(None);
            }
        }
    }

    /// Rules that hold for every packet of a Server, whatever the test is about.
    fn checked(&mut self, mut reply: Reply) -> Outcome<Reply> {
        match &mut reply {
            Reply::Publish(message) => {
                if let Some(alias) = message.alias {
                    // [MQTT-3.1.2-26] [MQTT-3.1.2-27] [MQTT-3.3.2-8]
                    ensure!(
                        (1..=self.alias_maximum).contains(&alias),
                        "the broker used Topic Alias {alias} of {} granted",
                        self.alias_maximum
                    );
                    self.aliases_seen.push(alias);
                    if message.topic.is_empty() {
                        let Some(topic) = self.aliases.get(&alias) else {
                            return failed(format!("the broker never said what Topic Alias {alias} means"));
                        };
                        message.topic.clone_from(topic);
                    } else {
                        self.aliases.insert(alias, message.topic.clone());
                    }
                }
                // [MQTT-3.3.1-2] [MQTT-3.3.2-2]
                ensure!(message.qos > 0 || !message.dup, "QoS 0 PUBLISH with DUP 1");
                ensure!(!message.topic.contains(['+', '#']), "Topic Name {:?} has a wildcard", message.topic);
                if message.qos == 2 {
                    self.unreleased.insert(message.packet_id);
                }
            }
            Reply::Ack(PacketType::PubRel, release) => {
                self.unreleased.remove(&release.packet_id);
            }
            Reply::Disconnect(disconnect) => {
                ensure!(self.version == ProtocolVersion::V5, "a Server has no DISCONNECT before 5.0");
                // [MQTT-3.14.2-2]
                ensure!(disconnect.session_expiry_interval.is_none(), "DISCONNECT of a Server with a Session Expiry Interval");
            }
            _ => {}
        }
        Ok(reply)
    }

    /// Reads a packet and, unless the test does it, acknowledges it. PUBRELs that were answered here are not returned.
    fn read_reply(&mut self, deadline: Instant) -> Outcome<Option<Reply>> {
        loop {
            let Some(packet) = self.read_packet(deadline)? else { return Ok(None) };
            if let Some(reply) = self.take_part(packet) {
                return Ok(Some(reply));
            }
        }
    }

    /// Answers `reply` as a Client does. None: that was all there is to it.
    fn take_part(&mut self, reply: Reply) -> Option<Reply> {
        if self.manual {
            return Some(reply);
        }
        match &reply {
            Reply::Publish(message) if message.qos == 1 => self.acknowledge(PacketType::PubAck, message.packet_id),
            Reply::Publish(message) if message.qos == 2 => self.acknowledge(PacketType::PubRec, message.packet_id),
            Reply::Ack(PacketType::PubRel, release) => {
                let packet_id = release.packet_id;
                self.acknowledge(PacketType::PubComp, packet_id);
                return None;
            }
            _ => {}
        }
        Some(reply)
    }

    /// Reads until `wanted` says what it wanted. Messages and PUBRELs on the way wait in the inbox; anything else is a surprise.
    fn awaiting<T>(&mut self, what: &str, mut wanted: impl FnMut(&Reply) -> Option<T>) -> Outcome<T> {
        let deadline = Instant::now() + self.wait;
        loop {
            match self.read_reply(deadline) {
                Ok(Some(reply)) => {
                    if let Some(found) = wanted(&reply) {
                        return Ok(found);
                    }
                    match reply {
                        Reply::Publish(_) | Reply::Ack(PacketType::PubRel, _) => self.inbox.push_back(reply),
                        other => return failed(format!("{} instead of {what}", other.name())),
                    }
                }
                Ok(None) => return failed(format!("connection closed instead of {what}")),
                Err(Failure::Failed(why)) => return failed(format!("awaiting {what}: {why}")),
                Err(other) => return Err(other),
            }
        }
    }

    /// The next packet, whatever it is: from the inbox or the wire.
    pub fn reply(&mut self) -> Outcome<Reply> {
        if let Some(reply) = self.inbox.pop_front() {
            return Ok(reply);
        }
        match self.read_reply(Instant::now() + self.wait)? {
            Some(reply) => Ok(reply),
            None => failed("connection closed instead of a packet"),
        }
    }

    /// The next packet, which has to be an acknowledgement of this type for `packet_id`; its Reason Code.
    pub fn acknowledged(&mut self, packet_type: PacketType, packet_id: u16) -> Outcome<u8> {
        Ok(self.acknowledgement(packet_type, packet_id)?.code())
    }

    /// As [`Self::acknowledged`], with all it says.
    pub fn acknowledgement(&mut self, packet_type: PacketType, packet_id: u16) -> Outcome<Acked> {
        if let Some(at) = self
            .inbox
            .iter()
            .position(|reply| matches!(reply, Reply::Ack(found, ack) if *found == packet_type && ack.packet_id == packet_id))
            && let Some(Reply::Ack(_, ack)) = self.inbox.remove(at)
        {
            return Ok(ack);
        }
        let ack = self.awaiting(packet_type.name(), |reply| match reply {
            Reply::Ack(found, ack) if *found == packet_type => Some(ack.clone()),
            _ => None,
        })?;
        ensure!(ack.packet_id == packet_id, "{} names identifier {} instead of {packet_id}", packet_type.name(), ack.packet_id);
        Ok(ack)
    }
}
