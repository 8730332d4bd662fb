//! A subscriber with the Client's side of QoS 2; it may be away now and then, slow to acknowledge, or choose new topics again and again.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bucketmq_packet::{PacketType, QoS};
use rand::Rng;
use rand::rngs::StdRng;

use crate::history::{ClientNumber, History, Kind, Message, What};
use crate::link::{Came, Gone, Link};
use crate::publisher::{Chosen, message_of};
use crate::scene::{Client, Hour, Outlet};

/// How long an idle subscriber sleeps before it looks what hour it is, and a slow one before it acknowledges what it has.
const LOOK: Duration = Duration::from_millis(50);
/// Acknowledgements a slow subscriber keeps to itself.
const SLOW: usize = 8;
/// Between two topics somebody chooses, on average.
const CHOICE: Duration = Duration::from_millis(400);

/// How a subscriber behaves.
#[derive(Debug, Clone, Default)]
pub struct Habits {
    /// Topic Filters, which must not overlap.
    pub filters: Vec<String>,
    /// The most it wants.
    pub qos: QoS,
    /// It stays for up to so long and is away for up to so long, in turn.
    pub away: Option<(Duration, Duration)>,
    /// It keeps some acknowledgements to itself.
    pub is_slow: bool,
}

/// Topics a subscriber chooses, for a publisher that uses each from the moment its SUBACK has come.
pub struct Choice {
    /// Who publishes.
    pub publisher: ClientNumber,
    /// At which QoS.
    pub qos: QoS,
    /// What was chosen.
    pub chosen: Chosen,
}

/// A subscriber.
pub struct Subscriber {
    client: Client,
    habits: Habits,
    choice: Option<Choice>,
    /// Topics chosen so far.
    choices: u32,
    random: StdRng,
    /// What was acknowledged.
    subscribed: Vec<String>,
    /// What was asked for and is not acknowledged.
    asked: Vec<String>,
    /// Between PUBREC and PUBREL [MQTT-4.3.3-10].
    taken: HashMap<u16, Message>,
    /// Acknowledgements not sent, in the order in which they have to go [MQTT-4.6.0-2] [MQTT-4.6.0-3].
    unsent: VecDeque<(PacketType, u16)>,
}

impl Subscriber {
    /// A subscriber that is not connected.
    pub fn new(client: Client, habits: Habits) -> Self {
        let random = client.scene.random(client.number);
        let (subscribed, asked, taken, unsent) = Default::default();
        Self { client, habits, choice: None, choices: 0, random, subscribed, asked, taken, unsent }
    }

    /// Chooses topics for `choice.publisher`.
    pub fn choosing(self, choice: Choice) -> Self {
        Self { choice: Some(choice), ..self }
    }

    /// Takes messages until the end.
    pub fn run(mut self) {
        while self.hour() < Hour::End {
            let Some((link, present)) = self.client.connect(None) else { continue };
            let gone = self.connection(link, present).err().unwrap_or_else(|| Gone("leaves".to_owned()));
            self.client.gone(&gone);
            if let Some((_, away)) = self.habits.away {
                self.sleep(away);
            }
        }
        for message in self.taken.values() {
            self.client.record(What::Unfinished(*message));
        }
    }

    fn hour(&self) -> Hour {
        self.client.scene.hour()
    }

    /// For up to so long, or until there is no load any more.
    fn sleep(&mut self, most: Duration) {
        let until = Instant::now() + most.mul_f64(self.random.random());
        while Instant::now() < until && self.hour() == Hour::Load {
            std::thread::sleep(LOOK.min(until.saturating_duration_since(Instant::now())));
        }
    }

    /// Ok: it leaves by itself.
    fn connection(&mut self, mut link: Link, present: bool) -> Result<(), Gone> {
        self.unsent.clear();
        self.asked.clear();
        if !present {
            self.client.scene.open_handshakes.fetch_sub(self.taken.len(), Ordering::Relaxed);
            self.taken.clear();
            self.subscribed.clear();
        }
        let wanted: Vec<String> = self.habits.filters.iter().filter(|filter| !self.subscribed.contains(filter)).cloned().collect();
        self.ask(&mut link, wanted)?;
        let leave_at = self.habits.away.map(|(stay, _)| Instant::now() + stay.mul_f64(self.random.random()));
        let mut choose_at = Instant::now();
        loop {
            let is_load = self.hour() == Hour::Load;
            let is_over = leave_at.is_some_and(|at| Instant::now() > at) && self.asked.is_empty() && is_load;
            if is_over || self.hour() == Hour::End {
                // Without DISCONNECT every second time.
                if self.random.random() || self.hour() == Hour::End {
                    link.leave();
                }
                return Ok(());
            }
            if self.choice.is_some() && self.asked.is_empty() && Instant::now() > choose_at && is_load {
                choose_at = Instant::now() + CHOICE.mul_f64(2.0 * self.random.random::<f64>());
                self.choices += 1;
                let topic = format!("chosen/{}/{}", self.client.identity.client_id, self.choices);
                self.ask(&mut link, vec![topic])?;
            }
            match link.next(LOOK)? {
                Some(came) => self.take(&mut link, came)?,
                None => self.flush(&mut link, 0)?,
            }
            self.client.listens(&link)?;
        }
    }

