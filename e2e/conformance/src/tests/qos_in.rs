//! QoS 1 and 2 from a Client to the Server.

use bucketmq_packet::PacketType;

use crate::client::Client;
use crate::ensure;
use crate::outcome::Outcome;
use crate::run::Run;

tests! {
    puback_frees_the_identifier_for_a_new_message v5["4.3.2-5", "2.2.1-5"] v3["4.3.2-2", "2.3.1-6"];
    qos_2_duplicate_before_pubrel_is_handed_on_once v5["4.3.3-10", "4.3.3-8"] v3["4.3.3-2"] area["qos2-duplicate"];
    qos_2_repeat_without_dup_is_a_duplicate_too v5["4.3.3-10"] v3["4.3.3-2"] area["qos2-duplicate"];
    pubrel_is_answered_with_pubcomp v5["4.3.3-11"] v3["4.3.3-2"] area["pubrel-answered"];
    repeated_pubrel_is_answered_each_time v5["4.3.3-11"] v3["4.3.3-2"] area["pubrel-answered"];
    pubrel_of_an_unknown_identifier_is_answered v5["4.3.3-11", "3.7.2-1"] v3["4.3.3-2"] area["pubrel-answered"];
    pubcomp_frees_the_identifier_for_a_new_message v5["4.3.3-12"] v3["4.3.3-2"];
    qos_2_duplicate_after_reconnect_is_handed_on_once v5["4.3.3-10", "4.4.0-1"] v3["4.3.3-2", "4.4.0-1"] area["qos2-duplicate"] v31[];
    pubrel_after_reconnect_is_answered v5["4.3.3-11", "4.4.0-1"] v3["4.3.3-2", "4.4.0-1"] area["pubrel-answered"];
    identifier_in_use_at_a_new_session_means_a_new_message v5["3.1.2-4", "4.3.3-10"] v3["3.1.2-6", "4.3.3-2"];
    handshakes_may_be_interleaved v5["4.3.3-8", "4.3.3-11", "4.6.0-3"] v3["4.3.3-2", "4.6.0-3"];
    identifiers_of_both_directions_are_independent v5["2.2.1-4", "2.2.1-3"] v3["2.3.1-4", "2.3.1-2"];
}

fn marked(t: &Run<'_>) -> Outcome<Client> {
    let mut subscriber = t.subscriber("a", 2)?;
    subscriber.subscribe(&t.topic("end"), 2)?;
    Ok(subscriber)
}

/// What came before a last message that is published now.
fn received(t: &Run<'_>, subscriber: &mut Client) -> Outcome<Vec<String>> {
    t.client("end")?.publish(&t.message("end", "end").qos(2))?;
    Ok(subscriber.messages_before("end")?.iter().map(|message| message.text()).collect())
}

fn puback_frees_the_identifier_for_a_new_message(t: &Run<'_>) -> Outcome {
    let mut subscriber = marked(t)?;
    let mut client = t.client("a")?;
    client.publish(&t.message("a", "one").qos(1).id(7))?;
    // [MQTT-4.3.2-5] Whatever DUP says.
    client.publish(&t.message("a", "two").qos(1).id(7).dup())?;
    client.publish(&t.message("a", "three").qos(1).id(7))?;
    let got = received(t, &mut subscriber)?;
    ensure!(got == ["one", "two", "three"], "received {got:?}");
    Ok(())
}

fn twice(t: &Run<'_>, dup: bool) -> Outcome {
    let mut subscriber = marked(t)?;
    let mut client = t.client("a")?;
    let message = t.message("a", "once").qos(2).id(7);
    let again = if dup { message.clone().dup() } else { message.clone() };
    for message in [&message, &again, &again] {
        client.start_publish(message);
        let code = client.acknowledged(PacketType::PubRec, 7)?;
        ensure!(code < 0x80 || (t.v5() && !dup && code == 0x91), "PUBREC 0x{code:02X} for a message already taken");
    }
    client.acknowledge(PacketType::PubRel, 7);
    client.acknowledged(PacketType::PubComp, 7)?;
    let got = received(t, &mut subscriber)?;
    ensure!(got == ["once"], "received {got:?}");
    Ok(())
}

fn qos_2_duplicate_before_pubrel_is_handed_on_once(t: &Run<'_>) -> Outcome {
    twice(t, true)
}

fn qos_2_repeat_without_dup_is_a_duplicate_too(t: &Run<'_>) -> Outcome {
    twice(t, false)
}

fn pubrel_is_answered_with_pubcomp(t: &Run<'_>) -> Outcome {
    let mut client = t.client("a")?;
    for id in [1, 65_535] {
        client.start_publish(&t.message("a", "x").qos(2).id(id));
        client.acknowledged(PacketType::PubRec, id)?;
        client.acknowledge(PacketType::PubRel, id);
        let code = client.acknowledged(PacketType::PubComp, id)?;
        ensure!(code == 0, "PUBCOMP 0x{code:02X}");
    }
    Ok(())
}

