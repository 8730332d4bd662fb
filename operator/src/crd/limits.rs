//! `spec.limits`: bounds for every Client and for the broker as a whole.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Quantity;

/// Bounds for every Client and for the broker as a whole. What is not given has the broker's own default. All of them are applied without a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Network Connections at one time over all listeners; more are closed at once. Default: 0, as many as there are file descriptors.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2147483647))]
    pub max_connections: Option<i32>,

    /// Network Connections accepted per second over all listeners; more wait in the system's backlog. Default: 0, as fast as they come.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2147483647))]
    pub max_connection_rate: Option<i32>,

    /// The largest MQTT Control Packet a Client may send, from 1Ki to 256Mi. Default: 1Mi.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("quantity(string(self)).compareTo(quantity('1Ki')) >= 0 && quantity(string(self)).compareTo(quantity('256Mi')) <= 0").message("limits.maxPacketSize is from 1Ki to 256Mi, the largest that MQTT can express"))]
    pub max_packet_size: Option<Quantity>,

    /// The highest QoS granted to publishers and subscribers. Default: 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2))]
    pub max_qos: Option<i32>,

    /// Levels of a Topic Name or Topic Filter. Default: 32.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub max_topic_levels: Option<i32>,

    /// Topic Aliases in each direction; 0: none. Default: 16.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 65535))]
    pub max_topic_alias: Option<i32>,

    /// Subscriptions of one Client. Default: 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2147483647))]
    pub max_subscriptions: Option<i32>,

    /// QoS 1 and 2 messages a Client may have under way to the broker. Default: 64.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub receive_maximum: Option<i32>,

    /// QoS 1 and 2 messages sent to a Client and not yet acknowledged. Default: 1024.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 30000))]
    pub max_inflight: Option<i32>,

    /// PUBLISH packets per second of one Client; above it the Client is read more slowly. Default: 0, no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2147483647))]
    pub messages_rate: Option<i32>,

    /// Bytes per second of one Client; above it the Client is read more slowly. Default: 0, no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_rate: Option<Quantity>,

    /// Keep Alive of MQTT 5.0 Clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_alive_seconds: Option<KeepAlive>,

    /// The longest time in seconds that a Session lives without a connection; 0: no cap. Default: 604800, a week.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 4294967295i64))]
    pub session_expiry_seconds_max: Option<i64>,

    /// The longest time in seconds that a message waits or stays retained, whatever its publisher says; 0: no cap. Default: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 4294967295i64))]
    pub message_expiry_seconds_max: Option<i64>,

    /// What waits for a Session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_queue: Option<SessionQueue>,

    /// Retained messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retained: Option<Retained>,

    /// Whether `$share/NAME/FILTER` may be subscribed to. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_subscriptions: Option<bool>,

    /// Which member of a Shared Subscription gets a message. Default: RoundRobin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_strategy: Option<SharedStrategy>,

    /// Whether Topic Filters may hold `+` and `#`. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wildcard_subscriptions: Option<bool>,

    /// Memory of messages and records that wait for the bucket, over all Clients, from 1Mi to 64Gi; publishers that would need more are not read until the
    /// bucket has taken some of it. Default: 64Mi.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("quantity(string(self)).compareTo(quantity('1Mi')) >= 0 && quantity(string(self)).compareTo(quantity('64Gi')) <= 0").message("limits.unwrittenBytes is from 1Mi to 64Gi"))]
    pub unwritten_bytes: Option<Quantity>,
}

/// Keep Alive of MQTT 5.0 Clients, told in CONNACK.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.default) || !has(self.max) || self.max == 0 || self.default <= self.max").message("limits.keepAliveSeconds.default is at most max"))]
pub struct KeepAlive {
    /// What a Client gets that asks for none; 0: it may stay silent for ever. Default: 60.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 65535))]
    pub default: Option<i32>,
    /// The longest; below what a load balancer forgets a silent connection after. 0: no cap. Default: 300.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 65535))]
    pub max: Option<i32>,
}

/// What waits for a Session behind what is in flight.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionQueue {
    /// Messages that wait for one Session. Default: 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2147483647))]
    pub max_messages: Option<i32>,
    /// Bytes that wait for one Session. Default: 16Mi.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<Quantity>,
    /// What a full queue does. Default: DropOldest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overflow: Option<QueueOverflow>,
}

/// What a full queue does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum QueueOverflow {
    /// The oldest waiting message makes room.
    DropOldest,
    /// The new message is dropped.
    RejectNew,
    /// The Client is disconnected with 0x97, and the new message is dropped.
    Disconnect,
}

/// Retained messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retained {
    /// Whether messages are retained. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Retained messages in total. Default: 100000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2147483647))]
    pub max_messages: Option<i32>,
    /// Bytes of retained messages in total. Default: 256Mi.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<Quantity>,
}

/// Which member of a Shared Subscription gets a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SharedStrategy {
    /// One after the other.
    RoundRobin,
    /// Any.
    Random,
    /// The same one for the same publisher, as long as it is there.
    Sticky,
    /// The one with the fewest messages in flight.
    LeastInflight,
}
