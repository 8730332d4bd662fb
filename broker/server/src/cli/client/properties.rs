//! `-D PACKET PROPERTY VALUE` and `-D PACKET user-property NAME VALUE`.

use std::collections::HashMap;

use bucketmq_packet::{ConnectProperties, ForwardedProperties, PublishProperties, UserProperties};
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::error::ClientError;

/// Everything that was given by `-D`, by packet.
#[derive(Debug, Clone, Default)]
pub struct Properties(HashMap<Target, Given>);

/// Whose properties they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// CONNECT.
    Connect,
    /// PUBLISH.
    Publish,
    /// The Will in CONNECT.
    Will,
    /// SUBSCRIBE.
    Subscribe,
    /// UNSUBSCRIBE.
    Unsubscribe,
    /// DISCONNECT.
    Disconnect,
}

/// The properties of one packet, all kinds together: [`ALLOWED`] says which of them it has.
#[derive(Debug, Clone, Default)]
pub struct Given {
    user: Vec<(String, String)>,
    texts: HashMap<&'static str, String>,
    numbers: HashMap<&'static str, u32>,
}

/// What a value has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Flag,
    U16,
    U32,
    Identifier,
}

/// A property's name and its kind of value.
type Known = (&'static str, Kind);

const CONTENT_TYPE: Known = ("content-type", Kind::Text);
const CORRELATION_DATA: Known = ("correlation-data", Kind::Text);
const MESSAGE_EXPIRY_INTERVAL: Known = ("message-expiry-interval", Kind::U32);
const PAYLOAD_FORMAT_INDICATOR: Known = ("payload-format-indicator", Kind::Flag);
const RESPONSE_TOPIC: Known = ("response-topic", Kind::Text);
const SESSION_EXPIRY_INTERVAL: Known = ("session-expiry-interval", Kind::U32);

const ALLOWED: [(&str, Target, &[Known]); 6] = [
    (
        "CONNECT",
        Target::Connect,
        &[
            ("authentication-data", Kind::Text),
            ("authentication-method", Kind::Text),
            ("maximum-packet-size", Kind::U32),
            ("receive-maximum", Kind::U16),
            ("request-problem-information", Kind::Flag),
            ("request-response-information", Kind::Flag),
            SESSION_EXPIRY_INTERVAL,
            ("topic-alias-maximum", Kind::U16),
        ],
    ),
    (
        "PUBLISH",
        Target::Publish,
        &[CONTENT_TYPE, CORRELATION_DATA, MESSAGE_EXPIRY_INTERVAL, PAYLOAD_FORMAT_INDICATOR, RESPONSE_TOPIC, ("topic-alias", Kind::U16)],
    ),
    (
        "WILL",
        Target::Will,
        &[
            CONTENT_TYPE,
            CORRELATION_DATA,
            MESSAGE_EXPIRY_INTERVAL,
            PAYLOAD_FORMAT_INDICATOR,
            RESPONSE_TOPIC,
            ("will-delay-interval", Kind::U32),
        ],
    ),
    ("SUBSCRIBE", Target::Subscribe, &[("subscription-identifier", Kind::Identifier)]),
    ("UNSUBSCRIBE", Target::Unsubscribe, &[]),
    ("DISCONNECT", Target::Disconnect, &[SESSION_EXPIRY_INTERVAL]),
];

impl clap::Args for Properties {
    fn augment_args(command: Command) -> Command {
        let help =
            "Add a property, MQTT 5 only; may be repeated: `-D PUBLISH content-type text/plain`, `-D PUBLISH user-property NAME VALUE`";
        let long_help = ALLOWED.iter().fold(format!("{help}.\n\nPackets and their properties:"), |text, (packet, _, properties)| {
            let names: Vec<_> = properties.iter().map(|(name, _)| *name).chain(["user-property"]).collect();
            format!("{text}\n  {packet}: {}", names.join(", "))
        });
        command.arg(
            Arg::new("property")
                .short('D')
                .long("property")
                .value_names(["PACKET", "PROPERTY", "VALUE"])
                .num_args(3..=4)
                .allow_negative_numbers(true)
                .action(ArgAction::Append)
                .help(help)
                .long_help(long_help),
        )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Properties {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut properties = Self::default();
        for occurrence in matches.get_occurrences::<String>("property").into_iter().flatten() {
            let words: Vec<&str> = occurrence.map(String::as_str).collect();
            properties.add(&words).map_err(|problem| {
                clap::Error::raw(clap::error::ErrorKind::InvalidValue, format!("-D {}: {problem}\n", words.join(" ")))
            })?;
        }
        Ok(properties)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Properties {
    fn add(&mut self, words: &[&str]) -> Result<(), String> {
        let [packet, name, values @ ..] = words else { return Err("expected a packet, a property and a value".to_owned()) };
        let (_, target, allowed) = ALLOWED
            .iter()
            .find(|(known, ..)| known.eq_ignore_ascii_case(packet))
            .ok_or_else(|| format!("{packet} is none of {}", ALLOWED.map(|(known, ..)| known).join(", ")))?;
        let given = self.0.entry(*target).or_default();
        if *name == "user-property" {
            let [name, value] = values else { return Err("a user property has a name and a value".to_owned()) };
            given.user.push(((*name).to_owned(), (*value).to_owned()));
            return Ok(());
        }
        let (name, kind) = allowed.iter().find(|(known, _)| known == name).ok_or_else(|| format!("{packet} has no property {name}"))?;
        let [value] = values else { return Err(format!("{name} has one value")) };
        let maximum = match kind {
            Kind::Text => {
                given.texts.insert(name, (*value).to_owned());
                return Ok(());
            }
            Kind::Flag => 1,
            Kind::U16 => u32::from(u16::MAX),
            Kind::U32 => u32::MAX,
            // The largest Variable Byte Integer.
            Kind::Identifier => 268_435_455,
        };
        let number = value.parse().ok().filter(|number| *number <= maximum).ok_or_else(|| format!("{name} is a number up to {maximum}"))?;
        given.numbers.insert(name, number);
        Ok(())
    }

    /// The properties of `target`.
    pub fn of(&self, target: Target) -> Given {
        self.0.get(&target).cloned().unwrap_or_default()
    }

    /// Fails where `targets` has none of the given packets, so that nothing is dropped silently.
    pub fn only(&self, targets: &[Target]) -> Result<(), ClientError> {
        match ALLOWED.iter().find(|(_, target, _)| self.0.contains_key(target) && !targets.contains(target)) {
            Some((packet, ..)) => Err(ClientError::Usage(format!("-D {packet}: this command sends no such packet"))),
            None => Ok(()),
        }
    }

    /// True without any `-D`.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Given {
    fn text(&self, name: &str) -> Option<&str> {
        self.texts.get(name).map(String::as_str)
    }

    /// A number by its property's name.
    pub fn number(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    fn small(&self, name: &str) -> Option<u16> {
        self.number(name).map(|number| u16::try_from(number).expect("checked when it was read"))
    }

    fn flag(&self, name: &str) -> Option<bool> {
        self.number(name).map(|number| number == 1)
    }

    /// User properties in their order.
    pub fn user(&self) -> UserProperties<'_> {
        self.user.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    /// As CONNECT carries them.
    pub fn connect(&self) -> ConnectProperties<'_> {
        ConnectProperties {
            session_expiry_interval: self.number("session-expiry-interval"),
            receive_maximum: self.small("receive-maximum"),
            maximum_packet_size: self.number("maximum-packet-size"),
            topic_alias_maximum: self.small("topic-alias-maximum").unwrap_or_default(),
            request_response_information: self.flag("request-response-information").unwrap_or(false),
            request_problem_information: self.flag("request-problem-information").unwrap_or(true),
            authentication_method: self.text("authentication-method"),
            authentication_data: self.text("authentication-data").map(str::as_bytes),
            user_properties: self.user(),
        }
    }

    /// As PUBLISH carries them.
    pub fn publish(&self) -> PublishProperties<'static> {
        PublishProperties {
            message_expiry_interval: self.number("message-expiry-interval"),
            topic_alias: self.small("topic-alias"),
            subscription_identifiers: Vec::new(),
            forward: self.forward().into(),
        }
    }

    /// Those of a message itself, encoded.
    pub fn forward(&self) -> Vec<u8> {
        ForwardedProperties {
            payload_format_indicator: self.flag("payload-format-indicator"),
            content_type: self.text("content-type"),
            response_topic: self.text("response-topic"),
            correlation_data: self.text("correlation-data").map(str::as_bytes),
            user_properties: self.user(),
        }
        .encode()
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args, FromArgMatches};

    use super::*;

    fn parse(words: &[&str]) -> Result<Properties, String> {
        let command = Properties::augment_args(Command::new("pub")).arg(Arg::new("topic").short('t'));
        let matches = command.try_get_matches_from([&["pub"], words].concat()).map_err(|error| error.to_string())?;
        Properties::from_arg_matches(&matches).map_err(|error| error.to_string())
    }

    #[test]
    fn properties_go_to_their_packet_in_their_order() {
        let line = "-D PUBLISH user-property a 1 -D publish user-property b -2 -t x -D connect receive-maximum 7 -D PUBLISH topic-alias 3";
        let properties = parse(&line.split(' ').collect::<Vec<_>>()).expect("right");
        assert_eq!(properties.of(Target::Publish).user(), [("a", "1"), ("b", "-2")]);
        assert_eq!(properties.of(Target::Publish).publish().topic_alias, Some(3));
        assert_eq!(properties.of(Target::Connect).connect().receive_maximum, Some(7));
        assert!(properties.only(&[Target::Publish]).is_err());
    }

    #[test]
    fn a_mistake_says_what_would_be_right() {
        for (line, told) in [
            ("-D PUBREL user-property a b", "none of CONNECT, PUBLISH"),
            ("-D PUBLISH receive-maximum 3", "PUBLISH has no property receive-maximum"),
            ("-D CONNECT receive-maximum 65536", "a number up to 65535"),
            ("-D PUBLISH payload-format-indicator 2", "a number up to 1"),
            ("-D PUBLISH user-property a", "a name and a value"),
            ("-D PUBLISH content-type a b", "has one value"),
            ("-D PUBLISH content-type", "3 values required"),
        ] {
            let error = parse(&line.split(' ').collect::<Vec<_>>()).expect_err(line);
            assert!(error.contains(told), "{line}: {error}");
        }
    }
}
