//! A Client: publishes, receives, acknowledges, goes and comes back, and keeps its side of each handshake as the specification says.
//!
//! It is looked at once a step and knows its own Session only. Whatever it sees of the broker goes into the history; what no broker may ever do
//! is written down there at once.

mod receive;
mod send;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bucketmq_packet::{Packet, ProtocolVersion, Sender, decode};

use crate::history::{ClientIndex, End, Event, History, MessageIndex};
use crate::network::{Seen, Wire};
use crate::random::Dice;
use crate::scenario::{Lives, Profile};
use crate::trace::Trace;

/// A Client gives up on CONNACK after this long.
const CONNACK_MS: u64 = 12_000;
/// Milliseconds before it tries again when nobody took the connection.
const RETRY_MS: (u64, u64) = (100, 700);
/// A Session may be over so much earlier than was promised: a broker counts whole seconds.
const EARLY_MS: u64 = 1_300;
/// Largest packet it takes.
const PACKET_MAX: u32 = 1 << 20;

/// A QoS 1 or 2 message on its way to the broker.
#[derive(Debug, Clone, Copy)]
struct Flight {
    message: MessageIndex,
    id: u16,
    qos: u8,
    /// PUBREC came: PUBREL it is from now on.
    released: bool,
}

/// A connection.
#[derive(Debug)]
struct Connected {
    wire: Wire,
    host: usize,
    input: Vec<u8>,
    /// CONNACK came at this time.
    since: Option<u64>,
    asked: u64,
    heard: u64,
    wrote: u64,
    /// Identifiers and filters of SUBSCRIBEs under way.
    subscribing: BTreeMap<u16, usize>,
    /// Acknowledgements and when they go out.
    answers: VecDeque<(u64, Vec<u8>)>,
    /// QoS 1 PUBLISHes not acknowledged.
    open: BTreeMap<u16, MessageIndex>,
    /// QoS 2 PUBLISHes of this connection whose handshake is not over: what is only released here does not count (4.9).
    open_exactly_once: BTreeSet<u16>,
    /// Receive Maximum of the broker.
    quota: usize,
}

/// A Client.
#[derive(Debug)]
pub struct Client {
    /// Its place in the plan.
    pub index: ClientIndex,
    /// What it is like.
    pub profile: Profile,
    dice: Dice,
    connected: Option<Connected>,
    away_until: u64,
    next_publish: u64,
    /// Its side of the Session.
    flights: VecDeque<Flight>,
    next_id: u16,
    taken: BTreeMap<u16, MessageIndex>,
    subscribed: Vec<bool>,
    /// It has given up its Session, and says so until somebody has heard it.
    gives_up: bool,
    /// When its last connection ended that had got CONNACK.
    left: Option<u64>,
    /// No more publishing, no more leaving.
    calm: bool,
}

/// What a Client needs from the world in a step.
pub struct Around<'a> {
    /// The time.
    pub now: u64,
    /// What happened.
    pub history: &'a mut History,
    /// The same, as lines.
    pub trace: &'a Trace,
}

impl Around<'_> {
    fn wrong(&mut self, client: ClientIndex, what: String) {
        self.trace.note(format_args!("client {client}: WRONG {what}"));
        self.history.add(self.now, Event::Wrong { client, what });
    }
}

impl Client {
    /// A Client that has not come yet.
    pub fn new(index: ClientIndex, profile: Profile, mut dice: Dice) -> Self {
        let away_until = dice.between(profile.first_ms);
        let subscribed = vec![false; profile.subscribes.len()];
        Self {
            index,
            profile,
            dice,
            connected: None,
            away_until,
            next_publish: 0,
            flights: VecDeque::new(),
            next_id: 1,
            taken: BTreeMap::new(),
            subscribed,
            gives_up: false,
            left: None,
            calm: false,
        }
    }

    /// The Client Identifier.
    pub fn id(&self) -> String {
        format!("client-{}", self.index)
    }

    fn version(&self) -> ProtocolVersion {
        if self.profile.v5 { ProtocolVersion::V5 } else { ProtocolVersion::V3_1_1 }
    }

    /// True when it would like a connection.
    pub fn wants_connection(&self, now: u64) -> bool {
        self.connected.is_none() && now >= self.away_until
    }

    /// Nobody took its connection.
    pub fn not_taken(&mut self, now: u64) {
        self.away_until = now + self.dice.between(RETRY_MS);
    }

    /// It goes away until it is woken.
    pub fn sleep(&mut self, around: &mut Around<'_>) {
        self.cut(around);
        self.away_until = u64::MAX;
    }

    /// True while it sleeps.
    pub fn sleeps(&self) -> bool {
        self.away_until == u64::MAX
    }

    /// It comes back.
    pub fn wake(&mut self, now: u64) {
        self.away_until = now;
        self.calm_down(now);
    }

    /// From now on it only finishes what it has begun, and stays.
    pub fn calm_down(&mut self, now: u64) {
        self.calm = true;
        self.profile.answers_ms = (0, 0);
        self.away_until = self.away_until.min(now + 500);
    }

