//! PUBLISH: what a sender must not write, and what a receiver must get.

use bucketmq_packet::property::Property;

use crate::bytes::Bytes;
use crate::client::filter;
use crate::ensure;
use crate::outcome::Outcome;
use crate::run::Run;

tests! {
    publish_is_answered_as_its_qos_asks v5["3.3.4-1", "2.2.1-5", "4.3.2-4", "4.3.3-8"] v3["3.3.4-1", "2.3.1-6", "4.3.2-2", "4.3.3-2"] v31[];
    message_arrives_as_it_was_sent v5["3.3.2-3", "3.3.2-1"] v3["3.3.2-3", "3.3.2-1"] v31[];
    message_of_every_size_arrives_whole v5["3.3.2-3"] v3["3.3.2-3"];
    qos_3_closes v5["3.3.1-4"] v3["3.3.1-4"] area["parser"];
    dup_at_qos_0_closes v5["3.3.1-2"] v3["3.3.1-2"];
    qos_0_is_delivered_without_identifier_and_dup v5["4.3.1-1", "3.3.1-2", "2.2.1-2"] v3["4.3.1-1", "3.3.1-2", "2.3.1-5"];
    dup_of_the_publisher_is_not_passed_on v5["3.3.1-3", "4.3.2-2", "4.3.3-2"] v3["3.3.1-3", "4.3.2-1", "4.3.3-1"] area["dup-flag"];
    topic_name_with_a_wildcard_closes v5["3.3.2-2", "4.7.0-1"] v3["3.3.2-2", "4.7.1-1"];
    empty_topic_name_closes v5["4.7.3-1"] v3["4.7.3-1"];
    response_topic_with_a_wildcard_closes v5["3.3.2-14"];
    subscription_identifier_from_a_client_closes v5["3.3.4-6"];
    overlapping_subscriptions_deliver_at_the_highest_qos v5["3.3.4-2"] v3["3.3.5-1"];
    payload_may_be_empty v5["3.3.1-6"] v3["3.3.1-10"];
    packet_beyond_the_servers_maximum_closes v5["3.2.2-15"];
    publish_without_subscribers_is_acknowledged v5["3.3.4-1", "3.4.2-1", "3.5.2-1"] v3["3.3.4-1"];
}

fn publish_is_answered_as_its_qos_asks(t: &Run<'_>) -> Outcome {
    let mut client = t.client("a")?;
    client.start_publish(&t.message("a", "0"));
    client.nothing()?;
    // `publish` checks type, identifier and order of every answer.
    for id in [1, 2, 40_000, 65_535] {
        let code = client.publish(&t.message("a", "1").qos(1).id(id))?;
        ensure!(code < 0x80, "PUBACK 0x{code:02X}");
        let code = client.publish(&t.message("a", "2").qos(2).id(id))?;
        ensure!(code < 0x80, "PUBREC 0x{code:02X}");
    }
    client.nothing()
}

fn message_arrives_as_it_was_sent(t: &Run<'_>) -> Outcome {
    let mut subscriber = t.subscriber("+/b", 2)?;
    let mut publisher = t.client("publisher")?;
    let all_bytes: Vec<u8> = (0..=255).collect();
    for qos in 0..=2 {
        publisher.publish(&t.message("ä/b", &all_bytes).qos(qos))?;
        let message = subscriber.expect(&all_bytes)?;
        ensure!(message.topic == t.topic("ä/b"), "Topic Name came as {:?}", message.topic);
        ensure!(message.qos == qos && !message.retain && !message.dup, "came as {message:?}");
    }
    Ok(())
}

fn message_of_every_size_arrives_whole(t: &Run<'_>) -> Outcome {
    let mut subscriber = t.subscriber("a", 1)?;
    let mut publisher = t.client("publisher")?;
    for size in [1, 100, 127, 128, 129, 16_000, 16_383, 16_384, 65_535, 65_536, 200_000] {
        let payload: Vec<u8> = (0..size).map(|at: u32| (at % 251) as u8).collect();
        publisher.publish(&t.message("a", &payload).qos(1))?;
        let message = subscriber.message()?;
        ensure!(message.payload == payload, "{size} bytes came as {} others", message.payload.len());
    }
    Ok(())
}

fn qos_3_closes(t: &Run<'_>) -> Outcome {
    let mut client = t.client("a")?;
    client.send(&Bytes::new(t.version).binary(t.topic("a")).u16(1).properties(&[]).raw("x").packet(0x36));
    client.closed_as_wrong()
}

fn dup_at_qos_0_closes(t: &Run<'_>) -> Outcome {
    let mut client = t.client("a")?;
    client.send(&Bytes::new(t.version).binary(t.topic("a")).properties(&[]).raw("x").packet(0x38));
    client.closed_as_wrong()
}

