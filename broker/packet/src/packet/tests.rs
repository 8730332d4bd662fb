//! Fixed headers, and all packets together: round trips, and bytes nobody sends.

use std::borrow::Cow;

use proptest::prelude::*;

use super::*;
use crate::connack::ConnAckProperties;
use crate::testing::check;
use crate::{
    ConnectProperties, ForwardedProperties, PacketIdentifier, PublishProperties, QoS, RetainHandling, SubscriptionOptions, UserProperties,
    Will, decode_publish,
};

#[test]
fn fixed_headers_are_taken_or_refused() {
    use PacketType::{PingReq, PingResp};
    use ProtocolVersion::{V3_1, V3_1_1, V5};
    use Sender::{Client, Server};
    for version in ProtocolVersion::ALL {
        check(PingReq, version, Client, "PINGREQ", &[0xC0, 0], &Ok(Packet::PingReq));
        check(PingResp, version, Server, "PINGRESP", &[0xD0, 0], &Ok(Packet::PingResp));
        check(PingReq, version, Server, "PINGREQ", &[0xC0, 0], &Err((0x82, "2.1.2")));
        check(PingResp, version, Client, "PINGRESP", &[0xD0, 0], &Err((0x82, "2.1.2")));
        check(PingReq, version, Client, "PINGREQ with a body", &[0xC0, 1, 0], &Err((0x81, "2.1.4")));
        check(PingReq, version, Client, "length not minimal", &[0xC0, 0x80, 0], &Err((0x81, "MQTT-1.5.5-1")));
        check(PingReq, version, Client, "length of five bytes", &[0xC0, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], &Err((0x81, "1.5.5")));
        let reserved = decode(&[0x00], version, Client, u32::MAX).expect_err("type 0");
        assert_eq!((reserved.reason_code, reserved.clause, reserved.packet_type), (ReasonCode::MalformedPacket, "2.1.2", None));
    }
    check(PingReq, V5, Client, "flags", &[0xC1, 0], &Err((0x81, "MQTT-2.1.3-1")));
    check(PingReq, V3_1_1, Client, "flags", &[0xC8, 0], &Err((0x81, "MQTT-2.1.3-1")));
    check(PingReq, V3_1, Client, "3.1 does not use them", &[0xC8, 0], &Ok(Packet::PingReq));
}

#[test]
fn the_length_is_known_as_soon_as_the_fixed_header_is() {
    for (bytes, expected) in [
        (&[][..], Ok(None)),
        (&[0x30], Ok(None)),
        (&[0x30, 0], Ok(Some(2))),
        (&[0x30, 0x80], Ok(None)),
        (&[0x30, 0x80, 0x01], Ok(Some(131))),
        (&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], Ok(Some(268_435_460))),
        (&[0x30, 0x80, 0x00], Err("MQTT-1.5.5-1")),
        (&[0x30, 0xFF, 0xFF, 0xFF, 0xFF], Err("1.5.5")),
    ] {
        assert_eq!(packet_length(bytes).map_err(|violation| violation.clause), expected, "{bytes:02X?}");
    }
}

#[test]
fn a_packet_may_be_as_large_as_agreed_and_no_larger() {
    let bytes = [0x30, 3, 0, 1, b'a'];
    assert!(matches!(decode(&bytes, ProtocolVersion::V3_1_1, Sender::Client, 5), Ok(Some((_, 5)))));
    for (sender, clause) in [(Sender::Client, "MQTT-3.2.2-15"), (Sender::Server, "MQTT-3.1.2-24")] {
        let violation = decode(&bytes[..2], ProtocolVersion::V5, sender, 4).expect_err("five bytes are too many");
        let expected = (ReasonCode::PacketTooLarge, clause, Some(PacketType::Publish));
        assert_eq!((violation.reason_code, violation.clause, violation.packet_type), expected);
    }
}

#[test]
fn what_follows_the_packet_is_left_alone() {
    let bytes = [0xC0, 0, 0xC0, 0];
    assert_eq!(decode(&bytes, ProtocolVersion::V5, Sender::Client, u32::MAX), Ok(Some((Packet::PingReq, 2))));
}

#[test]
fn encoding_appends() {
    let mut out = vec![1, 2, 3];
    Packet::PingReq.encode(ProtocolVersion::V5, &mut out);
    assert_eq!(out, [1, 2, 3, 0xC0, 0]);
}

/// Packets are built from a pool of strings by a list of choices, so that they can borrow and proptest can shrink both.
#[derive(Debug, Clone)]
struct Pool {
    texts: Vec<String>,
    blobs: Vec<Vec<u8>>,
    choices: Vec<u32>,
}

