//! One subscribing connection: counts, acknowledges, and notes what is missing.

use std::io::{ErrorKind, Read};

use anyhow::bail;

use crate::frames::{self, Frame, Rest};
use crate::histogram::Histogram;
use crate::socket::{Outbox, Stream};
use crate::tracking::{Ascending, Ordered, Together};
use crate::wire;

/// Reads in a row before other connections get their turn.
const READS: usize = 8;

/// How sequence numbers are judged.
#[derive(Debug)]
pub enum Tracking {
    /// The payload is too short for numbers.
    Nothing,
    /// Every message of the sources is expected here, in order.
    Ordered(Ordered),
    /// A member of a shared subscription.
    Shared(Ascending),
}

/// What the subscribers of one thread have in common.
#[derive(Debug, Default)]
pub struct Common {
    /// PUBLISH packets received.
    pub received: u64,
    /// Messages of shared subscriptions.
    pub together: Together,
    /// End-to-end latency in nanoseconds.
    pub latency: Histogram,
    /// Acknowledgements of the read at hand.
    acks: Vec<u8>,
}

/// A subscribing connection.
#[derive(Debug)]
pub struct Subscriber {
    /// The connection.
    pub stream: Stream,
    /// What it saw.
    pub tracking: Tracking,
    payload: usize,
    stamped: bool,
    outbox: Outbox,
    rest: Rest,
    /// CONNACKs that said there is no Session.
    pub absent: u64,
    /// Whether it stands in the list of those that may have more to read.
    pub queued: bool,
}

impl Subscriber {
    /// Expects payloads of `payload` bytes, with the time in them when `stamped`.
    pub fn new(stream: Stream, tracking: Tracking, payload: usize, stamped: bool) -> Subscriber {
        Subscriber { stream, tracking, payload, stamped, outbox: Outbox::default(), rest: Rest::default(), absent: 0, queued: false }
    }

    /// Sends packets before anything else.
    pub fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.outbox.send(bytes, &mut self.stream)?;
        Ok(())
    }

    /// Goes on writing what the socket did not take.
    #[inline]
    pub fn flush(&mut self) -> anyhow::Result<()> {
        if !self.outbox.is_empty() {
            self.outbox.flush(&mut self.stream)?;
        }
        Ok(())
    }

    /// Reads what is there. True when there may be more.
    pub fn read(&mut self, buffer: &mut Vec<u8>, common: &mut Common, clock: impl Fn() -> u64) -> anyhow::Result<bool> {
        for _ in 0..READS {
            let kept = self.rest.restore(buffer);
            let read = match self.stream.read(&mut buffer[kept..]) {
                Ok(0) => bail!("the broker closed a subscriber's connection"),
                Ok(read) => read,
                Err(error) => {
                    self.rest.keep(&buffer[..kept]);
                    match error.kind() {
                        ErrorKind::WouldBlock => return Ok(false),
                        ErrorKind::Interrupted => continue,
                        _ => return Err(error.into()),
                    }
                }
            };
            let now = if self.stamped { clock() } else { 0 };
            common.acks.clear();
            let whole = self.consume(&buffer[..kept + read], common, now)?;
            self.rest.keep(&buffer[whole..kept + read]);
            if !common.acks.is_empty() {
                self.outbox.send(&common.acks, &mut self.stream)?;
            }
            if self.stream.short_read_is_last() && kept + read < buffer.len() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    #[inline]
    fn consume(&mut self, input: &[u8], common: &mut Common, now: u64) -> anyhow::Result<usize> {
        let mut at = 0;
        while let Some(frame) = frames::first(&input[at..]).map_err(|_| anyhow::anyhow!("a packet has no proper length"))? {
            let packet = &input[at..at + frame.length];
            if packet[0] >> 4 == 3 {
                self.publish(packet, frame, common, now)?;
            } else {
                self.absent += u64::from(packet[0] == wire::CONNACK && packet.get(frame.header).is_some_and(|flags| flags & 1 == 0));
                other(packet, frame, common)?;
            }
            at += frame.length;
        }
        Ok(at)
    }

    #[inline(always)]
    fn publish(&mut self, packet: &[u8], frame: Frame, common: &mut Common, now: u64) -> anyhow::Result<()> {
        common.received += 1;
        let qos = packet[0] >> 1 & 3;
        if qos > 0 {
            let Some(id) = packet.get(frame.header..frame.header + 2).and_then(|length| {
                let at = frame.header + 2 + usize::from(u16::from_be_bytes([length[0], length[1]]));
                packet.get(at..at + 2)
            }) else {
                bail!("a PUBLISH is too short for its topic");
            };
            let first = if qos == 1 { wire::PUBACK } else { wire::PUBREC };
            common.acks.extend_from_slice(&[first, 2, id[0], id[1]]);
        }
        if matches!(self.tracking, Tracking::Nothing) {
            return Ok(());
        }
        // The payload stands at the end and its length is known: no need to read topic and properties.
        if frame.length < frame.header + 2 + self.payload {
            bail!("a PUBLISH is shorter than the payload that was sent");
        }
        let payload = &packet[frame.length - self.payload..];
        let (Some((source, rest)), true) = (payload.split_first_chunk::<4>(), self.payload >= 8) else { return Ok(()) };
        let Some((sequence, rest)) = rest.split_first_chunk::<4>() else { return Ok(()) };
        let (source, sequence) = (u32::from_le_bytes(*source), u32::from_le_bytes(*sequence));
        match &mut self.tracking {
            Tracking::Nothing => {}
            Tracking::Ordered(ordered) => ordered.record(source, sequence),
            Tracking::Shared(ascending) => {
                ascending.record(source, sequence);
                common.together.record(source, sequence);
            }
        }
        if self.stamped
            && let Some(time) = rest.first_chunk::<8>()
        {
            common.latency.record(now.saturating_sub(u64::from_le_bytes(*time)));
        }
        Ok(())
    }
}

/// Anything but PUBLISH; acknowledgements of connecting and subscribing are only looked at for errors.
#[inline(never)]
fn other(packet: &[u8], frame: Frame, common: &mut Common) -> anyhow::Result<()> {
    let body = &packet[frame.header..];
    match packet[0] {
        wire::PUBREL if body.len() >= 2 => common.acks.extend_from_slice(&[wire::PUBCOMP, 2, body[0], body[1]]),
        wire::CONNACK if body.get(1).is_some_and(|&code| code != 0) => bail!("CONNACK refuses: {body:02x?}"),
        wire::SUBACK if body.last().is_none_or(|&code| code >= 0x80) => bail!("SUBACK refuses: {body:02x?}"),
        wire::CONNACK | wire::SUBACK | wire::PINGRESP => {}
        wire::DISCONNECT => bail!("the broker disconnects a subscriber: {body:02x?}"),
        first => bail!("unexpected packet {first:#04x} for a subscriber"),
    }
    Ok(())
}
