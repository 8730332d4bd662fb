//! The Client of the tests: it can behave, misbehave, and be asked what exactly came back.
//!
//! Every packet the broker sends is decoded as strictly as the specification allows; a malformed one fails the test that got it. By
//! default QoS 1 and 2 messages are acknowledged at once; a `manual` Client leaves that to the test.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use bucketmq_packet::{
    Ack, Disconnect, Packet, PacketIdentifier, PacketType, ProtocolVersion, ReasonCode, RetainHandling, Sender, Subscribe,
    SubscriptionOptions, Unsubscribe, decode,
};

use crate::ensure;
use crate::message::{Message, qos};
use crate::outcome::{Outcome, failed};
use crate::reply::{Acked, Reply};
use crate::stream::Stream;

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

/// A filter with its options, as SUBSCRIBE carries it.
#[derive(Debug, Clone, Copy)]
pub struct Filter<'a> {
    filter: &'a str,
    options: SubscriptionOptions,
}

/// A filter with a QoS and no options.
pub fn filter(filter: &str, quality: u8) -> Filter<'_> {
    Filter { filter, options: SubscriptionOptions::with_qos(qos(quality)) }
}

impl Filter<'_> {
    /// Sets No Local.
    pub fn no_local(mut self) -> Self {
        self.options.no_local = true;
        self
    }

    /// Sets Retain As Published.
    pub fn retain_as_published(mut self) -> Self {
        self.options.retain_as_published = true;
        self
    }

    /// Sets Retain Handling to "if new" or "never".
    pub fn retain_handling(mut self, handling: RetainHandling) -> Self {
        self.options.retain_handling = handling;
        self
    }
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
            match self.stream.read(&mut self.input, left)? {
                Some(0) => {
                    self.closed = true;
                    return Ok(None);
                }
                Some(_) | None => {}
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
            let Some(reply) = self.read_packet(deadline)? else { return Ok(None) };
            if !self.manual {
                match &reply {
                    Reply::Publish(message) if message.qos == 1 => self.acknowledge(PacketType::PubAck, message.packet_id),
                    Reply::Publish(message) if message.qos == 2 => self.acknowledge(PacketType::PubRec, message.packet_id),
                    Reply::Ack(PacketType::PubRel, release) => {
                        let packet_id = release.packet_id;
                        self.acknowledge(PacketType::PubComp, packet_id);
                        continue;
                    }
                    _ => {}
                }
            }
            return Ok(Some(reply));
        }
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
                Err(crate::outcome::Failure::Failed(why)) => return failed(format!("awaiting {what}: {why}")),
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

    /// Sends PUBACK, PUBREC, PUBREL or PUBCOMP.
    pub fn acknowledge(&mut self, packet_type: PacketType, packet_id: u16) {
        self.acknowledge_with(packet_type, packet_id, ReasonCode::Success);
    }

    /// As [`Self::acknowledge`], with a Reason Code.
    pub fn acknowledge_with(&mut self, packet_type: PacketType, packet_id: u16, code: ReasonCode) {
        let ack = Ack::new(PacketIdentifier::new(packet_id).expect("identifiers in tests are not 0"), code);
        let mut out = Vec::new();
        ack.encode(packet_type, self.version, &mut out);
        self.send(&out);
    }

    /// Sends a PUBLISH and nothing else; gives a QoS 1 or 2 message an identifier if it has none. Returns the identifier.
    pub fn start_publish(&mut self, message: &Message) -> u16 {
        let mut message = message.clone();
        if message.qos > 0 && message.packet_id == 0 {
            message.packet_id = self.fresh_id();
        }
        self.send(&message.encode(self.version));
        message.packet_id
    }

    /// Publishes to the end of the handshake; the Reason Code of PUBACK or PUBREC.
    pub fn publish(&mut self, message: &Message) -> Outcome<u8> {
        let packet_id = self.start_publish(message);
        self.finish_publish(message.qos, packet_id)
    }

    /// The rest of a handshake whose PUBLISH was sent.
    pub fn finish_publish(&mut self, qos: u8, packet_id: u16) -> Outcome<u8> {
        match qos {
            0 => Ok(0),
            1 => self.acknowledged(PacketType::PubAck, packet_id),
            _ => {
                let code = self.acknowledged(PacketType::PubRec, packet_id)?;
                if code < 0x80 {
                    self.acknowledge(PacketType::PubRel, packet_id);
                    self.acknowledged(PacketType::PubComp, packet_id)?;
                }
                Ok(code)
            }
        }
    }

    /// Sends SUBSCRIBE and nothing else.
    pub fn start_subscribe(&mut self, filters: &[Filter<'_>], identifier: Option<u32>) -> u16 {
        let packet_id = self.fresh_id();
        let subscribe = Subscribe {
            packet_id: PacketIdentifier::new(packet_id).expect("fresh identifiers are not 0"),
            subscription_identifier: identifier,
            user_properties: Vec::new(),
            filters: filters.iter().map(|filter| (filter.filter, filter.options)).collect(),
        };
        let mut out = Vec::new();
        subscribe.encode(self.version, &mut out);
        self.send(&out);
        packet_id
    }

    /// The SUBACK or UNSUBACK of `packet_id`.
    pub fn codes(&mut self, packet_type: PacketType, packet_id: u16) -> Outcome<Acked> {
        let ack = self.awaiting(packet_type.name(), |reply| match reply {
            Reply::Codes(found, ack) if *found == packet_type => Some(ack.clone()),
            _ => None,
        })?;
        // [MQTT-2.2.1-6]
        ensure!(ack.packet_id == packet_id, "{} names identifier {} instead of {packet_id}", packet_type.name(), ack.packet_id);
        Ok(ack)
    }

    /// SUBSCRIBE with options and Subscription Identifier; the Reason Codes.
    pub fn subscribe_with(&mut self, filters: &[Filter<'_>], identifier: Option<u32>) -> Outcome<Vec<u8>> {
        let packet_id = self.start_subscribe(filters, identifier);
        let codes = self.codes(PacketType::SubAck, packet_id)?.codes;
        // [MQTT-3.8.4-6]
        ensure!(codes.len() == filters.len(), "SUBACK has {} codes for {} filters", codes.len(), filters.len());
        Ok(codes)
    }

    /// SUBSCRIBE of one filter that has to be granted as asked.
    pub fn subscribe(&mut self, name: &str, quality: u8) -> Outcome {
        self.subscribed(filter(name, quality), None)
    }

    /// SUBSCRIBE of one filter with options that has to be granted.
    pub fn subscribed(&mut self, asked: Filter<'_>, identifier: Option<u32>) -> Outcome {
        let codes = self.subscribe_with(&[asked], identifier)?;
        ensure!(codes == [asked.options.qos as u8], "SUBSCRIBE to {:?} was answered {codes:02X?}", asked.filter);
        Ok(())
    }

    /// UNSUBSCRIBE; the Reason Codes, none before 5.0.
    pub fn unsubscribe(&mut self, filters: &[&str]) -> Outcome<Vec<u8>> {
        let packet_id = self.fresh_id();
        let unsubscribe = Unsubscribe {
            packet_id: PacketIdentifier::new(packet_id).expect("fresh identifiers are not 0"),
            user_properties: Vec::new(),
            filters: filters.to_vec(),
        };
        let mut out = Vec::new();
        unsubscribe.encode(self.version, &mut out);
        self.send(&out);
        Ok(self.codes(PacketType::UnsubAck, packet_id)?.codes)
    }

    /// PINGREQ and its PINGRESP.
    pub fn ping(&mut self) -> Outcome {
        self.send(&[0xC0, 0]);
        self.awaiting("PINGRESP", |reply| (*reply == Reply::PingResp).then_some(()))
    }

    /// The next message.
    pub fn message(&mut self) -> Outcome<Message> {
        if let Some(at) = self.inbox.iter().position(|reply| matches!(reply, Reply::Publish(_)))
            && let Some(Reply::Publish(message)) = self.inbox.remove(at)
        {
            return Ok(message);
        }
        self.awaiting("PUBLISH", |reply| match reply {
            Reply::Publish(message) => Some(message.clone()),
            _ => None,
        })
    }

    /// The next message, which has to have this payload.
    pub fn expect(&mut self, payload: impl AsRef<[u8]>) -> Outcome<Message> {
        let message = self.message()?;
        let expected = String::from_utf8_lossy(payload.as_ref()).into_owned();
        ensure!(message.payload == payload.as_ref(), "message {:?} instead of {expected:?}", crate::reply::short(&message.text()));
        Ok(message)
    }

    /// All messages before the one with payload `last`.
    pub fn messages_before(&mut self, last: &str) -> Outcome<Vec<Message>> {
        let mut before = Vec::new();
        loop {
            let message = self.message()?;
            if message.payload == last.as_bytes() {
                return Ok(before);
            }
            before.push(message);
        }
    }

    /// Nothing is in the inbox and nothing comes for a while, though the broker answers.
    pub fn nothing(&mut self) -> Outcome {
        self.nothing_for(Duration::from_millis(250))
    }

    /// As [`Self::nothing`], for so long.
    pub fn nothing_for(&mut self, quiet: Duration) -> Outcome {
        self.ping()?;
        let deadline = Instant::now() + quiet;
        while self.inbox.is_empty() && Instant::now() < deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            if self.stream.read(&mut self.input, left)? == Some(0) {
                return failed("connection closed though nothing was wrong");
            }
            if !self.input.is_empty()
                && let Some(reply) = self.read_reply(Instant::now() + self.wait)?
            {
                self.inbox.push_back(reply);
            }
        }
        match self.inbox.front() {
            Some(reply) => failed(format!("unexpected {}", reply.name())),
            None => Ok(()),
        }
    }

    /// The broker closes; the Reason Code of a DISCONNECT or refusing CONNACK before it, if there was one. Messages on the way are let go.
    pub fn closed(&mut self) -> Outcome<Option<u8>> {
        self.closed_within(self.wait)
    }

    /// As [`Self::closed`], within so long.
    pub fn closed_within(&mut self, wait: Duration) -> Outcome<Option<u8>> {
        let deadline = Instant::now() + wait;
        let mut code = None;
        loop {
            let reply = match self.read_packet(deadline) {
                Ok(reply) => reply,
                Err(crate::outcome::Failure::Failed(why)) if why.starts_with("nothing more") => {
                    return failed(match code {
                        Some(code) => format!("the broker said 0x{code:02X} and did not close"),
                        None => "the broker did not close".into(),
                    });
                }
                Err(other) => return Err(other),
            };
            match reply {
                None => return Ok(code),
                // [MQTT-3.14.4-1]
                Some(other) if code.is_some() => return failed(format!("{} after the broker had said goodbye", other.name())),
                Some(Reply::Disconnect(disconnect)) => code = Some(disconnect.code()),
                Some(Reply::ConnAck(refused)) => {
                    ensure!(refused.code >= 0x80, "CONNACK 0x00 where a refusal was due");
                    code = Some(refused.code);
                }
                Some(_) => {}
            }
        }
    }

    /// The broker closes, and if it says why it says one of `named`, or 0x80: the specification lets a Server keep the reason to itself.
    pub fn closed_with(&mut self, named: &[u8]) -> Outcome {
        match self.closed()? {
            Some(code) if code != 0x80 && !named.contains(&code) => {
                failed(format!("the broker gave 0x{code:02X} as the reason, the specification names {named:02X?}"))
            }
            _ => Ok(()),
        }
    }

    /// The broker closes because the bytes cannot be parsed: 0x81.
    pub fn closed_as_malformed(&mut self) -> Outcome {
        self.closed_with(&[0x81])
    }

    /// The broker closes because the packet is not allowed here: 0x82.
    pub fn closed_as_protocol_error(&mut self) -> Outcome {
        self.closed_with(&[0x82])
    }

    /// The broker closes because the packet is wrong in a way both definitions of 1.2 fit: 0x81 or 0x82.
    pub fn closed_as_wrong(&mut self) -> Outcome {
        self.closed_with(&[0x81, 0x82])
    }

    /// DISCONNECT with a Reason Code, and the close.
    pub fn disconnect_with(mut self, code: ReasonCode) -> Outcome {
        let mut out = Vec::new();
        Packet::Disconnect(Disconnect::new(code)).encode(self.version, &mut out);
        self.send(&out);
        self.closed()?;
        Ok(())
    }

    /// DISCONNECT as it should be; returns when the broker has closed.
    pub fn disconnect(self) -> Outcome {
        self.disconnect_with(ReasonCode::Success)
    }

    /// Cuts the connection.
    pub fn cut(self) {
        self.stream.cut();
    }
}
