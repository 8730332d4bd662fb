//! Topic Aliases, both ways.

use crate::client::Client;
use crate::ensure;
use crate::message::Message;
use crate::outcome::{Outcome, not_applicable};
use crate::run::Run;

tests! {
    every_granted_alias_is_accepted v5["3.3.2-12"] area["topic-alias"];
    alias_can_be_set_to_another_topic v5["3.3.2-12"];
    alias_0_closes v5["3.3.2-8"] area["topic-alias"];
    alias_above_the_servers_maximum_closes v5["3.3.2-9", "3.2.2-17"] area["topic-alias"];
    alias_where_none_is_granted_closes v5["3.2.2-18"];
    alias_never_set_closes v5["4.13.1-1"] area["topic-alias"];
    alias_is_forgotten_with_its_connection v5["3.3.2-7"] area["topic-alias"];
    aliases_of_two_connections_are_independent v5["3.3.2-7"] area["topic-alias"];
    alias_is_not_passed_on_as_the_publisher_set_it v5["3.1.2-27", "3.3.2-11"];
    server_keeps_to_the_clients_topic_alias_maximum v5["3.1.2-26", "3.3.2-11", "3.3.2-10"] area["topic-alias"];
    server_uses_no_alias_for_a_client_that_grants_none v5["3.1.2-27"] area["topic-alias"];
    servers_aliases_start_anew_with_each_connection v5["3.3.2-7", "3.1.2-26"] area["topic-alias"];
    alias_of_a_retained_message_is_not_stored v5["3.3.2-7", "3.3.1-5"];
}

/// A Client, and how many aliases the Server granted it, up to what a test needs.
fn granted(t: &Run<'_>) -> Outcome<(Client, u16)> {
    let (client, accepted) = t.connect("a").open()?;
    match accepted.topic_alias_maximum {
        0 => not_applicable("the broker grants no Topic Aliases"),
        maximum => Ok((client, maximum)),
    }
}

fn only(alias: u16, payload: &str) -> Message {
    Message::new("", payload).qos(1).alias(alias)
}

fn every_granted_alias_is_accepted(t: &Run<'_>) -> Outcome {
    let mut subscriber = t.subscriber("+", 1)?;
    let (mut client, maximum) = granted(t)?;
    let aliases: Vec<u16> = (1..=maximum.min(50)).chain([maximum]).collect();
    for alias in &aliases {
        client.publish(&t.message(&format!("t{alias}"), "set").qos(1).alias(*alias))?;
        ensure!(subscriber.expect("set")?.topic == t.topic(&format!("t{alias}")), "wrong topic while alias {alias} was set");
    }
    for alias in aliases.iter().rev() {
        client.publish(&only(*alias, "used"))?;
        let message = subscriber.expect("used")?;
        ensure!(message.topic == t.topic(&format!("t{alias}")), "alias {alias} came as {}", message.topic);
    }
    Ok(())
}

fn alias_can_be_set_to_another_topic(t: &Run<'_>) -> Outcome {
    let mut subscriber = t.subscriber("+", 1)?;
    let (mut client, _) = granted(t)?;
    for name in ["one", "two"] {
        client.publish(&t.message(name, "set").qos(1).alias(1))?;
        client.publish(&only(1, "used"))?;
        subscriber.expect("set")?;
        let message = subscriber.expect("used")?;
        ensure!(message.topic == t.topic(name), "alias 1 came as {} instead of {name}", message.topic);
    }
    Ok(())
}

fn alias_0_closes(t: &Run<'_>) -> Outcome {
    let mut client = t.client("a")?;
    client.start_publish(&t.message("a", "x").qos(1).alias(0));
    // The clause names no Reason Code; those of an invalid alias and of either kind of bad packet fit.
    client.closed_with(&[0x94, 0x81, 0x82])
}

fn alias_above_the_servers_maximum_closes(t: &Run<'_>) -> Outcome {
    let (mut client, maximum) = granted(t)?;
    if maximum == u16::MAX {
        return not_applicable("the broker grants every Topic Alias there is");
    }
    client.start_publish(&t.message("a", "x").qos(1).alias(maximum + 1));
    client.closed_with(&[0x94, 0x82])
}

fn alias_where_none_is_granted_closes(t: &Run<'_>) -> Outcome {
    let (mut client, accepted) = t.connect("a").open()?;
    if accepted.topic_alias_maximum > 0 {
        let (address, accepted) = t.restricted()?;
        if accepted.topic_alias_maximum > 0 {
            return not_applicable("the broker grants Topic Aliases");
        }
        client = t.connect("b").at(&address).client()?;
    }
    client.start_publish(&t.message("a", "x").qos(1).alias(1));
    client.closed_with(&[0x94, 0x82])
}

