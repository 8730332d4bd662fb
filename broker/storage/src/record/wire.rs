//! The few forms that keys and values are made of.

use std::sync::Arc;

use bucketmq_packet::QoS;
use bucketmq_packet::message::Message;

use super::Fault;
use crate::store::{Sequence, SessionNumber};

/// Bytes being written.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// Nothing yet, with room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    /// Big-endian: sorts as the number does.
    pub fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    /// Big-endian.
    pub fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    /// Big-endian.
    pub fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    /// Seven bits a byte, the lowest first.
    pub fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// As they are, to the end.
    pub fn rest(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// With their number before them.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.rest(bytes);
    }

    /// A byte that says whether there is one, then the value.
    pub fn option<T>(&mut self, value: Option<T>, put: impl FnOnce(&mut Self, T)) {
        match value {
            None => self.u8(0),
            Some(value) => {
                self.u8(1);
                put(self, value);
            }
        }
    }

    /// A queue's number in a key.
    pub fn session(&mut self, number: SessionNumber) {
        self.u64(number.0);
    }

    /// A place in a queue in a key.
    pub fn sequence(&mut self, sequence: Sequence) {
        self.u64(sequence.0);
    }

    /// An Application Message: flags (QoS, RETAIN, expiry), deadline, topic, properties, payload.
    pub fn message(&mut self, message: &Message) {
        let expires_at = message.expires_at();
        self.u8(message.qos() as u8 | u8::from(message.retain()) << 2 | u8::from(expires_at.is_some()) << 3);
        if let Some(deadline) = expires_at {
            self.varint(deadline);
        }
        self.bytes(message.topic().as_bytes());
        self.bytes(message.properties());
        self.bytes(message.payload());
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Bytes being read.
#[derive(Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads `bytes` from their beginning.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn take<const COUNT: usize>(&mut self) -> Result<[u8; COUNT], Fault> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Fault::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, Fault> {
        Ok(self.take::<1>()?[0])
    }

    /// Big-endian.
    pub fn u16(&mut self) -> Result<u16, Fault> {
        Ok(u16::from_be_bytes(self.take()?))
    }

    /// Big-endian.
    pub fn u32(&mut self) -> Result<u32, Fault> {
        Ok(u32::from_be_bytes(self.take()?))
    }

    /// Big-endian.
    pub fn u64(&mut self) -> Result<u64, Fault> {
        Ok(u64::from_be_bytes(self.take()?))
    }

    /// Seven bits a byte, the lowest first.
    pub fn varint(&mut self) -> Result<u64, Fault> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Fault::Invalid("number"))
    }

    /// A number that fits 32 bits; `what` names it.
    pub fn varint32(&mut self, what: &'static str) -> Result<u32, Fault> {
        u32::try_from(self.varint()?).map_err(|_| Fault::Invalid(what))
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// Bytes with their number before them.
    pub fn bytes(&mut self) -> Result<&'a [u8], Fault> {
        let count = usize::try_from(self.varint()?).map_err(|_| Fault::Short)?;
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Fault::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A string with its length before it.
    pub fn string(&mut self, what: &'static str) -> Result<&'a str, Fault> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Fault::Invalid(what))
    }

    /// The string that is left.
    pub fn rest_string(&mut self, what: &'static str) -> Result<&'a str, Fault> {
        std::str::from_utf8(self.rest()).map_err(|_| Fault::Invalid(what))
    }

    /// A byte that says whether there is one, then the value.
    pub fn option<T>(&mut self, take: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<Option<T>, Fault> {
        match self.u8()? {
            0 => Ok(None),
            1 => take(self).map(Some),
            _ => Err(Fault::Invalid("option")),
        }
    }

    /// A queue's number.
    pub fn session(&mut self) -> Result<SessionNumber, Fault> {
        Ok(SessionNumber(self.u64()?))
    }

    /// A place in a queue.
    pub fn sequence(&mut self) -> Result<Sequence, Fault> {
        Ok(Sequence(self.u64()?))
    }

    /// An Application Message.
    pub fn message(&mut self) -> Result<Arc<Message>, Fault> {
        let flags = self.u8()?;
        if flags >= 0x10 {
            return Err(Fault::Invalid("message flags"));
        }
        let qos = qos(flags & 3)?;
        let expires_at = if flags & 8 == 0 { None } else { Some(self.varint()?) };
        let topic = self.string("topic")?;
        let properties = self.bytes()?;
        let payload = self.bytes()?;
        if topic.len() > usize::from(u16::MAX) || u32::try_from(properties.len()).is_err() {
            return Err(Fault::Invalid("message length"));
        }
        Ok(Message::new(topic, payload, properties, qos, flags & 4 != 0, expires_at))
    }

    /// An error unless everything has been read.
    pub fn end(&self) -> Result<(), Fault> {
        if self.0.is_empty() { Ok(()) } else { Err(Fault::Long(self.0.len())) }
    }

    /// True when everything has been read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A QoS from its number.
pub(super) fn qos(value: u8) -> Result<QoS, Fault> {
    QoS::try_from(value).map_err(|_| Fault::Invalid("QoS"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_number_of_more_than_64_bits_is_refused() {
        for bytes in [&[0xFF; 9][..], &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 2], &[0x80; 11]] {
            assert!(Reader::new(bytes).varint().is_err(), "{bytes:?}");
        }
        let mut out = Writer::default();
        out.varint(u64::MAX);
        assert_eq!(Reader::new(&out.into_bytes()).varint(), Ok(u64::MAX));
    }

    proptest! {
        #[test]
        fn numbers_come_back(value: u64) {
            let mut out = Writer::default();
            out.varint(value);
            let bytes = out.into_bytes();
            let mut input = Reader::new(&bytes);
            prop_assert_eq!(input.varint(), Ok(value));
            prop_assert!(input.is_empty());
        }

        #[test]
        fn numbers_in_keys_sort(left: u64, right: u64) {
            let bytes = |value| { let mut out = Writer::default(); out.u64(value); out.into_bytes() };
            prop_assert_eq!(left.cmp(&right), bytes(left).cmp(&bytes(right)));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let _ = Reader::new(&bytes).message();
            let _ = Reader::new(&bytes).string("x");
        }
    }
}
