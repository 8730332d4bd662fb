//! One chunk after the other.

use std::io::{self, Read};

use bucketmq_packet::property::{Place, Properties, Property, decode_varint};
use bucketmq_packet::{QoS, Sender};

use super::{Client, ClientMessage, Config, Direction, Error, Fault, Kind, PassedOver, State, StoredMessage, Subscription};

const MAGIC: [u8; 15] = *b"\x00\xB5\x00mosquitto db";
/// The largest body: a PUBLISH of 256 MiB, two strings that were not in it, and the numbers.
const BODY_BYTES_MAX: u32 = 268_435_455 + 2 * 65_535 + 64;
/// What is taken from the file at a time, so that memory grows with what came and not with what was promised.
const PIECE_BYTES: u64 = 64 * 1024;
/// Most bytes of padding at the end of a struct of numbers of up to 8 bytes.
const PADDING_MAX: usize = 7;

/// What a chunk holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Chunk {
    /// The first.
    Config(Config),
    /// A message's content.
    Message(StoredMessage),
    /// A Client, without its messages: they follow.
    ///
    /// Mosquitto 2.0 writes for a Client without user name what it wrote for the Client before, at times with memory behind it. A name with U+0000
    /// is none, and a name like the one in it is uncertain from there on.
    Client(Client),
    /// A message on its way, and whose.
    ClientMessage(String, ClientMessage),
    /// The number of a retained message.
    Retained(u64),
    /// A Subscription.
    Subscription(Subscription),
    /// It makes no sense.
    PassedOver(PassedOver),
}

/// The chunks of a file. Give it a reader with a buffer: it asks for a few bytes at a time.
#[derive(Debug)]
pub struct Chunks<R> {
    input: R,
    version: u32,
    offset: u64,
    body: Vec<u8>,
    /// The user name that stood before U+0000 in the last name that was none.
    leftover_username: Option<Vec<u8>>,
}