fn repeated_pubrel_is_answered_each_time(t: &Run<'_>) -> Outcome {
    let mut client = t.client("a")?;
    client.publish(&t.message("a", "x").qos(2).id(7))?;
    for _ in 0..3 {
        client.acknowledge(PacketType::PubRel, 7);
        let code = client.acknowledged(PacketType::PubComp, 7)?;
        ensure!(matches!(code, 0 | 0x92), "PUBCOMP 0x{code:02X}");
    }
    client.ping()
}

fn pubrel_of_an_unknown_identifier_is_answered(t: &Run<'_>) -> Outcome {
    let mut client = t.client("a")?;
    client.acknowledge(PacketType::PubRel, 4242);
    let code = client.acknowledged(PacketType::PubComp, 4242)?;
    ensure!(matches!(code, 0 | 0x92), "PUBCOMP 0x{code:02X} instead of 0x92");
    client.ping()
}

fn pubcomp_frees_the_identifier_for_a_new_message(t: &Run<'_>) -> Outcome {
    let mut subscriber = marked(t)?;
    let mut client = t.client("a")?;
    client.publish(&t.message("a", "one").qos(2).id(7))?;
    client.publish(&t.message("a", "two").qos(2).id(7))?;
    client.publish(&t.message("a", "three").qos(2).id(7).dup())?;
    let got = received(t, &mut subscriber)?;
    ensure!(got == ["one", "two", "three"], "received {got:?}");
    Ok(())
}

fn qos_2_duplicate_after_reconnect_is_handed_on_once(t: &Run<'_>) -> Outcome {
    let mut subscriber = marked(t)?;
    let mut client = t.connect("a").kept().client()?;
    client.start_publish(&t.message("a", "once").qos(2).id(7));
    client.acknowledged(PacketType::PubRec, 7)?;
    client.cut();
    let mut client = t.connect("a").kept().present(true)?;
    client.start_publish(&t.message("a", "once").qos(2).id(7).dup());
    let code = client.acknowledged(PacketType::PubRec, 7)?;
    ensure!(code < 0x80, "PUBREC 0x{code:02X} for a message already taken");
    client.acknowledge(PacketType::PubRel, 7);
    client.acknowledged(PacketType::PubComp, 7)?;
    let got = received(t, &mut subscriber)?;
    ensure!(got == ["once"], "received {got:?}");
    Ok(())
}

fn pubrel_after_reconnect_is_answered(t: &Run<'_>) -> Outcome {
    let mut subscriber = marked(t)?;
    let mut client = t.connect("a").kept().client()?;
    client.start_publish(&t.message("a", "once").qos(2).id(7));
    client.acknowledged(PacketType::PubRec, 7)?;
    client.cut();
    let mut client = t.connect("a").kept().present(true)?;
    client.acknowledge(PacketType::PubRel, 7);
    let code = client.acknowledged(PacketType::PubComp, 7)?;
    ensure!(code == 0, "PUBCOMP 0x{code:02X} for a handshake that was begun");
    let got = received(t, &mut subscriber)?;
    ensure!(got == ["once"], "received {got:?}");
    Ok(())
}

fn identifier_in_use_at_a_new_session_means_a_new_message(t: &Run<'_>) -> Outcome {
    let mut subscriber = marked(t)?;
    let mut client = t.connect("a").kept().client()?;
    client.start_publish(&t.message("a", "one").qos(2).id(7));
    client.acknowledged(PacketType::PubRec, 7)?;
    client.cut();
    let mut client = t.connect("a").present(false)?;
    client.publish(&t.message("a", "two").qos(2).id(7))?;
    let got = received(t, &mut subscriber)?;
    // Whether "one" counted before its PUBREL is the broker's choice.
    ensure!(got.last().is_some_and(|last| last == "two"), "received {got:?}");
    Ok(())
}

fn handshakes_may_be_interleaved(t: &Run<'_>) -> Outcome {
    let mut subscriber = marked(t)?;
    let mut client = t.client("a")?;
    for id in 1..=5 {
        client.start_publish(&t.message("a", format!("{id}")).qos(2).id(id));
    }
    for id in 1..=5 {
        client.acknowledged(PacketType::PubRec, id)?;
    }
    client.publish(&t.message("b", "between").qos(1).id(6))?;
    for id in [3, 1, 5, 2, 4] {
        client.acknowledge(PacketType::PubRel, id);
        client.acknowledged(PacketType::PubComp, id)?;
    }
    let mut got = received(t, &mut subscriber)?;
    got.sort();
    ensure!(got == ["1", "2", "3", "4", "5"], "received {got:?}");
    Ok(())
}

fn identifiers_of_both_directions_are_independent(t: &Run<'_>) -> Outcome {
    let mut client = t.connect("a").manual().client()?;
    client.subscribe(&t.topic("a"), 2)?;
    t.client("publisher")?.publish(&t.message("a", "in").qos(2))?;
    let message = client.expect("in")?;
    // The same identifier is used towards the Server while its own is open.
    client.publish(&t.message("b", "out").qos(2).id(message.packet_id))?;
    client.publish(&t.message("b", "out").qos(1).id(message.packet_id))?;
    client.acknowledge(PacketType::PubRec, message.packet_id);
    client.acknowledged(PacketType::PubRel, message.packet_id)?;
    client.acknowledge(PacketType::PubComp, message.packet_id);
    client.nothing()
}
