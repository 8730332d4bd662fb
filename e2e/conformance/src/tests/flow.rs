//! Flow control and packet size, both ways.

use bucketmq_packet::{PacketType, ReasonCode};

use crate::ensure;
use crate::outcome::{Outcome, not_applicable};
use crate::run::Run;

tests! {
    server_keeps_to_the_clients_receive_maximum v5["3.3.4-9", "4.9.0-1", "4.9.0-2"] area["receive-maximum-out"];
    quota_comes_back_with_puback_and_pubcomp_and_errors v5["3.3.4-9", "4.9.0-2"] area["receive-maximum-out"];
    quota_counts_anew_with_each_connection v5["4.9.0-1", "3.3.4-9"] area["receive-maximum-out"];
    qos_0_passes_though_the_quota_is_used_up v5["4.9.0-2"];
    other_packets_pass_though_the_quota_is_used_up v5["3.3.4-10", "4.9.0-3"] area["quota-zero"];
    more_than_the_servers_receive_maximum_closes v5["3.3.4-7", "4.13.1-1"] area["receive-maximum-in"];
    exactly_the_servers_receive_maximum_is_allowed v5["3.3.4-7", "3.3.4-8", "4.9.0-3"] area["receive-maximum-in"];
    message_too_large_for_a_client_is_dropped_and_the_next_follows v5["3.1.2-24", "3.1.2-25"] area["maximum-packet-size"];
    message_too_large_takes_no_quota v5["3.1.2-25"] area["maximum-packet-size"];
    retained_message_too_large_for_a_client_is_dropped v5["3.1.2-24", "3.1.2-25"] area["maximum-packet-size"];
    queued_message_too_large_for_a_client_is_dropped v5["3.1.2-24", "3.1.2-25"] area["maximum-packet-size"];
    message_too_large_for_one_client_reaches_the_others v5["3.1.2-25"] area["maximum-packet-size"];
    server_disconnect_stays_within_the_maximum_packet_size v5["3.14.2-3", "3.14.2-4", "3.1.2-24"];
}

fn publish(t: &Run<'_>, first: u32, count: u32, quality: u8) -> Outcome {
    let mut publisher = t.client("publisher")?;
    for number in first..first + count {
        publisher.publish(&t.message("a", format!("{number}")).qos(quality))?;
    }
    Ok(())
}

fn server_keeps_to_the_clients_receive_maximum(t: &Run<'_>) -> Outcome {
    for maximum in [1, 3] {
        for quality in [1, 2] {
            let mut client = t.connect("a").receive_maximum(maximum).manual().client()?;
            client.subscribe(&t.topic("a"), quality)?;
            publish(t, 0, 6, quality)?;
            for number in 0..maximum {
                client.expect(number.to_string())?;
            }
            client.nothing()?;
            client.disconnect()?;
        }
    }
    Ok(())
}

fn quota_comes_back_with_puback_and_pubcomp_and_errors(t: &Run<'_>) -> Outcome {
    let mut client = t.connect("a").receive_maximum(1).manual().client()?;
    client.subscribe(&t.topic("a"), 2)?;
    publish(t, 0, 1, 1)?;
    publish(t, 1, 3, 2)?;
    let zero = client.expect("0")?;
    client.nothing()?;
    client.acknowledge(PacketType::PubAck, zero.packet_id);
    let one = client.expect("1")?;
    client.acknowledge(PacketType::PubRec, one.packet_id);
    client.acknowledged(PacketType::PubRel, one.packet_id)?;
    // PUBREC alone gives nothing back.
    client.nothing()?;
    client.acknowledge(PacketType::PubComp, one.packet_id);
    let two = client.expect("2")?;
    client.nothing()?;
    client.acknowledge_with(PacketType::PubRec, two.packet_id, ReasonCode::UnspecifiedError);
    client.expect("3")?;
    Ok(())
}

fn quota_counts_anew_with_each_connection(t: &Run<'_>) -> Outcome {
    let mut client = t.connect("a").kept().receive_maximum(2).manual().client()?;
    client.subscribe(&t.topic("a"), 1)?;
    publish(t, 0, 8, 1)?;
    client.expect("0")?;
    client.expect("1")?;
    client.nothing()?;
    client.cut();
    let mut client = t.connect("a").kept().receive_maximum(4).manual().present(true)?;
    let mut first = client.expect("0")?;
    for number in 1..4 {
        client.expect(number.to_string())?;
    }
    client.nothing()?;
    client.acknowledge(PacketType::PubAck, first.packet_id);
    client.expect("4")?;
    client.nothing()?;
    client.cut();
    // A smaller one holds as well, with more than that still unacknowledged.
    let mut client = t.connect("a").kept().receive_maximum(1).manual().present(true)?;
    for number in 1..8 {
        first = client.expect(number.to_string())?;
        client.nothing()?;
        client.acknowledge(PacketType::PubAck, first.packet_id);
    }
    client.nothing()
}

fn qos_0_passes_though_the_quota_is_used_up(t: &Run<'_>) -> Outcome {
    let mut client = t.connect("a").receive_maximum(1).manual().client()?;
    client.subscribe(&t.topic("a"), 1)?;
    publish(t, 0, 2, 1)?;
    let zero = client.expect("0")?;
    // Only QoS 1 and 2 spend the quota; a Server may hold QoS 0 back for order's sake, so only its not being lost is asked for.
    publish(t, 2, 1, 0)?;
    client.acknowledge(PacketType::PubAck, zero.packet_id);
    let mut found = vec![client.message()?.text(), client.message()?.text()];
    found.sort();
    ensure!(found == ["1", "2"], "received {found:?}");
    Ok(())
}

