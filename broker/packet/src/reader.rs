//! Walking over bytes of a packet without leaving them, and the fast check of short UTF-8 strings.

use crate::{PacketIdentifier, Violation};

const LOW_BITS: u64 = 0x7F7F_7F7F_7F7F_7F7F;
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
const NUL: u64 = 0;
const PLUS: u64 = 0x2B2B_2B2B_2B2B_2B2B;
const HASH: u64 = 0x2323_2323_2323_2323;

/// What is left of the packet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    pub(crate) rest: &'a [u8],
}

#[cold]
fn too_short() -> Violation {
    Violation::malformed("2.1.4", "the packet ends inside a field")
}

impl<'a> Reader<'a> {
    #[inline]
    pub(crate) const fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    #[inline]
    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, Violation> {
        let (first, rest) = self.rest.split_first().ok_or_else(too_short)?;
        self.rest = rest;
        Ok(*first)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Violation> {
        let (first, rest) = self.rest.split_first_chunk::<N>().ok_or_else(too_short)?;
        self.rest = rest;
        Ok(*first)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, Violation> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, Violation> {
        self.array().map(u32::from_be_bytes)
    }

    #[inline]
    pub(crate) fn bytes(&mut self, length: usize) -> Result<&'a [u8], Violation> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or_else(too_short)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// A Variable Byte Integer.
    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u32, Violation> {
        let (value, length) = varint(self.rest)?.ok_or_else(too_short)?;
        self.rest = &self.rest[length..];
        Ok(value)
    }

    /// Binary Data (5.0 1.5.6).
    #[inline]
    pub(crate) fn binary(&mut self) -> Result<&'a [u8], Violation> {
        let length = self.u16()?;
        self.bytes(usize::from(length))
    }

    /// A UTF-8 Encoded String (5.0 1.5.4).
    #[inline]
    pub(crate) fn string(&mut self) -> Result<&'a str, Violation> {
        utf8(self.binary()?)
    }

    /// A Packet Identifier, never 0.
    #[inline]
    pub(crate) fn packet_id(&mut self) -> Result<PacketIdentifier, Violation> {
        PacketIdentifier::new(self.u16()?).ok_or_else(|| Violation::malformed("MQTT-2.2.1-3", "packet identifier is 0"))
    }

    /// The next `length` bytes as a reader of their own.
    #[inline]
    pub(crate) fn sub(&mut self, length: usize) -> Result<Self, Violation> {
        self.bytes(length).map(Self::new)
    }

    /// Nothing may follow.
    #[inline]
    pub(crate) fn finish(self) -> Result<(), Violation> {
        if self.rest.is_empty() { Ok(()) } else { Err(Violation::malformed("2.1.4", "bytes after the last field of the packet")) }
    }
}

/// The Variable Byte Integer at the front and its length in bytes; `None` when it goes on behind the end of `input`.
#[inline]
pub(crate) fn varint(input: &[u8]) -> Result<Option<(u32, usize)>, Violation> {
    match *input {
        [] => Ok(None),
        [a, ..] if a < 0x80 => Ok(Some((u32::from(a), 1))),
        [a, b, ..] if b < 0x80 && b != 0 => Ok(Some((u32::from(a & 0x7F) | u32::from(b) << 7, 2))),
        _ => long_varint(input),
    }
}

#[cold]
fn long_varint(input: &[u8]) -> Result<Option<(u32, usize)>, Violation> {
    let mut value = 0;
    for (at, byte) in input.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * at);
        if *byte < 0x80 {
            // [MQTT-1.5.5-1] The shortest form is the only one.
            if *byte == 0 && at > 0 {
                return Err(Violation::malformed("MQTT-1.5.5-1", "variable byte integer is longer than needed"));
            }
            return Ok(Some((value, at + 1)));
        }
    }
    if input.len() >= 4 {
        return Err(Violation::malformed("1.5.5", "variable byte integer has more than four bytes"));
    }
    Ok(None)
}

/// The high bit of every byte of `word` that equals the byte `pattern` repeats, or is not ASCII.
#[inline(always)]
const fn marks(word: u64, pattern: u64) -> u64 {
    // Adding 0x7F raises the high bit of every low half but 0; no carry leaves a byte.
    (!(((word ^ pattern) & LOW_BITS) + LOW_BITS) | word) & HIGH_BITS
}

#[inline(always)]
const fn suspicious_in_topic(word: u64) -> u64 {
    marks(word, NUL) | marks(word, PLUS) | marks(word, HASH)
}

#[inline(always)]
const fn suspicious_in_string(word: u64) -> u64 {
    marks(word, NUL)
}

/// True when no byte of `bytes` is suspicious: ASCII without NUL at least. Words overlap at the end, so that nothing goes byte by byte.
#[inline(always)]
fn is_plain(bytes: &[u8], suspicious: impl Fn(u64) -> u64) -> bool {
    let mut found = 0;
    if bytes.len() >= 8 {
        for chunk in bytes.chunks_exact(8) {
            found |= suspicious(u64::from_le_bytes(chunk.try_into().expect("chunks_exact gives eight bytes")));
        }
        if let Some(last) = bytes.last_chunk::<8>() {
            found |= suspicious(u64::from_le_bytes(*last));
        }
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        found = suspicious(u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last)));
    } else {
        // 'a' fills the places that are not used.
        let mut word = [b'a'; 8];
        for (place, byte) in word.iter_mut().zip(bytes) {
            *place = *byte;
        }
        found = suspicious(u64::from_le_bytes(word));
    }
    found == 0
}

