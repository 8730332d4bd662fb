//! Reason Codes and properties of acknowledgements.

use bucketmq_packet::PacketType;

use crate::bytes::Bytes;
use crate::client::filter;
use crate::ensure;
use crate::outcome::Outcome;
use crate::run::Run;

tests! {
    puback_with_an_unlisted_reason_code_closes v5["3.4.2-1"];
    pubrec_with_an_unlisted_reason_code_closes v5["3.5.2-1"];
    pubrel_with_an_unlisted_reason_code_closes v5["3.6.2-1"];
    pubcomp_with_an_unlisted_reason_code_closes v5["3.7.2-1"];
    puback_of_an_unknown_identifier_is_let_pass v5[] v3[];
    acknowledgements_stay_within_the_maximum_packet_size v5["3.4.2-2", "3.4.2-3", "3.5.2-2", "3.5.2-3", "3.6.2-2", "3.6.2-3", "3.7.2-2", "3.7.2-3"];
    suback_and_unsuback_stay_within_the_maximum_packet_size v5["3.9.2-1", "3.9.2-2", "3.11.2-1", "3.11.2-2"];
    without_problem_information_acknowledgements_are_bare v5["3.1.2-29"] area["problem-information"];
    short_and_long_forms_of_acknowledgements_are_understood v5["2.2.2-1", "4.3.3-11"];
}

fn unlisted(t: &Run<'_>, first: u8, code: u8, identifier: u16) -> Vec<u8> {
    Bytes::new(t.version).u16(identifier).u8(code).properties(&[]).packet(first)
}

fn puback_with_an_unlisted_reason_code_closes(t: &Run<'_>) -> Outcome {
    let mut client = t.connect("a").manual().client()?;
    client.subscribe(&t.topic("a"), 1)?;
    t.client("publisher")?.publish(&t.message("a", "x").qos(1))?;
    let message = client.expect("x")?;
    client.send(&unlisted(t, 0x40, 0x82, message.packet_id));
    client.closed_as_wrong()
}

fn pubrec_with_an_unlisted_reason_code_closes(t: &Run<'_>) -> Outcome {
    let mut client = t.connect("a").manual().client()?;
    client.subscribe(&t.topic("a"), 2)?;
    t.client("publisher")?.publish(&t.message("a", "x").qos(2))?;
    let message = client.expect("x")?;
    client.send(&unlisted(t, 0x50, 0x82, message.packet_id));
    client.closed_as_wrong()
}

fn pubrel_with_an_unlisted_reason_code_closes(t: &Run<'_>) -> Outcome {
    let mut client = t.client("a")?;
    let packet_id = client.start_publish(&t.message("a", "x").qos(2));
    client.acknowledged(PacketType::PubRec, packet_id)?;
    client.send(&unlisted(t, 0x62, 0x10, packet_id));
    client.closed_as_wrong()
}

fn pubcomp_with_an_unlisted_reason_code_closes(t: &Run<'_>) -> Outcome {
    let mut client = t.connect("a").manual().client()?;
    client.subscribe(&t.topic("a"), 2)?;
    t.client("publisher")?.publish(&t.message("a", "x").qos(2))?;
    let message = client.expect("x")?;
    client.acknowledge(PacketType::PubRec, message.packet_id);
    client.acknowledged(PacketType::PubRel, message.packet_id)?;
    client.send(&unlisted(t, 0x70, 0x87, message.packet_id));
    client.closed_as_wrong()
}

fn puback_of_an_unknown_identifier_is_let_pass(t: &Run<'_>) -> Outcome {
    // Nothing says that it is an error, and a Client that resumed may send one.
    let mut client = t.client("a")?;
    client.acknowledge(PacketType::PubAck, 4242);
    client.acknowledge(PacketType::PubComp, 4242);
    client.ping()
}

