//! Configuration of the whole broker.
use std::time::Duration;
use bytesize::ByteSize;
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueOverflow { DropOldest, RejectNew, Disconnect }
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SharedStrategy { RoundRobin, Random, Sticky, LeastInflight }
#[derive(Debug, Clone)]
pub struct Limits {
    pub max_connections: u32,
    pub max_packet_size: ByteSize, pub max_qos: u8, pub max_topic_levels: u16, pub topic_alias_maximum: u16, pub topic_alias_maximum_out: u16,
    pub receive_maximum: u16, pub max_inflight: u16, pub keep_alive_default: Duration, pub keep_alive_max: Duration, pub session_expiry_max: Duration,
    pub message_expiry_max: Duration, pub max_subscriptions: u32, pub session_queue_messages: u32, pub session_queue_bytes: ByteSize,
    pub session_queue_overflow: QueueOverflow, pub queue_qos0: bool, pub retained_enabled: bool, pub retained_messages: u32, pub retained_bytes: ByteSize,
    pub shared_subscriptions: bool, pub wildcard_subscriptions: bool, pub subscription_identifiers: bool, pub shared_strategy: SharedStrategy,
    pub output_buffer_bytes: ByteSize, pub messages_rate: u32, pub bytes_rate: ByteSize, pub memory_watermark: ByteSize,
}