fn pool() -> impl Strategy<Value = Pool> {
    let text = prop_oneof![4 => "[a-z/$ ]{0,12}", 1 => "[^\\x00]{0,20}", 1 => "[a-z]{120,300}"];
    let blob = prop_oneof![4 => prop::collection::vec(any::<u8>(), 0..20), 1 => prop::collection::vec(any::<u8>(), 120..300)];
    (prop::collection::vec(text, 1..5), prop::collection::vec(blob, 1..4), prop::collection::vec(any::<u32>(), 0..60))
        .prop_map(|(texts, blobs, choices)| Pool { texts, blobs, choices })
}

struct Builder<'a> {
    pool: &'a Pool,
    at: usize,
    version: ProtocolVersion,
    sender: Sender,
}

impl<'a> Builder<'a> {
    fn choice(&mut self) -> u32 {
        self.at += 1;
        self.pool.choices.get(self.at - 1).copied().unwrap_or(0)
    }

    fn below(&mut self, end: usize) -> usize {
        self.choice() as usize % end
    }

    fn flag(&mut self) -> bool {
        self.below(2) == 1
    }

    /// What only 5.0 has is absent before.
    fn optional<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.flag() && self.version == ProtocolVersion::V5 { Some(value(self)) } else { None }
    }

    fn text(&mut self) -> &'a str {
        &self.pool.texts[self.below(self.pool.texts.len())]
    }

    fn topic(&mut self) -> &'a str {
        Some(self.text()).filter(|text| crate::topic::check_name(text).is_ok()).unwrap_or("t")
    }

    fn blob(&mut self) -> &'a [u8] {
        &self.pool.blobs[self.below(self.pool.blobs.len())]
    }

    fn number(&mut self, from: u32) -> u32 {
        self.choice().max(from)
    }

    fn short(&mut self, from: u16) -> u16 {
        (self.choice() as u16).max(from)
    }

    fn qos(&mut self) -> QoS {
        [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][self.below(3)]
    }

    fn packet_id(&mut self) -> PacketIdentifier {
        PacketIdentifier::new(self.short(1)).expect("1 at least")
    }

    fn user_properties(&mut self) -> UserProperties<'a> {
        let count = if self.version == ProtocolVersion::V5 { self.below(4) } else { 0 };
        (0..count).map(|_| (self.text(), self.text())).collect()
    }

    fn forward(&mut self) -> Cow<'a, [u8]> {
        let forwarded = ForwardedProperties {
            payload_format_indicator: self.optional(Self::flag),
            content_type: self.optional(Self::text),
            response_topic: self.optional(Self::topic),
            correlation_data: self.optional(Self::blob),
            user_properties: self.user_properties(),
        };
        Cow::Owned(forwarded.encode())
    }

    fn reason_code(&mut self, packet_type: PacketType) -> ReasonCode {
        let allowed: Vec<ReasonCode> = ReasonCode::ALL.into_iter().filter(|code| code.is_allowed(packet_type, self.sender)).collect();
        allowed[self.below(allowed.len())]
    }

    fn connect(&mut self) -> Connect<'a> {
        let authentication_method = self.optional(Self::text);
        let client_id = Some(self.text()).filter(|text| !text.is_empty()).unwrap_or("c");
        let username = if self.flag() { Some(self.text()) } else { None };
        let may_have_password = username.is_some() || self.version == ProtocolVersion::V5;
        let will = if self.flag() {
            Some(Will {
                topic: self.topic(),
                payload: self.blob(),
                qos: self.qos(),
                retain: self.flag(),
                delay_interval: self.optional(|this| this.number(0)).unwrap_or(0),
                message_expiry_interval: self.optional(|this| this.number(0)),
                forward: self.forward(),
            })
        } else {
            None
        };
        Connect {
            version: self.version,
            clean_start: self.flag(),
            keep_alive: self.short(0),
            client_id,
            username,
            password: if may_have_password && self.flag() { Some(self.blob()) } else { None },
            will,
            properties: ConnectProperties {
                session_expiry_interval: self.optional(|this| this.number(0)),
                receive_maximum: self.optional(|this| this.short(1)),
                maximum_packet_size: self.optional(|this| this.number(1)),
                topic_alias_maximum: self.optional(|this| this.short(0)).unwrap_or(0),
                request_response_information: self.optional(|_| ()).is_some(),
                request_problem_information: self.optional(|_| ()).is_none(),
                authentication_method,
                authentication_data: authentication_method.and_then(|_| self.optional(Self::blob)),
                user_properties: self.user_properties(),
            },
        }
    }

    fn connack(&mut self) -> ConnAck<'a> {
        let reason_code = match self.version {
            ProtocolVersion::V5 => self.reason_code(PacketType::ConnAck),
            _ => {
                use ReasonCode::{
                    BadUserNameOrPassword, ClientIdentifierNotValid, NotAuthorized, ServerUnavailable, Success, UnsupportedProtocolVersion,
                };
                let codes = [
                    Success,
                    UnsupportedProtocolVersion,
                    ClientIdentifierNotValid,
                    ServerUnavailable,
                    BadUserNameOrPassword,
                    NotAuthorized,
                ];
                codes[self.below(codes.len())]
            }
        };
        let authentication_method = self.optional(Self::text);
        ConnAck {
            session_present: self.flag() && !reason_code.is_error() && self.version != ProtocolVersion::V3_1,
            reason_code,
            properties: ConnAckProperties {
                session_expiry_interval: self.optional(|this| this.number(0)),
                receive_maximum: self.optional(|this| this.short(1)),
                maximum_qos: self.optional(|this| if this.flag() { QoS::AtLeastOnce } else { QoS::AtMostOnce }),
                retain_available: self.optional(Self::flag),
                maximum_packet_size: self.optional(|this| this.number(1)),
                assigned_client_identifier: self.optional(Self::text),
                topic_alias_maximum: self.optional(|this| this.short(0)),
                reason_string: self.optional(Self::text),
                user_properties: self.user_properties(),
                wildcard_subscription_available: self.optional(Self::flag),
                subscription_identifiers_available: self.optional(Self::flag),
                shared_subscription_available: self.optional(Self::flag),
                server_keep_alive: self.optional(|this| this.short(0)),
                response_information: self.optional(Self::text),
                server_reference: self.optional(Self::text),
                authentication_method,
                authentication_data: authentication_method.and_then(|_| self.optional(Self::blob)),
            },
        }
    }

    fn publish(&mut self) -> Publish<'a> {
        let qos = self.qos();
        let topic_alias = self.optional(|this| this.short(1));
        let identifiers = if self.sender == Sender::Server && self.version == ProtocolVersion::V5 { self.below(4) } else { 0 };
        Publish {
            dup: self.flag() && qos != QoS::AtMostOnce,
            qos,
            retain: self.flag(),
            topic: if topic_alias.is_some() && self.flag() { "" } else { self.topic() },
            packet_id: if qos == QoS::AtMostOnce { None } else { Some(self.packet_id()) },
            properties: PublishProperties {
                message_expiry_interval: self.optional(|this| this.number(0)),
                topic_alias,
                subscription_identifiers: (0..identifiers).map(|_| 1 + self.choice() % crate::property::VARINT_MAX).collect(),
                forward: self.forward(),
            },
            payload: self.blob(),
        }
    }

    fn ack(&mut self, packet_type: PacketType) -> Ack<'a> {
        Ack {
            packet_id: self.packet_id(),
            reason_code: self.optional(|this| this.reason_code(packet_type)).unwrap_or_default(),
            reason_string: self.optional(Self::text),
            user_properties: self.user_properties(),
        }
    }

    fn options(&mut self) -> SubscriptionOptions {
        let qos = self.qos();
        let handling = [RetainHandling::SendAtSubscribe, RetainHandling::SendIfNew, RetainHandling::DoNotSend];
        self.optional(|this| SubscriptionOptions {
            qos,
            no_local: this.flag(),
            retain_as_published: this.flag(),
            retain_handling: handling[this.below(3)],
        })
        .unwrap_or(SubscriptionOptions::with_qos(qos))
    }

    /// A packet of `packet_type` as `version` and `sender` may have it; `None` where they may not.
    fn packet(&mut self, packet_type: PacketType) -> Option<Packet<'a>> {
        let v5 = self.version == ProtocolVersion::V5;
        let server = self.sender == Sender::Server;
        let packet = match packet_type {
            PacketType::Publish => Packet::Publish(self.publish()),
            PacketType::PubAck => Packet::PubAck(self.ack(packet_type)),
            PacketType::PubRec => Packet::PubRec(self.ack(packet_type)),
            PacketType::PubRel => Packet::PubRel(self.ack(packet_type)),
            PacketType::PubComp => Packet::PubComp(self.ack(packet_type)),
            PacketType::Disconnect if v5 => Packet::Disconnect(Disconnect {
                reason_code: self.reason_code(packet_type),
                session_expiry_interval: if server { None } else { self.optional(|this| this.number(0)) },
                reason_string: self.optional(Self::text),
                server_reference: if server { self.optional(Self::text) } else { None },
                user_properties: self.user_properties(),
            }),
            PacketType::Disconnect if !server => Packet::Disconnect(Disconnect::default()),
            PacketType::Auth if v5 => Packet::Auth(Auth {
                reason_code: self.reason_code(packet_type),
                authentication_method: Some(self.text()),
                authentication_data: self.optional(Self::blob),
                reason_string: self.optional(Self::text),
                user_properties: self.user_properties(),
            }),
            PacketType::Connect if !server => Packet::Connect(self.connect()),
            PacketType::PingReq if !server => Packet::PingReq,
            PacketType::Subscribe if !server => Packet::Subscribe(Subscribe {
                packet_id: self.packet_id(),
                subscription_identifier: self.optional(|this| 1 + this.choice() % crate::property::VARINT_MAX),
                user_properties: self.user_properties(),
                filters: (0..=self.below(4)).map(|_| (self.text(), self.options())).collect(),
            }),
            PacketType::Unsubscribe if !server => Packet::Unsubscribe(Unsubscribe {
                packet_id: self.packet_id(),
                filters: (0..=self.below(4)).map(|_| self.text()).collect(),
                user_properties: self.user_properties(),
            }),
            PacketType::ConnAck if server => Packet::ConnAck(self.connack()),
            PacketType::PingResp if server => Packet::PingResp,
            PacketType::SubAck if server => Packet::SubAck(SubAck {
                packet_id: self.packet_id(),
                reason_codes: (0..=self.below(4))
                    .map(|_| if v5 { self.reason_code(packet_type) } else { ReasonCode::from(self.qos()) })
                    .collect(),
                reason_string: self.optional(Self::text),
                user_properties: self.user_properties(),
            }),
            PacketType::UnsubAck if server => Packet::UnsubAck(UnsubAck {
                packet_id: self.packet_id(),
                reason_codes: if v5 { (0..=self.below(4)).map(|_| self.reason_code(packet_type)).collect() } else { Vec::new() },
                reason_string: self.optional(Self::text),
                user_properties: self.user_properties(),
            }),
            _ => return None,
        };
        Some(packet)
    }
}

