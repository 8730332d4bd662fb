//! CONNECT: what has to be there, what has to be refused, and how.

use bucketmq_packet::property::Property;

use crate::bytes::{Bytes, RawConnect};
use crate::ensure;
use crate::outcome::{Outcome, failed, not_applicable};
use crate::reply::Reply;
use crate::run::Run;

tests! {
    connect_is_accepted v5["3.1.4-5", "3.2.2-8", "4.2.0-1"] v3["3.1.4-4"] v31[];
    first_packet_has_to_be_connect v5["3.1.0-1", "3.14.0-1"] v3["3.1.0-1"] v31[];
    second_connect_closes v5["3.1.0-2", "3.2.0-2"] v3["3.1.0-2"] v31[];
    unknown_protocol_name_closes v5["3.1.2-1"] v3["3.1.2-1"];
    protocol_version_of_the_future_closes v5["3.1.2-2"];
    unsupported_protocol_level_is_answered_with_return_code_1 v3["3.1.2-2"];
    reserved_connect_flag_closes v5["3.1.2-3", "3.1.4-1"] v3["3.1.2-3", "3.1.4-1", "3.2.2-6"];
    will_qos_3_closes v5["3.1.2-12"] v3["3.1.2-14", "3.1.4-1"];
    will_qos_without_will_closes v5["3.1.2-11"] v3["3.1.2-11", "3.1.2-13"];
    will_retain_without_will_closes v5["3.1.2-13"] v3["3.1.2-11", "3.1.2-15"];
    will_flag_without_will_closes v5["3.1.2-9", "3.1.4-1"] v3["3.1.2-9", "3.1.4-1"];
    will_without_will_flag_closes v5["3.1.3-1"] v3["3.1.2-11"];
    user_name_flag_without_user_name_closes v5["3.1.2-17"] v3["3.1.2-19"];
    user_name_without_its_flag_closes v5["3.1.2-16"] v3["3.1.2-18"];
    password_flag_without_password_closes v5["3.1.2-19"] v3["3.1.2-21"];
    password_without_its_flag_closes v5["3.1.2-18"] v3["3.1.2-20"];
    password_without_user_name_closes_before_5_0 v3["3.1.2-22"];
    password_without_user_name_is_well_formed v5[];
    connect_without_client_identifier_field_closes v5["3.1.3-3", "3.1.4-1"] v3["3.1.3-3", "3.1.4-1"];
    every_field_in_its_order_is_understood v5["3.1.3-1", "3.1.2-9", "3.1.2-17", "3.1.2-19"] v3["3.1.3-1", "3.1.2-9", "3.1.2-19", "3.1.2-21"];
    client_identifiers_of_1_to_23_letters_and_digits_are_allowed v5["3.1.3-5"] v3["3.1.3-5"];
    empty_client_identifier_is_replaced_by_a_unique_one v5["3.1.3-6", "3.1.3-7", "3.2.2-16"];
    assigned_client_identifier_names_the_session v5["3.1.3-7", "3.1.3-2"];
    empty_client_identifiers_are_told_apart v3["3.1.3-6"];
    empty_client_identifier_needs_a_clean_session v3["3.1.3-7", "3.1.3-8", "3.1.3-9", "3.2.2-4", "3.2.2-5"];
    longest_client_identifier_is_taken_or_refused_as_the_clause_says v5["3.1.3-8"] v3["3.1.3-9"] area["client-identifier"];
    receive_maximum_0_closes v5["4.13.1-1"];
    maximum_packet_size_0_closes v5["4.13.1-1"];
    authentication_data_without_a_method_closes v5["4.13.1-1"];
    will_topic_with_a_wildcard_closes v5["4.7.0-1"] v3["4.7.1-1"];
    will_response_topic_with_a_wildcard_closes v5["3.3.2-14"];
    nothing_after_a_refused_connect_is_processed v5["3.1.4-6", "4.13.2-1"] v3["3.1.4-5"];
    mqtt_3_1_connects_by_its_old_name v3[] v31[];
}

fn connect_is_accepted(t: &Run<'_>) -> Outcome {
    let (mut client, accepted) = t.connect("a").open()?;
    ensure!(!accepted.session_present, "Session Present 1 for a Client nobody knows");
    client.ping()?;
    client.disconnect()
}

fn first_packet_has_to_be_connect(t: &Run<'_>) -> Outcome {
    let publish = t.message("a", "x").encode(t.version);
    let subscribe = Bytes::new(t.version).u16(1).properties(&[]).binary(t.topic("a")).u8(0).packet(0x82);
    for packet in [publish, subscribe, vec![0xC0, 0]] {
        let mut client = t.raw()?;
        client.send(&packet);
        match client.reply() {
            // [MQTT-3.14.0-1] Not even the reason is told by DISCONNECT.
            Ok(Reply::ConnAck(refused)) if t.v5() && refused.code >= 0x80 => client.closed().map(|_| ())?,
            Ok(reply) => return failed(format!("answered by {}", reply.name())),
            Err(crate::outcome::Failure::Failed(why)) if why.starts_with("connection closed") => {}
            Err(other) => return Err(other),
        }
    }
    Ok(())
}

