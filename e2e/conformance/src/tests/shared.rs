//! Shared Subscriptions.

use std::collections::BTreeMap;

use bucketmq_packet::{PacketType, ReasonCode};

use crate::bytes::Bytes;
use crate::client::{Client, filter};
use crate::ensure;
use crate::outcome::{Failure, Outcome, failed, not_applicable};
use crate::run::Run;

tests! {
    each_message_goes_to_one_member v5["4.8.2-1", "4.8.2-2"];
    each_group_and_every_other_subscription_gets_its_own_copy v5["4.8.2-1"];
    malformed_share_names_are_refused v5["4.8.2-1", "4.8.2-2"];
    no_local_on_a_shared_subscription_closes v5["3.8.3-4"] area["shared-no-local"];
    granted_qos_of_the_member_counts v5["4.8.2-3"] area["shared-granted-qos"];
    qos_1_message_of_a_member_that_left_is_not_lost v5[] area["shared-qos1-member-gone"];
    qos_2_message_is_finished_with_the_member_that_began_it v5["4.8.2-4"] area["shared-qos2-member-gone"];
    qos_2_message_of_a_member_whose_session_ended_goes_to_nobody v5["4.8.2-5"] area["shared-qos2-member-gone"];
    error_of_a_member_discards_the_message v5["4.8.2-6"] area["shared-error-ack"];
    shared_subscription_gets_no_retained_messages v5[] area["shared-retained"];
    shared_message_has_its_subscription_identifier v5["3.3.4-3"] area["subscription-identifiers"];
    unsubscribed_member_gets_no_more v5["3.10.4-2", "3.10.4-1"];
    messages_wait_for_a_group_whose_members_are_away v5["4.5.0-1", "3.1.2-23"];
    shared_and_ordinary_subscription_of_one_client_both_count v5["3.8.4-3"];
    wildcards_in_shared_filters_match_as_defined v5["4.7.1-1", "4.8.2-2"];
}

/// The filter of the run's group.
fn group(t: &Run<'_>, name: &str) -> String {
    format!("$share/group/{}", t.topic(name))
}

/// Is there anything to test?
fn available(t: &Run<'_>) -> Outcome {
    let (client, accepted) = t.connect("probe").open()?;
    if !accepted.shared_available {
        return not_applicable("the broker has no Shared Subscriptions");
    }
    client.disconnect()
}

fn member(t: &Run<'_>, who: &str, quality: u8) -> Outcome<Client> {
    let mut client = t.client(who)?;
    client.subscribe(&group(t, "a"), quality)?;
    Ok(client)
}

fn each_message_goes_to_one_member(t: &Run<'_>) -> Outcome {
    available(t)?;
    let mut members = vec![member(t, "m1", 1)?, member(t, "m2", 1)?, member(t, "m3", 1)?];
    for client in &mut members {
        client.subscribe(&t.topic("end"), 1)?;
    }
    let mut publisher = t.client("publisher")?;
    for number in 0..30 {
        publisher.publish(&t.message("a", format!("{number}")).qos(1))?;
    }
    publisher.publish(&t.message("end", "end").qos(1))?;
    let mut count = BTreeMap::<String, u32>::new();
    for client in &mut members {
        for message in client.messages_before("end")? {
            *count.entry(message.text()).or_default() += 1;
        }
    }
    ensure!(count.len() == 30, "{} of 30 messages arrived", count.len());
    let doubled: Vec<_> = count.iter().filter(|(_, times)| **times > 1).collect();
    ensure!(doubled.is_empty(), "went to several members: {doubled:?}");
    Ok(())
}

fn each_group_and_every_other_subscription_gets_its_own_copy(t: &Run<'_>) -> Outcome {
    available(t)?;
    let mut one = member(t, "m1", 1)?;
    let mut two = t.client("m2")?;
    two.subscribe(&format!("$share/other/{}", t.topic("a")), 1)?;
    let mut alone = t.client("m3")?;
    alone.subscribe(&t.topic("a"), 1)?;
    t.client("publisher")?.publish(&t.message("a", "x").qos(1))?;
    for client in [&mut one, &mut two, &mut alone] {
        client.expect("x")?;
        client.nothing()?;
    }
    Ok(())
}

