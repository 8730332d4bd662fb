//! A persistent Session: who it belongs to, how long it lasts, which queue is its own.

use sha2::{Digest, Sha256};

use super::{Fault, Kind, Reader, Record, Writer};
use crate::store::SessionNumber;

/// A Client Identifier in keys: the first half of its SHA-256, so that keys are of one length, none begins like another, and nobody can
/// choose two that are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey(pub [u8; 16]);

impl SessionKey {
    /// The key of `client_id`.
    pub fn of(client_id: &str) -> Self {
        let digest = Sha256::digest(client_id.as_bytes());
        Self(*digest.first_chunk().expect("SHA-256 has 32 bytes"))
    }

    pub(super) fn put(self, out: &mut Writer) {
        out.rest(&self.0);
    }

    pub(super) fn take(input: &mut Reader<'_>) -> Result<Self, Fault> {
        let mut key = [0; 16];
        for byte in &mut key {
            *byte = input.u8()?;
        }
        Ok(Self(key))
    }
}

/// Whether a Network Connection was there when the record was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Yes. A Session found so after a crash starts its clocks when its shard is opened.
    Connected,
    /// No, since this time (milliseconds since 1970), from which the expiry counts.
    Away(u64),
}

/// A Session that outlives its connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Client Identifier.
    pub client_id: String,
    /// The principal it belongs to; nobody else may resume it.
    pub owner: Option<String>,
    /// Its queue's number, never that of an earlier Session.
    pub number: SessionNumber,
    /// Session Expiry Interval in seconds; `u32::MAX`: for ever (5.0 3.1.2.11.2).
    pub expiry_interval: u32,
    /// Whether it was connected.
    pub presence: Presence,
    /// The last number given to a Shared Subscription of it.
    pub last_share: u32,
}

impl Record for Session {
    const KIND: Kind = Kind::Session;
    type Key = SessionKey;

    fn put_key(key: &SessionKey, out: &mut Writer) {
        key.put(out);
    }

    fn take_key(input: &mut Reader<'_>) -> Result<SessionKey, Fault> {
        SessionKey::take(input)
    }

    fn put(&self, out: &mut Writer) {
        out.bytes(self.client_id.as_bytes());
        out.option(self.owner.as_deref(), |out, owner| out.bytes(owner.as_bytes()));
        out.session(self.number);
        out.u32(self.expiry_interval);
        out.option(
            match self.presence {
                Presence::Connected => None,
                Presence::Away(since) => Some(since),
            },
            Writer::u64,
        );
        out.varint(self.last_share.into());
    }

    fn take(_version: u8, input: &mut Reader<'_>) -> Result<Self, Fault> {
        Ok(Self {
            client_id: input.string("Client Identifier")?.to_owned(),
            owner: input.option(|input| input.string("owner").map(str::to_owned))?,
            number: input.session()?,
            expiry_interval: input.u32()?,
            presence: input.option(Reader::u64)?.map_or(Presence::Connected, Presence::Away),
            last_share: input.varint32("share")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::round_trip;

    #[test]
    fn a_session_key_never_changes() {
        let hex: String = SessionKey::of("client").0.iter().map(|byte| format!("{byte:02x}")).collect();
        // printf client | sha256sum
        assert_eq!(hex, "948fe603f61dc036b5c596dc09fe3ce3");
    }

    proptest! {
        #[test]
        fn a_session_comes_back(
            client_id: String, owner: Option<String>, number: u64, expiry_interval: u32, away: Option<u64>, last_share: u32,
        ) {
            let presence = away.map_or(Presence::Connected, Presence::Away);
            let key = SessionKey::of(&client_id);
            round_trip(&key, &Session { client_id, owner, number: SessionNumber(number), expiry_interval, presence, last_share });
        }
    }
}