fn acknowledgements_stay_within_the_maximum_packet_size(t: &Run<'_>) -> Outcome {
    // Decoding fails the test if a packet is larger; CONNACK needs most of these bytes itself.
    let mut client = t.connect("a").maximum_packet_size(60).client()?;
    client.publish(&t.message("a", "x").qos(1))?;
    client.publish(&t.message("a", "x").qos(2))?;
    client.acknowledge(PacketType::PubRel, 4242);
    client.acknowledged(PacketType::PubComp, 4242)?;
    client.manual = true;
    client.acknowledge(PacketType::PubRec, 4243);
    client.acknowledged(PacketType::PubRel, 4243)?;
    Ok(())
}

fn suback_and_unsuback_stay_within_the_maximum_packet_size(t: &Run<'_>) -> Outcome {
    let mut client = t.connect("a").maximum_packet_size(60).client()?;
    client.subscribe(&t.topic("a"), 1)?;
    let (a, never) = (t.topic("a"), t.topic("never"));
    client.unsubscribe(&[&a, &never])?;
    Ok(())
}

fn without_problem_information_acknowledgements_are_bare(t: &Run<'_>) -> Outcome {
    let mut client = t.connect("a").no_problem_information().manual().client()?;
    let mut acks = Vec::new();
    let (a, never) = (t.topic("a"), t.topic("never"));
    let packet_id = client.start_subscribe(&[filter(&a, 1)], None);
    acks.push(("SUBACK", client.codes(PacketType::SubAck, packet_id)?));
    let packet_id = client.start_publish(&t.message("nobody", "x").qos(1));
    acks.push(("PUBACK", client.acknowledgement(PacketType::PubAck, packet_id)?));
    let packet_id = client.start_publish(&t.message("nobody", "x").qos(2));
    acks.push(("PUBREC", client.acknowledgement(PacketType::PubRec, packet_id)?));
    client.acknowledge(PacketType::PubRel, packet_id);
    acks.push(("PUBCOMP", client.acknowledgement(PacketType::PubComp, packet_id)?));
    client.acknowledge(PacketType::PubRel, 4242);
    acks.push(("PUBCOMP", client.acknowledgement(PacketType::PubComp, 4242)?));
    client.acknowledge(PacketType::PubRec, 4243);
    acks.push(("PUBREL", client.acknowledgement(PacketType::PubRel, 4243)?));
    client.unsubscribe(&[&never])?;
    for (name, ack) in acks {
        ensure!(ack.reason_string.is_none() && ack.user_properties.is_empty(), "{name} has a Reason String or User Properties");
    }
    Ok(())
}

fn short_and_long_forms_of_acknowledgements_are_understood(t: &Run<'_>) -> Outcome {
    let mut client = t.connect("a").manual().client()?;
    client.subscribe(&t.topic("a"), 2)?;
    let body = |id: u16| Bytes::new(t.version).u16(id);
    // Identifier alone; with Reason Code; with Reason Code and an empty list of properties; with a Reason String.
    for form in 0..4 {
        let finish = |bytes: Bytes, first: u8| match form {
            0 => bytes.packet(first),
            1 => bytes.u8(0).packet(first),
            2 => bytes.u8(0).properties(&[]).packet(first),
            _ => bytes.u8(0).properties(&[bucketmq_packet::property::Property::ReasonString("because")]).packet(first),
        };
        t.client("publisher")?.publish(&t.message("a", "in").qos(2))?;
        let message = client.expect("in")?;
        client.send(&finish(body(message.packet_id), 0x50));
        client.acknowledged(PacketType::PubRel, message.packet_id)?;
        client.send(&finish(body(message.packet_id), 0x70));
        let packet_id = client.start_publish(&t.message("b", "out").qos(2));
        client.acknowledged(PacketType::PubRec, packet_id)?;
        client.send(&finish(body(packet_id), 0x62));
        client.acknowledged(PacketType::PubComp, packet_id)?;
        t.client("publisher")?.publish(&t.message("a", "in").qos(1))?;
        let message = client.expect("in")?;
        client.send(&finish(body(message.packet_id), 0x40));
        client.nothing()?;
    }
    Ok(())
}