fn malformed_share_names_are_refused(t: &Run<'_>) -> Outcome {
    available(t)?;
    for name in ["$share/", "$share/g", "$share/g/", "$share//a", "$share/+/a", "$share/g+/a", "$share/g#/a"] {
        let mut client = t.client("a")?;
        let packet_id = client.start_subscribe(&[filter(name, 0)], None);
        match client.codes(PacketType::SubAck, packet_id) {
            Ok(suback) => ensure!(suback.codes[0] >= 0x80, "{name} was granted: SUBACK {:02X?}", suback.codes),
            Err(Failure::Failed(why)) if why.contains("closed") || why.contains("DISCONNECT") => {
                client.closed()?;
            }
            Err(other) => return Err(other),
        }
    }
    Ok(())
}

fn no_local_on_a_shared_subscription_closes(t: &Run<'_>) -> Outcome {
    available(t)?;
    let mut client = t.client("a")?;
    client.send(&Bytes::new(t.version).u16(1).properties(&[]).binary(group(t, "a")).u8(0x05).packet(0x82));
    client.closed_as_protocol_error()
}

fn granted_qos_of_the_member_counts(t: &Run<'_>) -> Outcome {
    available(t)?;
    let mut members = vec![member(t, "m0", 0)?, member(t, "m1", 1)?];
    for client in &mut members {
        client.subscribe(&t.topic("end"), 1)?;
    }
    let mut publisher = t.client("publisher")?;
    for number in 0..20 {
        publisher.publish(&t.message("a", format!("{number}")).qos(2))?;
    }
    publisher.publish(&t.message("end", "end").qos(1))?;
    for (granted, client) in members.iter_mut().enumerate() {
        for message in client.messages_before("end")? {
            ensure!(usize::from(message.qos) == granted, "a member granted QoS {granted} got QoS {}", message.qos);
        }
    }
    Ok(())
}

fn qos_1_message_of_a_member_that_left_is_not_lost(t: &Run<'_>) -> Outcome {
    available(t)?;
    // The first member is the only one while the messages are published, and leaves for good without acknowledging.
    let mut leaving = t.connect("m1").manual().client()?;
    leaving.subscribe(&group(t, "a"), 1)?;
    let mut publisher = t.client("publisher")?;
    publisher.publish(&t.message("a", "one").qos(1))?;
    publisher.publish(&t.message("a", "two").qos(1))?;
    leaving.message()?;
    leaving.message()?;
    let mut staying = member(t, "m2", 1)?;
    leaving.disconnect()?;
    // 4.8.2 says SHOULD: once the Session has ended another member is sent what it had not acknowledged.
    let mut found = vec![staying.message()?.text(), staying.message()?.text()];
    found.sort();
    ensure!(found == ["one", "two"], "the other member got {found:?}");
    Ok(())
}

fn qos_2_message_is_finished_with_the_member_that_began_it(t: &Run<'_>) -> Outcome {
    available(t)?;
    let mut first = t.connect("m1").kept().manual().client()?;
    first.subscribe(&group(t, "a"), 2)?;
    t.client("publisher")?.publish(&t.message("a", "begun").qos(2))?;
    let begun = first.expect("begun")?;
    let mut second = member(t, "m2", 2)?;
    first.cut();
    second.nothing()?;
    let mut first = t.connect("m1").kept().manual().present(true)?;
    let again = first.expect("begun")?;
    ensure!(again.packet_id == begun.packet_id && again.dup, "sent again as {again:?}");
    first.acknowledge(PacketType::PubRec, again.packet_id);
    first.acknowledged(PacketType::PubRel, again.packet_id)?;
    first.acknowledge(PacketType::PubComp, again.packet_id);
    second.nothing()
}

fn qos_2_message_of_a_member_whose_session_ended_goes_to_nobody(t: &Run<'_>) -> Outcome {
    available(t)?;
    let mut first = t.connect("m1").manual().client()?;
    first.subscribe(&group(t, "a"), 2)?;
    t.client("publisher")?.publish(&t.message("a", "begun").qos(2))?;
    first.expect("begun")?;
    let mut second = member(t, "m2", 2)?;
    first.cut();
    second.nothing()
}