fn second_connect_closes(t: &Run<'_>) -> Outcome {
    let mut client = t.client("a")?;
    client.send(&t.connect("a").encode());
    match client.closed()? {
        None | Some(0x80 | 0x82) => Ok(()),
        Some(code) => failed(format!("closed with 0x{code:02X} instead of 0x82")),
    }
}

fn unknown_protocol_name_closes(t: &Run<'_>) -> Outcome {
    for name in ["MQTQ", "mqtt", "", "MQTTMQTT"] {
        let mut connect = RawConnect::new(t.version, &t.id("a"));
        connect.name = name.into();
        let mut client = t.raw()?;
        client.send(&connect.packet());
        match client.closed()? {
            // What 3.1.1 calls an unacceptable protocol level is 0x84 here.
            None | Some(0x80 | 0x81 | 0x84) => {}
            Some(code) => return failed(format!("protocol name {name:?} was refused with 0x{code:02X}")),
        }
    }
    Ok(())
}

/// A CONNECT of a level nobody speaks; what came back before the close.
fn unspoken_level(t: &Run<'_>, level: u8) -> Outcome<Vec<u8>> {
    let mut connect = RawConnect::new(t.version, &t.id("a"));
    connect.level = level;
    let mut client = t.raw()?;
    client.send(&connect.packet());
    let mut answer = Vec::new();
    let deadline = std::time::Instant::now() + t.target.wait;
    loop {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        ensure!(!left.is_zero(), "level {level}: the broker did not close");
        if client.stream().read(&mut answer, left)? == Some(0) {
            return Ok(answer);
        }
    }
}

fn protocol_version_of_the_future_closes(t: &Run<'_>) -> Outcome {
    for level in [6, 127] {
        // The answer may have the form of 5.0 or of 3.1.1, since the Client's own form is not known.
        let answer = unspoken_level(t, level)?;
        ensure!(matches!(answer.as_slice(), [] | [0x20, _, 0, 0x84, ..] | [0x20, 2, 0, 1]), "level {level} was answered {answer:02X?}");
    }
    Ok(())
}

fn unsupported_protocol_level_is_answered_with_return_code_1(t: &Run<'_>) -> Outcome {
    for level in [1, 2, 9] {
        let answer = unspoken_level(t, level)?;
        // A broker of 5.0 says the same by 0x84, which 5.0 allows for every level it does not speak.
        ensure!(matches!(answer.as_slice(), [0x20, 2, 0, 1] | [0x20, _, 0, 0x84, ..]), "level {level} was answered {answer:02X?}");
    }
    Ok(())
}

/// A CONNECT of wrong format: before 5.0 the close comes without a CONNACK [3.1.1 MQTT-3.1.4-1].
fn refused(t: &Run<'_>, connect: &RawConnect, named: &[u8]) -> Outcome {
    let mut client = t.raw()?;
    client.send(&connect.packet());
    match client.closed()? {
        Some(code) if !t.v5() => failed(format!("a CONNACK (0x{code:02X}) where only the close is right")),
        Some(code) if code != 0x80 && !named.contains(&code) => failed(format!("refused with 0x{code:02X} instead of {named:02X?}")),
        _ => Ok(()),
    }
}

fn raw(t: &Run<'_>) -> RawConnect {
    RawConnect::new(t.version, &t.id("bad"))
}

fn reserved_connect_flag_closes(t: &Run<'_>) -> Outcome {
    refused(t, &raw(t).flags(0x03), &[0x81])
}

fn will_qos_3_closes(t: &Run<'_>) -> Outcome {
    refused(t, &raw(t).flags(0x1E).will_properties(&[]).field("w").field("m"), &[0x81])
}

fn will_qos_without_will_closes(t: &Run<'_>) -> Outcome {
    refused(t, &raw(t).flags(0x0A), &[0x81, 0x82])?;
    refused(t, &raw(t).flags(0x12), &[0x81, 0x82])
}

fn will_retain_without_will_closes(t: &Run<'_>) -> Outcome {
    refused(t, &raw(t).flags(0x22), &[0x81, 0x82])
}

fn will_flag_without_will_closes(t: &Run<'_>) -> Outcome {
    refused(t, &raw(t).flags(0x06), &[0x81])?;
    refused(t, &raw(t).flags(0x06).will_properties(&[]).field("topic"), &[0x81])
}

fn will_without_will_flag_closes(t: &Run<'_>) -> Outcome {
    refused(t, &raw(t).will_properties(&[]).field("topic").field("message"), &[0x81, 0x82])
}

