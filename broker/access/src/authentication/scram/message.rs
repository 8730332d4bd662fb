//! The messages of SCRAM (RFC 5802 7), taken apart. They are attributes, `letter=value`, with commas between.

use base64ct::{Base64, Encoding};

use super::{MESSAGE_LEN_MAX, ScramError};

/// As text, if it is not too long.
pub(super) fn text(data: &[u8]) -> Result<&str, ScramError> {
    if data.len() > MESSAGE_LEN_MAX {
        return Err(ScramError("a message is longer than 4096 bytes"));
    }
    std::str::from_utf8(data).map_err(|_| ScramError("a message is not UTF-8"))
}

/// The value of the next attribute, which has to be this one.
pub(super) fn take<'a>(attributes: &mut impl Iterator<Item = &'a str>, name: char) -> Result<&'a str, ScramError> {
    let attribute = attributes.next().ok_or(ScramError("an attribute is missing"))?;
    if attribute.starts_with("m=") {
        // RFC 5802 5.1: an extension that has to be understood.
        return Err(ScramError("a mandatory extension, of which none is known"));
    }
    attribute.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')).ok_or(ScramError("an attribute is not the one that was due"))
}

/// Attributes behind the known ones may be ignored, but are attributes.
pub(super) fn ignore_extensions<'a>(mut attributes: impl Iterator<Item = &'a str>) -> Result<(), ScramError> {
    let is_attribute =
        |attribute: &str| attribute.len() > 2 && attribute.as_bytes()[0].is_ascii_alphabetic() && attribute.as_bytes()[1] == b'=';
    if attributes.all(is_attribute) { Ok(()) } else { Err(ScramError("an extension is not an attribute")) }
}

/// Printable ASCII without a comma.
pub(super) fn check_nonce(nonce: &str) -> Result<(), ScramError> {
    let printable = |byte: u8| (0x21..=0x7E).contains(&byte) && byte != b',';
    if !nonce.is_empty() && nonce.bytes().all(printable) { Ok(()) } else { Err(ScramError("the nonce is empty or not printable")) }
}

/// A name without the signs that have a meaning.
pub(super) fn escape(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

/// The name that was escaped.
pub(super) fn unescape(text: &str) -> Result<String, ScramError> {
    let mut pieces = text.split('=');
    let mut name = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (sign, rest) = match (piece.strip_prefix("2C"), piece.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            // RFC 5802 5.1 [n]: the Server must refuse it.
            _ => return Err(ScramError("the user name has `=` without 2C or 3D behind it")),
        };
        name.push(sign);
        name.push_str(rest);
    }
    if name.is_empty() || name.contains('\0') { Err(ScramError("the user name is empty or has U+0000")) } else { Ok(name) }
}

/// Base64 with padding.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, ScramError> {
    Base64::decode_vec(text).map_err(|_| ScramError("a value is not Base64"))
}
