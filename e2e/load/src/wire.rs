//! The few packets a load generator sends, encoded by hand.
//!
//! Lengths are the caller's business: client identifiers and topics are short strings of our own making.

/// The protocol versions the generator speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1.
    V3_1_1,
    /// MQTT 5.0.
    V5,
}

impl Version {
    /// The Protocol Level byte of CONNECT.
    pub fn level(self) -> u8 {
        match self {
            Version::V3_1_1 => 4,
            Version::V5 => 5,
        }
    }
}

/// First byte of a CONNACK.
pub const CONNACK: u8 = 0x20;
/// First byte of a PUBACK.
pub const PUBACK: u8 = 0x40;
/// First byte of a PUBREC.
pub const PUBREC: u8 = 0x50;
/// First byte of a PUBREL; the reserved bits are 0010.
pub const PUBREL: u8 = 0x62;
/// First byte of a PUBCOMP.
pub const PUBCOMP: u8 = 0x70;
/// First byte of a SUBACK.
pub const SUBACK: u8 = 0x90;
/// First byte of a PINGRESP.
pub const PINGRESP: u8 = 0xD0;
/// First byte of a DISCONNECT.
pub const DISCONNECT: u8 = 0xE0;

/// A whole PINGREQ.
pub const PINGREQ_PACKET: [u8; 2] = [0xC0, 0];
/// A whole DISCONNECT with the normal reason, the same bytes in both versions.
pub const DISCONNECT_PACKET: [u8; 2] = [DISCONNECT, 0];

/// Appends a Variable Byte Integer.
pub fn put_varint(mut value: usize, out: &mut Vec<u8>) {
    loop {
        let byte = (value & 0x7F) as u8;
        value >>= 7;
        if value == 0 {
            out.push(byte);
            return;
        }
        out.push(byte | 0x80);
    }
}

fn put_string(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 5);
    out.push(first);
    put_varint(body.len(), &mut out);
    out.extend_from_slice(body);
    out
}

/// What differs between the CONNECT packets of a run.
#[derive(Clone, Debug)]
pub struct Connect<'a> {
    /// The version to speak.
    pub version: Version,
    /// The Client Identifier.
    pub client_id: &'a str,
    /// Clean Start, called Clean Session in 3.1.1.
    pub clean: bool,
    /// Keep Alive in seconds, 0 for none.
    pub keep_alive: u16,
    /// Session Expiry Interval in seconds (5.0 only).
    pub session_expiry: u32,
    /// Topic and payload of a Will Message at QoS 0.
    pub will: Option<(&'a str, &'a [u8])>,
}

impl Connect<'_> {
    /// The whole packet.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(64);
        put_string("MQTT", &mut body);
        body.push(self.version.level());
        body.push(if self.clean { 0x02 } else { 0 } | if self.will.is_some() { 0x04 } else { 0 });
        body.extend_from_slice(&self.keep_alive.to_be_bytes());
        if self.version == Version::V5 {
            if self.session_expiry > 0 {
                body.extend_from_slice(&[5, 0x11]);
                body.extend_from_slice(&self.session_expiry.to_be_bytes());
            } else {
                body.push(0);
            }
        }
        put_string(self.client_id, &mut body);
        if let Some((topic, payload)) = self.will {
            if self.version == Version::V5 {
                body.push(0);
            }
            put_string(topic, &mut body);
            body.extend_from_slice(&(payload.len() as u16).to_be_bytes());
            body.extend_from_slice(payload);
        }
        packet(0x10, &body)
    }
}

/// A SUBSCRIBE with packet identifier 1 for one filter.
pub fn subscribe(version: Version, filter: &str, qos: u8) -> Vec<u8> {
    let mut body = vec![0, 1];
    if version == Version::V5 {
        body.push(0);
    }
    put_string(filter, &mut body);
    body.push(qos);
    packet(0x82, &body)
}

/// One PUBLISH per topic, all of one length and end to end, to be copied into a batch and patched there.
///
/// The payload begins with the source number and the sequence number, four bytes each, then eight bytes of time in
/// nanoseconds, as far as it is long enough; the rest is filled with `x`.
#[derive(Clone, Debug)]
pub struct Templates {
    bytes: Vec<u8>,
    stride: usize,
    id_at: Option<usize>,
    payload_at: usize,
    payload: usize,
}

