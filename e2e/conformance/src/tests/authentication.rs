//! Who may connect, publish and subscribe; AUTH where no method is agreed.

use bucketmq_packet::PacketType;
use bucketmq_packet::property::Property;

use crate::bytes::Bytes;
use crate::client::filter;
use crate::ensure;
use crate::message::Message;
use crate::outcome::{Outcome, failed, not_applicable};
use crate::run::Run;
use crate::secured::{FORBIDDEN, PASSWORD, USER};

tests! {
    unknown_authentication_method_closes v5["4.12.0-1", "4.12.0-4", "3.2.2-7", "4.13.2-1"];
    auth_without_a_method_in_connect_closes v5["4.12.0-7", "4.12.1-1", "4.12.1-2"];
    auth_with_an_unlisted_reason_code_closes v5["3.15.2-1"];
    auth_with_reserved_flags_closes v5["3.15.1-1"];
    auth_before_connect_closes v5["3.1.0-1"];
    right_password_is_accepted v5["3.1.4-5"] v3["3.1.4-4"];
    wrong_password_closes v5["3.1.4-2"] v3["3.2.2-5"];
    no_password_where_one_is_needed_closes v5["3.1.4-2"] v3["3.2.2-5"];
    forbidden_publish_at_qos_1_and_2_is_refused_by_its_acknowledgement v5["3.4.2-1", "3.5.2-1"];
    forbidden_publish_is_acknowledged_or_closes_before_5_0 v3["3.3.5-2"];
    forbidden_publish_reaches_nobody v5[] v3["3.3.5-2"];
    identifier_of_a_refused_qos_2_publish_means_a_new_message v5["4.3.3-9"];
    forbidden_filter_is_refused_in_its_place v5["3.9.3-1", "3.9.3-2", "3.8.4-7"] v3["3.9.3-1", "3.9.3-2", "3.8.4-5"];
    refusals_have_no_reason_string_if_the_client_wants_none v5["3.1.2-29"] area["problem-information"];
}

fn unknown_authentication_method_closes(t: &Run<'_>) -> Outcome {
    t.connect("a").authentication_method("conformance-no-such-method").refused(&[0x8C, 0x87, 0x80], false)
}

fn auth(t: &Run<'_>, code: u8, method: Option<&str>) -> Vec<u8> {
    let properties: Vec<Property<'_>> = method.into_iter().map(Property::AuthenticationMethod).collect();
    Bytes::new(t.version).u8(code).properties(&properties).packet(0xF0)
}

fn auth_without_a_method_in_connect_closes(t: &Run<'_>) -> Outcome {
    for code in [0x18, 0x19] {
        let mut client = t.client("a")?;
        client.send(&auth(t, code, Some("conformance-no-such-method")));
        client.closed_with(&[0x82, 0x87, 0x8C])?;
    }
    Ok(())
}

fn auth_with_an_unlisted_reason_code_closes(t: &Run<'_>) -> Outcome {
    let mut client = t.client("a")?;
    client.send(&auth(t, 0x1A, Some("conformance-no-such-method")));
    client.closed_as_wrong()
}

fn auth_with_reserved_flags_closes(t: &Run<'_>) -> Outcome {
    let mut client = t.client("a")?;
    client.send(&[0xF1, 0]);
    client.closed_as_malformed()
}

fn auth_before_connect_closes(t: &Run<'_>) -> Outcome {
    let mut client = t.raw()?;
    client.send(&auth(t, 0x18, Some("conformance-no-such-method")));
    client.closed_as_wrong()
}

fn right_password_is_accepted(t: &Run<'_>) -> Outcome {
    let address = t.secured()?;
    let mut client = t.connect("a").at(&address).login(USER, PASSWORD).client()?;
    client.subscribe(&t.topic("a"), 1)?;
    client.publish(&t.message("a", "mine").qos(1))?;
    client.expect("mine")?;
    Ok(())
}

fn wrong_password_closes(t: &Run<'_>) -> Outcome {
    let address = t.secured()?;
    t.connect("a").at(&address).login(USER, "wrong").refused(&[0x86, 0x87], !t.v5())?;
    t.connect("a").at(&address).login("nobody", PASSWORD).refused(&[0x86, 0x87], !t.v5())
}

fn no_password_where_one_is_needed_closes(t: &Run<'_>) -> Outcome {
    let address = t.secured()?;
    t.connect("a").at(&address).refused(&[0x86, 0x87], !t.v5())
}