    fn ask(&mut self, link: &mut Link, filters: Vec<String>) -> Result<(), Gone> {
        if !filters.is_empty() {
            link.subscribe(filters.iter().map(String::as_str), self.habits.qos)?;
            self.asked = filters;
        }
        Ok(())
    }

    fn take(&mut self, link: &mut Link, came: Came) -> Result<(), Gone> {
        match came {
            Came::Subscribed(granted) => {
                if granted.len() != self.asked.len() || granted.iter().any(|code| code.is_error()) {
                    return Err(Gone(format!("SUBACK {granted:?}")));
                }
                for (filter, granted) in std::mem::take(&mut self.asked).into_iter().zip(granted) {
                    self.client.record(What::Subscribed { filter: filter.as_str().into(), qos: granted.value() });
                    self.chosen(&filter);
                    self.subscribed.push(filter);
                }
                self.client.owed = self.client.identity.lasts;
            }
            Came::Publish { topic, payload, qos, packet_id, dup, retain } => {
                let Some(message) = message_of(&payload).filter(|message| self.is_of(*message, &topic)) else {
                    self.client.record(What::Nonsense(format!("a message nobody sent, to {topic}").into()));
                    return Err(Gone("a message nobody sent".to_owned()));
                };
                let before = if qos == QoS::ExactlyOnce { self.taken.insert(packet_id, message) } else { None };
                if qos == QoS::ExactlyOnce && before.is_none() {
                    self.client.scene.open_handshakes.fetch_add(1, Ordering::Relaxed);
                }
                match before {
                    None => self.client.record(What::Arrived { message, packet_id, qos: qos as u8, dup, retain }),
                    Some(before) if before == message => self.client.record(What::Repeated(message)),
                    // [MQTT-2.2.1-4] The application of a Client that goes by identifiers would never see it.
                    Some(before) => {
                        let what = format!("identifier {packet_id} of message {before:?} carries {message:?} before its PUBREL");
                        self.client.record(What::Nonsense(what.into()));
                    }
                }
                match qos {
                    QoS::AtMostOnce => {}
                    QoS::AtLeastOnce => self.unsent.push_back((PacketType::PubAck, packet_id)),
                    QoS::ExactlyOnce => self.unsent.push_back((PacketType::PubRec, packet_id)),
                }
            }
            Came::Ack(PacketType::PubRel, packet_id, _) => {
                if self.taken.remove(&packet_id).is_some() {
                    self.client.scene.open_handshakes.fetch_sub(1, Ordering::Relaxed);
                }
                self.unsent.push_back((PacketType::PubComp, packet_id));
            }
            Came::Disconnect(reason_code) => return Err(Gone(format!("DISCONNECT {reason_code:?}"))),
            Came::Ack(kind, ..) => self.client.record(What::Nonsense(format!("a subscriber got {kind:?}").into())),
        }
        let keep = if self.habits.is_slow && self.hour() == Hour::Load { SLOW } else { 0 };
        self.flush(link, keep)
    }

    /// A stream there is, with this topic.
    fn is_of(&self, message: Message, topic: &str) -> bool {
        let of = |history: &History| history.streams.get(message.stream as usize).map(|stream| stream.topic.clone());
        self.client.scene.recorder.read(of).is_some_and(|of| *of == *topic)
    }

    /// From its SUBACK on, this topic is the publisher's.
    fn chosen(&self, filter: &str) {
        if let Some(choice) = self.choice.as_ref().filter(|_| filter.starts_with("chosen/")) {
            let outlet = Outlet::new(&self.client.scene.recorder, choice.publisher, filter, choice.qos, Kind::Live);
            *choice.chosen.lock() = Some(outlet);
        }
    }

    /// Sends all acknowledgements but `keep`.
    fn flush(&mut self, link: &mut Link, keep: usize) -> Result<(), Gone> {
        while self.unsent.len() > keep {
            let (kind, packet_id) = self.unsent[0];
            link.acknowledge(kind, packet_id)?;
            self.unsent.pop_front();
        }
        Ok(())
    }
}
