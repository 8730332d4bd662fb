//! What a Client sends: CONNECT, SUBSCRIBE, PUBLISH, answers, PINGREQ.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bucketmq_packet::{
    Ack, Connect, ConnectProperties, Packet, PacketIdentifier, Publish, PublishProperties, QoS, ReasonCode, Subscribe, SubscriptionOptions,
    Will,
};

use super::{Around, Client, Connected, Flight, PACKET_MAX};
use crate::history::{Event, Message, MessageIndex};
use crate::network::Wire;
use crate::scenario::Lives;

/// Packet Identifiers a Client uses: so few that each comes again and again.
const IDENTIFIERS: u16 = 64;

fn quality(qos: u8) -> QoS {
    QoS::try_from(qos).expect("0 to 2")
}

pub(super) fn identifier(id: u16) -> PacketIdentifier {
    PacketIdentifier::new(id).expect("not 0")
}

/// The number in front, then as many bytes as wanted.
pub(super) fn payload(message: MessageIndex, size: u64) -> Vec<u8> {
    let mut payload = format!("{message} ").into_bytes();
    payload.resize(payload.len().max(size as usize), b'.');
    payload
}

impl Client {
    /// Opens a connection over `wire` to `host`.
    pub fn connect(&mut self, wire: Wire, host: usize, around: &mut Around<'_>) {
        let now = around.now;
        // Before 5.0 Clean Session would make the new Session one of the connection only.
        if self.profile.v5 && !self.calm && self.dice.per_mille(self.profile.gives_up_per_mille) {
            self.gives_up = true;
        }
        if self.gives_up {
            self.forget(around);
        }
        let clean = self.gives_up || self.profile.lives == Lives::Connection;
        let will = self.profile.will.map(|(qos, delay)| {
            let topic = format!("w/{}", self.index);
            around.history.messages.push(Message {
                publisher: self.index,
                topic,
                qos,
                retain: false,
                empty: false,
                expiry: None,
                will_delay: Some(delay),
                sent: now,
                sent_again: None,
                acknowledged: None,
                finished: false,
                abandoned: false,
            });
            around.history.messages.len() - 1
        });
        self.connected = Some(Connected {
            wire,
            host,
            input: Vec::new(),
            since: None,
            asked: now,
            heard: now,
            wrote: now,
            subscribing: BTreeMap::new(),
            answers: VecDeque::new(),
            open: BTreeMap::new(),
            open_exactly_once: BTreeSet::new(),
            quota: 0,
        });
        let id = self.id();
        let topic = format!("w/{}", self.index);
        let will_payload = will.map(|message| payload(message, 0));
        let will_packet = self.profile.will.zip(will_payload.as_deref()).map(|((qos, delay), payload)| Will {
            topic: &topic,
            payload,
            qos: quality(qos),
            retain: false,
            delay_interval: delay,
            message_expiry_interval: None,
            forward: Default::default(),
        });
        let mut properties = ConnectProperties::default();
        if self.profile.v5 {
            properties.receive_maximum = Some(self.profile.receive_maximum);
            properties.maximum_packet_size = Some(PACKET_MAX);
            properties.session_expiry_interval = match self.profile.lives {
                Lives::Forever => Some(u32::MAX),
                Lives::Seconds(seconds) => Some(seconds),
                Lives::Connection => None,
            };
        }
        let connect = Connect {
            version: self.version(),
            clean_start: clean,
            keep_alive: self.profile.keep_alive,
            client_id: &id,
            username: None,
            password: None,
            will: will_packet,
            properties,
        };
        let mut bytes = Vec::new();
        Packet::Connect(connect).encode(self.version(), &mut bytes);
        self.write_bytes(now, &bytes);
        around.trace.note(format_args!("client {}: CONNECT to {host}, Will {will:?}, Clean Start {clean}", self.index));
        around.history.add(now, Event::Connect { client: self.index, will, clean });
    }

    pub(super) fn write(&mut self, now: u64, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(self.version(), &mut bytes);
        self.write_bytes(now, &bytes);
    }

    fn write_bytes(&mut self, now: u64, bytes: &[u8]) {
        if let Some(connected) = &mut self.connected {
            connected.wrote = now;
            connected.wire.write(bytes);
        }
    }

    /// CONNACK with Session Present: everything that was not acknowledged goes out again, in its order [MQTT-4.4.0-1].
    pub(super) fn resend(&mut self, around: &mut Around<'_>) {
        for flight in self.flights.clone() {
            if flight.released {
                self.write(around.now, &Packet::PubRel(ack(flight.id)));
            } else {
                around.history.messages[flight.message].sent_again = Some(around.now);
                self.send(flight.message, Some(flight.id), true, around);
            }
        }
    }

