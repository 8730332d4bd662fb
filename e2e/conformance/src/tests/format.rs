//! Data representation and the shape of packets: strings, lengths, flags, properties.

use bucketmq_packet::property::Property;

use crate::bytes::{Bytes, RawConnect};
use crate::client::{Client, filter};
use crate::ensure;
use crate::message::Message;
use crate::outcome::Outcome;
use crate::run::Run;

tests! {
    ill_formed_utf8_in_a_topic_name_closes v5["1.5.4-1", "3.3.2-1", "4.13.1-1"] v3["1.5.3-1", "3.3.2-1"] area["parser"];
    ill_formed_utf8_in_a_subscribed_filter_closes v5["1.5.4-1", "3.8.3-1"] v3["1.5.3-1", "3.8.3-1"];
    ill_formed_utf8_in_an_unsubscribed_filter_closes v5["1.5.4-1", "3.10.3-1"] v3["1.5.3-1", "3.10.3-1"];
    ill_formed_utf8_in_a_client_identifier_closes v5["1.5.4-1", "3.1.3-4"] v3["1.5.3-1", "3.1.3-4"];
    ill_formed_utf8_in_a_will_topic_closes v5["1.5.4-1", "3.1.3-11"] v3["1.5.3-1", "3.1.3-10"];
    ill_formed_utf8_in_a_user_name_closes v5["1.5.4-1", "3.1.3-12"] v3["1.5.3-1", "3.1.3-11"];
    ill_formed_utf8_in_a_response_topic_closes v5["1.5.4-1", "3.3.2-13"];
    ill_formed_utf8_in_a_content_type_closes v5["1.5.4-1", "3.3.2-19"];
    ill_formed_utf8_in_either_half_of_a_user_property_closes v5["1.5.7-1"];
    null_character_in_a_string_closes v5["1.5.4-2", "4.7.3-2"] v3["1.5.3-2", "4.7.3-2"] area["parser"];
    zero_width_no_break_space_is_a_character_like_any_other v5["1.5.4-3"] v3["1.5.3-3"];
    remaining_length_in_more_bytes_than_needed_closes v5["1.5.5-1"] area["parser"];
    property_length_in_more_bytes_than_needed_closes v5["1.5.5-1"] area["parser"];
    remaining_length_of_five_bytes_closes v5["4.13.1-1"] v3["4.8.0-1"];
    packet_type_0_closes v5["4.13.1-1"] v3["4.8.0-1"];
    packet_type_15_closes_before_5_0 v3["4.8.0-1"];
    reserved_flags_of_acknowledgements_are_checked v5["2.1.3-1"] v3["2.2.2-1", "2.2.2-2"] area["parser"];
    reserved_flags_of_pingreq_are_checked v5["2.1.3-1"] v3["2.2.2-1", "2.2.2-2"] area["parser"];
    reserved_flags_of_connect_are_checked v5["2.1.3-1"] v3["2.2.2-1", "2.2.2-2"];
    reserved_flags_of_pubrel_are_checked v5["2.1.3-1", "3.6.1-1"] v3["2.2.2-2", "3.6.1-1"];
    reserved_flags_of_subscribe_are_checked v5["2.1.3-1", "3.8.1-1"] v3["2.2.2-2", "3.8.1-1"];
    reserved_flags_of_unsubscribe_are_checked v5["2.1.3-1", "3.10.1-1"] v3["2.2.2-2", "3.10.1-1"];
    packet_identifier_0_closes v5["2.2.1-3"] v3["2.3.1-1"] area["parser"];
    packets_only_a_server_sends_close v5["4.13.1-1"] v3["4.8.0-1"];
    packets_shorter_than_their_fields_close v5["4.13.1-1"] v3["4.8.0-1"];
    packets_longer_than_their_fields_close v5["4.13.1-1"] v3["4.8.0-1"];
    publish_without_a_property_length_closes v5["2.2.2-1"];
    unknown_property_closes v5["4.13.1-1"];
    property_of_another_packet_closes v5["4.13.1-1"];
    property_given_twice_closes v5["4.13.1-1"] area["parser"];
    properties_beyond_the_packet_close v5["4.13.1-1"];
    flag_property_with_another_value_than_0_or_1_closes v5["4.13.1-1"];
    packet_in_single_bytes_is_understood v5["4.2.0-1"] v3[] v31[];
    many_packets_in_one_segment_are_understood v5["4.2.0-1"] v3[] v31[];
    ten_thousand_user_properties_are_parsed_in_linear_time v5["3.3.2-17"] area["many-user-properties"];
}

