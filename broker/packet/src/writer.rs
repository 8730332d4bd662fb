//! Appending fields to an output buffer.
//!
//! What the caller passes has to fit the format; in a release build a string or Binary Data beyond 65,535 bytes is cut, so that the stream
//! stays readable.

use crate::property::varint_len;
use crate::{PacketIdentifier, PacketType};

pub(crate) fn put_u16(value: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub(crate) fn put_u32(value: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub(crate) fn put_packet_id(value: PacketIdentifier, out: &mut Vec<u8>) {
    put_u16(value.get(), out);
}

#[inline]
pub(crate) fn put_binary(bytes: &[u8], out: &mut Vec<u8>) {
    debug_assert!(bytes.len() <= usize::from(u16::MAX), "binary data longer than its length field can tell");
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    put_u16(length, out);
    out.extend_from_slice(&bytes[..usize::from(length)]);
}

#[inline]
pub(crate) fn put_string(text: &str, out: &mut Vec<u8>) {
    put_binary(fitting(text).as_bytes(), out);
}

/// As much of `text` as a length of two bytes can tell: all of it, unless the caller is wrong.
#[inline]
pub(crate) fn fitting(text: &str) -> &str {
    debug_assert!(text.len() <= usize::from(u16::MAX), "string longer than its length field can tell");
    &text[..text.floor_char_boundary(usize::from(u16::MAX))]
}

/// Writes `content` behind its length as a Variable Byte Integer. Costs a move of the content when it has more than 127 bytes, so PUBLISH
/// computes its lengths instead.
pub(crate) fn put_prefixed(out: &mut Vec<u8>, content: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.push(0);
    content(out);
    let length = out.len() - at - 1;
    debug_assert!(length <= 268_435_455, "longer than a variable byte integer can tell");
    let length = length as u32;
    let bytes = encode_varint(length);
    out.splice(at..=at, bytes.into_iter().take(varint_len(length)));
}

/// A whole packet with the usual first byte of its type.
pub(crate) fn put_packet(packet_type: PacketType, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(packet_type.first_byte());
    put_prefixed(out, body);
}

/// The bytes of `value`, of which the first [`varint_len`] count.
#[inline]
pub(crate) const fn encode_varint(value: u32) -> [u8; 4] {
    let length = varint_len(value);
    let mut bytes = [0; 4];
    let mut at = 0;
    while at < length {
        let more = if at + 1 < length { 0x80 } else { 0 };
        bytes[at] = (value >> (7 * at)) as u8 & 0x7F | more;
        at += 1;
    }
    bytes
}
