//! Message Expiry.

use std::thread::sleep;
use std::time::Duration;

use crate::ensure;
use crate::outcome::Outcome;
use crate::run::Run;

tests! {
    expiry_counts_down_while_a_message_waits v5["3.3.2-6"] area["expiry-countdown"];
    expiry_of_a_retained_message_counts_down v5["3.3.2-6"] area["expiry-countdown"];
    expiry_of_a_message_that_did_not_wait_is_passed_on v5["3.3.2-6"];
    message_without_expiry_does_not_expire v5["3.3.2-6"];
    message_that_expired_in_the_queue_is_dropped v5["3.3.2-5"] area["expired-in-queue"];
    retained_message_that_expired_is_not_sent v5["3.3.2-5"];
    expired_message_leaves_the_others_in_the_queue v5["3.3.2-5"] area["expired-in-queue"];
    qos_2_message_once_sent_does_not_expire v5["4.3.3-7", "4.4.0-1"] area["qos2-and-expiry"];
    qos_2_handshake_of_an_expired_message_is_finished v5["4.3.3-13"] area["qos2-and-expiry"];
}

fn expiry_counts_down_while_a_message_waits(t: &Run<'_>) -> Outcome {
    let mut away = t.connect("a").kept().client()?;
    away.subscribe(&t.topic("a"), 1)?;
    away.cut();
    t.client("publisher")?.publish(&t.message("a", "waiting").qos(1).expiry(100))?;
    sleep(Duration::from_millis(2200));
    let message = t.connect("a").kept().present(true)?.expect("waiting")?;
    ensure!(message.expiry.is_some_and(|left| (88..=98).contains(&left)), "after 2.2 of 100 s the interval is {:?}", message.expiry);
    Ok(())
}

fn expiry_of_a_retained_message_counts_down(t: &Run<'_>) -> Outcome {
    let mut publisher = t.client("publisher")?;
    t.retain(&mut publisher, &t.message("a", "retained").qos(1).expiry(100))?;
    sleep(Duration::from_millis(2200));
    let message = t.subscriber("a", 1)?.expect("retained")?;
    ensure!(message.expiry.is_some_and(|left| (88..=98).contains(&left)), "after 2.2 of 100 s the interval is {:?}", message.expiry);
    Ok(())
}

fn expiry_of_a_message_that_did_not_wait_is_passed_on(t: &Run<'_>) -> Outcome {
    let mut subscriber = t.subscriber("a", 1)?;
    t.client("publisher")?.publish(&t.message("a", "now").qos(1).expiry(100))?;
    let message = subscriber.expect("now")?;
    ensure!(message.expiry.is_some_and(|left| (97..=100).contains(&left)), "the interval is {:?} instead of 100", message.expiry);
    Ok(())
}

fn message_without_expiry_does_not_expire(t: &Run<'_>) -> Outcome {
    let mut subscriber = t.subscriber("a", 1)?;
    t.client("publisher")?.publish(&t.message("a", "for ever").qos(1))?;
    let message = subscriber.expect("for ever")?;
    // A broker with a limit of its own may add it.
    ensure!(message.expiry.is_none_or(|left| left > 60), "an interval of {:?} nobody set", message.expiry);
    Ok(())
}

fn message_that_expired_in_the_queue_is_dropped(t: &Run<'_>) -> Outcome {
    let mut away = t.connect("a").kept().client()?;
    away.subscribe(&t.topic("a"), 2)?;
    away.cut();
    let mut publisher = t.client("publisher")?;
    publisher.publish(&t.message("a", "short 1").qos(1).expiry(1))?;
    publisher.publish(&t.message("a", "short 2").qos(2).expiry(1))?;
    sleep(Duration::from_millis(3000));
    t.connect("a").kept().present(true)?.nothing()
}

fn retained_message_that_expired_is_not_sent(t: &Run<'_>) -> Outcome {
    let mut publisher = t.client("publisher")?;
    t.retain(&mut publisher, &t.message("a", "short").qos(1).expiry(1))?;
    sleep(Duration::from_millis(3000));
    t.subscriber("a", 1)?.nothing()
}

fn expired_message_leaves_the_others_in_the_queue(t: &Run<'_>) -> Outcome {
    let mut away = t.connect("a").kept().client()?;
    away.subscribe(&t.topic("a"), 1)?;
    away.cut();
    let mut publisher = t.client("publisher")?;
    publisher.publish(&t.message("a", "first").qos(1))?;
    publisher.publish(&t.message("a", "short").qos(1).expiry(1))?;
    publisher.publish(&t.message("a", "last").qos(1).expiry(100))?;
    sleep(Duration::from_millis(3000));
    let mut back = t.connect("a").kept().present(true)?;
    back.expect("first")?;
    back.expect("last")?;
    back.nothing()
}

fn qos_2_message_once_sent_does_not_expire(t: &Run<'_>) -> Outcome {
    let mut client = t.connect("a").kept().manual().client()?;
    client.subscribe(&t.topic("a"), 2)?;
    t.client("publisher")?.publish(&t.message("a", "begun").qos(2).expiry(1))?;
    let first = client.expect("begun")?;
    client.cut();
    sleep(Duration::from_millis(3000));
    let mut client = t.connect("a").kept().present(true)?;
    let again = client.expect("begun")?;
    ensure!(
        again.packet_id == first.packet_id && again.dup,
        "sent again as {} (DUP {}) instead of {}",
        again.packet_id,
        again.dup,
        first.packet_id
    );
    client.nothing()
}

fn qos_2_handshake_of_an_expired_message_is_finished(t: &Run<'_>) -> Outcome {
    use bucketmq_packet::PacketType;
    let mut publisher = t.client("publisher")?;
    let packet_id = publisher.start_publish(&t.message("a", "short").qos(2).expiry(1));
    publisher.acknowledged(PacketType::PubRec, packet_id)?;
    sleep(Duration::from_millis(2500));
    publisher.acknowledge(PacketType::PubRel, packet_id);
    let code = publisher.acknowledged(PacketType::PubComp, packet_id)?;
    ensure!(code == 0, "PUBCOMP 0x{code:02X} for a handshake under way");
    Ok(())
}
