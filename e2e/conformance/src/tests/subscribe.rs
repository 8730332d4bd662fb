//! SUBSCRIBE and SUBACK.

use bucketmq_packet::PacketType;
use bucketmq_packet::property::Property;

use crate::bytes::Bytes;
use crate::client::filter;
use crate::ensure;
use crate::outcome::{Outcome, not_applicable};
use crate::run::Run;

tests! {
    suback_answers_subscribe_with_its_identifier v5["3.8.4-1", "3.8.4-2", "2.2.1-6"] v3["3.8.4-1", "3.8.4-2", "2.3.1-7"] v31[];
    suback_has_a_code_for_each_filter_in_order v5["3.8.4-5", "3.8.4-6", "3.8.4-7", "3.9.3-1", "3.9.3-2"] v3["3.8.4-4", "3.8.4-5", "3.9.3-1", "3.9.3-2"];
    delivery_is_at_the_lower_of_published_and_granted_qos v5["3.8.4-8"] v3["3.8.4-6"] v31[];
    identical_filter_replaces_the_subscription v5["3.8.4-3"] v3["3.8.4-3"] area["resubscribe"];
    replacing_a_subscription_loses_no_message v5["3.8.4-4"] v3["3.8.4-3"] area["resubscribe"];
    filter_is_live_when_suback_comes v5["3.8.4-1"] v3["3.8.4-1"] area["resubscribe"];
    subscribe_without_filters_closes v5["3.8.3-2"] v3["3.8.3-3"];
    requested_qos_3_closes v5["3.8.3-5", "4.13.1-1"] v3["3-8.3-4"];
    reserved_bits_of_the_options_close v5["3.8.3-5"] v3["3-8.3-4"] area["parser"];
    retain_handling_3_closes v5["4.13.1-1"];
    no_local_keeps_a_clients_own_messages_back v5["3.8.3-3"];
    without_no_local_a_client_gets_its_own_messages v5["3.8.3-3"] v3[];
    no_local_holds_for_the_client_and_not_for_the_connection v5["3.8.3-3"];
    subscription_identifier_comes_with_each_message v5["3.3.4-3", "3.3.4-4"] area["subscription-identifiers"];
    all_matching_subscription_identifiers_come v5["3.3.4-3", "3.3.4-4", "3.3.4-5"] area["subscription-identifiers"];
    subscription_identifier_comes_with_retained_messages v5["3.3.4-3"] area["subscription-identifiers"];
    subscription_identifier_is_replaced_with_the_subscription v5["3.8.4-3", "3.3.4-3"] area["subscription-identifiers"];
    subscription_identifier_outlives_the_connection v5["3.3.4-3", "3.1.2-5"] area["subscription-identifiers"];
    subscription_identifier_0_closes v5["4.13.1-1"];
    message_is_delivered_to_every_matching_session v5["4.5.0-1"] v3["4.5.0-1"];
}

fn suback_answers_subscribe_with_its_identifier(t: &Run<'_>) -> Outcome {
    let mut client = t.client("a")?;
    for id in [1_u16, 2, 65_535] {
        client.send(&Bytes::new(t.version).u16(id).properties(&[]).binary(t.topic("a")).u8(1).packet(0x82));
        let suback = client.codes(PacketType::SubAck, id)?;
        ensure!(suback.codes == [1], "SUBACK {:02X?}", suback.codes);
    }
    Ok(())
}

fn suback_has_a_code_for_each_filter_in_order(t: &Run<'_>) -> Outcome {
    let mut client = t.client("a")?;
    let names: Vec<String> = (0..9).map(|number| t.topic(&format!("{number}/+"))).collect();
    let filters: Vec<_> = names.iter().zip([2, 0, 1, 1, 0, 2, 0, 0, 2]).map(|(name, quality)| filter(name, quality)).collect();
    let codes = client.subscribe_with(&filters, None)?;
    ensure!(codes == [2, 0, 1, 1, 0, 2, 0, 0, 2], "SUBACK {codes:02X?}");
    t.client("publisher")?.publish(&t.message("5/x", "five").qos(2))?;
    ensure!(client.expect("five")?.qos == 2, "the sixth filter was not granted QoS 2");
    Ok(())
}

fn delivery_is_at_the_lower_of_published_and_granted_qos(t: &Run<'_>) -> Outcome {
    let mut publisher = t.client("publisher")?;
    for granted in 0..=2 {
        let mut subscriber = t.subscriber("a", granted)?;
        for published in 0..=2 {
            publisher.publish(&t.message("a", "x").qos(published))?;
            let message = subscriber.expect("x")?;
            ensure!(message.qos == published.min(granted), "published at {published}, granted {granted}, came at {}", message.qos);
        }
    }
    Ok(())
}

