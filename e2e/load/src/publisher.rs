//! One publishing connection.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};

use anyhow::bail;

use crate::frames::{self, Rest};
use crate::histogram::Histogram;
use crate::socket::{Outbox, Stream};
use crate::wire::{self, Templates};

/// Bytes of PUBLISH packets given to the kernel in one call, unless a plan says otherwise.
const BATCH: usize = 64 * 1024;

/// How a publisher publishes.
#[derive(Debug)]
pub struct Plan {
    /// Its packets, a topic each, sent in turn.
    pub templates: Templates,
    /// Source number of the first topic.
    pub first_source: u32,
    /// QoS of the packets.
    pub qos: u8,
    /// Messages in flight at QoS 1 and 2.
    pub window: u32,
    /// Packets written at once, at most.
    pub batch: Option<usize>,
    /// Messages to send altogether; None: until the time is over.
    pub limit: Option<u64>,
    /// Whether messages wait until they are due.
    pub paced: bool,
    /// Whether messages carry the time.
    pub stamped: bool,
    /// Whether acknowledgements are timed.
    pub timed: bool,
}

/// A publishing connection.
#[derive(Debug)]
pub struct Publisher {
    /// The connection.
    pub stream: Stream,
    plan: Plan,
    outbox: Outbox,
    rest: Rest,
    in_flight: u32,
    packet_id: u16,
    topic: usize,
    round: u32,
    sent: u64,
    due: VecDeque<u64>,
    /// When each message that is not acknowledged was due or sent, oldest first: acknowledgements come in order [MQTT-4.6.0-2].
    unacknowledged: VecDeque<u64>,
    stopped: bool,
    ping: Ping,
    /// Messages the broker answered with an error.
    pub refused: u64,
    /// Whether it stands in the list of those that may go on writing.
    pub queued: bool,
}

/// What the publishers of one thread had acknowledged.
#[derive(Debug, Default)]
pub struct Acknowledged {
    /// Messages whose handshake is over.
    pub messages: u64,
    /// Nanoseconds until PUBACK or PUBREC, from when a message was due where the run is paced; of publishers that time it.
    pub latency: Histogram,
}

/// At QoS 0 the answer to a PINGREQ says that all before it was read.
#[derive(Debug, PartialEq)]
enum Ping {
    Unsent,
    Sent,
    Answered,
}

impl Publisher {
    /// Publishes by `plan` on an established connection.
    pub fn new(stream: Stream, plan: Plan) -> Publisher {
        Publisher {
            stream,
            plan,
            outbox: Outbox::default(),
            rest: Rest::default(),
            in_flight: 0,
            packet_id: 0,
            topic: 0,
            round: 0,
            sent: 0,
            due: VecDeque::new(),
            unacknowledged: VecDeque::new(),
            stopped: false,
            ping: Ping::Unsent,
            refused: 0,
            queued: false,
        }
    }

    /// How many messages were sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Adds what was sent to the count of each source.
    pub fn add_published(&self, published: &mut Vec<u64>) {
        let (topics, first) = (self.plan.templates.topics(), self.plan.first_source as usize);
        if published.len() < first + topics {
            published.resize(first + topics, 0);
        }
        for topic in 0..topics {
            published[first + topic] += self.sent / topics as u64 + u64::from((topic as u64) < self.sent % topics as u64);
        }
    }

    /// Lets a message be sent that is due at `time`.
    pub fn due(&mut self, time: u64) {
        self.due.push_back(time);
    }

    /// Sends nothing new any more.
    pub fn stop(&mut self) {
        self.stopped = true;
        self.due.clear();
    }

    /// Whether it was told to stop.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Whether everything is sent and, as far as the QoS lets one know, handled.
    pub fn is_done(&self) -> bool {
        let complete = self.stopped || self.plan.limit == Some(self.sent);
        complete && self.outbox.is_empty() && self.in_flight == 0 && (!self.pings() || self.ping == Ping::Answered)
    }

    fn pings(&self) -> bool {
        self.plan.qos == 0 && self.plan.limit.is_some()
    }

    fn allowed(&self) -> usize {
        if self.stopped {
            return 0;
        }
        let mut count = self.plan.batch.unwrap_or(BATCH / self.plan.templates.packet_length()).max(1);
        if self.plan.qos > 0 {
            count = count.min((self.plan.window - self.in_flight) as usize);
        }
        if let Some(limit) = self.plan.limit {
            count = count.min((limit - self.sent) as usize);
        }
        if self.plan.paced {
            count = count.min(self.due.len());
        }
        count
    }

