//! The crowd of a soak: clients that come, speak, and are killed.

use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};

use crate::frames::{self, Rest};
use crate::options::Options;
use crate::random::Random;
use crate::scenario::client_id;
use crate::socket::{Outbox, Poller, Stream, Target};
use crate::wire::{self, Connect, Templates, Version};

/// Clients that share a group of topics; each message reaches about so many.
const GROUP: usize = 20;
/// How long a killed client stays away at most.
const AWAY: Duration = Duration::from_secs(2);
/// How long a slow reader does not read at most.
const ASLEEP: Duration = Duration::from_secs(5);
/// How long a broker may keep a connection that broke the protocol.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest wait of one turn.
const TURN: Duration = Duration::from_millis(20);

/// The clients that are disturbed.
pub struct Crowd<'a> {
    options: &'a Options,
    target: Target,
    poller: Poller,
    members: Vec<Member>,
    random: Random,
    start: Instant,
    rate: f64,
    buffer: Vec<u8>,
    scratch: Vec<u8>,
    /// Connections killed.
    pub kills: u64,
    /// Messages sent.
    pub published: u64,
    /// Messages received.
    pub received: u64,
    /// Connections the broker closed though nothing was wrong with them, or left open though they broke the protocol.
    pub wronged: u64,
    /// The last one of these.
    pub example: String,
}

enum State {
    Away {
        until: Instant,
    },
    Connecting,
    Greeting,
    Live,
    /// Has sent garbage: the broker has to close the connection before then.
    Doomed {
        until: Instant,
    },
}

struct Member {
    number: usize,
    state: State,
    stream: Option<Stream>,
    outbox: Outbox,
    rest: Rest,
    asleep_until: Option<Instant>,
    packet_id: u16,
    sent: u32,
    plain: Templates,
    retained: Templates,
}

impl<'a> Crowd<'a> {
    /// `count` clients that publish `rate` messages per second together.
    pub fn new(options: &'a Options, count: usize, rate: f64) -> anyhow::Result<Crowd<'a>> {
        let now = Instant::now();
        let members = (0..count).map(|number| Member::new(number, options.payload, now)).collect();
        Ok(Crowd {
            options,
            target: Target { sources: options.sources.unwrap_or(32), ..options.target()? },
            poller: Poller::new()?,
            members,
            random: Random::new(1),
            start: now,
            rate,
            buffer: vec![0; 64 * 1024],
            scratch: Vec::new(),
            kills: 0,
            published: 0,
            received: 0,
            wronged: 0,
            example: String::new(),
        })
    }

    /// How many clients there are.
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// How many of them are connected now.
    pub fn live(&self) -> usize {
        self.members.iter().filter(|member| matches!(member.state, State::Live)).count()
    }

    /// Whatever is due: kills, returns, messages, reading.
    pub fn turn(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        let passed = now.duration_since(self.start).as_secs_f64();
        while (self.kills as f64) < passed * self.options.kills {
            self.kill(now);
            self.kills += 1;
        }
        let mut joining = self.members.iter().filter(|member| matches!(member.state, State::Connecting | State::Greeting)).count();
        for number in 0..self.members.len() {
            let member = &mut self.members[number];
            match member.state {
                State::Away { until } if until <= now && joining < self.options.connecting => {
                    let stream = self.target.connect(self.random.below(1 << 16) as u64)?;
                    self.poller.add(&stream, number as u64)?;
                    member.join(stream);
                    joining += 1;
                }
                State::Doomed { until } if until <= now => {
                    self.wronged += 1;
                    self.example = format!("client {number} broke the protocol and was not closed");
                    self.gone(number, now);
                }
                _ if member.asleep_until.is_some_and(|until| until <= now) => {
                    member.asleep_until = None;
                    self.step(number, false, now);
                }
                _ => {}
            }
        }
        let due = (passed * self.rate) as u64;
        while self.published < due {
            let number = self.random.below(self.members.len());
            self.publish(number, now);
            self.published += 1;
        }
        self.poller.wait(TURN)?;
        for at in 0..self.poller.count() {
            let (number, writable) = self.poller.event(at);
            self.step(number as usize, writable, now);
        }
        Ok(())
    }

    fn publish(&mut self, number: usize, now: Instant) {
        let member = &mut self.members[number];
        if !matches!(member.state, State::Live) || !member.outbox.is_empty() {
            return;
        }
        member.sent += 1;
        member.packet_id = member.packet_id.checked_add(1).unwrap_or(1);
        self.scratch.clear();
        let templates = if member.sent.is_multiple_of(8) { &member.retained } else { &member.plain };
        templates.append(0, member.packet_id, member.sent, None, &mut self.scratch);
        let Some(stream) = &mut member.stream else { return };
        if member.outbox.send(&self.scratch, stream).is_err() {
            self.gone(number, now);
        }
    }

    fn kill(&mut self, now: Instant) {
        let number = self.random.below(self.members.len());
        let manner = self.random.below(5);
        let away = State::Away { until: now + self.random.within(AWAY) };
        let asleep_until = now + self.random.within(ASLEEP);
        let member = &mut self.members[number];
        if !matches!(member.state, State::Live) {
            return;
        }
        let Some(stream) = &mut member.stream else { return };
        match manner {
            0 => {
                if let Some(stream) = member.stream.take() {
                    stream.reset();
                }
            }
            1 => {
                let _ = member.outbox.send(&wire::DISCONNECT_PACKET, stream);
            }
            2 => {}
            3 => {
                // A SUBSCRIBE with wrong reserved bits, and a filter that is none: the broker has to close.
                member.state = State::Doomed { until: now + PATIENCE };
                let _ = member.outbox.send(&[0x80, 7, 0, 1, 0, 2, b'#', b'a', 9], stream);
                return;
            }
            _ => {
                member.asleep_until = Some(asleep_until);
                return;
            }
        }
        member.leave(away);
    }

    fn gone(&mut self, number: usize, now: Instant) {
        let until = now + self.random.within(AWAY);
        self.members[number].leave(State::Away { until });
    }

    fn step(&mut self, number: usize, writable: bool, now: Instant) {
        let member = &mut self.members[number];
        if matches!(member.state, State::Connecting) && writable {
            member.state = State::Greeting;
            let connect = member.connect();
            member.outbox.push(&connect);
        }
        if member.asleep_until.is_some() {
            return;
        }
        if let Err(reason) = member.serve(&mut self.buffer, &mut self.received) {
            if !matches!(member.state, State::Doomed { .. } | State::Away { .. }) {
                self.wronged += 1;
                self.example = format!("client {number}: {reason}");
            }
            self.gone(number, now);
        }
    }
}

impl Member {
    fn new(number: usize, payload: usize, now: Instant) -> Member {
        let version = version(number);
        let (group, qos) = (number / GROUP, (number % 3) as u8);
        let templates = |leaf: &str, retain| {
            Templates::new(version, &[format!("soak/{group}/{leaf}/{number}")], number as u32, payload.max(8), qos, retain)
        };
        Member {
            number,
            state: State::Away { until: now },
            stream: None,
            outbox: Outbox::default(),
            rest: Rest::default(),
            asleep_until: None,
            packet_id: 1,
            sent: 0,
            plain: templates("live", false),
            retained: templates("kept", true),
        }
    }

