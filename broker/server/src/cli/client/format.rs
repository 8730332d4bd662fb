//! What `sub` prints of a message: the payload, the topic and the payload, JSON, or what `-F` says.
//!
//! A format is read once, before anything is connected, and a wrong one is refused then.

use bucketmq_packet::QoS;
use serde::Serialize;
use serde_json::value::RawValue;

use super::local_time::LocalTime;
use super::message::Message;

/// A format that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(Vec<u8>),
    Field(char, Width),
    Time(char),
    Nanoseconds,
}

/// `%-010.10t`: flags, the smallest and the largest width.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Width {
    zeros: bool,
    left: bool,
    minimum: usize,
    maximum: Option<usize>,
}

/// All letters that may follow `%`.
const FIELDS: &str = "ACDEFIJPRSUXjlmpqrtx";
/// Those of them that take flags and widths, and those that take a largest width.
const WITH_WIDTH: &str = "ACEFIRSXlmptx";
const WITH_MAXIMUM: &str = "CIRt";

impl Format {
    /// The payload alone.
    pub fn payload() -> Self {
        Self(vec![Part::Field('p', Width::default())])
    }

    /// Topic, blank, payload.
    pub fn verbose() -> Self {
        Self(vec![Part::Field('t', Width::default()), Part::Literal(b" ".to_vec()), Part::Field('p', Width::default())])
    }

    /// One JSON object for each message.
    pub fn json() -> Self {
        Self(vec![Part::Field('j', Width::default())])
    }

    /// What `message` looks like, `None` where `%J` meets a payload that is not JSON.
    pub fn render(&self, message: &Message, now: LocalTime, pretty: bool) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        for part in &self.0 {
            match part {
                Part::Literal(bytes) => out.extend_from_slice(bytes),
                Part::Time(letter) => out.extend_from_slice(now.format(&format!("%{letter}")).as_bytes()),
                Part::Nanoseconds => out.extend_from_slice(format!("{:09}", now.nanoseconds).as_bytes()),
                Part::Field('j', _) => out.extend_from_slice(json(message, now, false, pretty)?.as_bytes()),
                Part::Field('J', _) => out.extend_from_slice(json(message, now, true, pretty)?.as_bytes()),
                Part::Field(letter, width) => width.put(&field(*letter, message, now), &mut out),
            }
        }
        Some(out)
    }
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let part = match c {
                '%' => match field_of(&mut chars)? {
                    ('%', _) => Err(b'%'),
                    (letter, width) => Ok(Part::Field(letter, width)),
                },
                '@' => match chars.next().ok_or("@ at the end: it starts a part of the time, @@ is a literal @")? {
                    '@' => Err(b'@'),
                    'N' => Ok(Part::Nanoseconds),
                    letter if letter.is_ascii_alphabetic() => Ok(Part::Time(letter)),
                    other => return Err(format!("@{other} is no part of the time")),
                },
                '\\' => Err(escaped(chars.next())?),
                other => {
                    literal.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes());
                    continue;
                }
            };
            match part {
                Err(byte) => literal.push(byte),
                Ok(part) => {
                    if !literal.is_empty() {
                        parts.push(Part::Literal(std::mem::take(&mut literal)));
                    }
                    parts.push(part);
                }
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self(parts))
    }
}

fn escaped(c: Option<char>) -> Result<u8, String> {
    Ok(match c {
        Some('\\') => b'\\',
        Some('0') => 0,
        Some('a') => 0x07,
        Some('e') => 0x1B,
        Some('n') => b'\n',
        Some('r') => b'\r',
        Some('t') => b'\t',
        Some('v') => 0x0B,
        _ => return Err("a backslash is followed by one of \\ 0 a e n r t v".to_owned()),
    })
}

/// The letter after `%`, and the flags and widths before it.
fn field_of(chars: &mut std::str::Chars<'_>) -> Result<(char, Width), String> {
    let mut width = Width::default();
    let mut given = String::new();
    let mut next = || chars.next().inspect(|c| given.push(*c)).ok_or("% at the end: it starts a field, %% is a literal %");
    let mut letter = next()?;
    while matches!(letter, '0' | '-') {
        *(if letter == '0' { &mut width.zeros } else { &mut width.left }) = true;
        letter = next()?;
    }
    // Wider than any screen, and short of where it would matter for memory.
    let digit = |number: usize, c: char| (number * 10 + c.to_digit(10).unwrap_or_default() as usize).min(10_000);
    while letter.is_ascii_digit() {
        width.minimum = digit(width.minimum, letter);
        letter = next()?;
    }
    if letter == '.' {
        letter = next()?;
        let mut maximum = 0;
        while letter.is_ascii_digit() {
            maximum = digit(maximum, letter);
            letter = next()?;
        }
        width.maximum = Some(maximum);
    }
    if letter != '%' && !FIELDS.contains(letter) {
        return Err(format!("%{given}: there is no field {letter}"));
    }
    let has_width = width != Width::default();
    if (has_width && !WITH_WIDTH.contains(letter)) || (width.maximum.is_some() && !WITH_MAXIMUM.contains(letter)) {
        return Err(format!("%{given}: {letter} takes no such width"));
    }
    Ok((letter, width))
}