/// Overlong, surrogate, beyond U+10FFFF, a lone continuation, a sequence cut short.
const ILL_FORMED: [&[u8]; 6] = [b"a\xC0\xAFb", b"a\xED\xA0\x80b", b"\xF4\x90\x80\x80", b"a\x80", b"ab\xE2\x82", b"\xFF"];

fn body(t: &Run<'_>) -> Bytes {
    Bytes::new(t.version)
}

/// A fresh Client sends `packet`, after which only a close is right.
fn malformed(t: &Run<'_>, packet: &[u8]) -> Outcome {
    let mut client = t.client("bad")?;
    client.send(packet);
    client.closed_as_malformed()
}

/// As [`malformed`], where the definition of Protocol Error fits as well.
fn wrong(t: &Run<'_>, packet: &[u8]) -> Outcome {
    let mut client = t.client("bad")?;
    client.send(packet);
    client.closed_as_wrong()
}

/// A CONNECT that has to be refused, with a reason or without.
fn refused(t: &Run<'_>, packet: &[u8], named: &[u8]) -> Outcome {
    let mut client = t.raw()?;
    client.send(packet);
    client.closed_with(named)
}

fn ill_formed_utf8_in_a_topic_name_closes(t: &Run<'_>) -> Outcome {
    for topic in ILL_FORMED {
        let mut client = t.client("bad")?;
        client.send(&body(t).binary(topic).properties(&[]).raw("x").packet(0x30));
        client.closed_with(&[0x81, 0x90])?;
    }
    Ok(())
}

fn ill_formed_utf8_in_a_subscribed_filter_closes(t: &Run<'_>) -> Outcome {
    for filter in ILL_FORMED {
        let mut client = t.client("bad")?;
        client.send(&body(t).u16(1).properties(&[]).binary(filter).u8(0).packet(0x82));
        client.closed_with(&[0x81, 0x8F])?;
    }
    Ok(())
}

fn ill_formed_utf8_in_an_unsubscribed_filter_closes(t: &Run<'_>) -> Outcome {
    for filter in ILL_FORMED {
        let mut client = t.client("bad")?;
        client.send(&body(t).u16(1).properties(&[]).binary(filter).packet(0xA2));
        client.closed_with(&[0x81, 0x8F])?;
    }
    Ok(())
}

fn ill_formed_utf8_in_a_client_identifier_closes(t: &Run<'_>) -> Outcome {
    for client_id in ILL_FORMED {
        let mut connect = RawConnect::new(t.version, "");
        connect.payload.clear();
        refused(t, &connect.field(client_id).packet(), &[0x81, 0x85])?;
    }
    Ok(())
}

fn ill_formed_utf8_in_a_will_topic_closes(t: &Run<'_>) -> Outcome {
    for topic in ILL_FORMED {
        let connect = RawConnect::new(t.version, &t.id("bad")).flags(0x06).will_properties(&[]).field(topic).field("will");
        refused(t, &connect.packet(), &[0x81, 0x90])?;
    }
    Ok(())
}

fn ill_formed_utf8_in_a_user_name_closes(t: &Run<'_>) -> Outcome {
    for name in ILL_FORMED {
        refused(t, &RawConnect::new(t.version, &t.id("bad")).flags(0x82).field(name).packet(), &[0x81, 0x86])?;
    }
    Ok(())
}

/// A QoS 0 PUBLISH with these property bytes.
fn publish_with(t: &Run<'_>, properties: &[u8]) -> Vec<u8> {
    body(t).binary(t.topic("a")).raw_properties(properties).raw("x").packet(0x30)
}