fn identical_filter_replaces_the_subscription(t: &Run<'_>) -> Outcome {
    let mut subscriber = t.subscriber("a/+", 2)?;
    subscriber.subscribe(&t.topic("a/+"), 0)?;
    let mut publisher = t.client("publisher")?;
    publisher.publish(&t.message("a/b", "one").qos(2))?;
    let message = subscriber.expect("one")?;
    ensure!(message.qos == 0, "the older Subscription still grants QoS {}", message.qos);
    subscriber.nothing()?;
    subscriber.unsubscribe(&[&t.topic("a/+")])?;
    publisher.publish(&t.message("a/b", "two").qos(2))?;
    subscriber.nothing()
}

fn replacing_a_subscription_loses_no_message(t: &Run<'_>) -> Outcome {
    let mut subscriber = t.subscriber("a", 1)?;
    let mut publisher = t.client("publisher")?;
    let count = 60;
    for number in 0..count {
        publisher.publish(&t.message("a", format!("{number}")).qos(1))?;
        if number % 5 == 0 {
            subscriber.start_subscribe(&[filter(&t.topic("a"), 1 + number / 5 % 2)], None);
        }
    }
    let mut seen = Vec::new();
    while seen.len() < usize::from(count) {
        match subscriber.reply()? {
            crate::reply::Reply::Publish(message) => seen.push(message.text()),
            crate::reply::Reply::Codes(..) => {}
            other => return crate::outcome::failed(format!("unexpected {}", other.name())),
        }
    }
    let expected: Vec<String> = (0..count).map(|number| number.to_string()).collect();
    ensure!(seen == expected, "received {seen:?}");
    Ok(())
}

fn filter_is_live_when_suback_comes(t: &Run<'_>) -> Outcome {
    let mut publisher = t.client("publisher")?;
    let mut subscriber = t.client("subscriber")?;
    for number in 0..20 {
        let name = format!("fresh/{number}");
        subscriber.subscribe(&t.topic(&name), 1)?;
        publisher.publish(&t.message(&name, &name).qos(1))?;
        subscriber.expect(&name)?;
    }
    Ok(())
}

fn subscribe_without_filters_closes(t: &Run<'_>) -> Outcome {
    let mut client = t.client("a")?;
    client.send(&Bytes::new(t.version).u16(1).properties(&[]).packet(0x82));
    client.closed_as_wrong()
}

fn options(t: &Run<'_>, value: u8) -> Outcome {
    let mut client = t.client("a")?;
    client.send(&Bytes::new(t.version).u16(1).properties(&[]).binary(t.topic("a")).u8(value).packet(0x82));
    client.closed_as_wrong()
}

fn requested_qos_3_closes(t: &Run<'_>) -> Outcome {
    options(t, 0x03)
}

fn reserved_bits_of_the_options_close(t: &Run<'_>) -> Outcome {
    options(t, 0x40)?;
    options(t, 0x81)?;
    if t.v5() {
        return Ok(());
    }
    // What 5.0 made options of is reserved before.
    options(t, 0x04)?;
    options(t, 0x09)
}

fn retain_handling_3_closes(t: &Run<'_>) -> Outcome {
    options(t, 0x31)
}

fn no_local_keeps_a_clients_own_messages_back(t: &Run<'_>) -> Outcome {
    let mut client = t.client("a")?;
    client.subscribed(filter(&t.topic("a"), 2).no_local(), None)?;
    for quality in 0..=2 {
        client.publish(&t.message("a", "mine").qos(quality))?;
    }
    t.client("b")?.publish(&t.message("a", "yours").qos(1))?;
    client.expect("yours")?;
    client.nothing()
}

fn without_no_local_a_client_gets_its_own_messages(t: &Run<'_>) -> Outcome {
    let mut client = t.subscriber("a", 1)?;
    client.publish(&t.message("a", "mine").qos(1))?;
    client.expect("mine")?;
    Ok(())
}

fn no_local_holds_for_the_client_and_not_for_the_connection(t: &Run<'_>) -> Outcome {
    let mut client = t.connect("a").kept().client()?;
    client.subscribed(filter(&t.topic("a"), 1).no_local(), None)?;
    client.publish(&t.message("a", "mine").qos(1))?;
    client.cut();
    let mut client = t.connect("a").kept().present(true)?;
    client.publish(&t.message("a", "mine again").qos(1))?;
    client.nothing()
}

fn subscription_identifier_comes_with_each_message(t: &Run<'_>) -> Outcome {
    let mut publisher = t.client("publisher")?;
    for identifier in [1, 127, 128, 16_384, 268_435_455] {
        let mut subscriber = identified(t)?;
        subscriber.subscribed(filter(&t.topic("a"), 2), Some(identifier))?;
        for quality in 0..=2 {
            publisher.publish(&t.message("a", "x").qos(quality))?;
            let message = subscriber.expect("x")?;
            ensure!(
                message.subscription_identifiers == [identifier],
                "identifiers {:?} instead of {identifier}",
                message.subscription_identifiers
            );
        }
    }
    Ok(())
}

