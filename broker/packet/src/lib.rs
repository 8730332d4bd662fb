//! Bytes to MQTT Control Packets and back, 3.1 to 5.0.
//!
//! Promises: decoding borrows from its input and never panics, whatever the bytes; what breaks the specification is a [`Violation`] with its
//! clause and Reason Code; encoding what was decoded and decoding it again gives the same. No async, no clock, no I/O.

pub mod ack;
pub mod auth;
pub mod connack;
pub mod connect;
pub mod disconnect;
pub mod message;
pub mod packet;
pub mod property;
pub mod publish;
pub mod suback;
pub mod subscribe;
pub mod topic;
pub mod unsuback;
pub mod unsubscribe;
pub mod will;

mod level;
mod packet_type;
mod qos;
mod reader;
mod reason_code;
mod version;
mod violation;
mod writer;

#[cfg(test)]
mod testing;

pub use ack::Ack;
pub use auth::Auth;
pub use connack::{ConnAck, ConnAckProperties};
pub use connect::{Connect, ConnectProperties};
pub use disconnect::Disconnect;
pub use level::AcknowledgeLevel;
pub use packet::{Packet, decode, packet_length};
pub use packet_type::{PacketIdentifier, PacketType, Sender};
pub use property::UserProperties;
pub use publish::{ForwardedProperties, Publish, PublishProperties, decode_publish};
pub use qos::QoS;
pub use reason_code::ReasonCode;
pub use suback::SubAck;
pub use subscribe::{RetainHandling, Subscribe, SubscriptionOptions};
pub use unsuback::UnsubAck;
pub use unsubscribe::Unsubscribe;
pub use version::ProtocolVersion;
pub use violation::{UnknownValue, Violation};
pub use will::Will;