fn ill_formed_utf8_in_a_response_topic_closes(t: &Run<'_>) -> Outcome {
    malformed(t, &publish_with(t, &[0x08, 0, 2, b'a', 0xFF]))
}

fn ill_formed_utf8_in_a_content_type_closes(t: &Run<'_>) -> Outcome {
    malformed(t, &publish_with(t, &[0x03, 0, 2, 0xC0, 0x80]))
}

fn ill_formed_utf8_in_either_half_of_a_user_property_closes(t: &Run<'_>) -> Outcome {
    malformed(t, &publish_with(t, &[0x26, 0, 1, 0xFF, 0, 1, b'v']))?;
    malformed(t, &publish_with(t, &[0x26, 0, 1, b'n', 0, 1, 0xFF]))?;
    malformed(t, &publish_with(t, &[0x26, 0, 1, b'n', 0, 1, 0]))
}

fn null_character_in_a_string_closes(t: &Run<'_>) -> Outcome {
    let mut client = t.client("bad")?;
    client.send(&body(t).binary(b"a\0b").properties(&[]).packet(0x30));
    client.closed_with(&[0x81, 0x90])?;
    let mut client = t.client("bad")?;
    client.send(&body(t).u16(1).properties(&[]).binary(b"a\0b").u8(0).packet(0x82));
    client.closed_with(&[0x81, 0x8F])?;
    refused(t, &RawConnect::new(t.version, "a\0b").packet(), &[0x81, 0x85])
}

fn zero_width_no_break_space_is_a_character_like_any_other(t: &Run<'_>) -> Outcome {
    let name = "a\u{FEFF}b\u{FEFF}";
    let mut subscriber = t.subscriber(name, 0)?;
    subscriber.subscribe(&t.topic("end"), 0)?;
    let mut publisher = t.client("publisher")?;
    publisher.publish(&t.message("ab", "stripped"))?;
    publisher.publish(&t.message(name, "whole"))?;
    publisher.publish(&t.message("end", "end"))?;
    let messages = subscriber.messages_before("end")?;
    ensure!(messages.len() == 1 && messages[0].text() == "whole", "{} messages matched the filter with U+FEFF", messages.len());
    ensure!(messages[0].topic == t.topic(name), "the topic came back as {:?}", messages[0].topic);
    Ok(())
}

fn remaining_length_in_more_bytes_than_needed_closes(t: &Run<'_>) -> Outcome {
    wrong(t, &[0xC0, 0x80, 0x00])
}

fn property_length_in_more_bytes_than_needed_closes(t: &Run<'_>) -> Outcome {
    wrong(t, &body(t).binary(t.topic("a")).raw([0x80, 0x00]).raw("x").packet(0x30))
}

fn remaining_length_of_five_bytes_closes(t: &Run<'_>) -> Outcome {
    let mut client = t.client("bad")?;
    client.send(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01]);
    client.closed_with(&[0x81, 0x82, 0x95])
}

fn packet_type_0_closes(t: &Run<'_>) -> Outcome {
    wrong(t, &[0x00, 0x00])
}

fn packet_type_15_closes_before_5_0(t: &Run<'_>) -> Outcome {
    wrong(t, &[0xF0, 0x00])
}

fn reserved_flags_of_acknowledgements_are_checked(t: &Run<'_>) -> Outcome {
    for first in [0x41, 0x52, 0x78] {
        wrong(t, &body(t).u16(1).packet(first))?;
    }
    Ok(())
}

fn reserved_flags_of_pingreq_are_checked(t: &Run<'_>) -> Outcome {
    wrong(t, &[0xC1, 0])
}

fn reserved_flags_of_connect_are_checked(t: &Run<'_>) -> Outcome {
    let mut packet = RawConnect::new(t.version, &t.id("bad")).packet();
    packet[0] = 0x12;
    refused(t, &packet, &[0x81, 0x82])
}

fn reserved_flags_of_pubrel_are_checked(t: &Run<'_>) -> Outcome {
    for first in [0x60, 0x63, 0x6A] {
        malformed(t, &body(t).u16(1).packet(first))?;
    }
    Ok(())
}

