//! Message order.

use crate::client::Client;
use crate::ensure;
use crate::outcome::Outcome;
use crate::run::Run;

tests! {
    messages_arrive_in_the_order_they_were_sent v5["4.6.0-5", "4.6.0-6"] v3["4.6.0-5", "4.6.0-6"] area["replay-order"] v31[];
    queued_messages_arrive_in_order_and_before_new_ones v5["4.6.0-5", "4.6.0-6"] v3["4.6.0-5", "4.6.0-6"] area["replay-order"];
    messages_sent_again_come_in_order_and_before_new_ones v5["4.6.0-1", "4.6.0-5", "4.4.0-1"] v3["4.6.0-1", "4.6.0-6", "4.4.0-1"] area["replay-order"];
    order_holds_when_the_client_is_slow v5["4.6.0-5", "4.6.0-6"] v3["4.6.0-6"];
    acknowledgements_follow_the_order_of_the_messages v5["4.6.0-2", "4.6.0-3"] v3["4.6.0-2", "4.6.0-3"];
}

/// `count` messages from `first`, one after the other, not waiting for acknowledgements beyond a few.
fn stream(t: &Run<'_>, publisher: &mut Client, quality: u8, first: u32, count: u32) -> Outcome {
    for number in first..first + count {
        publisher.publish(&t.message("a", format!("{number}")).qos(quality))?;
    }
    Ok(())
}

fn in_order(client: &mut Client, first: u32, count: u32) -> Outcome {
    for number in first..first + count {
        let message = client.message()?;
        ensure!(message.text() == number.to_string(), "message {:?} where {number} was due", message.text());
    }
    Ok(())
}

fn messages_arrive_in_the_order_they_were_sent(t: &Run<'_>) -> Outcome {
    for quality in 0..=2 {
        let mut subscriber = t.subscriber("a", quality)?;
        let mut publisher = t.client("publisher")?;
        if quality == 0 {
            let all: Vec<u8> = (0..200).flat_map(|number| t.message("a", format!("{number}")).encode(t.version)).collect();
            publisher.send(&all);
        } else {
            stream(t, &mut publisher, quality, 0, 100)?;
        }
        in_order(&mut subscriber, 0, if quality == 0 { 200 } else { 100 })?;
    }
    Ok(())
}

fn queued_messages_arrive_in_order_and_before_new_ones(t: &Run<'_>) -> Outcome {
    for quality in 1..=2 {
        let who = format!("a{quality}");
        let mut away = t.connect(&who).kept().client()?;
        away.subscribe(&t.topic("a"), quality)?;
        away.cut();
        let mut publisher = t.client("publisher")?;
        stream(t, &mut publisher, quality, 0, 60)?;
        let mut back = t.connect(&who).kept().present(true)?;
        stream(t, &mut publisher, quality, 60, 20)?;
        in_order(&mut back, 0, 80)?;
        back.unsubscribe(&[&t.topic("a")])?;
    }
    Ok(())
}

fn messages_sent_again_come_in_order_and_before_new_ones(t: &Run<'_>) -> Outcome {
    for quality in 1..=2 {
        let who = format!("a{quality}");
        let mut client = t.connect(&who).kept().manual().client()?;
        client.subscribe(&t.topic("a"), quality)?;
        let mut publisher = t.client("publisher")?;
        stream(t, &mut publisher, quality, 0, 8)?;
        // All eight are under way, none is acknowledged.
        in_order(&mut client, 0, 8)?;
        client.cut();
        stream(t, &mut publisher, quality, 8, 4)?;
        let mut client = t.connect(&who).kept().present(true)?;
        stream(t, &mut publisher, quality, 12, 4)?;
        in_order(&mut client, 0, 16)?;
        client.unsubscribe(&[&t.topic("a")])?;
    }
    Ok(())
}

fn order_holds_when_the_client_is_slow(t: &Run<'_>) -> Outcome {
    let mut client = t.connect("a").receive_maximum(3).manual().client()?;
    client.subscribe(&t.topic("a"), 1)?;
    let mut publisher = t.client("publisher")?;
    stream(t, &mut publisher, 1, 0, 40)?;
    for number in 0..40 {
        let message = client.message()?;
        ensure!(message.text() == number.to_string(), "message {:?} where {number} was due", message.text());
        client.acknowledge(bucketmq_packet::PacketType::PubAck, message.packet_id);
    }
    Ok(())
}

fn acknowledgements_follow_the_order_of_the_messages(t: &Run<'_>) -> Outcome {
    use bucketmq_packet::PacketType;
    let mut client = t.client("a")?;
    for (quality, packet_type) in [(1, PacketType::PubAck), (2, PacketType::PubRec)] {
        for id in 1..=8 {
            client.start_publish(&t.message("a", "x").qos(quality).id(id));
        }
        // An acknowledgement out of order fails here: each is expected in turn.
        for id in 1..=8 {
            client.acknowledged(packet_type, id)?;
        }
    }
    Ok(())
}
