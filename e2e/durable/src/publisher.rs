//! A publisher: what is not acknowledged when the connection ends is sent again, with its identifier, as MQTT wants it [MQTT-4.4.0-1].

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bucketmq_packet::{PacketType, QoS, ReasonCode};
use parking_lot::Mutex;

use crate::history::{Kind, Message, What};
use crate::link::{Came, Gone, Link};
use crate::scene::{Client, Hour, Outlet};

/// Messages under way at a time, unless the broker takes fewer.
const WINDOW: usize = 16;
/// Identifiers are used again soon, so that a broker that mistakes a new message for an old one is found out.
const IDS: u16 = 40;
/// How long an idle publisher sleeps before it looks what hour it is.
const LOOK: Duration = Duration::from_millis(100);
/// Every so many messages is large enough to be stored by itself.
const LARGE_EVERY: u32 = 16;
const LARGE: usize = 4096;

/// A topic that somebody else chooses, again and again; None: not yet.
pub type Chosen = Arc<Mutex<Option<Outlet>>>;

#[derive(Debug, Clone)]
struct Flight {
    packet_id: u16,
    message: Message,
    topic: Arc<str>,
    qos: QoS,
    kind: Kind,
    /// PUBREC came.
    released: bool,
}

/// A publisher of some streams in turn.
pub struct Publisher {
    client: Client,
    outlets: Vec<Outlet>,
    chosen: Option<Chosen>,
    /// Between two new messages.
    pace: Duration,
    flight: VecDeque<Flight>,
    turn: usize,
    next_id: u16,
    due: Instant,
}

impl Publisher {
    /// Publishes to `outlets` in turn, a message each `pace`.
    pub fn new(client: Client, outlets: Vec<Outlet>, pace: Duration) -> Self {
        Self { client, outlets, chosen: None, pace, flight: VecDeque::new(), turn: 0, next_id: 0, due: Instant::now() }
    }

    /// Publishes to what is chosen.
    pub fn following(client: Client, chosen: Chosen, pace: Duration) -> Self {
        Self { chosen: Some(chosen), ..Self::new(client, Vec::new(), pace) }
    }

    /// Publishes while there is load, then finishes what is under way.
    pub fn run(mut self) {
        while self.hour() < Hour::Finish || self.hour() < Hour::End && !self.flight.is_empty() {
            let Some((link, present)) = self.client.connect(None) else { continue };
            if let Err(gone) = self.connection(link, present) {
                self.client.gone(&gone);
            }
        }
        for flight in &self.flight {
            self.client.record(What::Unfinished(flight.message));
        }
    }

    fn hour(&self) -> Hour {
        self.client.scene.hour()
    }

    /// Ok: it is time to end.
    fn connection(&mut self, mut link: Link, present: bool) -> Result<(), Gone> {
        if !present {
            // 5.0 3.2.2.1.1: what was under way is forgotten with the Session.
            self.flight.clear();
        }
        if self.client.identity.lasts && !self.client.owed {
            self.subscribe(&mut link)?;
        }
        // [MQTT-4.4.0-1] In the order in which they were sent first [MQTT-4.6.0-1].
        for flight in self.flight.clone() {
            if flight.released {
                link.acknowledge(PacketType::PubRel, flight.packet_id)?;
            } else {
                self.publish(&mut link, &flight, true)?;
            }
        }
        let window = WINDOW.min(usize::from(link.receive_maximum));
        loop {
            let is_load = self.hour() == Hour::Load;
            while is_load && self.flight.len() < window && Instant::now() >= self.due {
                self.due = Instant::now() + self.pace;
                let Some(flight) = self.next_message() else { break };
                if flight.qos > QoS::AtMostOnce {
                    self.flight.push_back(flight.clone());
                }
                self.publish(&mut link, &flight, false)?;
            }
            if !is_load && self.flight.is_empty() || self.hour() == Hour::End {
                link.leave();
                return Ok(());
            }
            self.client.listens(&link)?;
            let has_room = is_load && self.flight.len() < window;
            let patience = if has_room { self.due.saturating_duration_since(Instant::now()) } else { LOOK };
            if let Some(came) = link.next(patience)? {
                self.take(&mut link, came)?;
            }
        }
    }

    /// To something of its own, because with its SUBACK it is known that the Session is there.
    fn subscribe(&mut self, link: &mut Link) -> Result<(), Gone> {
        let filter: Arc<str> = format!("own/{}", self.client.identity.client_id).into();
        link.subscribe([&*filter], QoS::AtLeastOnce)?;
        while self.hour() < Hour::End {
            match link.next(LOOK)? {
                Some(Came::Subscribed(granted)) if granted.iter().all(|code| !code.is_error()) => {
                    self.client.record(What::Subscribed { filter, qos: 1 });
                    self.client.owed = true;
                    return Ok(());
                }
                Some(came) => return Err(Gone(format!("{came:?} instead of SUBACK"))),
                None => {}
            }
        }
        Ok(())
    }