fn reserved_flags_of_subscribe_are_checked(t: &Run<'_>) -> Outcome {
    for first in [0x80, 0x83, 0x86] {
        malformed(t, &body(t).u16(1).properties(&[]).binary(t.topic("a")).u8(0).packet(first))?;
    }
    Ok(())
}

fn reserved_flags_of_unsubscribe_are_checked(t: &Run<'_>) -> Outcome {
    for first in [0xA0, 0xA3] {
        malformed(t, &body(t).u16(1).properties(&[]).binary(t.topic("a")).packet(first))?;
    }
    Ok(())
}

fn packet_identifier_0_closes(t: &Run<'_>) -> Outcome {
    wrong(t, &body(t).binary(t.topic("a")).u16(0).properties(&[]).packet(0x32))?;
    wrong(t, &body(t).binary(t.topic("a")).u16(0).properties(&[]).packet(0x34))?;
    wrong(t, &body(t).u16(0).properties(&[]).binary(t.topic("a")).u8(0).packet(0x82))?;
    wrong(t, &body(t).u16(0).properties(&[]).binary(t.topic("a")).packet(0xA2))
}

fn packets_only_a_server_sends_close(t: &Run<'_>) -> Outcome {
    wrong(t, &body(t).u8(0).u8(0).properties(&[]).packet(0x20))?;
    wrong(t, &body(t).u16(1).properties(&[]).u8(0).packet(0x90))?;
    wrong(t, &body(t).u16(1).packet(0xB0))?;
    wrong(t, &[0xD0, 0])
}

fn packets_shorter_than_their_fields_close(t: &Run<'_>) -> Outcome {
    let cases = [
        // A topic longer than the packet, none at all, a QoS 1 PUBLISH without room for its identifier.
        body(t).u16(500).raw("short").packet(0x30),
        body(t).packet(0x30),
        body(t).binary("topic").u8(0).packet(0x32),
        // Acknowledgements of one byte and of none.
        body(t).u8(0).packet(0x40),
        body(t).packet(0x62),
        // A filter longer than the packet, a filter without options, and an UNSUBSCRIBE whose filter is cut off.
        body(t).u16(1).properties(&[]).u16(500).raw("short").packet(0x82),
        body(t).u16(1).properties(&[]).binary("filter").packet(0x82),
        body(t).u16(1).properties(&[]).u16(20).raw("short").packet(0xA2),
    ];
    for packet in cases {
        let mut client = t.client("bad")?;
        client.send(&packet);
        client.closed_with(&[0x81, 0x82, 0x8F, 0x90])?;
    }
    Ok(())
}

fn packets_longer_than_their_fields_close(t: &Run<'_>) -> Outcome {
    wrong(t, &body(t).raw("x").packet(0xC0))?;
    if t.v5() {
        // PUBACK: identifier, Reason Code, Property Length 0, and a byte too many.
        return wrong(t, &body(t).u16(1).u8(0).u8(0).u8(0).packet(0x40));
    }
    wrong(t, &body(t).u16(1).u16(1).packet(0x40))
}

fn publish_without_a_property_length_closes(t: &Run<'_>) -> Outcome {
    malformed(t, &body(t).binary(t.topic("a")).packet(0x30))
}

fn unknown_property_closes(t: &Run<'_>) -> Outcome {
    malformed(t, &publish_with(t, &[0x04, 0]))?;
    malformed(t, &publish_with(t, &[0x7F, 0]))
}

fn property_of_another_packet_closes(t: &Run<'_>) -> Outcome {
    let mut properties = Vec::new();
    Property::ServerKeepAlive(3).encode(&mut properties);
    wrong(t, &publish_with(t, &properties))?;
    wrong(t, &body(t).u16(1).properties(&[Property::TopicAlias(1)]).binary(t.topic("a")).u8(0).packet(0x82))?;
    let mut properties = Vec::new();
    Property::MessageExpiryInterval(3).encode(&mut properties);
    refused(t, &RawConnect::new(t.version, &t.id("bad")).properties(&properties).packet(), &[0x81, 0x82])
}