    /// Writes one batch at most. True when there may be more to write at once; false when it has to wait for the socket, for
    /// acknowledgements or for time.
    pub fn pump(&mut self, now: u64, scratch: &mut Vec<u8>, lateness: &mut Histogram) -> io::Result<bool> {
        if !self.outbox.is_empty() && !self.outbox.flush(&mut self.stream)? {
            return Ok(false);
        }
        let count = self.allowed();
        scratch.clear();
        for _ in 0..count {
            let due = if self.plan.paced { self.due.pop_front() } else { None };
            if let Some(due) = due {
                lateness.record(now.saturating_sub(due));
            }
            let time = if self.plan.paced { due } else { self.plan.stamped.then_some(now) };
            if self.plan.timed {
                self.unacknowledged.push_back(due.unwrap_or(now));
            }
            if self.plan.qos > 0 {
                // Identifiers go round; the window is far smaller, so the one taken is free again.
                self.packet_id = self.packet_id.checked_add(1).unwrap_or(1);
            }
            self.plan.templates.append(self.topic, self.packet_id, self.round, time, scratch);
            self.topic += 1;
            if self.topic == self.plan.templates.topics() {
                self.topic = 0;
                self.round += 1;
            }
        }
        self.sent += count as u64;
        if self.plan.qos > 0 {
            self.in_flight += count as u32;
        }
        if self.ping == Ping::Unsent && self.pings() && self.plan.limit == Some(self.sent) {
            self.ping = Ping::Sent;
            scratch.extend_from_slice(&wire::PINGREQ_PACKET);
        }
        if scratch.is_empty() {
            return Ok(false);
        }
        Ok(self.outbox.send(scratch, &mut self.stream)? && self.allowed() > 0)
    }

    /// Reads acknowledgements until the socket is empty and says how many bytes came. What they allow is for the next pump.
    pub fn read(
        &mut self,
        buffer: &mut Vec<u8>,
        scratch: &mut Vec<u8>,
        acknowledged: &mut Acknowledged,
        clock: impl Fn() -> u64,
    ) -> anyhow::Result<usize> {
        scratch.clear();
        let mut total = 0;
        loop {
            let kept = self.rest.restore(buffer);
            match self.stream.read(&mut buffer[kept..]) {
                Ok(0) => bail!("the broker closed a publisher's connection"),
                Ok(read) => {
                    total += read;
                    let now = if self.plan.timed { clock() } else { 0 };
                    let whole = self.consume(&buffer[..kept + read], scratch, acknowledged, now)?;
                    self.rest.keep(&buffer[whole..kept + read]);
                    if self.stream.short_read_is_last() && kept + read < buffer.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.rest.keep(&buffer[..kept]);
                    break;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => self.rest.keep(&buffer[..kept]),
                Err(error) => return Err(error.into()),
            }
        }
        if !scratch.is_empty() {
            // PUBRELs go out with the next batch, in one write, unless there is none.
            self.outbox.push(scratch);
        }
        Ok(total)
    }

    fn consume(&mut self, input: &[u8], releases: &mut Vec<u8>, acknowledged: &mut Acknowledged, now: u64) -> anyhow::Result<usize> {
        let mut at = 0;
        while let Some(frame) = frames::first(&input[at..]).map_err(|_| anyhow::anyhow!("a packet has no proper length"))? {
            let packet = &input[at..at + frame.length];
            let refused = packet.len() > 4 && packet[4] >= 0x80;
            if matches!(packet[0], wire::PUBACK | wire::PUBREC)
                && let Some(since) = self.unacknowledged.pop_front()
            {
                acknowledged.latency.record(now.saturating_sub(since));
            }
            match packet[0] {
                wire::PUBACK | wire::PUBCOMP => {
                    self.in_flight = self.in_flight.saturating_sub(1);
                    self.refused += u64::from(refused);
                    acknowledged.messages += u64::from(!refused);
                }
                wire::PUBREC if refused => {
                    self.in_flight = self.in_flight.saturating_sub(1);
                    self.refused += 1;
                }
                wire::PUBREC if packet.len() >= 4 => releases.extend_from_slice(&[wire::PUBREL, 2, packet[2], packet[3]]),
                wire::PINGRESP => self.ping = Ping::Answered,
                wire::DISCONNECT => bail!("the broker disconnects a publisher: {:02x?}", &packet[frame.header..]),
                first => bail!("unexpected packet {first:#04x} for a publisher"),
            }
            at += frame.length;
        }
        Ok(at)
    }
}
