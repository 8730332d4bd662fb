//! CONNACK: first, once, and with the right Session Present.

use bucketmq_packet::PacketType;

use crate::client::filter;
use crate::ensure;
use crate::outcome::{Outcome, failed};
use crate::reply::Reply;
use crate::run::Run;

tests! {
    connack_comes_first_though_other_packets_follow_connect_at_once v5["3.2.0-1", "3.1.4-5"] v3["3.2.0-1", "3.1.4-4"] v31[];
    connack_comes_before_queued_messages v5["3.2.0-1", "3.2.0-2"] v3["3.2.0-1"] v31[];
    connack_flags_are_0_or_session_present v5["3.2.2-1", "3.2.2-8"] v3["2.2.2-1"];
    refusal_has_session_present_0_and_closes v5["3.2.2-6", "3.2.2-7", "4.13.2-1"];
    refusal_by_return_code_has_session_present_0_and_closes v3["3.2.2-4", "3.2.2-5"];
    response_information_is_not_sent_unasked v5["3.1.2-28"];
    connack_stays_within_the_maximum_packet_size v5["3.1.2-24", "3.2.2-19", "3.2.2-20"];
    no_authentication_method_unless_the_client_named_one v5["4.12.0-6"];
}

fn connack_comes_first_though_other_packets_follow_connect_at_once(t: &Run<'_>) -> Outcome {
    let mut client = t.raw()?;
    let topic = t.topic("a");
    client.send(&t.connect("a").encode());
    let packet_id = client.start_subscribe(&[filter(&topic, 0)], None);
    client.start_publish(&t.message("a", "self"));
    match client.reply()? {
        Reply::ConnAck(accepted) if accepted.code == 0 => {}
        other => return failed(format!("{} came before CONNACK", other.name())),
    }
    client.codes(PacketType::SubAck, packet_id)?;
    client.expect("self")?;
    Ok(())
}

fn connack_comes_before_queued_messages(t: &Run<'_>) -> Outcome {
    let mut subscriber = t.connect("subscriber").kept().present(false)?;
    subscriber.subscribe(&t.topic("a"), 1)?;
    subscriber.cut();
    t.client("publisher")?.publish(&t.message("a", "queued").qos(1))?;
    let mut subscriber = t.connect("subscriber").kept().start()?;
    match subscriber.reply()? {
        Reply::ConnAck(_) => {}
        other => return failed(format!("{} came before CONNACK", other.name())),
    }
    subscriber.expect("queued")?;
    // No second CONNACK either.
    subscriber.nothing()
}

fn connack_flags_are_0_or_session_present(t: &Run<'_>) -> Outcome {
    // Decoding refuses any other bit; here both values are seen.
    t.connect("a").kept().present(false)?.cut();
    t.connect("a").kept().present(true)?.disconnect()
}

fn refusal_has_session_present_0_and_closes(t: &Run<'_>) -> Outcome {
    t.connect("a").kept().present(false)?.cut();
    let mut client = t.connect("a").kept().authentication_method("conformance-no-such-method").start()?;
    match client.reply() {
        Ok(Reply::ConnAck(refused)) => {
            ensure!(refused.code >= 0x80, "an unknown Authentication Method was accepted");
            ensure!(!refused.session_present, "a refusal with Session Present 1");
            client.closed().map(|_| ())
        }
        Ok(other) => failed(format!("{} instead of a refusal", other.name())),
        Err(_) => client.closed().map(|_| ()),
    }
}

fn refusal_by_return_code_has_session_present_0_and_closes(t: &Run<'_>) -> Outcome {
    let address = t.secured()?;
    let login = |password: &str| t.connect("a").at(&address).login(crate::secured::USER, password).kept();
    login(crate::secured::PASSWORD).client()?.cut();
    let mut client = login("wrong").start()?;
    match client.reply()? {
        Reply::ConnAck(refused) => {
            ensure!(refused.code >= 0x80, "a wrong password was accepted");
            ensure!(!refused.session_present, "a refusal with Session Present 1");
            client.closed().map(|_| ())?;
        }
        other => return failed(format!("{} instead of a refusal", other.name())),
    }
    t.connect("a").at(&address).login(crate::secured::USER, crate::secured::PASSWORD).client()?.disconnect()
}

fn response_information_is_not_sent_unasked(t: &Run<'_>) -> Outcome {
    let (_, accepted) = t.connect("a").open()?;
    ensure!(accepted.response_information.is_none(), "Response Information though the Client did not ask");
    // Asked, it may be sent or not; either way the CONNECT is in order.
    t.connect("b").response_information().client()?.ping()
}

fn connack_stays_within_the_maximum_packet_size(t: &Run<'_>) -> Outcome {
    // Decoding fails the test if the packet is larger. 60 bytes hold everything but long strings.
    let client = t.connect("a").maximum_packet_size(60).client()?;
    client.disconnect()?;
    t.connect("a").maximum_packet_size(60).authentication_method("conformance-no-such-method").refused(&[0x8C, 0x87, 0x80], false)
}

fn no_authentication_method_unless_the_client_named_one(t: &Run<'_>) -> Outcome {
    let (mut client, accepted) = t.connect("a").open()?;
    ensure!(accepted.authentication_method.is_none(), "CONNACK names an Authentication Method");
    client.nothing()
}