fn property_given_twice_closes(t: &Run<'_>) -> Outcome {
    let twice = |property: Property<'_>| {
        let mut properties = Vec::new();
        property.encode(&mut properties);
        property.encode(&mut properties);
        properties
    };
    let cases = [
        Property::PayloadFormatIndicator(true),
        Property::MessageExpiryInterval(3),
        Property::TopicAlias(1),
        Property::ResponseTopic("r"),
        Property::CorrelationData(b"c"),
        Property::ContentType("t"),
    ];
    for property in cases {
        wrong(t, &publish_with(t, &twice(property)))?;
    }
    let cases = [
        Property::SessionExpiryInterval(3),
        Property::ReceiveMaximum(3),
        Property::MaximumPacketSize(3000),
        Property::TopicAliasMaximum(3),
        Property::RequestProblemInformation(true),
        Property::RequestResponseInformation(true),
    ];
    for property in cases {
        refused(t, &RawConnect::new(t.version, &t.id("bad")).properties(&twice(property)).packet(), &[0x81, 0x82])?;
    }
    wrong(t, &body(t).u16(1).raw_properties(&twice(Property::SubscriptionIdentifier(3))).binary(t.topic("a")).u8(0).packet(0x82))
}

fn properties_beyond_the_packet_close(t: &Run<'_>) -> Outcome {
    malformed(t, &body(t).binary(t.topic("a")).u8(120).raw("x").packet(0x30))?;
    // A string property that says it is longer than the properties are.
    malformed(t, &publish_with(t, &[0x03, 0, 9, b'a']))?;
    malformed(t, &publish_with(t, &[0x02, 0, 0]))
}

fn flag_property_with_another_value_than_0_or_1_closes(t: &Run<'_>) -> Outcome {
    // Request Problem Information and Request Response Information: the text calls other values a Protocol Error.
    for identifier in [0x17, 0x19] {
        refused(t, &RawConnect::new(t.version, &t.id("bad")).properties(&[identifier, 2]).packet(), &[0x81, 0x82])?;
    }
    Ok(())
}

fn echo(t: &Run<'_>, feed: impl Fn(&mut Client, &[u8]), count: usize) -> Outcome {
    let mut client = t.raw()?;
    let topic = t.topic("echo");
    let mut bytes = t.connect("echo").encode();
    feed(&mut client, &bytes);
    match client.reply()? {
        crate::reply::Reply::ConnAck(accepted) if accepted.code == 0 => {}
        other => return crate::outcome::failed(format!("{} instead of CONNACK", other.name())),
    }
    client.subscribe_with(&[filter(&topic, 1)], None)?;
    bytes.clear();
    for number in 0..count {
        bytes.extend(Message::new(topic.as_str(), format!("m{number}")).qos(1).id(1 + number as u16).encode(t.version));
    }
    client.manual = true;
    feed(&mut client, &bytes);
    let mut next = 0;
    while next < count {
        if let crate::reply::Reply::Publish(message) = client.reply()? {
            ensure!(message.text() == format!("m{next}"), "message {:?} instead of m{next}", message.text());
            client.acknowledge(bucketmq_packet::PacketType::PubAck, message.packet_id);
            next += 1;
        }
    }
    Ok(())
}

fn packet_in_single_bytes_is_understood(t: &Run<'_>) -> Outcome {
    echo(t, |client, bytes| bytes.iter().for_each(|byte| client.send(&[*byte])), 1)
}

fn many_packets_in_one_segment_are_understood(t: &Run<'_>) -> Outcome {
    echo(t, |client, bytes| client.send(bytes), 15)
}

fn ten_thousand_user_properties_are_parsed_in_linear_time(t: &Run<'_>) -> Outcome {
    let mut subscriber = t.subscriber("many", 1)?;
    let mut publisher = t.client("publisher")?;
    let mut message = t.message("many", "many").qos(1);
    for number in 0..10_000 {
        message = message.user("n", &number.to_string());
    }
    publisher.publish(&message)?;
    let received = subscriber.expect("many")?;
    ensure!(received.user_properties == message.user_properties, "User Properties came back changed");
    Ok(())
}
