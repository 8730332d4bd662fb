//! What stands in a shard's database, one file per kind of record: its key, its value, how both are encoded, and a test that they come back.
//!
//! A key begins with the kind, one byte, which is also the segment of the database the record lives in; the kinds that come and go with every
//! message share one, [`PASSING`], which stands before theirs. Numbers in keys are big-endian, so that they sort. A value begins with the version of its own encoding. Kinds and versions are never used for anything else: `golden/` holds
//! records of every release, and they decode for ever.

pub mod applied;
pub mod cursor;
pub mod estate;
pub mod format;
pub mod group;
pub mod growth;
pub mod handshake;
pub mod inbound;
pub mod outbox;
pub mod payload;
pub mod queue;
pub mod retained;
pub mod session;
pub mod subscription;
pub mod will;
mod wire;

#[cfg(test)]
mod golden;

use std::fmt;

use thiserror::Error;

pub use wire::{Reader, Writer};

/// Kinds of records; the first byte of a key, or the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// What the database is: [`format::Format`].
    Format = 1,
    /// [`session::Session`].
    Session = 2,
    /// [`subscription::Subscription`].
    Subscription = 3,
    /// [`queue::Chunk`].
    Queue = 4,
    /// [`payload::Payload`].
    Payload = 5,
    /// [`inbound::Inbound`].
    Inbound = 6,
    /// [`retained::Retained`].
    Retained = 7,
    /// [`will::Will`].
    Will = 8,
    /// [`outbox::Chunk`].
    Outbox = 9,
    /// [`applied::Applied`].
    Applied = 10,
    /// [`group::Group`].
    Group = 11,
    /// [`payload::Released`].
    Released = 12,
    /// [`cursor::Cursor`].
    Cursor = 13,
    /// [`handshake::Handshake`].
    Handshake = 14,
    /// [`growth::Growth`].
    Growth = 15,
    /// [`estate::Estate`].
    Estate = 16,
}

impl Kind {
    /// All kinds, by number.
    pub const ALL: [Self; 16] = [
        Self::Format,
        Self::Session,
        Self::Subscription,
        Self::Queue,
        Self::Payload,
        Self::Inbound,
        Self::Retained,
        Self::Will,
        Self::Outbox,
        Self::Applied,
        Self::Group,
        Self::Released,
        Self::Cursor,
        Self::Handshake,
        Self::Growth,
        Self::Estate,
    ];

    /// The kind of the record with `key`.
    pub fn of(key: &[u8]) -> Option<Self> {
        let (number, is_passing) = match key {
            [PASSING, number, ..] => (*number, true),
            [number, ..] => (*number, false),
            [] => return None,
        };
        let kind = Self::ALL.get(usize::from(number).checked_sub(1)?).copied()?;
        (kind.is_passing() == is_passing).then_some(kind)
    }

    /// Its records come and go with messages.
    fn is_passing(self) -> bool {
        matches!(self, Self::Inbound | Self::Outbox | Self::Applied | Self::Cursor | Self::Handshake | Self::Growth)
    }

    /// What the keys of its records begin with.
    pub fn prefix(self) -> &'static [u8] {
        const PREFIXES: [[u8; 2]; 16] = {
            let mut prefixes = [[PASSING, 0]; 16];
            let mut place = 0;
            while place < prefixes.len() {
                prefixes[place][1] = place as u8 + 1;
                place += 1;
            }
            prefixes
        };
        let prefix = &PREFIXES[self as usize - 1];
        if self.is_passing() { prefix } else { &prefix[1..] }
    }
}

/// The segment of what comes and goes with messages: each segment is an object more whenever a memtable is written, and of these all are small and
/// nearly always all there.
pub const PASSING: u8 = 0x80;

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Format => "format",
            Self::Session => "session",
            Self::Subscription => "subscription",
            Self::Queue => "queue",
            Self::Payload => "payload",
            Self::Inbound => "inbound",
            Self::Retained => "retained",
            Self::Will => "will",
            Self::Outbox => "outbox",
            Self::Applied => "applied",
            Self::Group => "group",
            Self::Released => "released",
            Self::Cursor => "cursor",
            Self::Handshake => "handshake",
            Self::Growth => "growth",
            Self::Estate => "estate",
        })
    }
}

/// Bytes of most keys: segment and kind, a number of 16 bytes or two of 8.
const KEY_BYTES: usize = 18;
/// Bytes of most values but those with messages.
const VALUE_BYTES: usize = 32;
/// Bytes of a message that are neither topic nor properties nor payload, with its place before it: 14 at most for nearly all.
const MESSAGE_EXTRA: usize = 16;

/// A record with its key and its value.
pub trait Record: Sized {
    /// Its kind.
    const KIND: Kind;
    /// The version `encode` writes.
    const VERSION: u8 = 1;
    /// What tells it from others of its kind.
    type Key;

