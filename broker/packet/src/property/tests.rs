//! The table of properties against 5.0 table 2-4, written down a second time and the other way round.

use super::*;
use crate::ReasonCode;

const PLACES: [(Place, &[u8]); 11] = [
    (Place::Connect, &[0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27]),
    (Place::Will, &[0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26]),
    (Place::ConnAck, &[0x11, 0x12, 0x13, 0x15, 0x16, 0x1A, 0x1C, 0x1F, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2A]),
    (Place::Publish, &[0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x23, 0x26]),
    (Place::Ack, &[0x1F, 0x26]),
    (Place::Subscribe, &[0x0B, 0x26]),
    (Place::SubAck, &[0x1F, 0x26]),
    (Place::Unsubscribe, &[0x26]),
    (Place::UnsubAck, &[0x1F, 0x26]),
    (Place::Disconnect, &[0x11, 0x1C, 0x1F, 0x26]),
    (Place::Auth, &[0x15, 0x16, 0x1F, 0x26]),
];

/// One valid value of every property.
const ALL: [Property<'_>; 27] = [
    Property::PayloadFormatIndicator(true),
    Property::MessageExpiryInterval(1),
    Property::ContentType("c"),
    Property::ResponseTopic("r"),
    Property::CorrelationData(b"\0"),
    Property::SubscriptionIdentifier(VARINT_MAX),
    Property::SessionExpiryInterval(u32::MAX),
    Property::AssignedClientIdentifier("i"),
    Property::ServerKeepAlive(0),
    Property::AuthenticationMethod("m"),
    Property::AuthenticationData(b""),
    Property::RequestProblemInformation(false),
    Property::WillDelayInterval(0),
    Property::RequestResponseInformation(true),
    Property::ResponseInformation("i"),
    Property::ServerReference("s"),
    Property::ReasonString("r"),
    Property::ReceiveMaximum(1),
    Property::TopicAliasMaximum(0),
    Property::TopicAlias(u16::MAX),
    Property::MaximumQoS(QoS::AtLeastOnce),
    Property::RetainAvailable(true),
    Property::UserProperty("k", ""),
    Property::MaximumPacketSize(1),
    Property::WildcardSubscriptionAvailable(false),
    Property::SubscriptionIdentifierAvailable(true),
    Property::SharedSubscriptionAvailable(false),
];

#[test]
fn every_property_is_taken_where_the_table_has_it_and_nowhere_else() {
    for property in ALL {
        let mut bytes = Vec::new();
        property.encode(&mut bytes);
        for (place, identifiers) in PLACES {
            let decode = |sender| Properties::new(&bytes, place, sender).next();
            if identifiers.contains(&bytes[0]) {
                assert!([decode(Sender::Client), decode(Sender::Server)].contains(&Ok(Some(property))), "{property:?} in {place:?}");
            } else {
                let violation = decode(Sender::Client).expect_err("not allowed here");
                assert_eq!(
                    (violation.reason_code, violation.clause),
                    (ReasonCode::MalformedPacket, "2.2.2.2"),
                    "{property:?} in {place:?}"
                );
            }
        }
    }
}

#[test]
fn no_property_but_the_user_property_may_stand_twice() {
    for property in ALL {
        let mut bytes = Vec::new();
        property.encode(&mut bytes);
        let (place, _) = PLACES.iter().find(|(_, identifiers)| identifiers.contains(&bytes[0])).expect("every property has a place");
        bytes.extend_from_within(..);
        // Neither of the two that only one side sends is found here first in the packet where it matters.
        let sender = if *place == Place::Publish { Sender::Server } else { Sender::Client };
        let mut list = Properties::new(&bytes, *place, sender);
        assert_eq!(list.next(), Ok(Some(property)));
        let repeats = matches!(property, Property::UserProperty(..)) || (*place == Place::Publish && bytes[0] == 0x0B);
        assert_eq!(
            list.next().map_err(|violation| violation.reason_code),
            if repeats { Ok(Some(property)) } else { Err(ReasonCode::ProtocolError) }
        );
    }
}

#[test]
fn all_other_identifiers_are_unknown() {
    let known: Vec<u8> = ALL
        .iter()
        .map(|property| {
            let mut bytes = Vec::new();
            property.encode(&mut bytes);
            bytes[0]
        })
        .collect();
    for identifier in (0..=255u8).filter(|identifier| !known.contains(identifier)) {
        let bytes = [identifier, 0, 0, 0, 0, 0];
        let violation = Properties::new(&bytes, Place::ConnAck, Sender::Server).next().expect_err("unknown");
        assert_eq!(violation.clause, "2.2.2.2");
    }
}

#[test]
fn lengths_of_variable_byte_integers_are_those_of_the_table() {
    for (value, length) in [(0, 1), (127, 1), (128, 2), (16_383, 2), (16_384, 3), (2_097_151, 3), (2_097_152, 4), (VARINT_MAX, 4)] {
        let mut out = Vec::new();
        put_varint(value, &mut out);
        assert_eq!((out.len(), varint_len(value)), (length, length));
        assert_eq!(decode_varint(&out), Ok(Some((value, length))));
    }
}
