//! QoS 1 and 2 from the Server to a Client, on one connection and over several.

use std::collections::BTreeSet;
use std::time::Duration;

use bucketmq_packet::{PacketType, ReasonCode};

use crate::client::Client;
use crate::ensure;
use crate::message::Message;
use crate::outcome::Outcome;
use crate::reply::Reply;
use crate::run::Run;

tests! {
    every_message_under_way_has_its_own_identifier v5["2.2.1-4", "4.3.2-1", "4.3.3-1", "4.3.2-2", "4.3.3-2"] v3["2.3.1-1", "2.3.1-4", "4.3.2-1", "4.3.3-1"];
    qos_2_delivery_goes_by_pubrec_pubrel_pubcomp v5["4.3.3-4", "2.2.1-5"] v3["4.3.3-1", "2.3.1-6"] v31[];
    nothing_is_sent_again_on_the_same_connection v5["4.4.0-1", "4.3.2-3", "4.3.3-3"] v3["4.3.2-1"];
    unacknowledged_qos_1_message_is_sent_again_at_resume v5["4.4.0-1", "4.3.2-3", "3.3.1-1", "3.1.2-23"] v3["4.4.0-1", "4.3.2-1", "3.3.1-1", "2.3.1-4"] area["resume", "dup-flag"] v31[];
    acknowledged_qos_1_message_is_not_sent_again v5["4.3.2-3", "4.4.0-1"] v3["4.3.2-1", "4.4.0-1"];
    unreceived_qos_2_message_is_sent_again_at_resume v5["4.4.0-1", "4.3.3-3", "3.3.1-1"] v3["4.4.0-1", "4.3.3-1", "3.3.1-1"] area["resume", "dup-flag"] v31[];
    after_pubrec_resume_goes_on_with_pubrel v5["4.3.3-5", "4.3.3-6", "4.4.0-1"] v3["4.3.3-1", "4.4.0-1"] area["no-publish-after-pubrel", "resume"] v31[];
    completed_qos_2_message_is_not_sent_again v5["4.3.3-5", "4.4.0-1"] v3["4.3.3-1", "4.4.0-1"];
    error_in_puback_ends_the_delivery v5["4.4.0-2"] area["error-ack"];
    error_in_pubrec_ends_the_delivery v5["4.4.0-2", "4.3.3-4"] area["error-ack"];
    pubrec_of_an_unknown_identifier_is_answered_in_order v5["3.6.2-1"];
    resume_twice_sends_again_twice v5["4.4.0-1"] v3["4.4.0-1"] area["resume"];
    dup_is_only_on_what_was_sent_before v5["3.3.1-1", "3.3.1-3"] v3["3.3.1-1", "3.3.1-3"] area["dup-flag"];
    session_state_ends_with_clean_start v5["3.1.2-4", "4.4.0-1"] v3["3.1.2-6", "4.4.0-1"];
    server_does_not_wait_for_the_clients_own_publishes v5["4.9.0-3"] v3[];
}

/// A subscriber whose Session is kept and who acknowledges nothing by itself.
fn slow(t: &Run<'_>, quality: u8) -> Outcome<Client> {
    let mut client = t.connect("slow").kept().manual().client()?;
    client.subscribe(&t.topic("a"), quality)?;
    Ok(client)
}

fn again(t: &Run<'_>) -> Outcome<Client> {
    t.connect("slow").kept().manual().present(true)
}

fn publish(t: &Run<'_>, payload: &str, qos: u8) -> Outcome {
    t.client("publisher")?.publish(&t.message("a", payload).qos(qos))?;
    Ok(())
}

fn every_message_under_way_has_its_own_identifier(t: &Run<'_>) -> Outcome {
    let mut client = slow(t, 2)?;
    let mut publisher = t.client("publisher")?;
    for number in 0..12 {
        publisher.publish(&t.message("a", format!("{number}")).qos(1 + number % 2))?;
    }
    let mut identifiers = BTreeSet::new();
    for _ in 0..12 {
        let message = client.message()?;
        ensure!(!message.dup, "DUP 1 on a first delivery");
        ensure!(identifiers.insert(message.packet_id), "identifier {} is used twice", message.packet_id);
    }
    Ok(())
}