fn each_case(mut run: impl FnMut(ProtocolVersion, Sender)) {
    for version in ProtocolVersion::ALL {
        for sender in [Sender::Client, Sender::Server] {
            run(version, sender);
        }
    }
}

/// Decodes; what is decoded has to survive a round trip and agree with the fast path.
fn decode_and_compare(bytes: &[u8], version: ProtocolVersion, sender: Sender) {
    let Ok(Some((packet, length))) = decode(bytes, version, sender, 1 << 20) else { return };
    assert_eq!(packet_length(bytes), Ok(Some(length)));
    if let Packet::Publish(publish) = &packet {
        assert_eq!(decode_publish(&bytes[..length], version, sender).as_ref(), Ok(publish));
    }
    let version = if let Packet::Connect(connect) = &packet { connect.version } else { version };
    let mut out = Vec::new();
    packet.encode(version, &mut out);
    assert_eq!(decode(&out, version, sender, u32::MAX), Ok(Some((packet, out.len()))));
}

proptest! {
    #[test]
    fn every_packet_of_every_version_decodes_to_what_was_encoded(pool in pool()) {
        each_case(|version, sender| {
            for packet_type in PacketType::ALL {
                let Some(packet) = (Builder { pool: &pool, at: 0, version, sender }).packet(packet_type) else { continue };
                let mut out = Vec::new();
                packet.encode(version, &mut out);
                let decoded = decode(&out, version, sender, u32::MAX);
                assert_eq!(decoded, Ok(Some((packet, out.len()))), "{version:?} {sender:?} {out:02X?}");
            }
        });
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        each_case(|version, sender| {
            decode_and_compare(&bytes, version, sender);
            let _ = decode_publish(&bytes, version, sender);
        });
        let _ = crate::connect::version_hint(&bytes);
    }

    #[test]
    fn random_bodies_behind_a_right_fixed_header_never_panic(body in prop::collection::vec(any::<u8>(), 0..100), first in any::<u8>()) {
        let bytes = crate::testing::packet(first, &[&body]);
        each_case(|version, sender| decode_and_compare(&bytes, version, sender));
    }

    #[test]
    fn damaged_packets_never_panic(pool in pool(), damage in prop::collection::vec((any::<u16>(), any::<u8>(), 0..3u8), 1..4)) {
        each_case(|version, sender| {
            for packet_type in PacketType::ALL {
                let Some(packet) = (Builder { pool: &pool, at: 0, version, sender }).packet(packet_type) else { continue };
                let mut bytes = Vec::new();
                packet.encode(version, &mut bytes);
                for (at, byte, kind) in &damage {
                    let at = usize::from(*at) % bytes.len();
                    match kind {
                        0 => bytes[at] = *byte,
                        1 => bytes.insert(at, *byte),
                        _ => bytes.truncate(at.max(1)),
                    }
                }
                decode_and_compare(&bytes, version, sender);
            }
        });
    }
}
