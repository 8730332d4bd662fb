//! Bytes by hand, for packets no encoder would write.

use bucketmq_packet::ProtocolVersion;
use bucketmq_packet::property::{Property, put_varint};

/// The variable header and payload of a packet, piece by piece.
#[derive(Debug, Clone)]
pub struct Bytes {
    version: ProtocolVersion,
    bytes: Vec<u8>,
}

impl Bytes {
    /// Nothing yet; `version` decides whether [`Self::properties`] writes anything.
    pub fn new(version: ProtocolVersion) -> Self {
        Self { version, bytes: Vec::new() }
    }

    /// One byte.
    pub fn u8(mut self, value: u8) -> Self {
        self.bytes.push(value);
        self
    }

    /// Two bytes, big endian.
    pub fn u16(mut self, value: u16) -> Self {
        self.bytes.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Length and content.
    pub fn binary(self, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.u16(u16::try_from(value.len()).expect("test data fits a two-byte length")).raw(value)
    }

    /// As it is.
    pub fn raw(mut self, value: impl AsRef<[u8]>) -> Self {
        self.bytes.extend_from_slice(value.as_ref());
        self
    }

    /// Property Length and these properties; nothing before 5.0.
    pub fn properties(self, properties: &[Property<'_>]) -> Self {
        let mut encoded = Vec::new();
        properties.iter().for_each(|property| property.encode(&mut encoded));
        self.raw_properties(&encoded)
    }

    /// Property Length and these bytes; nothing before 5.0.
    pub fn raw_properties(mut self, properties: &[u8]) -> Self {
        if self.version == ProtocolVersion::V5 {
            put_varint(u32::try_from(properties.len()).expect("test data is small"), &mut self.bytes);
            self.bytes.extend_from_slice(properties);
        }
        self
    }

    /// The whole packet behind this first byte.
    pub fn packet(self, first: u8) -> Vec<u8> {
        let mut packet = vec![first];
        put_varint(u32::try_from(self.bytes.len()).expect("test data is small"), &mut packet);
        packet.extend_from_slice(&self.bytes);
        packet
    }
}

/// A CONNECT whose every field may be wrong.
#[derive(Debug, Clone)]
pub struct RawConnect {
    /// Which version's layout is written.
    pub version: ProtocolVersion,
    /// Protocol Name.
    pub name: Vec<u8>,
    /// Protocol level.
    pub level: u8,
    /// Connect Flags; 0x02 is Clean Start alone.
    pub flags: u8,
    /// Properties, encoded.
    pub properties: Vec<u8>,
    /// The payload.
    pub payload: Vec<u8>,
}

impl RawConnect {
    /// A sound CONNECT of `client_id`, to be spoiled.
    pub fn new(version: ProtocolVersion, client_id: &str) -> Self {
        let payload = Bytes::new(version).binary(client_id).bytes;
        Self { version, name: version.name().into(), level: version.number(), flags: 0x02, properties: Vec::new(), payload }
    }

    /// The packet.
    pub fn packet(&self) -> Vec<u8> {
        let body = Bytes::new(self.version).binary(&self.name).u8(self.level).u8(self.flags).u16(60);
        body.raw_properties(&self.properties).raw(&self.payload).packet(0x10)
    }

    /// Adds to the payload a length and `value`.
    pub fn field(mut self, value: impl AsRef<[u8]>) -> Self {
        self.payload.extend(Bytes::new(self.version).binary(value).bytes);
        self
    }

    /// Adds empty Will Properties to the payload; nothing before 5.0.
    pub fn will_properties(mut self, properties: &[u8]) -> Self {
        self.payload.extend(Bytes::new(self.version).raw_properties(properties).bytes);
        self
    }

    /// Sets the Connect Flags.
    pub fn flags(mut self, flags: u8) -> Self {
        self.flags = flags;
        self
    }

    /// Sets the properties.
    pub fn properties(mut self, properties: &[u8]) -> Self {
        self.properties = properties.to_vec();
        self
    }
}
