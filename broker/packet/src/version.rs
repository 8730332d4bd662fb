//! The versions of MQTT that are spoken here.

use crate::UnknownValue;

/// The version of MQTT a Network Connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ProtocolVersion {
    /// MQTT 3.1: "MQIsdp", level 3.
    V3_1 = 3,
    /// MQTT 3.1.1: "MQTT", level 4.
    V3_1_1 = 4,
    /// MQTT 5.0: "MQTT", level 5.
    V5 = 5,
}

impl ProtocolVersion {
    /// Every version, oldest first.
    pub const ALL: [Self; 3] = [Self::V3_1, Self::V3_1_1, Self::V5];

    /// The level as CONNECT carries it: 3, 4 or 5.
    #[inline]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The Protocol Name that goes with the level [MQTT-3.1.2-1].
    pub const fn name(self) -> &'static str {
        match self {
            Self::V3_1 => "MQIsdp",
            Self::V3_1_1 | Self::V5 => "MQTT",
        }
    }
}

impl TryFrom<u8> for ProtocolVersion {
    type Error = UnknownValue;

    fn try_from(value: u8) -> Result<Self, UnknownValue> {
        match value {
            3 => Ok(Self::V3_1),
            4 => Ok(Self::V3_1_1),
            5 => Ok(Self::V5),
            _ => Err(UnknownValue(value)),
        }
    }
}