    fn is_persistent(&self) -> bool {
        self.number % 10 == 3
    }

    fn connect(&self) -> Vec<u8> {
        let client_id = client_id("crowd", self.number);
        let topic = format!("soak/{}/will/{}", self.number / GROUP, self.number);
        let clean = !self.is_persistent();
        let session_expiry = if clean { 0 } else { 600 };
        let will = self.number.is_multiple_of(2).then_some((topic.as_str(), b"gone, and nobody knows why".as_slice()));
        Connect { version: version(self.number), client_id: &client_id, clean, keep_alive: 60, session_expiry, will }.encode()
    }

    fn subscribe(&self) -> Vec<u8> {
        let group = self.number / GROUP;
        let filter = match self.number % 10 {
            0 => format!("$share/crowd/soak/{group}/+/+"),
            1 => format!("soak/{group}/live/+"),
            2 => format!("soak/{group}/+/{}", self.number + 1),
            _ => format!("soak/{group}/#"),
        };
        wire::subscribe(version(self.number), &filter, (self.number / 3 % 3) as u8)
    }

    fn join(&mut self, stream: Stream) {
        self.stream = Some(stream);
        self.state = State::Connecting;
        self.outbox = Outbox::default();
        self.rest = Rest::default();
        self.asleep_until = None;
    }

    fn leave(&mut self, away: State) {
        self.stream = None;
        self.asleep_until = None;
        self.state = away;
    }

    fn serve(&mut self, buffer: &mut Vec<u8>, received: &mut u64) -> Result<(), String> {
        loop {
            let Some(stream) = &mut self.stream else { return Ok(()) };
            self.outbox.flush(stream).map_err(|error| error.to_string())?;
            let kept = self.rest.restore(buffer);
            match stream.read(&mut buffer[kept..]) {
                Ok(0) => return Err("closed".to_owned()),
                Ok(read) => self.consume(&buffer[..kept + read], received)?,
                Err(error) => {
                    self.rest.keep(&buffer[..kept]);
                    match error.kind() {
                        ErrorKind::WouldBlock => return Ok(()),
                        ErrorKind::Interrupted => {}
                        _ => return Err(error.to_string()),
                    }
                }
            }
        }
    }

    fn consume(&mut self, input: &[u8], received: &mut u64) -> Result<(), String> {
        let mut at = 0;
        while let Some(frame) = frames::first(&input[at..]).map_err(|_| "a packet without a proper length".to_owned())? {
            let packet = &input[at..at + frame.length];
            let body = &packet[frame.header..];
            at += frame.length;
            match packet[0] {
                first if first >> 4 == 3 => {
                    *received += 1;
                    let topic = body.get(..2).map_or(0, |length| usize::from(u16::from_be_bytes([length[0], length[1]])));
                    if let (qos @ 1..=2, Some(id)) = (first >> 1 & 3, body.get(2 + topic..4 + topic)) {
                        self.outbox.push(&[if qos == 1 { wire::PUBACK } else { wire::PUBREC }, 2, id[0], id[1]]);
                    }
                }
                wire::PUBREC if body.len() >= 2 => self.outbox.push(&[wire::PUBREL, 2, body[0], body[1]]),
                wire::PUBREL if body.len() >= 2 => self.outbox.push(&[wire::PUBCOMP, 2, body[0], body[1]]),
                wire::CONNACK if body.get(1) == Some(&0) => self.outbox.push(&self.subscribe()),
                wire::SUBACK if body.last().is_some_and(|&code| code < 3) => self.state = State::Live,
                wire::PUBACK | wire::PUBCOMP => {}
                wire::DISCONNECT => return Err(format!("DISCONNECT {body:02x?}")),
                first => return Err(format!("unexpected packet {first:#04x} {body:02x?}")),
            }
        }
        self.rest.keep(&input[at..]);
        Ok(())
    }
}

fn version(number: usize) -> Version {
    if (number / 2).is_multiple_of(2) { Version::V5 } else { Version::V3_1_1 }
}
