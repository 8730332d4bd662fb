//! A subscriber whose Session lasts, with the Client's side of QoS 2; it may be away for a while now and then.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bucketmq_packet::{PacketType, QoS};

use crate::link::{Came, Gone, Link};

/// Between two attempts to connect.
const RETRY: Duration = Duration::from_millis(10);
/// With nothing for so long, nothing is on its way.
const QUIET: Duration = Duration::from_secs(10);

/// What a subscriber got.
#[derive(Debug, Clone, Default)]
pub struct Received {
    /// Its number.
    pub subscriber: u32,
    /// (publisher, number) in the order in which the application got them.
    pub messages: Vec<(u32, u32)>,
    /// Its Session was not there although SUBACK had come.
    pub sessions_lost: u32,
    /// Connections it had.
    pub connections: u32,
    /// Longest time it waited for the next message, once the publishers had stopped.
    pub longest_wait: Duration,
}

/// A subscriber of one filter at QoS 2.
pub struct Subscriber {
    client_id: String,
    filter: String,
    /// It goes away for so long, again and again; zero: never.
    away: Duration,
    received: Received,
    /// Identifiers between PUBREC and PUBREL [MQTT-4.3.3-10].
    taken: HashSet<u16>,
    subscribed: bool,
}

impl Subscriber {
    /// The subscriber called `number`.
    pub fn new(number: u32, filter: &str, away: Duration) -> Self {
        let received = Received { subscriber: number, ..Received::default() };
        let client_id = format!("subscriber-{number}");
        Self { client_id, filter: filter.to_owned(), away, received, taken: HashSet::new(), subscribed: false }
    }

    /// Subscribes and says so by `ready`; then takes messages until `stop`, and from then on until nothing more comes.
    pub fn run(mut self, address: SocketAddr, ready: &AtomicBool, stop: &Arc<AtomicBool>) -> Received {
        let mut quiet = false;
        while !quiet {
            match self.connection(address, ready, stop) {
                Ok(()) => quiet = stop.load(Ordering::Relaxed),
                Err(_) => std::thread::sleep(RETRY),
            }
            if !quiet && !self.away.is_zero() && !stop.load(Ordering::Relaxed) {
                std::thread::sleep(self.away);
            }
        }
        self.received
    }

    /// Ok: nothing comes any more, or it is time to be away.
    fn connection(&mut self, address: SocketAddr, ready: &AtomicBool, stop: &AtomicBool) -> Result<(), Gone> {
        let (mut link, present) = Link::open(address, &self.client_id)?;
        self.received.connections += 1;
        if !present {
            if self.subscribed {
                self.received.sessions_lost += 1;
            }
            self.taken.clear();
        }
        if !self.subscribed || !present {
            link.subscribe(&self.filter, QoS::ExactlyOnce)?;
        }
        let began = Instant::now();
        let mut last = Instant::now();
        loop {
            let stopping = stop.load(Ordering::Relaxed);
            if !self.away.is_zero() && !stopping && self.subscribed && began.elapsed() > self.away {
                return Ok(());
            }
            if stopping && last.elapsed() > QUIET {
                return Ok(());
            }
            let Some(came) = link.next(Duration::from_millis(100))? else { continue };
            if stopping {
                self.received.longest_wait = self.received.longest_wait.max(last.elapsed());
            }
            last = Instant::now();
            match came {
                Came::Subscribed => {
                    self.subscribed = true;
                    ready.store(true, Ordering::Relaxed);
                }
                Came::Publish(_, payload, qos, id, _) => self.take(&mut link, &payload, qos, id)?,
                Came::Ack(PacketType::PubRel, id, _) => {
                    self.taken.remove(&id);
                    link.acknowledge(PacketType::PubComp, id)?;
                }
                Came::Disconnect(reason_code) => return Err(Gone(format!("DISCONNECT {reason_code:?}"))),
                Came::Ack(..) | Came::Pong => {}
            }
        }
    }

    fn take(&mut self, link: &mut Link, payload: &[u8], qos: QoS, id: u16) -> Result<(), Gone> {
        let text = String::from_utf8_lossy(payload);
        let message = text.split_once(' ').and_then(|(publisher, number)| Some((publisher.parse().ok()?, number.parse().ok()?)));
        let Some(message) = message else { return Err(Gone(format!("a message nobody sent: {text}"))) };
        match qos {
            QoS::ExactlyOnce => {
                if self.taken.insert(id) {
                    self.received.messages.push(message);
                }
                link.acknowledge(PacketType::PubRec, id)
            }
            QoS::AtLeastOnce => {
                self.received.messages.push(message);
                link.acknowledge(PacketType::PubAck, id)
            }
            QoS::AtMostOnce => Ok(()),
        }
    }
}