fn other_packets_pass_though_the_quota_is_used_up(t: &Run<'_>) -> Outcome {
    let mut client = t.connect("a").receive_maximum(1).manual().client()?;
    client.subscribe(&t.topic("a"), 2)?;
    publish(t, 0, 3, 2)?;
    let zero = client.expect("0")?;
    client.ping()?;
    client.subscribe(&t.topic("b"), 1)?;
    client.unsubscribe(&[&t.topic("b")])?;
    client.publish(&t.message("c", "mine").qos(1))?;
    client.publish(&t.message("c", "mine").qos(2))?;
    client.acknowledge(PacketType::PubRec, zero.packet_id);
    client.acknowledged(PacketType::PubRel, zero.packet_id)?;
    client.nothing()
}

/// The Server's Receive Maximum, if it is one that a test can reach.
fn reachable(maximum: Option<u16>) -> Outcome<u16> {
    match maximum {
        Some(maximum) if maximum <= 5000 => Ok(maximum),
        Some(_) | None => not_applicable("the broker's Receive Maximum is as high as identifiers go"),
    }
}

fn more_than_the_servers_receive_maximum_closes(t: &Run<'_>) -> Outcome {
    let (mut client, accepted) = t.connect("a").open()?;
    let maximum = reachable(accepted.receive_maximum)?;
    client.manual = true;
    let all: Vec<u8> = (1..=maximum + 1).flat_map(|id| t.message("a", "x").qos(2).id(id).encode(t.version)).collect();
    client.send(&all);
    client.closed_with(&[0x93])
}

fn exactly_the_servers_receive_maximum_is_allowed(t: &Run<'_>) -> Outcome {
    let (mut client, accepted) = t.connect("a").open()?;
    let maximum = reachable(accepted.receive_maximum)?;
    for id in 1..=maximum {
        client.start_publish(&t.message("a", "x").qos(2).id(id));
    }
    for id in 1..=maximum {
        client.acknowledged(PacketType::PubRec, id)?;
    }
    // At the limit everything but a further QoS 1 or 2 PUBLISH goes on.
    client.ping()?;
    client.subscribe(&t.topic("b"), 1)?;
    client.publish(&t.message("b", "at QoS 0"))?;
    client.expect("at QoS 0")?;
    for id in 1..=maximum {
        client.acknowledge(PacketType::PubRel, id);
        client.acknowledged(PacketType::PubComp, id)?;
    }
    client.publish(&t.message("a", "y").qos(2))?;
    Ok(())
}

fn message_too_large_for_a_client_is_dropped_and_the_next_follows(t: &Run<'_>) -> Outcome {
    let mut small = t.connect("small").maximum_packet_size(300).client()?;
    small.subscribe(&t.topic("a"), 2)?;
    let mut publisher = t.client("publisher")?;
    for quality in 0..=2 {
        publisher.publish(&t.message("a", "x".repeat(400)).qos(quality))?;
        publisher.publish(&t.message("a", format!("fits {quality}")).qos(quality))?;
        small.expect(format!("fits {quality}"))?;
    }
    small.nothing()
}

fn message_too_large_takes_no_quota(t: &Run<'_>) -> Outcome {
    let mut small = t.connect("small").maximum_packet_size(300).receive_maximum(1).client()?;
    small.subscribe(&t.topic("a"), 2)?;
    let mut publisher = t.client("publisher")?;
    for number in 0..6 {
        publisher.publish(&t.message("a", "x".repeat(400)).qos(1 + number % 2))?;
    }
    publisher.publish(&t.message("a", "fits").qos(1))?;
    small.expect("fits")?;
    Ok(())
}

fn retained_message_too_large_for_a_client_is_dropped(t: &Run<'_>) -> Outcome {
    let mut publisher = t.client("publisher")?;
    t.retain(&mut publisher, &t.message("a/1", "x".repeat(400)).qos(1))?;
    t.retain(&mut publisher, &t.message("a/2", "fits").qos(1))?;
    let mut small = t.connect("small").maximum_packet_size(300).client()?;
    small.subscribe(&t.topic("a/+"), 1)?;
    small.expect("fits")?;
    small.nothing()
}

fn queued_message_too_large_for_a_client_is_dropped(t: &Run<'_>) -> Outcome {
    let mut away = t.connect("small").kept().client()?;
    away.subscribe(&t.topic("a"), 1)?;
    away.cut();
    let mut publisher = t.client("publisher")?;
    publisher.publish(&t.message("a", "x".repeat(400)).qos(1))?;
    publisher.publish(&t.message("a", "fits").qos(1))?;
    let mut back = t.connect("small").kept().maximum_packet_size(300).present(true)?;
    back.expect("fits")?;
    back.nothing()
}

fn message_too_large_for_one_client_reaches_the_others(t: &Run<'_>) -> Outcome {
    let mut small = t.connect("small").maximum_packet_size(300).client()?;
    small.subscribe(&t.topic("a"), 1)?;
    let mut large = t.subscriber("a", 1)?;
    t.client("publisher")?.publish(&t.message("a", "x".repeat(400)).qos(1))?;
    large.expect("x".repeat(400))?;
    small.nothing()
}

fn server_disconnect_stays_within_the_maximum_packet_size(t: &Run<'_>) -> Outcome {
    // Decoding fails the test if DISCONNECT is larger.
    let mut client = t.connect("a").maximum_packet_size(40).client()?;
    client.send(&[0x80, 0]);
    client.closed_as_wrong()
}