fn error_of_a_member_discards_the_message(t: &Run<'_>) -> Outcome {
    available(t)?;
    for (quality, packet_type) in [(1, PacketType::PubAck), (2, PacketType::PubRec)] {
        let mut first = t.connect("m1").manual().client()?;
        first.subscribe(&group(t, "a"), quality)?;
        t.client("publisher")?.publish(&t.message("a", "unwanted").qos(quality))?;
        let message = first.expect("unwanted")?;
        let mut second = member(t, "m2", quality)?;
        first.acknowledge_with(packet_type, message.packet_id, ReasonCode::UnspecifiedError);
        first.nothing()?;
        second.nothing()?;
        first.disconnect()?;
        second.nothing()?;
    }
    Ok(())
}

fn shared_subscription_gets_no_retained_messages(t: &Run<'_>) -> Outcome {
    available(t)?;
    let mut publisher = t.client("publisher")?;
    t.retain(&mut publisher, &t.message("a", "kept").qos(1))?;
    let mut client = member(t, "m1", 1)?;
    client.nothing()
}

fn shared_message_has_its_subscription_identifier(t: &Run<'_>) -> Outcome {
    available(t)?;
    let (mut client, accepted) = t.connect("m1").open()?;
    if !accepted.identifiers_available {
        return not_applicable("the broker has no Subscription Identifiers");
    }
    client.subscribed(filter(&group(t, "a"), 1), Some(9))?;
    t.client("publisher")?.publish(&t.message("a", "x").qos(1))?;
    let message = client.expect("x")?;
    ensure!(message.subscription_identifiers == [9], "identifiers {:?} instead of 9", message.subscription_identifiers);
    Ok(())
}

fn unsubscribed_member_gets_no_more(t: &Run<'_>) -> Outcome {
    available(t)?;
    let (mut leaving, mut staying) = (member(t, "m1", 1)?, member(t, "m2", 1)?);
    let codes = leaving.unsubscribe(&[&t.topic("a"), &group(t, "a")])?;
    ensure!(codes == [0x11, 0], "UNSUBACK {codes:02X?} instead of [11, 00]");
    let mut publisher = t.client("publisher")?;
    for number in 0..10 {
        publisher.publish(&t.message("a", format!("{number}")).qos(1))?;
    }
    for number in 0..10 {
        staying.expect(number.to_string())?;
    }
    leaving.nothing()
}

fn messages_wait_for_a_group_whose_members_are_away(t: &Run<'_>) -> Outcome {
    available(t)?;
    let mut away = t.connect("m1").kept().client()?;
    away.subscribe(&group(t, "a"), 1)?;
    away.cut();
    let mut publisher = t.client("publisher")?;
    publisher.publish(&t.message("a", "waiting").qos(1))?;
    t.connect("m1").kept().present(true)?.expect("waiting")?;
    Ok(())
}

fn shared_and_ordinary_subscription_of_one_client_both_count(t: &Run<'_>) -> Outcome {
    available(t)?;
    let mut client = member(t, "m1", 1)?;
    client.subscribe(&t.topic("a"), 1)?;
    client.subscribe(&t.topic("end"), 1)?;
    let mut publisher = t.client("publisher")?;
    publisher.publish(&t.message("a", "x").qos(1))?;
    publisher.publish(&t.message("end", "end").qos(1))?;
    let messages = client.messages_before("end")?;
    if messages.len() != 2 {
        return failed(format!("{} copies for a shared and an ordinary Subscription", messages.len()));
    }
    Ok(())
}

fn wildcards_in_shared_filters_match_as_defined(t: &Run<'_>) -> Outcome {
    available(t)?;
    let mut client = t.client("m1")?;
    client.subscribe(&group(t, "x/+/#"), 1)?;
    let mut publisher = t.client("publisher")?;
    for name in ["x", "x/1", "x/1/2", "y/1"] {
        publisher.publish(&t.message(name, name).qos(1))?;
    }
    client.expect("x/1")?;
    client.expect("x/1/2")?;
    client.nothing()
}
