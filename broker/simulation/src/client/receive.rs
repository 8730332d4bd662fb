//! What a Client does with what comes.

use bucketmq_packet::{Ack, ConnAck, Packet, Publish, QoS, ReasonCode, SubAck};

use super::send::ack;
use super::{Around, Client};
use crate::history::{Event, MessageIndex};

impl Client {
    pub(super) fn handle_packet(&mut self, packet: Packet<'_>, around: &mut Around<'_>) {
        match packet {
            Packet::ConnAck(connack) => self.handle_connack(&connack, around),
            Packet::Publish(publish) => self.handle_publish(&publish, around),
            Packet::PubAck(ack) => self.handle_puback(&ack, around),
            Packet::PubRec(ack) => self.handle_pubrec(&ack, around),
            Packet::PubRel(ack) => self.handle_pubrel(&ack, around.now),
            Packet::PubComp(ack) => self.handle_pubcomp(&ack, around),
            Packet::SubAck(suback) => self.handle_suback(&suback, around),
            Packet::PingResp => {}
            Packet::Disconnect(disconnect) => {
                let expected = [
                    ReasonCode::ServerShuttingDown,
                    ReasonCode::SessionTakenOver,
                    ReasonCode::KeepAliveTimeout,
                    ReasonCode::ServerUnavailable,
                ];
                around.trace.note(format_args!("client {}: DISCONNECT {:?}", self.index, disconnect.reason_code));
                if !expected.contains(&disconnect.reason_code) {
                    around.wrong(self.index, format!("DISCONNECT {:?} {:?}", disconnect.reason_code, disconnect.reason_string));
                }
            }
            other => around.wrong(self.index, format!("{:?} from a broker", other.packet_type())),
        }
    }

    fn handle_connack(&mut self, connack: &ConnAck<'_>, around: &mut Around<'_>) {
        let Some(connected) = &mut self.connected else { return };
        around.trace.note(format_args!("client {}: CONNACK {:?}, Session {}", self.index, connack.reason_code, connack.session_present));
        if connack.reason_code != ReasonCode::Success {
            if !matches!(connack.reason_code, ReasonCode::ServerUnavailable | ReasonCode::ServerShuttingDown) {
                around.wrong(self.index, format!("CONNACK {:?}", connack.reason_code));
            }
            return;
        }
        connected.since = Some(around.now);
        connected.quota = usize::from(connack.properties.receive_maximum.unwrap_or(u16::MAX));
        let (host, present) = (connected.host, connack.session_present);
        if present && (self.gives_up || !self.keeps_session()) {
            around.wrong(self.index, "Session Present after Clean Start".to_owned());
        }
        self.gives_up = false;
        around.history.add(around.now, Event::Connected { client: self.index, host, present });
        if present {
            self.resend(around);
        } else {
            self.forget(around);
        }
    }

    fn handle_publish(&mut self, publish: &Publish<'_>, around: &mut Around<'_>) {
        let qos = publish.qos as u8;
        let message = number(publish.payload);
        around.trace.note(format_args!(
            "client {}: gets {message:?} {} QoS {qos} id {:?} dup {} retain {}",
            self.index, publish.topic, publish.packet_id, publish.dup, publish.retain
        ));
        let fresh = self.check_identifier(publish, message, around);
        let host = self.connected.as_ref().map_or(0, |connected| connected.host);
        let Some(id) = publish.packet_id else { return self.received(publish, message, fresh, host, around) };
        match publish.qos {
            QoS::AtLeastOnce => self.owe(around.now, &Packet::PubAck(ack(id.get()))),
            // [MQTT-4.3.3-9] The identifier is taken until PUBREL.
            _ => self.owe(around.now, &Packet::PubRec(ack(id.get()))),
        }
        self.received(publish, message, fresh, host, around);
    }

    /// What must hold of a Packet Identifier; true when the message goes to the application.
    fn check_identifier(&mut self, publish: &Publish<'_>, message: Option<MessageIndex>, around: &mut Around<'_>) -> bool {
        let Some(id) = publish.packet_id.map(|id| id.get()) else { return true };
        let of = message.unwrap_or(MessageIndex::MAX);
        if self.connected.as_ref().is_some_and(|connected| connected.open.contains_key(&id)) {
            around.wrong(self.index, format!("identifier {id} of {of} is in use: it was not acknowledged yet"));
        }
        let before = self.taken.get(&id).copied();
        if let (QoS::ExactlyOnce, Some(connected)) = (publish.qos, &mut self.connected) {
            connected.open_exactly_once.insert(id);
        }
        match (publish.qos, before) {
            (QoS::ExactlyOnce, Some(before)) => {
                if before != of {
                    around.wrong(self.index, format!("identifier {id} was of {before}, not released, and is of {of} now"));
                } else if !publish.dup {
                    around.wrong(self.index, format!("{of} comes again under identifier {id} without DUP [MQTT-3.3.1-1]"));
                }
                return false;
            }
            (QoS::ExactlyOnce, None) => {
                self.taken.insert(id, of);
            }
            (_, Some(before)) => {
                around.wrong(self.index, format!("identifier {id} was of {before} at QoS 2, not released, and is of {of} now"))
            }
            (_, None) => {
                if let Some(connected) = &mut self.connected {
                    connected.open.insert(id, of);
                }
            }
        }
        let open = self.connected.as_ref().map_or(0, |connected| connected.open.len() + connected.open_exactly_once.len());
        if self.profile.v5 && open > usize::from(self.profile.receive_maximum) {
            around.wrong(self.index, format!("{open} messages in flight, Receive Maximum is {}", self.profile.receive_maximum));
        }
        true
    }