impl Width {
    /// Widths count bytes of payloads and characters of the rest, which here are the same.
    fn put(&self, text: &[u8], out: &mut Vec<u8>) {
        let end = self.maximum.filter(|maximum| *maximum < text.len()).map_or(text.len(), |maximum| boundary(text, maximum));
        let text = &text[..end];
        let blanks = self.minimum.saturating_sub(text.len());
        match (self.left, self.zeros) {
            (true, _) => {
                out.extend_from_slice(text);
                out.resize(out.len() + blanks, b' ');
            }
            (false, zeros) => {
                out.resize(out.len() + blanks, if zeros { b'0' } else { b' ' });
                out.extend_from_slice(text);
            }
        }
    }
}

/// Not within a character.
fn boundary(text: &[u8], mut at: usize) -> usize {
    while at > 0 && text[at] & 0xC0 == 0x80 {
        at -= 1;
    }
    at
}

fn field(letter: char, message: &Message, now: LocalTime) -> Vec<u8> {
    let forwarded = || message.properties.decoded();
    let number = |number: Option<u32>| number.map_or_else(String::new, |number| number.to_string());
    let text = match letter {
        'A' => number(message.properties.topic_alias.map(u32::from)),
        'C' => forwarded().content_type.unwrap_or_default().to_owned(),
        'D' => return forwarded().correlation_data.unwrap_or_default().to_vec(),
        'E' => number(message.properties.message_expiry_interval),
        'F' => number(forwarded().payload_format_indicator.map(u32::from)),
        'I' => now.iso_8601(),
        'P' => {
            let pairs: Vec<_> = forwarded().user_properties.iter().map(|(name, value)| format!("{name}:{value}")).collect();
            pairs.join(" ")
        }
        'R' => forwarded().response_topic.unwrap_or_default().to_owned(),
        'S' => {
            let identifiers: Vec<_> = message.properties.subscription_identifiers.iter().map(u32::to_string).collect();
            identifiers.join(" ")
        }
        'U' => format!("{}.{:09}", now.seconds, now.nanoseconds),
        'l' => message.payload.len().to_string(),
        'm' => number(message.packet_id.map(|id| id.get().into())),
        'q' => (message.qos as u8).to_string(),
        'r' => u8::from(message.retain).to_string(),
        't' => message.topic.clone(),
        'x' => message.payload.iter().map(|byte| format!("{byte:02x}")).collect(),
        'X' => message.payload.iter().map(|byte| format!("{byte:02X}")).collect(),
        _ => return message.payload.clone(),
    };
    text.into_bytes()
}

/// The fields of `%j` and `%J` in mosquitto's order.
#[derive(Serialize)]
struct Json<'a> {
    tst: String,
    topic: &'a str,
    qos: u8,
    retain: u8,
    payloadlen: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    mid: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    properties: Option<JsonProperties<'a>>,
    payload: Box<RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct JsonProperties<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_format_indicator: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_expiry_interval: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_topic: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_data: Option<String>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    subscription_identifier: &'a [u32],
    #[serde(skip_serializing_if = "Option::is_none")]
    topic_alias: Option<u16>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    user_properties: Vec<JsonPair<'a>>,
}

/// An object each, because names may come twice.
#[derive(Serialize)]
struct JsonPair<'a> {
    name: &'a str,
    value: &'a str,
}

