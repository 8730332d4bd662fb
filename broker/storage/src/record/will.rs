//! The Will of a connected Client, or of one that left and whose delay runs.

use bucketmq_packet::QoS;

use super::session::SessionKey;
use super::{Fault, Kind, Reader, Record, Writer, wire};

/// A Will Message as CONNECT brought it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    /// Topic Name.
    pub topic: String,
    /// Application Message.
    pub payload: Vec<u8>,
    /// QoS to publish with.
    pub qos: QoS,
    /// Publish as a retained message.
    pub retain: bool,
    /// Will Delay Interval in seconds [MQTT-3.1.3-9].
    pub delay_interval: u32,
    /// Lifetime in seconds once published.
    pub message_expiry_interval: Option<u32>,
    /// Encoded properties that go on unaltered.
    pub forward: Vec<u8>,
    /// The principal that may publish it, by name.
    pub owner: Option<String>,
    /// When it is due, milliseconds since 1970; None while the Client is connected.
    pub due_at: Option<u64>,
}

impl Record for Will {
    const KIND: Kind = Kind::Will;
    type Key = SessionKey;

    fn put_key(key: &SessionKey, out: &mut Writer) {
        key.put(out);
    }

    fn take_key(input: &mut Reader<'_>) -> Result<SessionKey, Fault> {
        SessionKey::take(input)
    }

    fn put(&self, out: &mut Writer) {
        out.u8(self.qos as u8 | u8::from(self.retain) << 2);
        out.bytes(self.topic.as_bytes());
        out.bytes(&self.payload);
        out.bytes(&self.forward);
        out.varint(self.delay_interval.into());
        out.option(self.message_expiry_interval, Writer::u32);
        out.option(self.owner.as_deref(), |out, owner| out.bytes(owner.as_bytes()));
        out.option(self.due_at, Writer::u64);
    }

    fn take(_version: u8, input: &mut Reader<'_>) -> Result<Self, Fault> {
        let flags = input.u8()?;
        if flags > 6 {
            return Err(Fault::Invalid("Will flags"));
        }
        Ok(Self {
            qos: wire::qos(flags & 3)?,
            retain: flags & 4 != 0,
            topic: input.string("Will Topic")?.to_owned(),
            payload: input.bytes()?.to_vec(),
            forward: input.bytes()?.to_vec(),
            delay_interval: input.varint32("Will Delay Interval")?,
            message_expiry_interval: input.option(Reader::u32)?,
            owner: input.option(|input| input.string("owner").map(str::to_owned))?,
            due_at: input.option(Reader::u64)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::round_trip;

    proptest! {
        #[test]
        fn a_will_comes_back(
            topic: String, payload: Vec<u8>, qos in 0..3_u8, retain: bool, delay_interval: u32,
            message_expiry_interval: Option<u32>, forward: Vec<u8>, owner: Option<String>, due_at: Option<u64>,
        ) {
            let qos = QoS::try_from(qos).unwrap();
            let will = Will { topic, payload, qos, retain, delay_interval, message_expiry_interval, forward, owner, due_at };
            round_trip(&SessionKey::of("client"), &will);
        }
    }
}