fn user_name_flag_without_user_name_closes(t: &Run<'_>) -> Outcome {
    refused(t, &raw(t).flags(0x82), &[0x81])
}

fn user_name_without_its_flag_closes(t: &Run<'_>) -> Outcome {
    refused(t, &raw(t).field("name"), &[0x81, 0x82])
}

fn password_flag_without_password_closes(t: &Run<'_>) -> Outcome {
    refused(t, &raw(t).flags(0xC2).field("name"), &[0x81])
}

fn password_without_its_flag_closes(t: &Run<'_>) -> Outcome {
    refused(t, &raw(t).flags(0x82).field("name").field("password"), &[0x81, 0x82])
}

fn password_without_user_name_closes_before_5_0(t: &Run<'_>) -> Outcome {
    refused(t, &raw(t).flags(0x42).field("password"), &[])
}

fn password_without_user_name_is_well_formed(t: &Run<'_>) -> Outcome {
    let mut client = t.connect("a").password("password").start()?;
    match client.reply()? {
        Reply::ConnAck(accepted) if matches!(accepted.code, 0 | 0x86 | 0x87) => Ok(()),
        other => failed(format!("{} though 5.0 allows a Password alone", other.name())),
    }
}

fn connect_without_client_identifier_field_closes(t: &Run<'_>) -> Outcome {
    let mut connect = raw(t);
    connect.payload.clear();
    refused(t, &connect, &[0x81, 0x82, 0x85])
}

fn every_field_in_its_order_is_understood(t: &Run<'_>) -> Outcome {
    let mut observer = t.subscriber("will", 1)?;
    let address = t.target.secured.clone().unwrap_or_else(|| t.target.address.clone());
    let connecting = t.connect("full").login(crate::secured::USER, crate::secured::PASSWORD).will(t.message("will", "gone").qos(1));
    if address == t.target.address {
        // An open listener may or may not care for the password; the Will then shows that every field was found.
        let mut client = connecting.start()?;
        match client.reply()? {
            Reply::ConnAck(accepted) if accepted.code == 0 => client.cut(),
            Reply::ConnAck(_) => return not_applicable("the listener refuses User Name and Password; needs --secured"),
            other => return failed(format!("{} instead of CONNACK", other.name())),
        }
        observer.expect("gone")?;
        return Ok(());
    }
    let mut observer = t.connect("observer").at(&address).login(crate::secured::USER, crate::secured::PASSWORD).client()?;
    observer.subscribe(&t.topic("will"), 1)?;
    connecting.at(&address).client()?.cut();
    observer.expect("gone")?;
    Ok(())
}

fn client_identifiers_of_1_to_23_letters_and_digits_are_allowed(t: &Run<'_>) -> Outcome {
    let one = if t.v5() { "q" } else { "Z" };
    let longest = format!("{:Z<23}", t.id("aA"));
    for client_id in [one, &longest] {
        let mut client = t.connect("").client_id(client_id).client()?;
        client.ping()?;
        client.disconnect()?;
    }
    Ok(())
}

fn empty_client_identifier_is_replaced_by_a_unique_one(t: &Run<'_>) -> Outcome {
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = t.connect("").client_id("").start()?;
        let accepted = match client.reply()? {
            Reply::ConnAck(accepted) if accepted.code == 0 => accepted,
            // [MQTT-3.1.3-6] A Server may do without.
            Reply::ConnAck(accepted) if accepted.code == 0x85 => return not_applicable("the broker wants a Client Identifier"),
            other => return failed(format!("{} instead of CONNACK", other.name())),
        };
        let Some(assigned) = accepted.assigned_client_identifier else { return failed("CONNACK has no Assigned Client Identifier") };
        ensure!(!assigned.is_empty(), "the assigned identifier is empty");
        clients.push((assigned, client));
    }
    ensure!(
        clients[0].0 != clients[1].0 && clients[1].0 != clients[2].0 && clients[0].0 != clients[2].0,
        "assigned identifiers are not unique"
    );
    for (_, mut client) in clients {
        client.ping()?;
    }
    Ok(())
}

fn assigned_client_identifier_names_the_session(t: &Run<'_>) -> Outcome {
    let (client, accepted) = t.connect("").client_id("").expiry(60).open()?;
    let Some(assigned) = accepted.assigned_client_identifier else { return failed("CONNACK has no Assigned Client Identifier") };
    client.cut();
    let client = t.connect("").client_id(&assigned).resume().present(true)?;
    client.disconnect()
}

