//! The output side of the Network Connection that serves a Session: what the Client granted and the bytes waiting for its socket.

use bucketmq_packet::ProtocolVersion;

use crate::aliases::AliasesOut;

/// QoS 0 bytes beyond the output limit that are still taken: what publishers on all worker threads had read before they could be held.
const QOS0_OVERSHOOT_BYTES: usize = 1024 * 1024;

/// What CONNECT and the broker's limits say about a Network Connection.
#[derive(Debug, Clone, Copy)]
pub struct LinkParameters {
    /// Version of every packet on this connection.
    pub version: ProtocolVersion,
    /// QoS 1 and 2 messages that may be unacknowledged: the Client's Receive Maximum, capped by the broker's own limit [MQTT-3.3.4-9].
    pub receive_maximum: u16,
    /// Largest packet the Client takes, bytes [MQTT-3.1.2-24].
    pub maximum_packet_size: u32,
    /// Topic Aliases the broker may use towards the Client [MQTT-3.1.2-26].
    pub topic_alias_maximum: u16,
    /// Bytes that may wait for the socket before messages stay in the queue (QoS 1, 2). QoS 0, whose publishers are then asked to wait, is taken up
    /// to twice this and 1 MiB.
    pub output_limit: u32,
}

/// A live connection's output. Dropped when the connection ends.
#[derive(Debug)]
pub struct Link {
    pub(crate) parameters: LinkParameters,
    pub(crate) output: Vec<u8>,
    pub(crate) aliases: Option<Box<AliasesOut>>,
}

impl Link {
    /// A link with nothing to send.
    pub fn new(parameters: LinkParameters) -> Self {
        let aliases = (parameters.topic_alias_maximum > 0).then(|| Box::new(AliasesOut::new(parameters.topic_alias_maximum)));
        Self { parameters, output: Vec::new(), aliases }
    }

    /// What was agreed.
    pub fn parameters(&self) -> &LinkParameters {
        &self.parameters
    }

    /// Bytes waiting for the socket.
    pub fn pending(&self) -> usize {
        self.output.len()
    }

    /// True while more messages may be encoded.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.output.len() < self.parameters.output_limit as usize
    }

    /// True while QoS 0 may be encoded: its publishers are asked to wait as soon as there is no room, but a few of them are on their way already.
    #[inline]
    pub fn has_room_for_qos0(&self) -> bool {
        self.output.len() < 2 * self.parameters.output_limit as usize + QOS0_OVERSHOOT_BYTES
    }

    /// The buffer packets are appended to; `spare` gives one when there is none yet.
    #[inline]
    pub fn output_mut(&mut self, spare: impl FnOnce() -> Vec<u8>) -> &mut Vec<u8> {
        if self.output.capacity() == 0 {
            self.output = spare();
        }
        &mut self.output
    }
}