fn qos_0_is_delivered_without_identifier_and_dup(t: &Run<'_>) -> Outcome {
    let mut subscriber = t.subscriber("a", 2)?;
    t.client("publisher")?.publish(&t.message("a", "x"))?;
    let message = subscriber.expect("x")?;
    ensure!(message.qos == 0 && !message.dup && message.packet_id == 0, "came as {message:?}");
    Ok(())
}

fn dup_of_the_publisher_is_not_passed_on(t: &Run<'_>) -> Outcome {
    let mut subscriber = t.subscriber("a", 2)?;
    let mut publisher = t.client("publisher")?;
    for qos in [1, 2] {
        publisher.publish(&t.message("a", "again").qos(qos).dup())?;
        let message = subscriber.expect("again")?;
        ensure!(!message.dup, "DUP of a QoS {qos} message was copied");
    }
    Ok(())
}

fn topic_name_with_a_wildcard_closes(t: &Run<'_>) -> Outcome {
    for topic in ["a/#", "#", "a/+", "+", "a+b", "a#"] {
        let mut client = t.client("a")?;
        client.send(&Bytes::new(t.version).binary(topic).properties(&[]).raw("x").packet(0x30));
        client.closed_with(&[0x81, 0x82, 0x90])?;
    }
    Ok(())
}

fn empty_topic_name_closes(t: &Run<'_>) -> Outcome {
    let mut client = t.client("a")?;
    client.send(&Bytes::new(t.version).binary("").properties(&[]).raw("x").packet(0x30));
    client.closed_with(&[0x81, 0x82, 0x90])
}

fn response_topic_with_a_wildcard_closes(t: &Run<'_>) -> Outcome {
    for topic in ["a/#", "+/a"] {
        let mut client = t.client("a")?;
        client.send(&Bytes::new(t.version).binary(t.topic("a")).properties(&[Property::ResponseTopic(topic)]).packet(0x30));
        client.closed_with(&[0x81, 0x82, 0x90])?;
    }
    Ok(())
}

fn subscription_identifier_from_a_client_closes(t: &Run<'_>) -> Outcome {
    let mut client = t.client("a")?;
    client.send(&Bytes::new(t.version).binary(t.topic("a")).properties(&[Property::SubscriptionIdentifier(1)]).packet(0x30));
    client.closed_as_wrong()
}

fn overlapping_subscriptions_deliver_at_the_highest_qos(t: &Run<'_>) -> Outcome {
    let mut subscriber = t.client("subscriber")?;
    let filters = [t.topic("+"), t.topic("a/#"), t.topic("a")];
    subscriber.subscribe_with(&[filter(&filters[0], 0), filter(&filters[1], 2), filter(&filters[2], 1)], None)?;
    subscriber.subscribe(&t.topic("end/of/it"), 0)?;
    let mut publisher = t.client("publisher")?;
    for qos in 0..=2 {
        publisher.publish(&t.message("a", format!("{qos}")).qos(qos))?;
    }
    publisher.publish(&t.message("end/of/it", "end"))?;
    // One copy, or one for each Subscription; the best of them is as good as the best Subscription.
    let messages = subscriber.messages_before("end")?;
    for qos in 0..=2 {
        let best = messages.iter().filter(|message| message.text() == qos.to_string()).map(|message| message.qos).max();
        ensure!(best == Some(qos), "a message of QoS {qos} came at {best:?}");
    }
    Ok(())
}

fn payload_may_be_empty(t: &Run<'_>) -> Outcome {
    let mut subscriber = t.subscriber("a", 1)?;
    let mut publisher = t.client("publisher")?;
    publisher.publish(&t.message("a", "").qos(1))?;
    subscriber.expect("")?;
    // Also when it removes a retained message.
    publisher.publish(&t.message("a", "").qos(1).retain())?;
    subscriber.expect("")?;
    Ok(())
}

fn packet_beyond_the_servers_maximum_closes(t: &Run<'_>) -> Outcome {
    let (mut client, accepted) = t.connect("a").open()?;
    let Some(maximum) = accepted.maximum_packet_size.filter(|maximum| *maximum <= 16 << 20) else {
        return crate::outcome::not_applicable("the broker sets no Maximum Packet Size below 16 MiB");
    };
    let payload = vec![b'x'; maximum as usize];
    client.send(&t.message("a", payload).encode(t.version));
    client.closed_with(&[0x95])
}

fn publish_without_subscribers_is_acknowledged(t: &Run<'_>) -> Outcome {
    let mut client = t.client("a")?;
    for qos in [1, 2] {
        let code = client.publish(&t.message("nobody", "x").qos(qos))?;
        ensure!(code == 0 || (t.v5() && code == 0x10), "answered 0x{code:02X}");
    }
    Ok(())
}