/// A topic nobody may use.
fn forbidden(t: &Run<'_>) -> String {
    format!("{FORBIDDEN}{}", t.topic("a"))
}

fn forbidden_publish_at_qos_1_and_2_is_refused_by_its_acknowledgement(t: &Run<'_>) -> Outcome {
    let address = t.secured()?;
    let mut client = t.connect("a").at(&address).login(USER, PASSWORD).client()?;
    for qos in [1, 2] {
        let code = client.publish(&Message::new(forbidden(t), "x").qos(qos))?;
        ensure!(code == 0x87, "a forbidden PUBLISH of QoS {qos} was answered 0x{code:02X}");
    }
    client.ping()
}

fn forbidden_publish_is_acknowledged_or_closes_before_5_0(t: &Run<'_>) -> Outcome {
    let address = t.secured()?;
    for qos in [1, 2] {
        let mut client = t.connect("a").at(&address).login(USER, PASSWORD).client()?;
        let packet_id = client.start_publish(&Message::new(forbidden(t), "x").qos(qos));
        if let Err(error) = client.finish_publish(qos, packet_id)
            && client.closed().is_err()
        {
            return Err(error);
        }
    }
    Ok(())
}

fn forbidden_publish_reaches_nobody(t: &Run<'_>) -> Outcome {
    let address = t.secured()?;
    // Whether the open listener is the same broker decides only whether this test can fail.
    let mut subscriber = t.client("subscriber")?;
    subscriber.subscribe(&forbidden(t), 0)?;
    let mut client = t.connect("a").at(&address).login(USER, PASSWORD).client()?;
    client.start_publish(&Message::new(forbidden(t), "secret"));
    subscriber.nothing()
}

fn identifier_of_a_refused_qos_2_publish_means_a_new_message(t: &Run<'_>) -> Outcome {
    let address = t.secured()?;
    let connecting = |who: &str| t.connect(who).at(&address).login(USER, PASSWORD);
    let mut subscriber = connecting("subscriber").client()?;
    subscriber.subscribe(&t.topic("a"), 2)?;
    let mut client = connecting("a").client()?;
    client.start_publish(&Message::new(forbidden(t), "x").qos(2).id(7));
    let code = client.acknowledged(PacketType::PubRec, 7)?;
    if code < 0x80 {
        return not_applicable("the broker refuses no QoS 2 PUBLISH by PUBREC");
    }
    let code = client.publish(&t.message("a", "new").qos(2).id(7))?;
    ensure!(code < 0x80, "the new message was answered 0x{code:02X}");
    subscriber.expect("new")?;
    Ok(())
}

fn forbidden_filter_is_refused_in_its_place(t: &Run<'_>) -> Outcome {
    let address = t.secured()?;
    let mut client = t.connect("a").at(&address).login(USER, PASSWORD).client()?;
    let (one, bad, two) = (t.topic("one"), forbidden(t), t.topic("two"));
    let codes = client.subscribe_with(&[filter(&one, 1), filter(&bad, 1), filter(&two, 2)], None)?;
    let refusal = if t.v5() { 0x87 } else { 0x80 };
    if codes == [1, 1, 2] {
        // What may be subscribed to is for the Server to decide; it may check on delivery instead.
        return not_applicable("the broker grants forbidden filters");
    }
    ensure!(codes == [1, refusal, 2], "SUBACK {codes:02X?} instead of [1, {refusal:02X}, 2]");
    Ok(())
}

fn refusals_have_no_reason_string_if_the_client_wants_none(t: &Run<'_>) -> Outcome {
    let address = t.secured()?;
    let mut client = t.connect("a").at(&address).login(USER, PASSWORD).no_problem_information().client()?;
    let packet_id = client.start_publish(&Message::new(forbidden(t), "x").qos(1));
    let puback = client.acknowledgement(PacketType::PubAck, packet_id)?;
    let packet_id = client.start_publish(&Message::new(forbidden(t), "x").qos(2));
    let pubrec = client.acknowledgement(PacketType::PubRec, packet_id)?;
    let bad = forbidden(t);
    let packet_id = client.start_subscribe(&[filter(&bad, 1)], None);
    let suback = client.codes(PacketType::SubAck, packet_id)?;
    for (name, ack) in [("PUBACK", puback), ("PUBREC", pubrec), ("SUBACK", suback)] {
        if ack.reason_string.is_some() || !ack.user_properties.is_empty() {
            return failed(format!("{name} has a Reason String or User Properties"));
        }
    }
    Ok(())
}