/// `bytes` as the content of a UTF-8 Encoded String.
#[inline]
pub(crate) fn utf8(bytes: &[u8]) -> Result<&str, Violation> {
    if is_plain(bytes, suspicious_in_string) {
        // SAFETY: `is_plain` has seen that every byte is below 0x80.
        return Ok(unsafe { std::str::from_utf8_unchecked(bytes) });
    }
    utf8_slow(bytes)
}

#[cold]
fn utf8_slow(bytes: &[u8]) -> Result<&str, Violation> {
    // [MQTT-1.5.4-1] Surrogates are not UTF-8. [MQTT-1.5.4-3] U+FEFF is a character like others and stays.
    let text = std::str::from_utf8(bytes).map_err(|_| Violation::malformed("MQTT-1.5.4-1", "string is not well-formed UTF-8"))?;
    if bytes.contains(&0) {
        return Err(Violation::malformed("MQTT-1.5.4-2", "string contains U+0000"));
    }
    Ok(text)
}

/// What [`topic_name`] found wrong beyond UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HasWildcard;

/// `bytes` as a Topic Name; the inner result tells of wildcards, because the clause depends on the field.
#[inline]
pub(crate) fn topic_name(bytes: &[u8]) -> Result<Result<&str, HasWildcard>, Violation> {
    if is_plain(bytes, suspicious_in_topic) {
        // SAFETY: `is_plain` has seen that every byte is below 0x80.
        return Ok(Ok(unsafe { std::str::from_utf8_unchecked(bytes) }));
    }
    topic_name_slow(bytes)
}

#[cold]
fn topic_name_slow(bytes: &[u8]) -> Result<Result<&str, HasWildcard>, Violation> {
    let text = utf8_slow(bytes)?;
    Ok(if bytes.iter().any(|byte| matches!(byte, b'+' | b'#')) { Err(HasWildcard) } else { Ok(text) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn variable_byte_integers_are_minimal_and_at_most_four_bytes() {
        for (bytes, expected) in [
            (&[0x00][..], Ok(Some((0, 1)))),
            (&[0x7F], Ok(Some((127, 1)))),
            (&[0x80, 0x01], Ok(Some((128, 2)))),
            (&[0xFF, 0x7F], Ok(Some((16_383, 2)))),
            (&[0x80, 0x80, 0x01], Ok(Some((16_384, 3)))),
            (&[0xFF, 0xFF, 0xFF, 0x7F], Ok(Some((268_435_455, 4)))),
            (&[], Ok(None)),
            (&[0x80], Ok(None)),
            (&[0xFF, 0xFF, 0xFF], Ok(None)),
            (&[0x80, 0x00], Err("MQTT-1.5.5-1")),
            (&[0xFF, 0x80, 0x00], Err("MQTT-1.5.5-1")),
            (&[0xFF, 0xFF, 0xFF, 0x00], Err("MQTT-1.5.5-1")),
            (&[0xFF, 0xFF, 0xFF, 0xFF], Err("1.5.5")),
        ] {
            assert_eq!(varint(bytes).map_err(|violation| violation.clause), expected, "{bytes:02X?}");
        }
    }

    #[test]
    fn every_length_of_string_sees_a_bad_byte_at_every_place() {
        for length in 0..40 {
            let good = vec![b'x'; length];
            assert!(utf8(&good).is_ok() && topic_name(&good) == Ok(Ok(std::str::from_utf8(&good).expect("ASCII"))));
            for at in 0..length {
                let mut bytes = good.clone();
                bytes[at] = 0;
                assert_eq!(utf8(&bytes).map_err(|violation| violation.clause), Err("MQTT-1.5.4-2"));
                bytes[at] = 0xFF;
                assert_eq!(utf8(&bytes).map_err(|violation| violation.clause), Err("MQTT-1.5.4-1"));
                for wildcard in *b"+#" {
                    bytes[at] = wildcard;
                    assert_eq!(topic_name(&bytes), Ok(Err(HasWildcard)));
                }
            }
        }
    }

    #[test]
    fn surrogates_are_refused_and_a_byte_order_mark_stays() {
        assert_eq!(utf8(b"\xED\xA0\x80").map_err(|violation| violation.clause), Err("MQTT-1.5.4-1"));
        // [MQTT-1.5.4-3]
        assert_eq!(utf8(b"\xEF\xBB\xBFa"), Ok("\u{FEFF}a"));
    }

    proptest! {
        #[test]
        fn strings_are_what_the_standard_library_says(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let expected = std::str::from_utf8(&bytes).ok().filter(|text| !text.contains('\0'));
            prop_assert_eq!(utf8(&bytes).ok(), expected);
            let expected = expected.map(|text| if text.contains(['+', '#']) { Err(HasWildcard) } else { Ok(text) });
            prop_assert_eq!(topic_name(&bytes).ok(), expected);
        }

        #[test]
        fn ascii_is_judged_like_the_standard_library_does(text in "[\\x00-\\x7F]{0,40}") {
            prop_assert_eq!(utf8(text.as_bytes()).is_ok(), !text.contains('\0'));
        }
    }
}
