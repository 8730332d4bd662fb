//! A storm of short connections, every second one rude: half a CONNECT, garbage, a malformed packet, a reset.

use std::io::{ErrorKind, Read};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::{client_id, connect};
use crate::clients::{self, Greeting};
use crate::frames::{self, Rest};
use crate::options::Options;
use crate::process;
use crate::report::{Meter, Report};
use crate::socket::{Outbox, Poller, Stream, Target};
use crate::wire;

/// How long a broker may keep a connection that broke the protocol.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the broker is left alone before its memory is read.
const SETTLE: Duration = Duration::from_secs(3);

/// What a connection does in its life.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Manner {
    /// CONNECT, CONNACK, DISCONNECT.
    Polite,
    /// With a subscription in between.
    Subscriber,
    /// Reset after the CONNACK.
    Reset,
    /// Closed after the CONNACK without a DISCONNECT.
    Close,
    /// Closed in the middle of the CONNECT.
    Half,
    /// Closed before a byte was sent.
    Silent,
    /// Bytes that are no CONNECT.
    Garbage,
    /// A PUBLISH with both QoS bits set.
    BadPublish,
    /// A Remaining Length of five bytes.
    BadLength,
    /// A second CONNECT.
    SecondConnect,
}

const RUDE: [Manner; 8] = [
    Manner::Reset,
    Manner::Close,
    Manner::Half,
    Manner::Silent,
    Manner::Garbage,
    Manner::BadPublish,
    Manner::BadLength,
    Manner::SecondConnect,
];

impl Manner {
    fn of(cycle: usize) -> Manner {
        match cycle % 4 {
            0 => Manner::Polite,
            2 => Manner::Subscriber,
            _ => RUDE[cycle / 2 % RUDE.len()],
        }
    }

    /// What is sent first.
    fn first(self, options: &Options, cycle: usize) -> Vec<u8> {
        let mut bytes = connect(options, &client_id("x", cycle), true);
        match self {
            Manner::Half => bytes.truncate(bytes.len() / 2),
            Manner::Silent => bytes.clear(),
            Manner::Garbage => bytes = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
            _ => {}
        }
        bytes
    }

    /// What is sent after the CONNACK, if anything.
    fn second(self, options: &Options, cycle: usize) -> Vec<u8> {
        match self {
            Manner::Polite => wire::DISCONNECT_PACKET.to_vec(),
            Manner::Subscriber => wire::subscribe(options.protocol, &format!("storm/{cycle}/+/#"), 1),
            Manner::BadPublish => vec![0x36, 5, 0, 1, b'a', 0, 1],
            Manner::BadLength => vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F],
            Manner::SecondConnect => connect(options, "again", true),
            _ => Vec::new(),
        }
    }

    fn awaits_connack(self) -> bool {
        !matches!(self, Manner::Half | Manner::Silent | Manner::Garbage)
    }

    fn awaits_close(self) -> bool {
        matches!(self, Manner::Garbage | Manner::BadPublish | Manner::BadLength | Manner::SecondConnect)
    }
}

struct Slot {
    stream: Stream,
    manner: Manner,
    cycle: usize,
    connected: bool,
    greeted: bool,
    outbox: Outbox,
    rest: Rest,
    deadline: Instant,
}

/// What a storm met.
#[derive(Default)]
struct Tally {
    left_open: u64,
    unexpected: u64,
    example: String,
}

/// Runs a tenth of the storm to warm the broker up, then all of it.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    let cycles = options.connections.unwrap_or(100_000);
    let mut report = Report::new("storm", options);
    let rss = || options.broker_pid.map(process::rss_bytes).transpose().context("no such broker process");
    report.broker_rss_bytes_before = rss()?;
    let target = Target { sources: options.sources.unwrap_or(32), ..options.target()? };
    let mut tally = Tally::default();
    storm(options, &target, cycles / 10, &mut tally)?;
    thread::sleep(SETTLE);
    report.broker_rss_bytes_warm = rss()?;

    let meter = Meter::start(options.broker_pid)?;
    storm(options, &target, cycles, &mut tally)?;
    let cost = meter.stop()?;
    thread::sleep(SETTLE);
    let alive = |_| Greeting { connect: connect(options, &client_id("alive", 0), true), subscribe: None };
    clients::establish(&target, 1, 1, alive).context("the broker does not live after the storm")?;

    report.connections = Some(cycles);
    report.connects_per_second = Some(cycles as f64 / cost.elapsed.as_secs_f64());
    report.set_cost(&cost, cycles as u64);
    report.broker_cpu_us_per_connect = report.broker_cpu_us_per_message.take();
    (report.broker_user_us_per_message, report.broker_system_us_per_message) = (None, None);
    report.set_memory_after(options.broker_pid);
    if let (Some(warm), Some(after)) = (report.broker_rss_bytes_warm, report.broker_rss_bytes_after)
        && after as f64 > warm as f64 * 1.1
    {
        report.failures.push(format!("memory grew from {warm} to {after} bytes"));
    }
    if tally.left_open > 0 {
        report.failures.push(format!("{} malformed connections were left open for {PATIENCE:?}: {}", tally.left_open, tally.example));
    }
    if tally.unexpected > 0 {
        report.failures.push(format!("{} proper connections did not get their answer: {}", tally.unexpected, tally.example));
    }
    report.steady = Some(report.failures.is_empty());
    Ok(report)
}

