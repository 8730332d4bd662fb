//! What a peer did wrong, as data.

use crate::{PacketType, ReasonCode};

/// A peer broke the specification. The Reason Code is the one for CONNACK or DISCONNECT, after which the Network Connection is closed
/// [MQTT-4.13.1-1].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{detail} ({reason_code}) [{clause}]")]
pub struct Violation {
    /// What to tell the peer.
    pub reason_code: ReasonCode,
    /// The statement that was broken, "MQTT-3.3.1-4"; a bare section number where the rule has no identifier; the older text with its
    /// version in front, "3.1.1 MQTT-3.1.2-22".
    pub clause: &'static str,
    /// The same for a person.
    pub detail: &'static str,
    /// The packet it happened in, when that is known.
    pub packet_type: Option<PacketType>,
}

impl Violation {
    /// A Violation not yet tied to a packet.
    #[cold]
    pub const fn new(reason_code: ReasonCode, clause: &'static str, detail: &'static str) -> Self {
        Self { reason_code, clause, detail, packet_type: None }
    }

    /// 0x81: the bytes cannot be parsed.
    #[cold]
    pub const fn malformed(clause: &'static str, detail: &'static str) -> Self {
        Self::new(ReasonCode::MalformedPacket, clause, detail)
    }

    /// 0x82: the bytes can be parsed, and say what is not allowed.
    #[cold]
    pub const fn protocol_error(clause: &'static str, detail: &'static str) -> Self {
        Self::new(ReasonCode::ProtocolError, clause, detail)
    }

    /// The same, in a packet of `packet_type`.
    #[must_use]
    pub const fn within(mut self, packet_type: PacketType) -> Self {
        self.packet_type = Some(packet_type);
        self
    }
}

/// A number that stands for nothing in the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("value {0} has no meaning here")]
pub struct UnknownValue(pub u8);