fn qos_2_delivery_goes_by_pubrec_pubrel_pubcomp(t: &Run<'_>) -> Outcome {
    let mut client = slow(t, 2)?;
    publish(t, "x", 2)?;
    let message = client.expect("x")?;
    client.acknowledge(PacketType::PubRec, message.packet_id);
    let code = client.acknowledged(PacketType::PubRel, message.packet_id)?;
    ensure!(code == 0, "PUBREL 0x{code:02X}");
    client.acknowledge(PacketType::PubComp, message.packet_id);
    client.nothing()
}

fn nothing_is_sent_again_on_the_same_connection(t: &Run<'_>) -> Outcome {
    let mut client = slow(t, 2)?;
    publish(t, "one", 1)?;
    publish(t, "two", 2)?;
    let two = loop {
        let message = client.message()?;
        if message.text() == "two" {
            break message;
        }
    };
    if t.v5() {
        client.nothing_for(Duration::from_millis(2000))?;
    }
    client.acknowledge(PacketType::PubRec, two.packet_id);
    client.acknowledged(PacketType::PubRel, two.packet_id)?;
    client.nothing_for(Duration::from_millis(1000))
}

fn unacknowledged_qos_1_message_is_sent_again_at_resume(t: &Run<'_>) -> Outcome {
    let mut client = slow(t, 1)?;
    publish(t, "x", 1)?;
    let first = client.expect("x")?;
    client.cut();
    let mut client = again(t)?;
    let second = client.expect("x")?;
    ensure!(second.dup, "sent again with DUP 0");
    ensure!(second.packet_id == first.packet_id, "sent again as {} instead of {}", second.packet_id, first.packet_id);
    client.acknowledge(PacketType::PubAck, second.packet_id);
    client.nothing()
}

fn acknowledged_qos_1_message_is_not_sent_again(t: &Run<'_>) -> Outcome {
    let mut client = slow(t, 1)?;
    publish(t, "x", 1)?;
    let message = client.expect("x")?;
    client.acknowledge(PacketType::PubAck, message.packet_id);
    client.ping()?;
    client.cut();
    again(t)?.nothing()
}

fn unreceived_qos_2_message_is_sent_again_at_resume(t: &Run<'_>) -> Outcome {
    let mut client = slow(t, 2)?;
    publish(t, "x", 2)?;
    let first = client.expect("x")?;
    client.cut();
    let mut client = again(t)?;
    let second = client.expect("x")?;
    ensure!(second.dup && second.qos == 2, "sent again with DUP {} at QoS {}", second.dup, second.qos);
    ensure!(second.packet_id == first.packet_id, "sent again as {} instead of {}", second.packet_id, first.packet_id);
    client.acknowledge(PacketType::PubRec, second.packet_id);
    client.acknowledged(PacketType::PubRel, second.packet_id)?;
    client.acknowledge(PacketType::PubComp, second.packet_id);
    client.nothing()
}

fn after_pubrec_resume_goes_on_with_pubrel(t: &Run<'_>) -> Outcome {
    let mut client = slow(t, 2)?;
    publish(t, "x", 2)?;
    let message = client.expect("x")?;
    client.acknowledge(PacketType::PubRec, message.packet_id);
    client.acknowledged(PacketType::PubRel, message.packet_id)?;
    client.cut();
    let mut client = again(t)?;
    match client.reply()? {
        Reply::Ack(PacketType::PubRel, release) if release.packet_id == message.packet_id => {}
        other => return crate::outcome::failed(format!("{} instead of PUBREL {}", other.name(), message.packet_id)),
    }
    client.acknowledge(PacketType::PubComp, message.packet_id);
    client.nothing()
}