    /// True when nothing of its is under way: connected, subscribed, every handshake over.
    pub fn is_settled(&self) -> bool {
        self.flights.is_empty()
            && self.taken.is_empty()
            && self.subscribed.iter().all(|subscribed| *subscribed)
            && self
                .connected
                .as_ref()
                .is_some_and(|connected| connected.since.is_some() && connected.answers.is_empty() && connected.open.is_empty())
    }

    /// What is still under way, for the report.
    pub fn unsettled(&self) -> String {
        let state = match &self.connected {
            None => "not connected",
            Some(connected) if connected.since.is_none() => "waits for CONNACK",
            Some(_) => "connected",
        };
        format!("{state}, {} not acknowledged, {} not released, subscribed {:?}", self.flights.len(), self.taken.len(), self.subscribed)
    }

    /// The broker it is connected to loses this connection.
    pub fn is_at(&self, host: usize) -> bool {
        self.connected.as_ref().is_some_and(|connected| connected.host == host)
    }

    /// The network resets its connection.
    pub fn cut(&mut self, around: &mut Around<'_>) {
        if let Some(connected) = &self.connected {
            connected.wire.reset();
            self.end(End::Cut, around);
        }
    }

    /// Its machine goes away with `host`'s: it hears nothing any more and gives up.
    fn end(&mut self, how: End, around: &mut Around<'_>) {
        let Some(connected) = self.connected.take() else { return };
        match (connected.since, self.profile.lives) {
            (Some(_), _) => self.left = Some(around.now),
            // It may have begun a new Session, the one before being over, and there is no CONNACK to say so. Whoever cannot know what a Session
            // that is present would be begins anew.
            (None, Lives::Seconds(seconds)) => {
                let over = |left: u64| connected.asked + EARLY_MS >= left + u64::from(seconds) * 1_000;
                self.gives_up |= self.left.is_some_and(over);
            }
            (None, _) => {}
        }
        around.trace.note(format_args!("client {}: connection ends: {how:?}", self.index));
        around.history.add(around.now, Event::Ended { client: self.index, how });
        self.away_until = around.now + self.dice.between(self.profile.away_ms);
        if self.calm {
            self.away_until = around.now + self.dice.between(RETRY_MS);
        }
    }

    /// Its Session is over, or was never there.
    fn forget(&mut self, around: &mut Around<'_>) {
        for flight in self.flights.drain(..) {
            around.history.messages[flight.message].abandoned = true;
        }
        self.taken.clear();
        self.subscribed.fill(false);
    }

    /// One look.
    pub fn step(&mut self, around: &mut Around<'_>) {
        let Some(connected) = &mut self.connected else { return };
        match connected.wire.read() {
            Seen::Over => return self.end(End::Cut, around),
            Seen::Bytes(bytes) if bytes.is_empty() => {}
            Seen::Bytes(bytes) => {
                connected.heard = around.now;
                connected.input.extend(bytes);
                self.handle_input(around);
            }
        }
        let Some(connected) = &mut self.connected else { return };
        let silence = u64::from(self.profile.keep_alive) * 1_500 + 1_000;
        let impatient = match connected.since {
            None => around.now > connected.asked + CONNACK_MS,
            Some(_) => around.now > connected.heard + silence,
        };
        if impatient {
            // It cannot know whether the broker still is there.
            connected.wire.reset();
            return self.end(End::Cut, around);
        }
        if connected.since.is_none() {
            return;
        }
        if !self.calm && self.leaves(around) {
            return;
        }
        self.answer(around.now);
        self.subscribe(around);
        if !self.calm {
            self.publish(around);
        }
        self.ping(around.now);
    }

    /// Ends the connection when the dice say so.
    fn leaves(&mut self, around: &mut Around<'_>) -> bool {
        let [orderly, reset, silence] = self.profile.leaves_per_million;
        let drawn = self.dice.below(1_000_000);
        if drawn >= orderly + reset + silence {
            return false;
        }
        let how = if drawn < orderly {
            self.write(around.now, &Packet::Disconnect(Default::default()));
            End::Goodbye
        } else if drawn < orderly + reset {
            End::Cut
        } else {
            End::Silence
        };
        if let Some(connected) = &self.connected {
            match how {
                End::Goodbye => connected.wire.close(),
                End::Cut => connected.wire.reset(),
                End::Silence => connected.wire.fall_silent(),
            }
        }
        self.end(how, around);
        true
    }

    fn handle_input(&mut self, around: &mut Around<'_>) {
        let version = self.version();
        loop {
            let Some(connected) = &mut self.connected else { return };
            let input = std::mem::take(&mut connected.input);
            match decode(&input, version, Sender::Server, PACKET_MAX) {
                Ok(Some((packet, used))) => {
                    self.handle_packet(packet, around);
                    if let Some(connected) = &mut self.connected {
                        connected.input = input[used..].to_vec();
                    }
                }
                Ok(None) => {
                    connected.input = input;
                    return;
                }
                Err(violation) => {
                    around.wrong(self.index, format!("cannot read what the broker sent: {violation:?}"));
                    return self.cut(around);
                }
            }
        }
    }

    /// Whether what the broker promised this Session has to be there after a crash.
    fn keeps_session(&self) -> bool {
        self.profile.lives != Lives::Connection
    }
}
