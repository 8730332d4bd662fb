//! CONNECT (5.0 3.1): the one packet that says itself which version it is.

use crate::property::{Place, Properties, Property, UserProperties, optional, put_properties, user};
use crate::reader::Reader;
use crate::writer::{put_binary, put_packet, put_string, put_u16};
use crate::{PacketType, ProtocolVersion, QoS, ReasonCode, Sender, Violation, Will};

const USER_NAME: u8 = 0x80;
const PASSWORD: u8 = 0x40;
const WILL_RETAIN: u8 = 0x20;
const WILL_QOS: u8 = 0x18;
const WILL: u8 = 0x04;
const CLEAN_START: u8 = 0x02;
const RESERVED: u8 = 0x01;

/// A Client asks for a Session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect<'a> {
    /// What the Client speaks from here on.
    pub version: ProtocolVersion,
    /// Forget what was (5.0), or forget also what will be (Clean Session before 5.0).
    pub clean_start: bool,
    /// Seconds between packets; 0: no limit.
    pub keep_alive: u16,
    /// Client Identifier; empty: the Server shall choose.
    pub client_id: &'a str,
    /// User Name.
    pub username: Option<&'a str>,
    /// Password.
    pub password: Option<&'a [u8]>,
    /// Will Message.
    pub will: Option<Will<'a>>,
    /// Properties; the defaults before 5.0.
    pub properties: ConnectProperties<'a>,
}

/// Properties of CONNECT (5.0 3.1.2.11).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectProperties<'a> {
    /// Seconds the Session outlives its Network Connection; none means 0, `u32::MAX` for ever.
    pub session_expiry_interval: Option<u32>,
    /// QoS 1 and 2 messages the Client takes at a time; none means 65,535.
    pub receive_maximum: Option<u16>,
    /// Bytes of the largest packet the Client takes.
    pub maximum_packet_size: Option<u32>,
    /// Largest alias the Client takes.
    pub topic_alias_maximum: u16,
    /// The Client would like Response Information.
    pub request_response_information: bool,
    /// False: no reason strings nor user properties except where they are always allowed [MQTT-3.1.2-29].
    pub request_problem_information: bool,
    /// Enhanced authentication, its method.
    pub authentication_method: Option<&'a str>,
    /// Its first data.
    pub authentication_data: Option<&'a [u8]>,
    /// User properties.
    pub user_properties: UserProperties<'a>,
}

impl Default for ConnectProperties<'_> {
    fn default() -> Self {
        Self {
            session_expiry_interval: None,
            receive_maximum: None,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
            request_response_information: false,
            request_problem_information: true,
            authentication_method: None,
            authentication_data: None,
            user_properties: Vec::new(),
        }
    }
}

impl<'a> ConnectProperties<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, Violation> {
        let mut list = Properties::take(reader, Place::Connect, Sender::Client)?;
        let mut properties = Self::default();
        while let Some(property) = list.next()? {
            match property {
                Property::SessionExpiryInterval(value) => properties.session_expiry_interval = Some(value),
                Property::ReceiveMaximum(value) => properties.receive_maximum = Some(value),
                Property::MaximumPacketSize(value) => properties.maximum_packet_size = Some(value),
                Property::TopicAliasMaximum(value) => properties.topic_alias_maximum = value,
                Property::RequestResponseInformation(value) => properties.request_response_information = value,
                Property::RequestProblemInformation(value) => properties.request_problem_information = value,
                Property::AuthenticationMethod(value) => properties.authentication_method = Some(value),
                Property::AuthenticationData(value) => properties.authentication_data = Some(value),
                Property::UserProperty(name, value) => properties.user_properties.push((name, value)),
                _ => return Err(Violation::malformed("2.2.2.2", "property is not valid for this packet")),
            }
        }
        if properties.authentication_data.is_some() && properties.authentication_method.is_none() {
            return Err(Violation::protocol_error("3.1.2.11.10", "authentication data without a method"));
        }
        Ok(properties)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_properties(
            optional(self.session_expiry_interval, Property::SessionExpiryInterval)
                .chain(optional(self.receive_maximum, Property::ReceiveMaximum))
                .chain(optional(self.maximum_packet_size, Property::MaximumPacketSize))
                .chain(optional(Some(self.topic_alias_maximum).filter(|maximum| *maximum > 0), Property::TopicAliasMaximum))
                .chain(optional(self.request_response_information.then_some(true), Property::RequestResponseInformation))
                .chain(optional((!self.request_problem_information).then_some(false), Property::RequestProblemInformation))
                .chain(optional(self.authentication_method, Property::AuthenticationMethod))
                .chain(optional(self.authentication_data, Property::AuthenticationData))
                .chain(user(&self.user_properties)),
            out,
        );
    }
}

