//! Records and times as a person or a program reads them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64ct::{Base64, Encoding};
use bucketmq_packet::message::Message;
use serde_json::{Value, json};

/// Milliseconds since 1970 as RFC 3339 in UTC.
pub(crate) fn time(at_ms: u64) -> String {
    // Far beyond every date: what a damaged record may say.
    const YEAR_9999_MS: u64 = 253_402_300_799_000;
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(at_ms.min(YEAR_9999_MS))).to_string()
}

/// Now, in milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// A time as part of an object's name: it sorts, and no tool has to quote it.
pub(crate) fn stamp(at_ms: u64) -> String {
    let at = UNIX_EPOCH + Duration::from_millis(at_ms);
    humantime::format_rfc3339_millis(at).to_string().replace(['-', ':', '.'], "")
}

/// Bytes: as text when they are, in Base64 otherwise. The name of the field says which.
pub(crate) fn bytes(name: &str, bytes: &[u8]) -> (String, Value) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (name.to_owned(), text.into()),
        Err(_) => (format!("{name}_base64"), Base64::encode_string(bytes).into()),
    }
}

/// An Application Message.
pub(crate) fn message(message: &Message) -> Value {
    let mut value = json!({ "topic": message.topic(), "qos": message.qos() as u8, "retain": message.retain() });
    let (name, payload) = bytes("payload", message.payload());
    value[name] = payload;
    if !message.properties().is_empty() {
        value["properties_base64"] = Base64::encode_string(message.properties()).into();
    }
    if let Some(at) = message.expires_at() {
        value["expires_at"] = time(at).into();
    }
    value
}

/// Bytes in hexadecimal, for keys.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
