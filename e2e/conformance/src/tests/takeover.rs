//! Two Clients of one identifier.

use std::collections::{BTreeMap, BTreeSet};

use crate::ensure;
use crate::message::Message;
use crate::outcome::{Outcome, failed};
use crate::run::Run;

tests! {
    second_client_of_an_identifier_ends_the_first v5["3.1.4-3", "3.14.4-1", "3.14.4-2"] v3["3.1.4-2"] area["takeover"] v31[];
    takeover_loses_and_doubles_no_message v5["3.1.4-3", "4.4.0-1", "4.3.3-10"] v3["3.1.4-2", "4.4.0-1"] area["takeover-messages"];
    takeover_sends_no_retained_message_again v5["3.1.4-3", "3.3.1-9"] v3["3.1.4-2", "3.3.1-6"] area["takeover-messages"];
    takeover_with_clean_start_begins_anew v5["3.1.2-4", "3.1.4-3"] v3["3.1.2-6", "3.1.4-2"];
    many_takeovers_in_a_row_leave_one_connection v5["3.1.4-3"] v3["3.1.4-2"] area["takeover"];
}

fn second_client_of_an_identifier_ends_the_first(t: &Run<'_>) -> Outcome {
    let mut first = t.client("a")?;
    let mut second = t.client("a")?;
    match first.closed()? {
        Some(0x8E) => {}
        None if !t.v5() => {}
        None => return failed("the first Client was not told 0x8E"),
        Some(code) => return failed(format!("the first Client was told 0x{code:02X} instead of 0x8E")),
    }
    second.ping()
}

fn takeover_loses_and_doubles_no_message(t: &Run<'_>) -> Outcome {
    let topic = t.topic("a");
    let mut subscriber = t.connect("subscriber").kept().client()?;
    subscriber.subscribe(&topic, 2)?;
    let mut publisher = t.client("publisher")?;
    let mut received = BTreeMap::<String, u32>::new();
    // Identifiers an older connection received and never saw released: the Client knows these messages when they come again.
    let mut known = BTreeSet::new();
    let count = 60;
    for number in 0..count {
        publisher.publish(&Message::new(topic.as_str(), format!("m{number}")).qos(2))?;
        if number % 20 == 10 {
            let mut old = subscriber;
            subscriber = t.connect("subscriber").kept().present(true)?;
            while let Ok(message) = old.message() {
                if !known.remove(&message.packet_id) {
                    *received.entry(message.text()).or_default() += 1;
                }
            }
            known = old.unreleased.clone();
        }
    }
    publisher.publish(&Message::new(topic.as_str(), "end").qos(2))?;
    for message in subscriber.messages_before("end")? {
        if !(message.dup && known.remove(&message.packet_id)) {
            *received.entry(message.text()).or_default() += 1;
        }
    }
    let missing: Vec<String> = (0..count).map(|number| format!("m{number}")).filter(|name| !received.contains_key(name)).collect();
    ensure!(missing.is_empty(), "lost: {missing:?}");
    let doubled: Vec<_> = received.iter().filter(|(_, times)| **times > 1).collect();
    ensure!(doubled.is_empty(), "more than once: {doubled:?}");
    Ok(())
}

fn takeover_sends_no_retained_message_again(t: &Run<'_>) -> Outcome {
    let mut publisher = t.client("publisher")?;
    t.retain(&mut publisher, &t.message("a", "retained").qos(1))?;
    let mut first = t.connect("a").kept().client()?;
    first.subscribe(&t.topic("a"), 1)?;
    first.expect("retained")?;
    first.ping()?;
    let mut second = t.connect("a").kept().present(true)?;
    second.nothing()
}

fn takeover_with_clean_start_begins_anew(t: &Run<'_>) -> Outcome {
    let mut first = t.connect("a").kept().client()?;
    first.subscribe(&t.topic("a"), 1)?;
    let mut second = t.connect("a").present(false)?;
    first.closed()?;
    t.client("publisher")?.publish(&t.message("a", "live").qos(1))?;
    second.nothing()
}

fn many_takeovers_in_a_row_leave_one_connection(t: &Run<'_>) -> Outcome {
    let mut clients = Vec::new();
    for _ in 0..12 {
        clients.push(t.connect("a").kept().client()?);
    }
    let mut last = clients.pop().expect("twelve were connected");
    last.ping()?;
    for mut client in clients {
        client.closed()?;
    }
    last.subscribe(&t.topic("a"), 1)?;
    t.client("publisher")?.publish(&t.message("a", "one").qos(1))?;
    last.expect("one")?;
    last.nothing()
}