    fn received(&self, publish: &Publish<'_>, message: Option<MessageIndex>, fresh: bool, host: usize, around: &mut Around<'_>) {
        let Some(message) = message else { return };
        let Some(sent) = around.history.messages.get(message) else {
            return around.wrong(self.index, format!("a message {message} that nobody sent"));
        };
        if sent.topic != publish.topic {
            return around.wrong(self.index, format!("message {message} of {} under {}", sent.topic, publish.topic));
        }
        let event = Event::Received {
            client: self.index,
            message,
            qos: publish.qos as u8,
            dup: publish.dup,
            retain: publish.retain,
            expiry: publish.properties.message_expiry_interval,
            fresh,
            host,
        };
        around.history.add(around.now, event);
    }

    fn handle_puback(&mut self, ack: &Ack<'_>, around: &mut Around<'_>) {
        let id = ack.packet_id.get();
        let Some(place) = self.flights.iter().position(|flight| flight.id == id && flight.qos == 1) else {
            return around.wrong(self.index, format!("PUBACK {id} for nothing"));
        };
        self.check_accepted("PUBACK", ack, around);
        if let Some(flight) = self.flights.remove(place) {
            self.acknowledged(flight.message, "PUBACK", around);
            around.history.messages[flight.message].finished = true;
        }
    }

    fn handle_pubrec(&mut self, received: &Ack<'_>, around: &mut Around<'_>) {
        let id = received.packet_id.get();
        let Some(flight) = self.flights.iter_mut().find(|flight| flight.id == id && flight.qos == 2) else {
            return around.wrong(self.index, format!("PUBREC {id} for nothing"));
        };
        let message = flight.message;
        flight.released = true;
        self.check_accepted("PUBREC", received, around);
        self.acknowledged(message, "PUBREC", around);
        self.write(around.now, &Packet::PubRel(ack(id)));
    }

    fn acknowledged(&self, message: MessageIndex, by: &str, around: &mut Around<'_>) {
        around.trace.note(format_args!("client {}: {by} of {message}", self.index));
        let host = self.connected.as_ref().map_or(0, |connected| connected.host);
        around.history.messages[message].acknowledged.get_or_insert((around.now, host));
    }

    fn handle_pubrel(&mut self, ack_in: &Ack<'_>, now: u64) {
        // [MQTT-4.3.3-11] Answered whether it is known or not.
        self.taken.remove(&ack_in.packet_id.get());
        if let Some(connected) = &mut self.connected {
            connected.open_exactly_once.remove(&ack_in.packet_id.get());
        }
        self.owe(now, &Packet::PubComp(ack(ack_in.packet_id.get())));
    }

    fn handle_pubcomp(&mut self, ack: &Ack<'_>, around: &mut Around<'_>) {
        let id = ack.packet_id.get();
        let Some(place) = self.flights.iter().position(|flight| flight.id == id && flight.released) else {
            return around.wrong(self.index, format!("PUBCOMP {id} for nothing"));
        };
        if let Some(flight) = self.flights.remove(place) {
            around.history.messages[flight.message].finished = true;
        }
    }

    fn check_accepted(&self, what: &str, ack: &Ack<'_>, around: &mut Around<'_>) {
        if ack.reason_code.is_error() {
            around.wrong(self.index, format!("{what} {} says {:?}", ack.packet_id.get(), ack.reason_code));
        }
    }

    fn handle_suback(&mut self, suback: &SubAck<'_>, around: &mut Around<'_>) {
        let place = self.connected.as_mut().and_then(|connected| connected.subscribing.remove(&suback.packet_id.get()));
        let Some(place) = place else {
            return around.wrong(self.index, format!("SUBACK {} for nothing", suback.packet_id.get()));
        };
        let (filter, qos) = self.profile.subscribes[place].clone();
        let granted = suback.reason_codes.first().copied();
        if granted.map(|code| code as u8) != Some(qos) {
            return around.wrong(self.index, format!("SUBACK {granted:?} for {filter} at QoS {qos}"));
        }
        around.trace.note(format_args!("client {}: SUBACK {filter}", self.index));
        self.subscribed[place] = true;
        around.history.add(around.now, Event::Subscribed { client: self.index, filter, qos });
    }
}

/// The number in front of a payload; none in an empty one.
fn number(payload: &[u8]) -> Option<MessageIndex> {
    let digits = payload.split(|byte| *byte == b' ').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