/// Set by bridges of Mosquitto in the level to say that they are one; the version is what remains.
const BRIDGE: u8 = 0x80;

/// The version to answer in when the CONNECT at the front of `input` is refused as it stands: the one it asks for, if enough of it is there and that
/// is one of ours.
///
/// A level nobody knows is answered in the form of 3.1.1, whose [3.1.1 MQTT-3.1.2-2] is the only statement that demands an answer, Return Code 0x01;
/// 5.0 [MQTT-3.1.2-2] lets us, and whoever speaks something newer has to understand a 3.1.1 Server all the same. Of a name nobody knows
/// [MQTT-3.1.2-1] [3.1.1 MQTT-3.1.2-1] it is not even known that MQTT follows: None, as for what is not the beginning of a CONNECT at all.
pub fn version_hint(input: &[u8]) -> Option<ProtocolVersion> {
    let (&first, rest) = input.split_first()?;
    // [MQTT-2.1.3-1] The flags are part of it: with others it is no CONNECT of any version.
    if first != PacketType::Connect.value() << 4 {
        return None;
    }
    let (_, digits) = crate::reader::varint(rest).ok()??;
    let mut reader = Reader::new(&rest[digits..]);
    let name = reader.binary().ok()?;
    let level = reader.u8().ok()?;
    match (name, level & !BRIDGE) {
        (b"MQTT", 5) => Some(ProtocolVersion::V5),
        (b"MQIsdp", 3) => Some(ProtocolVersion::V3_1),
        (b"MQTT" | b"MQIsdp", _) => Some(ProtocolVersion::V3_1_1),
        _ => None,
    }
}

fn protocol_version(name: &[u8], level: u8) -> Result<ProtocolVersion, Violation> {
    let refuse = |clause, detail| Err(Violation::new(ReasonCode::UnsupportedProtocolVersion, clause, detail));
    match (name, level) {
        (b"MQIsdp", 3) => Ok(ProtocolVersion::V3_1),
        (b"MQTT", 4) => Ok(ProtocolVersion::V3_1_1),
        (b"MQTT", 5) => Ok(ProtocolVersion::V5),
        (b"MQIsdp" | b"MQTT", _) => refuse("MQTT-3.1.2-2", "protocol version is not supported"),
        _ => refuse("MQTT-3.1.2-1", "protocol name is not MQTT"),
    }
}

fn check_flags(flags: u8, version: ProtocolVersion) -> Result<(), Violation> {
    // [MQTT-3.1.2-3] In 3.1 the bit has no meaning and is let through.
    if flags & RESERVED != 0 && version != ProtocolVersion::V3_1 {
        return Err(Violation::malformed("MQTT-3.1.2-3", "reserved flag is set"));
    }
    if flags & WILL == 0 {
        if flags & WILL_QOS != 0 {
            return Err(Violation::malformed("MQTT-3.1.2-11", "will QoS without a will"));
        }
        if flags & WILL_RETAIN != 0 {
            return Err(Violation::malformed("MQTT-3.1.2-13", "will retain without a will"));
        }
    }
    // Allowed from 5.0 on.
    if flags & (USER_NAME | PASSWORD) == PASSWORD && version != ProtocolVersion::V5 {
        return Err(Violation::malformed("3.1.1 MQTT-3.1.2-22", "password without a user name"));
    }
    Ok(())
}

