//! A retained message, in the shard of its topic.

use std::sync::Arc;

use bucketmq_packet::message::Message;

use super::{Fault, Kind, Reader, Record, Writer};

/// The topic's last message with RETAIN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retained {
    /// It, its topic included.
    pub message: Arc<Message>,
}

impl Record for Retained {
    const KIND: Kind = Kind::Retained;
    /// The topic.
    type Key = String;

    fn put_key(topic: &String, out: &mut Writer) {
        out.rest(topic.as_bytes());
    }

    fn take_key(input: &mut Reader<'_>) -> Result<String, Fault> {
        Ok(input.rest_string("topic")?.to_owned())
    }

    fn put(&self, out: &mut Writer) {
        out.message(&self.message);
    }

    fn take(_version: u8, input: &mut Reader<'_>) -> Result<Self, Fault> {
        Ok(Self { message: input.message()? })
    }
}

#[cfg(test)]
mod tests {
    use bucketmq_packet::QoS;
    use proptest::prelude::*;

    use super::*;
    use crate::record::round_trip;

    proptest! {
        #[test]
        fn a_retained_message_comes_back(topic in "[a-z/\u{e9}]{1,20}", payload: Vec<u8>, properties: Vec<u8>, expires_at: Option<u64>) {
            // The largest number means never.
            let expires_at = expires_at.filter(|at| *at != u64::MAX);
            let message = Message::new(&topic, &payload, &properties, QoS::AtLeastOnce, true, expires_at);
            round_trip(&topic, &Retained { message });
        }
    }
}