    fn next_message(&mut self) -> Option<Flight> {
        let packet_id = self.free_id();
        let mut chosen = self.chosen.as_ref().map(|chosen| chosen.lock());
        let outlet = match &mut chosen {
            Some(chosen) => chosen.as_mut()?,
            None => {
                self.turn = (self.turn + 1) % self.outlets.len();
                &mut self.outlets[self.turn]
            }
        };
        let message = Message { stream: outlet.stream, number: outlet.next };
        outlet.next += 1;
        let packet_id = if outlet.qos == QoS::AtMostOnce { 0 } else { packet_id };
        Some(Flight { packet_id, message, topic: outlet.topic.clone(), qos: outlet.qos, kind: outlet.kind, released: false })
    }

    fn publish(&self, link: &mut Link, flight: &Flight, dup: bool) -> Result<(), Gone> {
        let Flight { packet_id, message, topic, qos, kind, .. } = flight;
        self.client.record(What::Sent { message: *message, packet_id: *packet_id, dup });
        let retain = matches!(kind, Kind::Retained | Kind::Cleared);
        // [MQTT-3.3.1-6]
        let clears = *kind == Kind::Cleared && message.number % 2 == 1;
        let payload = if clears { String::new() } else { payload(*message) };
        link.publish(topic, payload.as_bytes(), *qos, *packet_id, dup, retain)
    }

    fn take(&mut self, link: &mut Link, came: Came) -> Result<(), Gone> {
        let (kind, packet_id, reason_code) = match came {
            Came::Ack(kind, packet_id, reason_code) => (kind, packet_id, reason_code),
            Came::Disconnect(reason_code) => return Err(Gone(format!("DISCONNECT {reason_code:?}"))),
            came => {
                self.client.record(What::Nonsense(format!("a publisher got {came:?}").into()));
                return Ok(());
            }
        };
        let Some(place) = self.flight.iter().position(|flight| flight.packet_id == packet_id) else {
            // The answer to a PUBREL may have been under way when the connection ended.
            return Ok(());
        };
        let Flight { message, qos, released, .. } = self.flight[place];
        match (kind, qos) {
            (PacketType::PubAck, QoS::AtLeastOnce) | (PacketType::PubRec, QoS::ExactlyOnce) if reason_code.is_error() => {
                self.client.record(What::Refused(message, reason_code.value()));
                self.flight.remove(place);
            }
            (PacketType::PubAck, QoS::AtLeastOnce) => {
                self.client.record(What::Acknowledged(message));
                self.flight.remove(place);
            }
            (PacketType::PubRec, QoS::ExactlyOnce) => {
                if !released {
                    self.client.record(What::Acknowledged(message));
                    self.flight[place].released = true;
                }
                link.acknowledge(PacketType::PubRel, packet_id)?;
            }
            (PacketType::PubComp, QoS::ExactlyOnce) if released => {
                // 0x92 says that the broker is through with it, which it may be.
                if reason_code.is_error() && reason_code != ReasonCode::PacketIdentifierNotFound {
                    self.client.record(What::Nonsense(format!("PUBCOMP {reason_code:?}").into()));
                }
                self.client.record(What::Completed(message));
                self.flight.remove(place);
            }
            _ => self.client.record(What::Nonsense(format!("{kind:?} for a message at {qos:?}, released: {released}").into())),
        }
        Ok(())
    }

    fn free_id(&mut self) -> u16 {
        loop {
            self.next_id = self.next_id % IDS + 1;
            if self.flight.iter().all(|flight| flight.packet_id != self.next_id) {
                return self.next_id;
            }
        }
    }
}

/// What a message says: which one it is, and sometimes a lot more.
pub fn payload(message: Message) -> String {
    let mut text = format!("{} {}", message.stream, message.number);
    if message.number % LARGE_EVERY == LARGE_EVERY - 1 {
        text.push(' ');
        text.extend(std::iter::repeat_n('x', LARGE));
    }
    text
}

/// Which message a payload is.
pub fn message_of(payload: &[u8]) -> Option<Message> {
    let mut words = std::str::from_utf8(payload).ok()?.split(' ');
    Some(Message { stream: words.next()?.parse().ok()?, number: words.next()?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_says_which_message_it_is() {
        for number in 0..2 * LARGE_EVERY {
            let message = Message { stream: 7, number };
            assert_eq!(message_of(payload(message).as_bytes()), Some(message));
        }
        assert_eq!(message_of(b""), None);
        assert_eq!(message_of(b"7 x"), None);
    }
}
