//! An Application Message as the tests see it, on the way in and on the way out.

use bucketmq_packet::{ForwardedProperties, PacketIdentifier, ProtocolVersion, Publish, PublishProperties, QoS, Will};

/// A message with everything a PUBLISH or a Will can say, owned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub dup: bool,
    /// 0 where there is none.
    pub packet_id: u16,
    pub expiry: Option<u32>,
    pub alias: Option<u16>,
    pub subscription_identifiers: Vec<u32>,
    pub payload_format: Option<bool>,
    pub content_type: Option<String>,
    pub response_topic: Option<String>,
    pub correlation_data: Option<Vec<u8>>,
    pub user_properties: Vec<(String, String)>,
}

impl Message {
    /// A QoS 0 message.
    pub fn new(topic: impl Into<String>, payload: impl AsRef<[u8]>) -> Self {
        Self { topic: topic.into(), payload: payload.as_ref().to_vec(), ..Self::default() }
    }

    /// Sets the QoS.
    pub fn qos(mut self, qos: u8) -> Self {
        self.qos = qos;
        self
    }

    /// Sets RETAIN.
    pub fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    /// Sets DUP.
    pub fn dup(mut self) -> Self {
        self.dup = true;
        self
    }

    /// Sets the Packet Identifier.
    pub fn id(mut self, packet_id: u16) -> Self {
        self.packet_id = packet_id;
        self
    }

    /// Sets the Message Expiry Interval.
    pub fn expiry(mut self, seconds: u32) -> Self {
        self.expiry = Some(seconds);
        self
    }

    /// Sets the Topic Alias.
    pub fn alias(mut self, alias: u16) -> Self {
        self.alias = Some(alias);
        self
    }

    /// Adds a User Property.
    pub fn user(mut self, name: &str, value: &str) -> Self {
        self.user_properties.push((name.into(), value.into()));
        self
    }

    /// The payload, for sentences and comparisons.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    /// The properties a Server forwards.
    fn forwarded(&self) -> ForwardedProperties<'_> {
        ForwardedProperties {
            payload_format_indicator: self.payload_format,
            content_type: self.content_type.as_deref(),
            response_topic: self.response_topic.as_deref(),
            correlation_data: self.correlation_data.as_deref(),
            user_properties: self.user_properties.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
        }
    }

    /// The PUBLISH.
    pub fn encode(&self, version: ProtocolVersion) -> Vec<u8> {
        let properties = PublishProperties {
            message_expiry_interval: self.expiry,
            topic_alias: self.alias,
            subscription_identifiers: self.subscription_identifiers.clone(),
            forward: self.forwarded().encode().into(),
        };
        let publish = Publish {
            dup: self.dup,
            qos: qos(self.qos),
            retain: self.retain,
            topic: &self.topic,
            packet_id: PacketIdentifier::new(self.packet_id),
            properties,
            payload: &self.payload,
        };
        let mut out = Vec::new();
        publish.encode(version, &mut out);
        out
    }

    /// The same as a Will.
    pub fn will(&self, delay_interval: u32) -> Will<'_> {
        Will {
            topic: &self.topic,
            payload: &self.payload,
            qos: qos(self.qos),
            retain: self.retain,
            delay_interval,
            message_expiry_interval: self.expiry,
            forward: self.forwarded().encode().into(),
        }
    }
}

/// The QoS of a number the test wrote.
pub fn qos(number: u8) -> QoS {
    QoS::try_from(number).expect("tests write QoS 3 by hand")
}

impl From<&Publish<'_>> for Message {
    fn from(publish: &Publish<'_>) -> Self {
        let forwarded = publish.properties.decoded();
        Self {
            topic: publish.topic.into(),
            payload: publish.payload.to_vec(),
            qos: publish.qos as u8,
            retain: publish.retain,
            dup: publish.dup,
            packet_id: publish.packet_id.map_or(0, PacketIdentifier::get),
            expiry: publish.properties.message_expiry_interval,
            alias: publish.properties.topic_alias,
            subscription_identifiers: publish.properties.subscription_identifiers.clone(),
            payload_format: forwarded.payload_format_indicator,
            content_type: forwarded.content_type.map(Into::into),
            response_topic: forwarded.response_topic.map(Into::into),
            correlation_data: forwarded.correlation_data.map(<[u8]>::to_vec),
            user_properties: forwarded.user_properties.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        }
    }
}