/// A Client, where Subscription Identifiers are available at all.
fn identified(t: &Run<'_>) -> Outcome<crate::client::Client> {
    let (client, accepted) = t.connect("subscriber").open()?;
    if !accepted.identifiers_available {
        return not_applicable("the broker has no Subscription Identifiers");
    }
    Ok(client)
}

fn all_matching_subscription_identifiers_come(t: &Run<'_>) -> Outcome {
    let mut subscriber = identified(t)?;
    subscriber.subscribed(filter(&t.topic("a/b"), 1), Some(11))?;
    subscriber.subscribed(filter(&t.topic("a/+"), 1), Some(22))?;
    subscriber.subscribed(filter(&t.topic("#"), 1), None)?;
    subscriber.subscribed(filter(&t.topic("+/b"), 1), Some(22))?;
    let mut publisher = t.client("publisher")?;
    publisher.publish(&t.message("a/b", "x").qos(1))?;
    publisher.publish(&t.message("end", "end").qos(1))?;
    let messages = subscriber.messages_before("end")?;
    // In one copy or in several, 11 once and 22 twice, or once where one value serves both.
    let mut all: Vec<u32> = messages.iter().flat_map(|message| message.subscription_identifiers.clone()).collect();
    all.sort_unstable();
    if messages.len() == 1 {
        ensure!(all == [11, 22, 22] || all == [11, 22], "the single copy has the identifiers {all:?}");
    } else {
        ensure!(messages.len() == 4 && all == [11, 22, 22], "{} copies have the identifiers {all:?}", messages.len());
    }
    Ok(())
}

fn subscription_identifier_comes_with_retained_messages(t: &Run<'_>) -> Outcome {
    let mut publisher = t.client("publisher")?;
    t.retain(&mut publisher, &t.message("a", "kept").qos(1))?;
    let mut subscriber = identified(t)?;
    subscriber.subscribed(filter(&t.topic("a"), 1), Some(7))?;
    let message = subscriber.expect("kept")?;
    ensure!(message.subscription_identifiers == [7], "identifiers {:?} instead of 7", message.subscription_identifiers);
    Ok(())
}

fn subscription_identifier_is_replaced_with_the_subscription(t: &Run<'_>) -> Outcome {
    let mut subscriber = identified(t)?;
    subscriber.subscribed(filter(&t.topic("a"), 1), Some(7))?;
    subscriber.subscribed(filter(&t.topic("a"), 1), Some(8))?;
    let mut publisher = t.client("publisher")?;
    publisher.publish(&t.message("a", "one").qos(1))?;
    let message = subscriber.expect("one")?;
    ensure!(message.subscription_identifiers == [8], "identifiers {:?} instead of 8", message.subscription_identifiers);
    subscriber.subscribed(filter(&t.topic("a"), 1), None)?;
    publisher.publish(&t.message("a", "two").qos(1))?;
    let message = subscriber.expect("two")?;
    ensure!(
        message.subscription_identifiers.is_empty(),
        "identifiers {:?} though the last SUBSCRIBE had none",
        message.subscription_identifiers
    );
    Ok(())
}

fn subscription_identifier_outlives_the_connection(t: &Run<'_>) -> Outcome {
    identified(t)?.disconnect()?;
    let mut away = t.connect("a").kept().client()?;
    away.subscribed(filter(&t.topic("a"), 1), Some(7))?;
    away.cut();
    let mut publisher = t.client("publisher")?;
    publisher.publish(&t.message("a", "queued").qos(1))?;
    let mut back = t.connect("a").kept().present(true)?;
    publisher.publish(&t.message("a", "live").qos(1))?;
    for payload in ["queued", "live"] {
        let message = back.expect(payload)?;
        ensure!(message.subscription_identifiers == [7], "{payload}: identifiers {:?} instead of 7", message.subscription_identifiers);
    }
    Ok(())
}

fn subscription_identifier_0_closes(t: &Run<'_>) -> Outcome {
    let mut client = t.client("a")?;
    client.send(&Bytes::new(t.version).u16(1).properties(&[Property::SubscriptionIdentifier(0)]).binary(t.topic("a")).u8(1).packet(0x82));
    client.closed_with(&[0x81, 0x82])
}

fn message_is_delivered_to_every_matching_session(t: &Run<'_>) -> Outcome {
    let mut here = Vec::new();
    for number in 0..5 {
        let mut client = t.client(&format!("h{number}"))?;
        client.subscribe(&t.topic(["a/b", "a/+", "#", "+/b", "a/#"][number]), 1)?;
        here.push(client);
    }
    let mut away = t.connect("away").kept().client()?;
    away.subscribe(&t.topic("a/b"), 1)?;
    away.cut();
    t.client("publisher")?.publish(&t.message("a/b", "all").qos(1))?;
    for mut client in here {
        client.expect("all")?;
    }
    t.connect("away").kept().present(true)?.expect("all")?;
    Ok(())
}