    fn send(&mut self, index: MessageIndex, id: Option<u16>, dup: bool, around: &mut Around<'_>) {
        let message = &around.history.messages[index];
        let size = self.profile.publishing.as_ref().map_or(0, |publishing| publishing.size.0);
        let payload = if message.empty { Vec::new() } else { payload(index, size + (index as u64 * 37) % (self.size_spread() + 1)) };
        let topic = message.topic.clone();
        let properties = PublishProperties { message_expiry_interval: message.expiry.filter(|_| self.profile.v5), ..Default::default() };
        let publish = Publish {
            dup,
            qos: quality(message.qos),
            retain: message.retain,
            topic: &topic,
            packet_id: id.map(identifier),
            properties,
            payload: &payload,
        };
        around.trace.note(format_args!("client {}: PUBLISH {index} {topic} QoS {} id {id:?} dup {dup}", self.index, message.qos));
        self.write(around.now, &Packet::Publish(publish));
    }

    fn size_spread(&self) -> u64 {
        self.profile.publishing.as_ref().map_or(0, |publishing| publishing.size.1 - publishing.size.0)
    }

    /// Publishes when it is time.
    pub(super) fn publish(&mut self, around: &mut Around<'_>) {
        let Some(publishing) = self.profile.publishing.clone() else { return };
        let quota = self.connected.as_ref().map_or(0, |connected| connected.quota).min(publishing.window);
        if around.now < self.next_publish || self.flights.len() >= quota {
            return;
        }
        self.next_publish = around.now + self.dice.between((0, publishing.every_ms * 2));
        let dice = &mut self.dice;
        let retain = dice.per_mille(publishing.retain_per_mille);
        let kind = if retain { 'r' } else { 't' };
        let topic = format!("{kind}/{}/{}", self.index, dice.below(publishing.topics));
        let qos = match (dice.per_mille(publishing.qos0_per_mille), dice.per_mille(publishing.qos2_per_mille)) {
            (true, _) => 0,
            (false, true) => 2,
            (false, false) => 1,
        };
        let expiry = (self.profile.v5 && dice.per_mille(publishing.expire_per_mille)).then(|| dice.pick(&[1, 2, 4]));
        let empty = retain && dice.per_mille(150);
        let message = around.history.messages.len();
        around.history.messages.push(Message {
            publisher: self.index,
            topic,
            qos,
            retain,
            empty,
            expiry,
            will_delay: None,
            sent: around.now,
            sent_again: None,
            acknowledged: None,
            finished: false,
            abandoned: false,
        });
        let id = (qos > 0).then(|| self.free_identifier());
        if let Some(id) = id {
            self.flights.push_back(Flight { message, id, qos, released: false });
        }
        self.send(message, id, false, around);
    }

    fn free_identifier(&mut self) -> u16 {
        loop {
            let id = self.next_id;
            self.next_id = self.next_id % IDENTIFIERS + 1;
            if self.flights.iter().all(|flight| flight.id != id) {
                return id;
            }
        }
    }

    /// Asks for the next Topic Filter it has not got, one at a time.
    pub(super) fn subscribe(&mut self, around: &mut Around<'_>) {
        let Some(connected) = &mut self.connected else { return };
        if !connected.subscribing.is_empty() {
            return;
        }
        let Some(place) = self.subscribed.iter().position(|subscribed| !subscribed) else { return };
        // Beyond those of PUBLISH, so that both can be under way.
        let id = IDENTIFIERS + 1 + place as u16;
        connected.subscribing.insert(id, place);
        let (filter, qos) = self.profile.subscribes[place].clone();
        let filters = vec![(filter.as_str(), SubscriptionOptions::with_qos(quality(qos)))];
        let subscribe = Subscribe { packet_id: identifier(id), subscription_identifier: None, user_properties: Vec::new(), filters };
        self.write(around.now, &Packet::Subscribe(subscribe));
        around.history.add(around.now, Event::Subscribing { client: self.index, filter });
    }

    /// Acknowledges what it is time for.
    pub(super) fn answer(&mut self, now: u64) {
        let Some(connected) = &mut self.connected else { return };
        let mut bytes = Vec::new();
        while connected.answers.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, answer)) = connected.answers.pop_front() else { break };
            if answer[0] == 0x40 {
                connected.open.remove(&u16::from_be_bytes([answer[2], answer[3]]));
            }
            bytes.extend(answer);
        }
        if !bytes.is_empty() {
            self.write_bytes(now, &bytes);
        }
    }

    /// Puts an acknowledgement behind those before it.
    pub(super) fn owe(&mut self, now: u64, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(self.version(), &mut bytes);
        let at = now + self.dice.between(self.profile.answers_ms);
        let Some(connected) = &mut self.connected else { return };
        let at = connected.answers.back().map_or(at, |(last, _)| at.max(*last));
        connected.answers.push_back((at, bytes));
    }

    pub(super) fn ping(&mut self, now: u64) {
        if self.connected.as_ref().is_some_and(|connected| now >= connected.wrote + u64::from(self.profile.keep_alive) * 500) {
            self.write(now, &Packet::PingReq);
        }
    }
}

pub(super) fn ack(id: u16) -> Ack<'static> {
    Ack { packet_id: identifier(id), reason_code: ReasonCode::Success, reason_string: None, user_properties: Vec::new() }
}
