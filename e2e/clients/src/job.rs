//! What a client is asked to do, and what it answers. `paho/driver.py`, `mqttjs/driver.mjs` and the driver of rumqttc read and write the same as JSON.

use serde::{Deserialize, Serialize};

/// One connection's worth of work.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// What to do.
    pub role: Role,
    /// Always an address of this machine.
    pub host: String,
    /// Of the listener for `transport`.
    pub port: u16,
    /// What MQTT runs over.
    pub transport: Transport,
    /// Which MQTT.
    pub version: Version,
    /// Client Identifier.
    pub client_id: String,
    /// To publish to, or to subscribe to.
    pub topic: String,
    /// Of messages, or of the Subscription.
    pub qos: u8,
    /// Publish: that many messages, whose payloads are 0, 1, 2 ... Subscribe: leave after that many.
    pub count: usize,
    /// Publish: this instead of numbers.
    pub payload: Option<String>,
    /// Publish: RETAIN.
    pub retain: bool,
    /// Start with a new Session, and leave none behind. False: resume it and leave it behind.
    pub clean: bool,
    /// Subscribe: stay for so long after the last message, to see what should not come.
    pub linger_ms: u64,
    /// What the broker publishes when this client is lost.
    pub will: Option<WillJob>,
    /// PEM file of the CA, for TLS.
    pub ca: Option<String>,
    /// PEM file of the Client's certificate.
    pub cert: Option<String>,
    /// PEM file of its key.
    pub key: Option<String>,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Publish and leave when all is acknowledged.
    Publish,
    /// Subscribe and tell what comes.
    Subscribe,
}

/// What MQTT runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Plain.
    Tcp,
    /// With certificates on both sides.
    Tls,
    /// WebSocket.
    Ws,
}

/// Which MQTT, as the number CONNECT carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub enum Version {
    /// 3.1.
    V3_1,
    /// 3.1.1.
    V3_1_1,
    /// 5.0.
    V5,
}

impl From<Version> for u8 {
    fn from(version: Version) -> Self {
        match version {
            Version::V3_1 => 3,
            Version::V3_1_1 => 4,
            Version::V5 => 5,
        }
    }
}

impl TryFrom<u8> for Version {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        match number {
            3 => Ok(Self::V3_1),
            4 => Ok(Self::V3_1_1),
            5 => Ok(Self::V5),
            _ => Err(format!("there is no version {number}")),
        }
    }
}

/// A Will Message.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WillJob {
    /// Topic Name.
    pub topic: String,
    /// Application Message.
    pub payload: String,
    /// Quality of Service.
    pub qos: u8,
    /// To be retained.
    pub retain: bool,
}

/// What a client saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// CONNACK came; `session_present` where the client tells.
    Connected {
        /// As CONNACK says.
        session_present: Option<bool>,
    },
    /// SUBACK came.
    Subscribed,
    /// A message came.
    Message(Received),
}

/// A message as the client handed it on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// Application Message.
    pub payload: String,
    /// With which QoS.
    pub qos: u8,
    /// RETAIN.
    pub retain: bool,
}