fn alias_never_set_closes(t: &Run<'_>) -> Outcome {
    let (mut client, maximum) = granted(t)?;
    client.start_publish(&only(maximum, "x"));
    client.closed_with(&[0x82, 0x94])
}

fn alias_is_forgotten_with_its_connection(t: &Run<'_>) -> Outcome {
    let (probe, _) = granted(t)?;
    probe.disconnect()?;
    let mut client = t.connect("a").kept().client()?;
    client.publish(&t.message("a", "set").qos(1).alias(1))?;
    client.publish(&only(1, "used"))?;
    client.cut();
    let mut client = t.connect("a").kept().present(true)?;
    client.start_publish(&only(1, "forgotten"));
    client.closed_with(&[0x82, 0x94])
}

fn aliases_of_two_connections_are_independent(t: &Run<'_>) -> Outcome {
    let mut subscriber = t.subscriber("+", 1)?;
    let (mut one, _) = granted(t)?;
    let mut two = t.client("b")?;
    one.publish(&t.message("one", "set").qos(1).alias(1))?;
    two.publish(&t.message("two", "set").qos(1).alias(1))?;
    one.publish(&only(1, "used"))?;
    subscriber.expect("set")?;
    subscriber.expect("set")?;
    let message = subscriber.expect("used")?;
    ensure!(message.topic == t.topic("one"), "the alias of another connection was used: {}", message.topic);
    Ok(())
}

fn alias_is_not_passed_on_as_the_publisher_set_it(t: &Run<'_>) -> Outcome {
    // Any alias fails this subscriber, which grants none.
    let mut subscriber = t.subscriber("a", 1)?;
    let (mut client, _) = granted(t)?;
    client.publish(&t.message("a", "set").qos(1).alias(1))?;
    client.publish(&only(1, "used"))?;
    subscriber.expect("set")?;
    ensure!(subscriber.expect("used")?.topic == t.topic("a"), "the topic is missing");
    Ok(())
}

fn towards(t: &Run<'_>, maximum: u16) -> Outcome<Vec<u16>> {
    let mut subscriber = t.connect("subscriber").alias_maximum(maximum).client()?;
    subscriber.subscribe(&t.topic("+"), 1)?;
    let mut publisher = t.client("publisher")?;
    for round in 0..3 {
        for number in 0..12 {
            publisher.publish(&t.message(&format!("t{number}"), format!("{round}/{number}")).qos(round))?;
            // The Client resolves the alias; one it did not grant or was never told fails here.
            let message = subscriber.expect(format!("{round}/{number}"))?;
            ensure!(message.topic == t.topic(&format!("t{number}")), "alias {:?} resolves to {}", message.alias, message.topic);
        }
    }
    Ok(subscriber.aliases_seen)
}

fn server_keeps_to_the_clients_topic_alias_maximum(t: &Run<'_>) -> Outcome {
    for maximum in [1, 5, 100, 65_535] {
        towards(t, maximum)?;
    }
    Ok(())
}

fn server_uses_no_alias_for_a_client_that_grants_none(t: &Run<'_>) -> Outcome {
    let seen = towards(t, 0)?;
    ensure!(seen.is_empty(), "aliases {seen:?} for a Client that granted none");
    Ok(())
}

fn servers_aliases_start_anew_with_each_connection(t: &Run<'_>) -> Outcome {
    let mut publisher = t.client("publisher")?;
    let mut subscriber = t.connect("subscriber").kept().alias_maximum(10).client()?;
    subscriber.subscribe(&t.topic("+"), 1)?;
    for _ in 0..3 {
        publisher.publish(&t.message("a", "x").qos(1))?;
        subscriber.expect("x")?;
    }
    subscriber.ping()?;
    subscriber.cut();
    // The new connection was told nothing yet; an alias without its topic fails the read.
    let mut subscriber = t.connect("subscriber").kept().alias_maximum(10).present(true)?;
    for _ in 0..3 {
        publisher.publish(&t.message("a", "y").qos(1))?;
        ensure!(subscriber.expect("y")?.topic == t.topic("a"), "wrong topic");
    }
    subscriber.ping()?;
    subscriber.cut();
    // And a Client may grant less the next time.
    let mut subscriber = t.connect("subscriber").kept().present(true)?;
    publisher.publish(&t.message("a", "z").qos(1))?;
    subscriber.expect("z")?;
    Ok(())
}

fn alias_of_a_retained_message_is_not_stored(t: &Run<'_>) -> Outcome {
    let (mut client, _) = granted(t)?;
    t.retain(&mut client, &t.message("a", "set").qos(1).alias(1))?;
    client.publish(&only(1, "kept").retain())?;
    let mut subscriber = t.subscriber("a", 1)?;
    let message = subscriber.expect("kept")?;
    ensure!(message.topic == t.topic("a") && message.alias.is_none(), "came as {message:?}");
    Ok(())
}