impl<'a> Connect<'a> {
    pub(crate) fn decode(body: &'a [u8]) -> Result<Self, Violation> {
        let mut reader = Reader::new(body);
        let name = reader.binary()?;
        let version = protocol_version(name, reader.u8()?)?;
        let flags = reader.u8()?;
        check_flags(flags, version)?;
        let will_qos = QoS::from_bits(flags >> 3).ok_or_else(|| Violation::malformed("MQTT-3.1.2-12", "will QoS is 3"))?;
        let keep_alive = reader.u16()?;
        let properties =
            if version == ProtocolVersion::V5 { ConnectProperties::decode(&mut reader)? } else { ConnectProperties::default() };
        // [MQTT-3.1.3-1] The payload's order; [MQTT-3.1.3-3] [MQTT-3.1.3-4] the Client Identifier is always there.
        let client_id = reader.string()?;
        let clean_start = flags & CLEAN_START != 0;
        check_client_id(client_id, clean_start, version)?;
        // [MQTT-3.1.2-9]
        let will = if flags & WILL == 0 { None } else { Some(Will::decode(&mut reader, version, will_qos, flags & WILL_RETAIN != 0)?) };
        // 3.1 lets the flags stand where the packet ends before the fields.
        let has = |flag: u8, reader: &Reader<'_>| flags & flag != 0 && !(version == ProtocolVersion::V3_1 && reader.is_empty());
        // [MQTT-3.1.2-16] [MQTT-3.1.2-17] [MQTT-3.1.3-12]
        let username = if has(USER_NAME, &reader) { Some(reader.string()?) } else { None };
        // [MQTT-3.1.2-18] [MQTT-3.1.2-19]
        let password = if has(PASSWORD, &reader) { Some(reader.binary()?) } else { None };
        reader.finish()?;
        Ok(Self { version, clean_start, keep_alive, client_id, username, password, will, properties })
    }

    /// Appends the packet in the version it names; its Protocol Name and level come from [`Connect::version`].
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        debug_assert!(version == self.version, "CONNECT is encoded for the version it asks for");
        put_packet(PacketType::Connect, out, |out| {
            put_string(version.name(), out);
            out.push(version.number());
            out.push(self.flags());
            put_u16(self.keep_alive, out);
            if version == ProtocolVersion::V5 {
                self.properties.encode(out);
            }
            put_string(self.client_id, out);
            if let Some(will) = &self.will {
                will.encode(version, out);
            }
            if let Some(username) = self.username {
                put_string(username, out);
            }
            if let Some(password) = self.password {
                put_binary(password, out);
            }
        });
    }

    fn flags(&self) -> u8 {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let will =
            self.will.as_ref().map_or(0, |will| WILL | (will.qos as u8) << WILL_QOS.trailing_zeros() | flag(will.retain, WILL_RETAIN));
        will | flag(self.clean_start, CLEAN_START) | flag(self.username.is_some(), USER_NAME) | flag(self.password.is_some(), PASSWORD)
    }
}

/// What the version says of an empty Client Identifier. More than 23 bytes are taken in all versions [MQTT-3.1.3-5]; 3.1 would allow to
/// refuse them, and its Clients send them.
fn check_client_id(client_id: &str, clean_start: bool, version: ProtocolVersion) -> Result<(), Violation> {
    let refuse = |clause, detail| Err(Violation::new(ReasonCode::ClientIdentifierNotValid, clause, detail));
    match version {
        ProtocolVersion::V3_1 if client_id.is_empty() => refuse("3.1 3.1", "client identifier is empty"),
        ProtocolVersion::V3_1_1 if client_id.is_empty() && !clean_start => {
            refuse("3.1.1 MQTT-3.1.3-8", "client identifier is empty and the session is not clean")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