    /// Appends `key` without the kind.
    fn put_key(key: &Self::Key, out: &mut Writer);
    /// The key from what [`Self::put_key`] wrote.
    fn take_key(input: &mut Reader<'_>) -> Result<Self::Key, Fault>;
    /// Appends the value without its version.
    fn put(&self, out: &mut Writer);
    /// About how many bytes the value takes: room for a little more is made, and what is not used stays in memory until the bucket has the value.
    fn bytes_expected(&self) -> usize {
        VALUE_BYTES
    }
    /// The value from what [`Self::put`] wrote in `version`, one this release knows.
    fn take(version: u8, input: &mut Reader<'_>) -> Result<Self, Fault>;

    /// The whole key.
    fn key(key: &Self::Key) -> Vec<u8> {
        let mut out = Writer::with_capacity(KEY_BYTES);
        out.rest(Self::KIND.prefix());
        Self::put_key(key, &mut out);
        out.into_bytes()
    }

    /// The whole value.
    fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(self.bytes_expected());
        out.u8(Self::VERSION);
        self.put(&mut out);
        out.into_bytes()
    }

    /// The parts of a whole key.
    fn decode_key(bytes: &[u8]) -> Result<Self::Key, DecodeError> {
        let fault = |fault| DecodeError { kind: Self::KIND, part: Part::Key, fault };
        let key = bytes.strip_prefix(Self::KIND.prefix()).ok_or(fault(Fault::Invalid("kind")))?;
        let mut input = Reader::new(key);
        let key = Self::take_key(&mut input).map_err(fault)?;
        input.end().map_err(fault)?;
        Ok(key)
    }

    /// The record of a whole value.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let fault = |fault| DecodeError { kind: Self::KIND, part: Part::Value, fault };
        let mut input = Reader::new(bytes);
        let version = input.u8().map_err(fault)?;
        if version == 0 || version > Self::VERSION {
            return Err(fault(Fault::Version { found: version, known: Self::VERSION }));
        }
        let record = Self::take(version, &mut input).map_err(fault)?;
        input.end().map_err(fault)?;
        Ok(record)
    }
}

/// Which half of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Its key.
    Key,
    /// Its value.
    Value,
}

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Key => "key",
            Self::Value => "value",
        })
    }
}

/// What is wrong with bytes that should be a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Fault {
    /// They end in the middle.
    #[error("it ends in the middle")]
    Short,
    /// There are more than there should be.
    #[error("{0} bytes too many")]
    Long(usize),
    /// A field has a value that does not exist.
    #[error("its {0} is none there can be")]
    Invalid(&'static str),
    /// Written by a later release.
    #[error("it is of version {found}, and this release knows up to {known}")]
    Version {
        /// What it says.
        found: u8,
        /// What is known.
        known: u8,
    },
}

/// A record that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the {part} of a {kind} record cannot be read: {fault}")]
pub struct DecodeError {
    /// What it should be.
    pub kind: Kind,
    /// Which half.
    pub part: Part,
    /// Why.
    pub fault: Fault,
}

/// `value`, of a record of `kind`, as this release writes it; `None` when it stands so already.
pub fn rewrite(kind: Kind, value: &[u8]) -> Result<Option<Vec<u8>>, DecodeError> {
    fn newest<R: Record>(value: &[u8]) -> Result<Option<Vec<u8>>, DecodeError> {
        let record = R::decode(value)?;
        Ok((value.first() != Some(&R::VERSION)).then(|| record.encode()))
    }
    match kind {
        Kind::Format => newest::<format::Format>(value),
        Kind::Session => newest::<session::Session>(value),
        Kind::Subscription => newest::<subscription::Subscription>(value),
        Kind::Queue => newest::<queue::Chunk>(value),
        Kind::Payload => newest::<payload::Payload>(value),
        Kind::Inbound => newest::<inbound::Inbound>(value),
        Kind::Retained => newest::<retained::Retained>(value),
        Kind::Will => newest::<will::Will>(value),
        Kind::Outbox => newest::<outbox::Chunk>(value),
        Kind::Applied => newest::<applied::Applied>(value),
        Kind::Group => newest::<group::Group>(value),
        Kind::Released => newest::<payload::Released>(value),
        Kind::Cursor => newest::<cursor::Cursor>(value),
        Kind::Handshake => newest::<handshake::Handshake>(value),
        Kind::Growth => newest::<growth::Growth>(value),
        Kind::Estate => newest::<estate::Estate>(value),
    }
}

/// A test that a record and its key come back, and that no prefix of either does.
#[cfg(test)]
pub(crate) fn round_trip<R>(key: &R::Key, record: &R)
where
    R: Record + PartialEq + fmt::Debug,
    R::Key: PartialEq + fmt::Debug,
{
    let (key_bytes, value) = (R::key(key), record.encode());
    assert_eq!(Kind::of(&key_bytes), Some(R::KIND));
    assert_eq!(&R::decode_key(&key_bytes).expect("the key comes back"), key);
    assert_eq!(&R::decode(&value).expect("the value comes back"), record);
    for length in 0..value.len() {
        if let Ok(other) = R::decode(&value[..length]) {
            assert_ne!(&other, record, "a shorter value is not the same");
        }
    }
    let newer: Vec<u8> = std::iter::once(R::VERSION + 1).chain(value[1..].iter().copied()).collect();
    let refused = R::decode(&newer).expect_err("a later version is not guessed at");
    assert_eq!(refused.fault, Fault::Version { found: R::VERSION + 1, known: R::VERSION });
}