impl Templates {
    /// Templates for `topics`, which must have one length; topic number i carries the source number `first_source + i`.
    pub fn new(version: Version, topics: &[String], first_source: u32, payload: usize, qos: u8, retain: bool) -> Templates {
        let mut bytes = Vec::new();
        let (mut stride, mut payload_at, mut id_at) = (0, 0, None);
        for (number, topic) in topics.iter().enumerate() {
            let mut body = Vec::with_capacity(topic.len() + payload + 8);
            put_string(topic, &mut body);
            if qos > 0 {
                body.extend_from_slice(&[0, 1]);
            }
            if version == Version::V5 {
                body.push(0);
            }
            let head = body.len();
            body.resize(head + payload, b'x');
            if payload >= 8 {
                body[head..head + 4].copy_from_slice(&(first_source + number as u32).to_le_bytes());
            }
            let packet = packet(0x30 | qos << 1 | u8::from(retain), &body);
            assert!(stride == 0 || stride == packet.len(), "the topics of a publisher have one length");
            stride = packet.len();
            payload_at = stride - payload;
            id_at = (qos > 0).then_some(payload_at - 2 - usize::from(version == Version::V5));
            bytes.extend_from_slice(&packet);
        }
        Templates { bytes, stride, id_at, payload_at, payload }
    }

    /// How many topics there are.
    pub fn topics(&self) -> usize {
        self.bytes.len() / self.stride
    }

    /// The length of one packet.
    pub fn packet_length(&self) -> usize {
        self.stride
    }

    /// Appends the packet of topic number `topic`.
    #[inline]
    pub fn append(&self, topic: usize, packet_id: u16, sequence: u32, time: Option<u64>, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes[topic * self.stride..][..self.stride]);
        let packet = &mut out[start..];
        if let Some(at) = self.id_at {
            packet[at..at + 2].copy_from_slice(&packet_id.to_be_bytes());
        }
        if self.payload >= 8 {
            let at = self.payload_at + 4;
            packet[at..at + 4].copy_from_slice(&sequence.to_le_bytes());
        }
        if self.payload >= 16
            && let Some(time) = time
        {
            let at = self.payload_at + 8;
            packet[at..at + 8].copy_from_slice(&time.to_le_bytes());
        }
    }
}

/// The Receive Maximum a CONNACK of version 5 grants; 65,535 when it names none.
pub fn receive_maximum(connack_body: &[u8]) -> u16 {
    let Some((&length, properties)) = connack_body.get(2..).and_then(|rest| rest.split_first()) else { return u16::MAX };
    if length >= 0x80 {
        return u16::MAX; // more than 127 bytes of properties: the defaults then
    }
    let mut rest = &properties[..usize::from(length).min(properties.len())];
    while let Some((&identifier, value)) = rest.split_first() {
        let string = |at: usize| match value.get(at..at + 2) {
            Some(length) => 2 + usize::from(u16::from_be_bytes([length[0], length[1]])),
            None => usize::MAX / 4,
        };
        let used = match identifier {
            0x21 => return value.get(..2).map_or(u16::MAX, |value| u16::from_be_bytes([value[0], value[1]])),
            0x24 | 0x25 | 0x28 | 0x29 | 0x2A => 1,
            0x13 | 0x22 => 2,
            0x11 | 0x27 => 4,
            0x26 => string(0) + string(string(0)),
            _ => string(0),
        };
        rest = value.get(used..).unwrap_or_default();
    }
    u16::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_of_both_versions_has_the_bytes_of_the_specification() {
        let mut connect = Connect { version: Version::V3_1_1, client_id: "a", clean: true, keep_alive: 0, session_expiry: 0, will: None };
        assert_eq!(connect.encode(), b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01a");
        connect.version = Version::V5;
        connect.session_expiry = 9;
        assert_eq!(connect.encode(), b"\x10\x13\x00\x04MQTT\x05\x02\x00\x00\x05\x11\x00\x00\x00\x09\x00\x01a");
        connect.session_expiry = 0;
        connect.will = Some(("w", b"gone"));
        assert_eq!(connect.encode(), b"\x10\x18\x00\x04MQTT\x05\x06\x00\x00\x00\x00\x01a\x00\x00\x01w\x00\x04gone");
    }

    #[test]
    fn template_is_patched_with_identifier_sequence_and_time() {
        let templates = Templates::new(Version::V5, &["t/0".into(), "t/1".into()], 7, 16, 1, false);
        let mut out = Vec::new();
        templates.append(1, 0x0102, 3, Some(5), &mut out);
        assert_eq!(out, b"\x32\x18\x00\x03t/1\x01\x02\x00\x08\0\0\0\x03\0\0\0\x05\0\0\0\0\0\0\0");
        assert_eq!((templates.topics(), templates.packet_length()), (2, out.len()));
    }

    #[test]
    fn receive_maximum_is_found_behind_other_properties() {
        assert_eq!(receive_maximum(&[0, 0]), u16::MAX);
        assert_eq!(receive_maximum(&[0, 0, 3, 0x21, 0, 20]), 20);
        assert_eq!(receive_maximum(&[0, 0, 12, 0x22, 0, 10, 0x12, 0, 1, b'a', 0x25, 1, 0x21, 0, 64]), 64);
        assert_eq!(receive_maximum(&[0, 0, 14, 0x26, 0, 1, b'k', 0, 2, b'v', b'w', 0x24, 1, 0x21, 1, 0]), 256);
    }
}
