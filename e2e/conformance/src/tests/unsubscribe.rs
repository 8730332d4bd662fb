//! UNSUBSCRIBE and UNSUBACK.

use bucketmq_packet::PacketType;

use crate::bytes::Bytes;
use crate::client::filter;
use crate::ensure;
use crate::outcome::Outcome;
use crate::run::Run;

tests! {
    unsuback_answers_unsubscribe_with_its_identifier v5["3.10.4-4", "3.10.4-5", "2.2.1-6"] v3["3.10.4-4", "2.3.1-7"] v31[];
    unsuback_comes_though_nothing_was_deleted v5["3.10.4-5", "3.11.3-2"] v3["3.10.4-5"];
    unsubscribed_filter_gets_no_more_messages v5["3.10.4-1", "3.10.4-2"] v3["3.10.4-1", "3.10.4-2"] v31[];
    filters_are_compared_character_by_character v5["3.10.4-1"] v3["3.10.4-1"];
    several_filters_are_unsubscribed_at_once v5["3.10.4-6", "3.11.3-1", "3.11.3-2"] v3["3.10.4-6"];
    deliveries_begun_are_finished_after_unsubscribe v5["3.10.4-3"] v3["3.10.4-3"];
    unsubscribe_without_filters_closes v5["3.10.3-2"] v3["3.10.3-2"];
}

fn unsuback_answers_unsubscribe_with_its_identifier(t: &Run<'_>) -> Outcome {
    let mut client = t.subscriber("a", 1)?;
    for id in [1_u16, 65_535] {
        client.send(&Bytes::new(t.version).u16(id).properties(&[]).binary(t.topic("a")).packet(0xA2));
        client.codes(PacketType::UnsubAck, id)?;
    }
    Ok(())
}

fn unsuback_comes_though_nothing_was_deleted(t: &Run<'_>) -> Outcome {
    let mut client = t.client("a")?;
    let codes = client.unsubscribe(&[&t.topic("never")])?;
    ensure!(!t.v5() || codes == [0x11], "UNSUBACK {codes:02X?} instead of 0x11");
    Ok(())
}

fn unsubscribed_filter_gets_no_more_messages(t: &Run<'_>) -> Outcome {
    let mut subscriber = t.subscriber("a", 2)?;
    subscriber.subscribe(&t.topic("end"), 0)?;
    let mut publisher = t.client("publisher")?;
    publisher.publish(&t.message("a", "before").qos(1))?;
    subscriber.expect("before")?;
    let codes = subscriber.unsubscribe(&[&t.topic("a")])?;
    ensure!(!t.v5() || codes == [0], "UNSUBACK {codes:02X?}");
    for quality in 0..=2 {
        publisher.publish(&t.message("a", "after").qos(quality))?;
    }
    publisher.publish(&t.message("end", "end"))?;
    ensure!(subscriber.messages_before("end")?.is_empty(), "messages came after UNSUBACK");
    Ok(())
}

fn filters_are_compared_character_by_character(t: &Run<'_>) -> Outcome {
    let mut subscriber = t.subscriber("a/+", 1)?;
    subscriber.subscribe(&t.topic("end"), 1)?;
    // These match the same messages, or nearly the same letters, and are other filters.
    for other in ["a/#", "a/b", "A/+", "a/+/", "#"] {
        let codes = subscriber.unsubscribe(&[&t.topic(other)])?;
        ensure!(!t.v5() || codes == [0x11], "{other} was taken for the filter: UNSUBACK {codes:02X?}");
    }
    let mut publisher = t.client("publisher")?;
    publisher.publish(&t.message("a/b", "still").qos(1))?;
    subscriber.expect("still")?;
    subscriber.unsubscribe(&[&t.topic("a/+")])?;
    publisher.publish(&t.message("a/b", "over").qos(1))?;
    publisher.publish(&t.message("end", "end").qos(1))?;
    ensure!(subscriber.messages_before("end")?.is_empty(), "the filter itself was not unsubscribed");
    Ok(())
}

fn several_filters_are_unsubscribed_at_once(t: &Run<'_>) -> Outcome {
    let mut subscriber = t.client("subscriber")?;
    let [a, b, c, never, end] = ["a", "b", "c", "never", "end"].map(|name| t.topic(name));
    subscriber.subscribe_with(&[filter(&a, 1), filter(&b, 1), filter(&c, 1), filter(&end, 1)], None)?;
    let codes = subscriber.unsubscribe(&[&a, &never, &c, &a])?;
    ensure!(!t.v5() || codes == [0, 0x11, 0, 0x11], "UNSUBACK {codes:02X?} instead of [00, 11, 00, 11]");
    let mut publisher = t.client("publisher")?;
    for name in ["a", "b", "c", "end"] {
        publisher.publish(&t.message(name, name).qos(1))?;
    }
    let names: Vec<String> = subscriber.messages_before("end")?.iter().map(|message| message.text()).collect();
    ensure!(names == ["b"], "left were {names:?}");
    Ok(())
}

fn deliveries_begun_are_finished_after_unsubscribe(t: &Run<'_>) -> Outcome {
    let mut client = t.connect("a").kept().manual().client()?;
    client.subscribe(&t.topic("a"), 2)?;
    let mut publisher = t.client("publisher")?;
    publisher.publish(&t.message("a", "two").qos(2))?;
    publisher.publish(&t.message("a", "one").qos(1))?;
    let (mut two, mut one) = (client.message()?, client.message()?);
    if two.text() == "one" {
        std::mem::swap(&mut two, &mut one);
    }
    client.unsubscribe(&[&t.topic("a")])?;
    client.acknowledge(PacketType::PubRec, two.packet_id);
    client.acknowledged(PacketType::PubRel, two.packet_id)?;
    client.cut();
    let mut client = t.connect("a").kept().manual().present(true)?;
    client.acknowledged(PacketType::PubRel, two.packet_id)?;
    client.acknowledge(PacketType::PubComp, two.packet_id);
    let again = client.expect("one")?;
    ensure!(again.packet_id == one.packet_id && again.dup, "sent again as {again:?}");
    client.acknowledge(PacketType::PubAck, again.packet_id);
    client.nothing()
}

fn unsubscribe_without_filters_closes(t: &Run<'_>) -> Outcome {
    let mut client = t.client("a")?;
    client.send(&Bytes::new(t.version).u16(1).properties(&[]).packet(0xA2));
    client.closed_as_wrong()
}