fn empty_client_identifiers_are_told_apart(t: &Run<'_>) -> Outcome {
    let mut first = t.connect("").client_id("").start()?;
    match first.reply()? {
        Reply::ConnAck(accepted) if accepted.code == 0 => {}
        Reply::ConnAck(accepted) if accepted.code == 0x85 => return not_applicable("the broker wants a Client Identifier"),
        other => return failed(format!("{} instead of CONNACK", other.name())),
    }
    let mut second = t.connect("").client_id("").client()?;
    first.ping()?;
    second.ping()
}

fn empty_client_identifier_needs_a_clean_session(t: &Run<'_>) -> Outcome {
    let mut client = t.raw()?;
    client.send(&RawConnect::new(t.version, "").flags(0x00).packet());
    match client.closed()? {
        Some(0x85) => Ok(()),
        Some(code) => failed(format!("refused with 0x{code:02X} instead of return code 2")),
        None => failed("closed without CONNACK 2"),
    }
}

fn longest_client_identifier_is_taken_or_refused_as_the_clause_says(t: &Run<'_>) -> Outcome {
    let client_id = format!("{}{}", t.id("long"), "x".repeat(65_000));
    let mut client = t.connect("").client_id(&client_id).start()?;
    match client.reply() {
        Ok(Reply::ConnAck(accepted)) if accepted.code == 0 => {
            client.ping()?;
            return client.disconnect();
        }
        // The whole packet may be more than the broker takes.
        Ok(Reply::ConnAck(refused)) if refused.code == 0x85 || (t.v5() && refused.code == 0x95) => {}
        Ok(other) => return failed(format!("{} instead of 0x00 or 0x85", other.name())),
        // [MQTT-3.1.3-8] The CONNACK is optional in 5.0 and asked for in 3.1.1.
        Err(_) if t.v5() => return Ok(()),
        Err(other) => return Err(other),
    }
    client.closed().map(|_| ())
}

fn receive_maximum_0_closes(t: &Run<'_>) -> Outcome {
    refused(t, &raw(t).properties(&[0x21, 0, 0]), &[0x82])
}

fn maximum_packet_size_0_closes(t: &Run<'_>) -> Outcome {
    refused(t, &raw(t).properties(&[0x27, 0, 0, 0, 0]), &[0x82])
}

fn authentication_data_without_a_method_closes(t: &Run<'_>) -> Outcome {
    let mut properties = Vec::new();
    Property::AuthenticationData(b"secret").encode(&mut properties);
    refused(t, &raw(t).properties(&properties), &[0x82])
}

fn will_topic_with_a_wildcard_closes(t: &Run<'_>) -> Outcome {
    for topic in ["a/#", "a/+/b"] {
        let mut client = t.raw()?;
        client.send(&raw(t).flags(0x06).will_properties(&[]).field(topic).field("m").packet());
        match client.closed()? {
            Some(code) if !t.v5() => return failed(format!("a CONNACK (0x{code:02X}) where only the close is right")),
            None | Some(0x80 | 0x81 | 0x82 | 0x90) => {}
            Some(code) => return failed(format!("refused with 0x{code:02X} instead of 0x90")),
        }
    }
    Ok(())
}

fn will_response_topic_with_a_wildcard_closes(t: &Run<'_>) -> Outcome {
    let mut properties = Vec::new();
    Property::ResponseTopic("a/#").encode(&mut properties);
    refused(t, &raw(t).flags(0x06).will_properties(&properties).field("a").field("m"), &[0x81, 0x82, 0x90])
}

fn nothing_after_a_refused_connect_is_processed(t: &Run<'_>) -> Outcome {
    let mut subscriber = t.subscriber("#", 0)?;
    let mut connect = RawConnect::new(t.version, &t.id("bad"));
    if t.v5() {
        Property::AuthenticationMethod("conformance-no-such-method").encode(&mut connect.properties);
    } else {
        connect.flags = 0x03;
    }
    let mut client = t.raw()?;
    client.send(&[connect.packet(), t.message("after", "processed").encode(t.version)].concat());
    client.closed()?;
    t.client("publisher")?.publish(&t.message("end", "end"))?;
    ensure!(subscriber.messages_before("end")?.is_empty(), "the PUBLISH behind a refused CONNECT was processed");
    Ok(())
}

fn mqtt_3_1_connects_by_its_old_name(t: &Run<'_>) -> Outcome {
    let mut client = t.raw_at(&t.target.address)?;
    let connect = RawConnect::new(bucketmq_packet::ProtocolVersion::V3_1, &t.id("old"));
    client.send(&connect.packet());
    let mut answer = Vec::new();
    let deadline = std::time::Instant::now() + t.target.wait;
    while answer.len() < 4 && std::time::Instant::now() < deadline {
        if client.stream().read(&mut answer, t.target.wait)? == Some(0) {
            return failed("MQIsdp, level 3, was not accepted");
        }
    }
    ensure!(answer.starts_with(&[0x20, 2]) && answer[3] == 0, "MQIsdp, level 3, was answered {answer:02X?}");
    Ok(())
}