fn json(message: &Message, now: LocalTime, payload_is_json: bool, pretty: bool) -> Option<String> {
    let text = String::from_utf8_lossy(&message.payload);
    let payload = if payload_is_json { text.trim().to_owned() } else { serde_json::to_string(&text).ok()? };
    let forwarded = message.properties.decoded();
    let properties = JsonProperties {
        payload_format_indicator: forwarded.payload_format_indicator.map(u8::from),
        message_expiry_interval: message.properties.message_expiry_interval,
        content_type: forwarded.content_type,
        response_topic: forwarded.response_topic,
        correlation_data: forwarded.correlation_data.map(|data| String::from_utf8_lossy(data).into_owned()),
        subscription_identifier: &message.properties.subscription_identifiers,
        topic_alias: message.properties.topic_alias,
        user_properties: forwarded.user_properties.iter().map(|(name, value)| JsonPair { name, value }).collect(),
    };
    let has_properties = message.properties != Default::default();
    let object = Json {
        tst: now.iso_8601_with_fraction(),
        topic: &message.topic,
        qos: message.qos as u8,
        retain: u8::from(message.retain),
        payloadlen: message.payload.len(),
        mid: message.packet_id.filter(|_| message.qos != QoS::AtMostOnce).map(|id| id.get()),
        properties: has_properties.then_some(properties),
        payload: RawValue::from_string(payload).ok()?,
    };
    if pretty { serde_json::to_string_pretty(&object).ok() } else { serde_json::to_string(&object).ok() }
}

#[cfg(test)]
mod tests {
    use bucketmq_packet::{ForwardedProperties, PacketIdentifier, PublishProperties};

    use super::*;

    fn message(payload: &[u8]) -> Message {
        let forwarded = ForwardedProperties {
            payload_format_indicator: Some(true),
            content_type: Some("text/plain"),
            response_topic: Some("re"),
            correlation_data: Some(b"\x01"),
            user_properties: vec![("a", "1"), ("a", "2")],
        };
        Message {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: true,
            topic: "room/höhe".to_owned(),
            packet_id: PacketIdentifier::new(7),
            properties: PublishProperties {
                message_expiry_interval: Some(60),
                topic_alias: None,
                subscription_identifiers: vec![3, 4],
                forward: forwarded.encode().into(),
            },
            payload: payload.to_vec(),
        }
    }

    fn rendered(format: &str, payload: &[u8]) -> String {
        let format: Format = format.parse().expect("right");
        String::from_utf8(format.render(&message(payload), LocalTime::now(), false).expect("rendered")).expect("UTF-8")
    }

    #[test]
    fn every_field_is_filled() {
        for (format, text) in [
            ("%t:%p", "room/höhe:hi"),
            ("%q %r %m %l", "1 1 7 2"),
            ("%x %X", "6869 6869"),
            ("%C|%R|%E|%F|%S|%P|%A", "text/plain|re|60|1|3 4|a:1 a:2|"),
            ("%D", "\u{1}"),
            ("%%@@\\\\", "%@\\"),
            ("\\e[1m%t\\t\\0", "\u{1b}[1mroom/höhe\t\0"),
            ("[%12t][%-12t][%06l][%-06l]", "[  room/höhe][room/höhe  ][000002][2     ]"),
            ("[%.7t][%.6t]", "[room/h][room/h]"),
        ] {
            assert_eq!(rendered(format, b"hi"), text, "{format}");
        }
    }

    #[test]
    fn times_are_those_of_now() {
        let year: i32 = rendered("@Y", b"").parse().expect("a year");
        assert!(year > 2020);
        let unix = rendered("%U", b"");
        assert_eq!(unix.split('.').nth(1).map(str::len), Some(9), "{unix}");
        assert_eq!(rendered("@N", b"").len(), 9);
        assert!(rendered("%I", b"").starts_with(&year.to_string()));
    }

    #[test]
    fn json_has_all_there_is() {
        let parsed: serde_json::Value = serde_json::from_str(&rendered("%j", b"h\"i")).expect("JSON");
        assert_eq!((parsed["topic"].as_str(), parsed["qos"].as_u64(), parsed["mid"].as_u64()), (Some("room/höhe"), Some(1), Some(7)));
        assert_eq!(parsed["payload"], "h\"i");
        assert_eq!(parsed["properties"]["content-type"], "text/plain");
        assert_eq!(parsed["properties"]["user-properties"][1]["value"], "2");
        assert_eq!(parsed["properties"]["subscription-identifier"][1], 4);
    }

    #[test]
    fn a_payload_that_is_json_is_put_in_as_it_is() {
        assert!(rendered("%J", br#" {"b":1.10,"a":2} "#).ends_with(r#""payload":{"b":1.10,"a":2}}"#));
        let format: Format = "%J".parse().expect("right");
        assert_eq!(format.render(&message(b"{oops"), LocalTime::now(), false), None);
    }

    #[test]
    fn a_wrong_format_is_refused() {
        for format in ["%", "%k", "%5", "%5q", "%.5p", "@", "@%", "\\", "\\x", "%-D"] {
            assert!(format.parse::<Format>().is_err(), "{format}");
        }
    }
}
