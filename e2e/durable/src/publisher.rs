//! A publisher whose Session lasts: what is not acknowledged when the connection ends is sent again, as MQTT wants it [MQTT-4.4.0-1].

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bucketmq_packet::{PacketType, QoS};

use crate::link::{Came, Gone, Link};

/// Messages under way at a time.
const WINDOW: usize = 16;
/// Between two attempts to connect.
const RETRY: Duration = Duration::from_millis(10);

/// What a publisher did.
#[derive(Debug, Clone, Default)]
pub struct Published {
    /// Its number, which its messages carry.
    pub publisher: u32,
    /// QoS of all of them.
    pub qos: u8,
    /// Numbers of acknowledged messages (PUBACK, or PUBREC), in their order.
    pub acknowledged: Vec<u32>,
    /// One more than the last number sent.
    pub sent: u32,
    /// Its Session was not there although it had been.
    pub sessions_lost: u32,
    /// Handshakes that never came to their end.
    pub unfinished: usize,
    /// Connections it had.
    pub connections: u32,
}

#[derive(Debug, Clone, Copy)]
struct Flight {
    id: u16,
    number: u32,
    released: bool,
}

/// A publisher of one topic.
pub struct Publisher {
    /// Client Identifier.
    pub client_id: String,
    /// Topic Name.
    pub topic: String,
    /// QoS.
    pub qos: QoS,
    /// RETAIN.
    pub retain: bool,
    /// What it did so far.
    pub published: Published,
    flight: VecDeque<Flight>,
    next_id: u16,
    had_session: bool,
}

impl Publisher {
    /// The publisher called `number`.
    pub fn new(number: u32, topic: String, qos: QoS, retain: bool) -> Self {
        let published = Published { publisher: number, qos: qos as u8, ..Published::default() };
        let client_id = format!("publisher-{number}");
        Self { client_id, topic, qos, retain, published, flight: VecDeque::new(), next_id: 0, had_session: false }
    }

    /// Publishes until `stop`, then finishes what is under way, until `deadline` says that it will not come.
    pub fn run(mut self, address: SocketAddr, stop: &Arc<AtomicBool>, deadline: &Arc<AtomicBool>) -> Published {
        while !(deadline.load(Ordering::Relaxed) || stop.load(Ordering::Relaxed) && self.flight.is_empty()) {
            if self.connection(address, stop, deadline).is_err() {
                std::thread::sleep(RETRY);
            }
        }
        self.published.unfinished = self.flight.len();
        self.published
    }

    fn connection(&mut self, address: SocketAddr, stop: &AtomicBool, deadline: &AtomicBool) -> Result<(), Gone> {
        let (mut link, present) = Link::open(address, &self.client_id)?;
        self.published.connections += 1;
        if !present && self.had_session {
            self.published.sessions_lost += 1;
        }
        for flight in self.flight.clone() {
            if flight.released {
                link.acknowledge(PacketType::PubRel, flight.id)?;
            } else {
                self.publish(&mut link, flight, true)?;
            }
        }
        loop {
            while self.flight.len() < WINDOW && !stop.load(Ordering::Relaxed) {
                let flight = Flight { id: self.free_id(), number: self.published.sent, released: false };
                self.published.sent += 1;
                self.flight.push_back(flight);
                self.publish(&mut link, flight, false)?;
            }
            if self.flight.is_empty() || deadline.load(Ordering::Relaxed) {
                return Ok(());
            }
            match link.next(Duration::from_millis(200))? {
                Some(Came::Ack(kind, id, reason_code)) => {
                    if reason_code.is_error() && kind != PacketType::PubComp {
                        return Err(Gone(format!("{kind:?} {reason_code:?}")));
                    }
                    self.acknowledged(&mut link, kind, id)?;
                }
                Some(Came::Disconnect(reason_code)) => return Err(Gone(format!("DISCONNECT {reason_code:?}"))),
                _ => {}
            }
        }
    }

    fn publish(&self, link: &mut Link, flight: Flight, dup: bool) -> Result<(), Gone> {
        let payload = format!("{} {}", self.published.publisher, flight.number);
        link.publish(&self.topic, payload.as_bytes(), self.qos, flight.id, dup, self.retain)
    }

    fn acknowledged(&mut self, link: &mut Link, kind: PacketType, id: u16) -> Result<(), Gone> {
        // An acknowledged PUBLISH is the proof that the Session was made: it is written in the same batch or before.
        self.had_session |= self.qos == QoS::ExactlyOnce;
        let Some(place) = self.flight.iter().position(|flight| flight.id == id) else { return Ok(()) };
        match kind {
            PacketType::PubAck => {
                self.published.acknowledged.push(self.flight[place].number);
                self.flight.remove(place);
            }
            PacketType::PubRec => {
                if !std::mem::replace(&mut self.flight[place].released, true) {
                    self.published.acknowledged.push(self.flight[place].number);
                }
                link.acknowledge(PacketType::PubRel, id)?;
            }
            PacketType::PubComp => {
                self.flight.remove(place);
            }
            _ => {}
        }
        Ok(())
    }

    fn free_id(&mut self) -> u16 {
        loop {
            self.next_id = self.next_id % 1000 + 1;
            if self.flight.iter().all(|flight| flight.id != self.next_id) {
                return self.next_id;
            }
        }
    }
}
