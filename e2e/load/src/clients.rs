//! Establishing many connections: TCP, TLS, CONNECT, and a SUBSCRIBE where one is wanted.
//!
//! Only so many at a time: a broker's listen backlog is short (Mosquitto's is 100), and a dropped SYN costs a second.

use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::frames::{self, Rest};
use crate::socket::{Outbox, Poller, Stream, Target};
use crate::wire;

/// How long nothing may happen before connecting is given up.
const STALL: Duration = Duration::from_secs(20);

/// What to send on a new connection.
#[derive(Debug, Default)]
pub struct Greeting {
    /// A whole CONNECT.
    pub connect: Vec<u8>,
    /// A whole SUBSCRIBE, sent after the CONNACK.
    pub subscribe: Option<Vec<u8>>,
}

/// An established connection.
#[derive(Debug)]
pub struct Client {
    /// The connection.
    pub stream: Stream,
    /// How many QoS 1 and 2 messages the broker takes at once.
    pub receive_maximum: u16,
    /// Session Present.
    pub session_present: bool,
}

#[derive(Debug, PartialEq)]
enum Stage {
    Connecting,
    Connack,
    Suback,
    Ready,
}

struct Attempt {
    stream: Stream,
    stage: Stage,
    greeting: Greeting,
    outbox: Outbox,
    rest: Rest,
    receive_maximum: u16,
    session_present: bool,
}

/// Establishes `count` connections, `connecting` of them at a time; they come back in order.
pub fn establish(
    target: &Target,
    count: usize,
    connecting: usize,
    mut greeting: impl FnMut(usize) -> Greeting,
) -> anyhow::Result<Vec<Client>> {
    let mut poller = Poller::new()?;
    let mut attempts: Vec<Attempt> = Vec::with_capacity(count);
    let mut buffer = vec![0; 16 * 1024];
    let mut ready = 0;
    let mut progress = Instant::now();
    while ready < count {
        while attempts.len() < count && attempts.len() - ready < connecting {
            let number = attempts.len();
            let stream = target.connect(number as u64).context("cannot connect")?;
            poller.add(&stream, number as u64)?;
            let greeting = greeting(number);
            let (stage, outbox, rest) = (Stage::Connecting, Outbox::default(), Rest::default());
            attempts.push(Attempt { stream, stage, greeting, outbox, rest, receive_maximum: u16::MAX, session_present: false });
        }
        poller.wait(Duration::from_secs(1))?;
        if poller.count() > 0 {
            progress = Instant::now();
        } else if progress.elapsed() > STALL {
            bail!("{} of {count} connections are established and nothing has happened for {STALL:?}", ready);
        }
        for at in 0..poller.count() {
            let (number, writable) = poller.event(at);
            let attempt = &mut attempts[number as usize];
            if attempt.stage != Stage::Ready {
                attempt.step(writable, &mut buffer).with_context(|| format!("connection {number}"))?;
                ready += usize::from(attempt.stage == Stage::Ready);
            }
        }
    }
    Ok(attempts
        .into_iter()
        .map(|attempt| Client {
            stream: attempt.stream,
            receive_maximum: attempt.receive_maximum,
            session_present: attempt.session_present,
        })
        .collect())
}

impl Attempt {
    fn step(&mut self, writable: bool, buffer: &mut Vec<u8>) -> anyhow::Result<()> {
        if self.stage == Stage::Connecting && writable {
            self.outbox.push(&self.greeting.connect);
            self.stage = Stage::Connack;
        }
        loop {
            if !self.outbox.is_empty() {
                self.outbox.flush(&mut self.stream)?;
            }
            let kept = self.rest.restore(buffer);
            match self.stream.read(&mut buffer[kept..]) {
                Ok(0) => bail!("the broker closed the connection"),
                Ok(read) => self.consume(&buffer[..kept + read])?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.rest.keep(&buffer[..kept]);
                    break;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => self.rest.keep(&buffer[..kept]),
                Err(error) => return Err(error.into()),
            }
        }
        if !self.outbox.is_empty() {
            self.outbox.flush(&mut self.stream)?; // the read may have finished a TLS handshake
        }
        Ok(())
    }

    fn consume(&mut self, input: &[u8]) -> anyhow::Result<()> {
        let mut at = 0;
        while let Some(frame) = frames::first(&input[at..]).map_err(|_| anyhow::anyhow!("a packet has no proper length"))? {
            let packet = &input[at..at + frame.length];
            let body = &packet[frame.header..];
            at += frame.length;
            match (&self.stage, packet[0]) {
                (Stage::Connack, wire::CONNACK) => {
                    if body.get(1) != Some(&0) {
                        bail!("CONNACK refuses: {body:02x?}");
                    }
                    self.session_present = body[0] & 1 == 1;
                    self.receive_maximum = wire::receive_maximum(body);
                    self.stage = Stage::Ready;
                    if let Some(subscribe) = self.greeting.subscribe.take() {
                        self.outbox.send(&subscribe, &mut self.stream)?;
                        self.stage = Stage::Suback;
                    }
                }
                (Stage::Suback, wire::SUBACK) => {
                    if body.last().is_none_or(|&code| code >= 0x80) {
                        bail!("SUBACK refuses: {body:02x?}");
                    }
                    self.stage = Stage::Ready;
                }
                (_, first) => bail!("unexpected packet {first:#04x} {body:02x?}"),
            }
        }
        self.rest.keep(&input[at..]);
        Ok(())
    }
}