impl<R: Read> Chunks<R> {
    /// Reads the beginning of the file.
    pub fn new(mut input: R) -> Result<Self, Error> {
        let mut header = [0; 23];
        match input.read_exact(&mut header) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(Error::NotMosquitto),
            outcome => outcome?,
        }
        if header[..15] != MAGIC {
            return Err(Error::NotMosquitto);
        }
        // 4 bytes of checksum, always 0.
        let version = u32::from_be_bytes([header[19], header[20], header[21], header[22]]);
        if !(2..=6).contains(&version) {
            return Err(Error::Version(version));
        }
        Ok(Self { input, version, offset: 23, body: Vec::new(), leftover_username: None })
    }

    /// The format of the file.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The next chunk; None at the end.
    #[expect(clippy::should_implement_trait, reason = "an Error ends the file, which an iterator would not say")]
    pub fn next(&mut self) -> Result<Option<Chunk>, Error> {
        let offset = self.offset;
        let Some((number, length)) = self.header()? else { return Ok(None) };
        let kind = Kind::of(number);
        let broken = |fault| Error::Chunk { kind, offset, fault };
        if let Kind::Unknown(_) = kind {
            // Mosquitto passes over what it does not know, too.
            let passed = io::copy(&mut self.input.by_ref().take(length.into()), &mut io::sink())?;
            self.offset += passed;
            if passed < u64::from(length) {
                return Err(broken(Fault::CutOff));
            }
            return Ok(Some(Chunk::PassedOver(PassedOver { kind, offset, fault: Fault::Kind })));
        }
        if length > BODY_BYTES_MAX {
            return Err(broken(Fault::Length(length)));
        }
        self.take_body(length).map_err(|error| error.unwrap_or_else(|| broken(Fault::CutOff)))?;
        let body = std::mem::take(&mut self.body);
        let chunk = self.decode(kind, &body);
        self.body = body;
        match chunk {
            Ok(chunk) => Ok(Some(chunk)),
            Err(Invalid::NumberSize(size)) => Err(Error::NumberSize(size)),
            Err(Invalid::Fault(fault)) if fault.breaks_chain() => Err(broken(fault)),
            Err(Invalid::Fault(fault)) => Ok(Some(Chunk::PassedOver(PassedOver { kind, offset, fault }))),
        }
    }

    /// Kind and length.
    fn header(&mut self) -> Result<Option<(u32, u32)>, Error> {
        let mut header = [0; 8];
        let size = if self.version >= 5 { 8 } else { 6 };
        let mut filled = 0;
        while filled < size {
            match self.input.read(&mut header[filled..size]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(Error::Chunk { kind: Kind::Unknown(0), offset: self.offset, fault: Fault::CutOff }),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.offset += size as u64;
        let [a, b, c, d, e, f, g, h] = header;
        Ok(Some(if self.version >= 5 {
            (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]))
        } else {
            (u16::from_be_bytes([a, b]).into(), u32::from_be_bytes([c, d, e, f]))
        }))
    }

    /// Fills `body`. An error without content: the file ends.
    fn take_body(&mut self, length: u32) -> Result<(), Option<Error>> {
        self.body.clear();
        if self.body.capacity() > 16 * PIECE_BYTES as usize {
            self.body = Vec::new();
        }
        let mut rest = u64::from(length);
        while rest > 0 {
            let taken = self.input.by_ref().take(rest.min(PIECE_BYTES)).read_to_end(&mut self.body).map_err(|error| Some(error.into()))?;
            if taken == 0 {
                return Err(None);
            }
            self.offset += taken as u64;
            rest -= taken as u64;
        }
        Ok(())
    }

    fn decode(&mut self, kind: Kind, body: &[u8]) -> Result<Chunk, Invalid> {
        let mut body = Body(body);
        Ok(match (kind, self.version >= 5) {
            (Kind::Config, true) => {
                let (last_store_id, shutdown, size) = (body.number()?, body.u8()?, body.u8()?);
                body.padding()?;
                config(last_store_id, shutdown, size)?
            }
            (Kind::Config, false) => {
                let (shutdown, size, last_store_id) = (body.u8()?, body.u8()?, body.number()?);
                body.end()?;
                config(last_store_id, shutdown, size)?
            }
            (Kind::Message, true) => Chunk::Message(message_struct(body)?),
            (Kind::Message, false) => Chunk::Message(message_fields(body, self.version)?),
            (Kind::ClientMessage, true) => client_message_struct(body)?,
            (Kind::ClientMessage, false) => client_message_fields(body)?,
            (Kind::Retained, _) => {
                let store_id = body.number()?;
                body.end()?;
                Chunk::Retained(store_id)
            }
            (Kind::Subscription, true) => Chunk::Subscription(subscription_struct(body)?),
            (Kind::Subscription, false) => Chunk::Subscription(subscription_fields(body)?),
            (Kind::Client, true) => self.client_struct(body)?,
            (Kind::Client, false) => Chunk::Client(client_fields(body)?),
            (Kind::Unknown(_), _) => return Err(Fault::Kind.into()),
        })
    }

    fn client_struct(&mut self, mut body: Body<'_>) -> Result<Chunk, Invalid> {
        let (expiry_time, session_expiry_interval, last_mid, id_len) = (body.time()?, body.u32()?, body.u16()?, body.u16()?);
        let (mut listener_port, mut username_len) = (0, 0);
        if self.version >= 6 {
            (listener_port, username_len) = (body.u16()?, body.u16()?);
        }
        let username = body.last(username_len.into())?;
        let id = body.last(id_len.into())?;
        body.padding()?;
        let id = text(id, "Client Identifier")?;
        if id.is_empty() {
            return Err(Fault::Value("Client Identifier").into());
        }
        let (username, username_uncertain) = self.username(username);
        Ok(Chunk::Client(Client {
            id,
            username,
            username_uncertain,
            session_expiry_interval,
            session_expiry_time: expiry_time,
            disconnected_at: None,
            last_mid,
            listener_port,
            messages: Vec::new(),
        }))
    }

    /// The user name and whether it is in doubt.
    fn username(&mut self, bytes: &[u8]) -> (Option<String>, bool) {
        if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
            self.leftover_username = Some(bytes[..end].to_vec());
            return (None, false);
        }
        let uncertain = self.leftover_username.as_deref().is_some_and(|leftover| leftover == bytes);
        if !uncertain {
            self.leftover_username = None;
        }
        let username = (!bytes.is_empty()).then(|| String::from_utf8_lossy(bytes).into_owned());
        (username, uncertain)
    }
}

/// Why a body is not taken.
enum Invalid {
    Fault(Fault),
    NumberSize(u8),
}