fn completed_qos_2_message_is_not_sent_again(t: &Run<'_>) -> Outcome {
    let mut client = slow(t, 2)?;
    publish(t, "x", 2)?;
    let message = client.expect("x")?;
    client.acknowledge(PacketType::PubRec, message.packet_id);
    client.acknowledged(PacketType::PubRel, message.packet_id)?;
    client.acknowledge(PacketType::PubComp, message.packet_id);
    client.ping()?;
    client.cut();
    again(t)?.nothing()
}

fn error_in_puback_ends_the_delivery(t: &Run<'_>) -> Outcome {
    let mut client = slow(t, 1)?;
    publish(t, "x", 1)?;
    let message = client.expect("x")?;
    client.acknowledge_with(PacketType::PubAck, message.packet_id, ReasonCode::QuotaExceeded);
    client.nothing()?;
    client.cut();
    again(t)?.nothing()
}

fn error_in_pubrec_ends_the_delivery(t: &Run<'_>) -> Outcome {
    let mut client = slow(t, 2)?;
    publish(t, "x", 2)?;
    let message = client.expect("x")?;
    client.acknowledge_with(PacketType::PubRec, message.packet_id, ReasonCode::ImplementationSpecificError);
    // No PUBREL either.
    client.nothing()?;
    client.cut();
    again(t)?.nothing()
}

fn pubrec_of_an_unknown_identifier_is_answered_in_order(t: &Run<'_>) -> Outcome {
    let mut client = t.connect("a").manual().client()?;
    client.acknowledge(PacketType::PubRec, 4242);
    // Decoding checks the Reason Code; 0x92 is what fits.
    let code = client.acknowledged(PacketType::PubRel, 4242)?;
    ensure!(matches!(code, 0 | 0x92), "PUBREL 0x{code:02X}");
    client.ping()
}

fn resume_twice_sends_again_twice(t: &Run<'_>) -> Outcome {
    let mut client = slow(t, 2)?;
    publish(t, "one", 1)?;
    publish(t, "two", 2)?;
    let mut identifiers =
        [client.message()?, client.message()?].iter().map(|message| (message.text(), message.packet_id)).collect::<Vec<_>>();
    identifiers.sort();
    client.cut();
    for _ in 0..2 {
        let mut client = again(t)?;
        let mut found =
            [client.message()?, client.message()?].iter().map(|message| (message.text(), message.packet_id)).collect::<Vec<_>>();
        found.sort();
        ensure!(found == identifiers, "sent again as {found:?} instead of {identifiers:?}");
        client.cut();
    }
    Ok(())
}

fn dup_is_only_on_what_was_sent_before(t: &Run<'_>) -> Outcome {
    let mut client = slow(t, 1)?;
    publish(t, "sent", 1)?;
    client.expect("sent")?;
    client.cut();
    publish(t, "waiting", 1)?;
    let mut client = again(t)?;
    let dup = |message: Message| (message.text(), message.dup);
    let mut found = vec![dup(client.message()?), dup(client.message()?)];
    found.sort();
    ensure!(found == [("sent".to_owned(), true), ("waiting".to_owned(), false)], "DUP is {found:?}");
    Ok(())
}

fn session_state_ends_with_clean_start(t: &Run<'_>) -> Outcome {
    let mut client = slow(t, 2)?;
    publish(t, "x", 2)?;
    client.expect("x")?;
    client.cut();
    t.connect("slow").manual().present(false)?.nothing()
}

fn server_does_not_wait_for_the_clients_own_publishes(t: &Run<'_>) -> Outcome {
    let mut client = t.connect("a").manual().client()?;
    client.subscribe(&t.topic("a"), 2)?;
    for id in 1..=5 {
        client.start_publish(&t.message("b", "x").qos(2).id(id));
    }
    for id in 1..=5 {
        client.acknowledged(PacketType::PubRec, id)?;
    }
    publish(t, "through", 2)?;
    client.expect("through")?;
    Ok(())
}
