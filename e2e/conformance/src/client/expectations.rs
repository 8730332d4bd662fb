//! What a Client waits for, and what must not come.

use std::time::{Duration, Instant};

use super::Client;
use crate::ensure;
use crate::message::Message;
use crate::outcome::{Failure, Outcome, failed};
use crate::reply::Reply;

impl Client {
    /// The next message.
    pub fn message(&mut self) -> Outcome<Message> {
        if let Some(at) = self.inbox.iter().position(|reply| matches!(reply, Reply::Publish(_)))
            && let Some(Reply::Publish(message)) = self.inbox.remove(at)
        {
            return Ok(message);
        }
        self.awaiting("PUBLISH", |reply| match reply {
            Reply::Publish(message) => Some(message.clone()),
            _ => None,
        })
    }

    /// The next message, which has to have this payload.
    pub fn expect(&mut self, payload: impl AsRef<[u8]>) -> Outcome<Message> {
        let message = self.message()?;
        let expected = String::from_utf8_lossy(payload.as_ref()).into_owned();
        ensure!(message.payload == payload.as_ref(), "message {:?} instead of {expected:?}", crate::reply::short(&message.text()));
        Ok(message)
    }

    /// All messages before the one with payload `last`.
    pub fn messages_before(&mut self, last: &str) -> Outcome<Vec<Message>> {
        let mut before = Vec::new();
        loop {
            let message = self.message()?;
            if message.payload == last.as_bytes() {
                return Ok(before);
            }
            before.push(message);
        }
    }

    /// Nothing is in the inbox and nothing comes for a while, though the broker answers.
    pub fn nothing(&mut self) -> Outcome {
        self.nothing_for(Duration::from_millis(250))
    }

    /// As [`Self::nothing`], for so long.
    pub fn nothing_for(&mut self, quiet: Duration) -> Outcome {
        self.ping()?;
        let deadline = Instant::now() + quiet;
        while self.inbox.is_empty() && Instant::now() < deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            if self.stream.read(&mut self.input, left)? == Some(0) {
                return failed("connection closed though nothing was wrong");
            }
            // The rest of a handshake may come behind PINGRESP.
            if !self.input.is_empty()
                && let Some(packet) = self.read_packet(Instant::now() + self.wait)?
                && let Some(reply) = self.take_part(packet)
            {
                self.inbox.push_back(reply);
            }
        }
        match self.inbox.front() {
            Some(reply) => failed(format!("unexpected {}", reply.name())),
            None => Ok(()),
        }
    }

    /// The broker closes; the Reason Code of a DISCONNECT or refusing CONNACK before it, if there was one. Messages on the way are let go.
    pub fn closed(&mut self) -> Outcome<Option<u8>> {
        self.closed_within(self.wait)
    }

    /// As [`Self::closed`], within so long.
    pub fn closed_within(&mut self, wait: Duration) -> Outcome<Option<u8>> {
        let deadline = Instant::now() + wait;
        let mut code = None;
        loop {
            let reply = match self.read_packet(deadline) {
                Ok(reply) => reply,
                Err(Failure::Failed(why)) if why.starts_with("nothing more") => {
                    return failed(match code {
                        Some(code) => format!("the broker said 0x{code:02X} and did not close"),
                        None => "the broker did not close".into(),
                    });
                }
                Err(other) => return Err(other),
            };
            match reply {
                None => return Ok(code),
                // [MQTT-3.14.4-1]
                Some(other) if code.is_some() => return failed(format!("{} after the broker had said goodbye", other.name())),
                Some(Reply::Disconnect(disconnect)) => code = Some(disconnect.code()),
                Some(Reply::ConnAck(refused)) => {
                    ensure!(refused.code >= 0x80, "CONNACK 0x00 where a refusal was due");
                    code = Some(refused.code);
                }
                Some(_) => {}
            }
        }
    }

    /// The broker closes, and if it says why it says one of `named`, or 0x80: the specification lets a Server keep the reason to itself.
    pub fn closed_with(&mut self, named: &[u8]) -> Outcome {
        match self.closed()? {
            Some(code) if code != 0x80 && !named.contains(&code) => {
                failed(format!("the broker gave 0x{code:02X} as the reason, the specification names {named:02X?}"))
            }
            _ => Ok(()),
        }
    }

    /// The broker closes because the bytes cannot be parsed: 0x81.
    pub fn closed_as_malformed(&mut self) -> Outcome {
        self.closed_with(&[0x81])
    }

    /// The broker closes because the packet is not allowed here: 0x82.
    pub fn closed_as_protocol_error(&mut self) -> Outcome {
        self.closed_with(&[0x82])
    }

    /// The broker closes because the packet is wrong in a way both definitions of 1.2 fit: 0x81 or 0x82.
    pub fn closed_as_wrong(&mut self) -> Outcome {
        self.closed_with(&[0x81, 0x82])
    }
}