impl From<Fault> for Invalid {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

fn config(last_store_id: u64, shutdown: u8, size: u8) -> Result<Chunk, Invalid> {
    if size != 8 {
        return Err(Invalid::NumberSize(size));
    }
    Ok(Chunk::Config(Config { shutdown: shutdown != 0, last_store_id }))
}

fn message_struct(mut body: Body<'_>) -> Result<StoredMessage, Fault> {
    let (store_id, expiry_time, payload_len, source_mid) = (body.number()?, body.time()?, body.u32()?, body.u16()?);
    let (source_id_len, source_username_len, topic_len) = (body.u16()?, body.u16()?, body.u16()?);
    let (source_port, qos, retain) = (body.u16()?, body.u8()?, body.u8()?);
    let source_id = body.bytes(source_id_len.into())?;
    let source_username = body.bytes(source_username_len.into())?;
    let topic = body.bytes(topic_len.into())?;
    let payload = body.bytes(payload_len as usize)?;
    let properties = body.properties()?;
    Ok(StoredMessage {
        store_id,
        topic: text(topic, "topic")?,
        payload: payload.to_vec(),
        properties: forwarded(properties)?,
        expiry_time,
        source_id: String::from_utf8_lossy(source_id).into_owned(),
        source_username: (!source_username.is_empty()).then(|| String::from_utf8_lossy(source_username).into_owned()),
        source_mid,
        source_port,
        qos: quality(qos)?,
        retain: retain != 0,
    })
}

fn message_fields(mut body: Body<'_>, version: u32) -> Result<StoredMessage, Fault> {
    let (store_id, source_id) = (body.number()?, body.string()?);
    let (mut source_username, mut source_port) = (&[][..], 0);
    if version == 4 {
        (source_username, source_port) = (body.string()?, body.u16()?);
    }
    // The second is an identifier of Mosquitto's own.
    let (source_mid, _) = (body.u16()?, body.u16()?);
    let (topic, qos, retain, payload_len) = (body.string()?, body.u8()?, body.u8()?, body.u32()?);
    let payload = body.bytes(payload_len as usize)?;
    body.end()?;
    Ok(StoredMessage {
        store_id,
        topic: text(topic, "topic")?,
        payload: payload.to_vec(),
        properties: Vec::new(),
        expiry_time: None,
        source_id: String::from_utf8_lossy(source_id).into_owned(),
        source_username: (!source_username.is_empty()).then(|| String::from_utf8_lossy(source_username).into_owned()),
        source_mid,
        source_port,
        qos: quality(qos)?,
        retain: retain != 0,
    })
}

fn client_message_struct(mut body: Body<'_>) -> Result<Chunk, Fault> {
    let (store_id, mid, id_len) = (body.number()?, body.u16()?, body.u16()?);
    let (qos, state, retain_dup, direction) = (body.u8()?, body.u8()?, body.u8()?, body.u8()?);
    let client_id = body.bytes(id_len.into())?;
    let mut properties = Properties::new(body.properties()?, Place::Publish, Sender::Server);
    let mut identifiers = Vec::new();
    while let Some(property) = properties.next().map_err(|_| Fault::Value("list of properties"))? {
        if let Property::SubscriptionIdentifier(identifier) = property {
            identifiers.push(identifier);
        }
    }
    client_message(client_id, store_id, mid, qos, retain_dup & 0xF0 != 0, direction, state, retain_dup & 0x0F != 0, identifiers)
}

fn client_message_fields(mut body: Body<'_>) -> Result<Chunk, Fault> {
    let (client_id, store_id, mid) = (body.string()?, body.number()?, body.u16()?);
    let (qos, retain, direction, state, dup) = (body.u8()?, body.u8()?, body.u8()?, body.u8()?, body.u8()?);
    body.end()?;
    client_message(client_id, store_id, mid, qos, retain != 0, direction, state, dup != 0, Vec::new())
}

#[expect(clippy::too_many_arguments, reason = "the fields of one chunk")]
fn client_message(
    client_id: &[u8],
    store_id: u64,
    mid: u16,
    qos: u8,
    retain: bool,
    direction: u8,
    state: u8,
    dup: bool,
    identifiers: Vec<u32>,
) -> Result<Chunk, Fault> {
    let direction = match direction {
        0 => Direction::In,
        1 => Direction::Out,
        _ => return Err(Fault::Value("direction")),
    };
    let state = *State::ALL.get(usize::from(state)).ok_or(Fault::Value("state"))?;
    let message = ClientMessage { store_id, mid, qos: quality(qos)?, direction, state, dup, retain, identifiers };
    Ok(Chunk::ClientMessage(text(client_id, "Client Identifier")?, message))
}

fn subscription_struct(mut body: Body<'_>) -> Result<Subscription, Fault> {
    let (identifier, id_len, filter_len, qos, options) = (body.u32()?, body.u16()?, body.u16()?, body.u8()?, body.u8()?);
    let filter = body.last(filter_len.into())?;
    let client_id = body.last(id_len.into())?;
    body.padding()?;
    if identifier > bucketmq_packet::property::VARINT_MAX {
        return Err(Fault::Value("Subscription Identifier"));
    }
    Ok(Subscription {
        client_id: text(client_id, "Client Identifier")?,
        filter: text(filter, "Topic Filter")?,
        qos: quality(qos & 3)?,
        no_local: options & 4 != 0,
        retain_as_published: options & 8 != 0,
        identifier: Some(identifier).filter(|identifier| *identifier > 0),
    })
}

fn subscription_fields(mut body: Body<'_>) -> Result<Subscription, Fault> {
    let (client_id, filter, qos) = (body.string()?, body.string()?, body.u8()?);
    body.end()?;
    Ok(Subscription {
        client_id: text(client_id, "Client Identifier")?,
        filter: text(filter, "Topic Filter")?,
        qos: quality(qos)?,
        no_local: false,
        retain_as_published: false,
        identifier: None,
    })
}

fn client_fields(mut body: Body<'_>) -> Result<Client, Fault> {
    let (id, last_mid) = (body.string()?, body.u16()?);
    // Format 2 has no time. It has 4 bytes where Mosquitto ran on 32 bits.
    let disconnected_at = match body.0.len() {
        0 => None,
        4 => body.short_time()?,
        _ => body.time()?,
    };
    body.end()?;
    let id = text(id, "Client Identifier")?;
    if id.is_empty() {
        return Err(Fault::Value("Client Identifier"));
    }
    Ok(Client {
        id,
        username: None,
        username_uncertain: false,
        // Before MQTT 5.0 a Session that lasts has no end.
        session_expiry_interval: u32::MAX,
        session_expiry_time: None,
        disconnected_at,
        last_mid,
        listener_port: 0,
        messages: Vec::new(),
    })
}

fn quality(value: u8) -> Result<QoS, Fault> {
    QoS::try_from(value).map_err(|_| Fault::Value("QoS"))
}

fn text(bytes: &[u8], what: &'static str) -> Result<String, Fault> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !bytes.contains(&0) => Ok(text.to_owned()),
        _ => Err(Fault::Text(what)),
    }
}