fn storm(options: &Options, target: &Target, cycles: usize, tally: &mut Tally) -> anyhow::Result<()> {
    let mut poller = Poller::new()?;
    let mut slots: Vec<Option<Slot>> = (0..options.connecting).map(|_| None).collect();
    let mut buffer = vec![0; 16 * 1024];
    let (mut started, mut open) = (0, 0);
    let mut look = Instant::now();
    while started < cycles || open > 0 {
        for (token, slot) in slots.iter_mut().enumerate() {
            if slot.is_none() && started < cycles {
                let stream = target.connect(started as u64).context("cannot connect")?;
                poller.add(&stream, token as u64)?;
                *slot = Some(Slot {
                    stream,
                    manner: Manner::of(started),
                    cycle: started,
                    connected: false,
                    greeted: false,
                    outbox: Outbox::default(),
                    rest: Rest::default(),
                    deadline: Instant::now() + PATIENCE,
                });
                started += 1;
                open += 1;
            }
        }
        poller.wait(Duration::from_millis(100))?;
        for at in 0..poller.count() {
            let (token, writable) = poller.event(at);
            let place = &mut slots[token as usize];
            let Some(slot) = place else { continue };
            if let Some(answered) = slot.step(options, writable, &mut buffer) {
                if !answered {
                    tally.unexpected += 1;
                    tally.example = format!("{:?}", slot.manner);
                }
                if let Some(slot) = place.take() {
                    slot.end();
                    open -= 1;
                }
            }
        }
        if look.elapsed() > Duration::from_millis(500) {
            look = Instant::now();
            for place in &mut slots {
                if let Some(slot) = place.take_if(|slot| slot.deadline < look) {
                    if slot.manner.awaits_close() {
                        tally.left_open += 1
                    } else {
                        tally.unexpected += 1
                    }
                    tally.example = format!("{:?}", slot.manner);
                    open -= 1;
                }
            }
        }
    }
    Ok(())
}

impl Slot {
    /// Goes on; Some when the life is over: whether it went as it should.
    fn step(&mut self, options: &Options, writable: bool, buffer: &mut Vec<u8>) -> Option<bool> {
        if !self.connected && writable {
            self.connected = true;
            self.outbox.push(&self.manner.first(options, self.cycle));
        }
        let closed = loop {
            if self.outbox.flush(&mut self.stream).is_err() {
                break true;
            }
            let kept = self.rest.restore(buffer);
            match self.stream.read(&mut buffer[kept..]) {
                Ok(0) => break true,
                Ok(read) => {
                    if let Some(end) = self.consume(options, &buffer[..kept + read]) {
                        return Some(end);
                    }
                }
                Err(error) => {
                    self.rest.keep(&buffer[..kept]);
                    match error.kind() {
                        ErrorKind::WouldBlock => break false,
                        ErrorKind::Interrupted => {}
                        _ => break true,
                    }
                }
            }
        };
        if closed {
            return Some(self.manner.awaits_close() && (self.greeted || !self.manner.awaits_connack()));
        }
        let quick = matches!(self.manner, Manner::Half | Manner::Silent);
        (quick && self.connected && self.outbox.is_empty()).then_some(true)
    }

    fn consume(&mut self, options: &Options, input: &[u8]) -> Option<bool> {
        let mut at = 0;
        while let Ok(Some(frame)) = frames::first(&input[at..]) {
            let packet = &input[at..at + frame.length];
            at += frame.length;
            match packet[0] {
                wire::CONNACK if !self.greeted && packet.get(3) == Some(&0) => {
                    self.greeted = true;
                    if matches!(self.manner, Manner::Reset | Manner::Close) {
                        return Some(true);
                    }
                    if self.outbox.send(&self.manner.second(options, self.cycle), &mut self.stream).is_err() {
                        return Some(false);
                    }
                    if self.manner == Manner::Polite {
                        return Some(true);
                    }
                }
                wire::SUBACK if self.manner == Manner::Subscriber => {
                    return Some(self.outbox.send(&wire::DISCONNECT_PACKET, &mut self.stream).is_ok());
                }
                // A broker may say why before it closes.
                wire::DISCONNECT | wire::CONNACK if self.manner.awaits_close() => {}
                _ => return Some(false),
            }
        }
        self.rest.keep(&input[at..]);
        None
    }

    fn end(self) {
        if self.manner == Manner::Reset {
            self.stream.reset();
        }
    }
}