/// The properties that go on to subscribers. The expiry stands in a field of its own.
fn forwarded(properties: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut properties = Properties::new(properties, Place::Publish, Sender::Server);
    let mut forward = Vec::new();
    while let Some(property) = properties.next().map_err(|_| Fault::Value("list of properties"))? {
        match property {
            Property::MessageExpiryInterval(_) | Property::TopicAlias(_) | Property::SubscriptionIdentifier(_) => {}
            property => property.encode(&mut forward),
        }
    }
    Ok(forward)
}

/// What is left of a body.
struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn array<const COUNT: usize>(&mut self) -> Result<[u8; COUNT], Fault> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Fault::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, Fault> {
        Ok(self.array::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16, Fault> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Fault> {
        self.array().map(u32::from_be_bytes)
    }

    /// The number of a message, in the order of the machine that wrote it. It only has to be the same everywhere.
    fn number(&mut self) -> Result<u64, Fault> {
        self.array().map(u64::from_le_bytes)
    }

    /// A time in seconds, in the order of the machine that wrote it: read the wrong way round it would be beyond all years. 0 and less: none.
    fn time(&mut self) -> Result<Option<u64>, Fault> {
        let bytes = self.array()?;
        let seconds = u64::from_le_bytes(bytes).min(u64::from_be_bytes(bytes));
        Ok(Some(seconds).filter(|seconds| (1..=i64::MAX as u64 / 1000).contains(seconds)))
    }

    /// The same in 32 bits: the order in which it is in this century, little-endian when both are.
    fn short_time(&mut self) -> Result<Option<u64>, Fault> {
        const FIRST: u32 = 946_684_800;
        let bytes = self.array()?;
        let (little, big) = (u32::from_le_bytes(bytes), u32::from_be_bytes(bytes));
        let seconds = if little < FIRST && big >= FIRST { big } else { little };
        Ok(Some(u64::from(seconds)).filter(|seconds| *seconds > 0))
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Fault::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    /// The last `count` bytes, so that what lies before them may be padding.
    fn last(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let at = self.0.len().checked_sub(count).ok_or(Fault::Short)?;
        let (rest, taken) = self.0.split_at(at);
        self.0 = rest;
        Ok(taken)
    }

    /// Bytes with their number in 16 bits before them.
    fn string(&mut self) -> Result<&'a [u8], Fault> {
        let length = self.u16()?;
        self.bytes(length.into())
    }

    /// The properties at the end, if there are any, without their length.
    fn properties(&mut self) -> Result<&'a [u8], Fault> {
        if self.0.is_empty() {
            return Ok(self.0);
        }
        let (length, digits) = decode_varint(self.0).ok().flatten().ok_or(Fault::Value("length of properties"))?;
        self.bytes(digits)?;
        let properties = self.bytes(length as usize)?;
        self.end()?;
        Ok(properties)
    }

    /// Nothing may be left but padding.
    fn padding(&self) -> Result<(), Fault> {
        if self.0.len() <= PADDING_MAX { Ok(()) } else { Err(Fault::Long(self.0.len())) }
    }

    fn end(&self) -> Result<(), Fault> {
        if self.0.is_empty() { Ok(()) } else { Err(Fault::Long(self.0.len())) }
    }
}
