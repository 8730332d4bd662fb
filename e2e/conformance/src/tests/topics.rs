//! Topic Names and Topic Filters.

use crate::client::filter;
use crate::ensure;
use crate::message::Message;
use crate::outcome::{Failure, Outcome, failed};
use crate::run::Run;

tests! {
    wildcards_match_as_defined v5["4.7.1-1", "4.7.1-2", "3.3.2-3"] v3["4.7.1-2", "4.7.1-3", "3.3.2-3"] v31[];
    misplaced_multi_level_wildcard_is_refused v5["4.7.1-1"] v3["4.7.1-2"];
    misplaced_single_level_wildcard_is_refused v5["4.7.1-2"] v3["4.7.1-3"];
    empty_filter_is_refused v5["4.7.3-1"] v3["4.7.3-1"];
    leading_wildcards_do_not_match_dollar_names v5["4.7.2-1"] v3["4.7.2-1"] area["dollar-topics"];
    broker_information_is_not_matched_by_leading_wildcards v5["4.7.2-1"] v3["4.7.2-1"] area["dollar-topics"];
    retained_dollar_messages_are_not_matched_by_leading_wildcards v5["4.7.2-1"] v3["4.7.2-1"] area["dollar-topics"];
    nothing_is_normalized v5["4.7.3-4"] v3["4.7.3-4"];
    empty_levels_are_levels v5["4.7.3-4", "4.7.1-2"] v3["4.7.3-4", "4.7.1-3"];
    unassigned_and_control_like_characters_are_passed_on v5["4.7.3-4"] v3["4.7.3-4"];
    longest_topic_is_usable v5["4.7.3-3"] v3["4.7.3-3"];
    two_hundred_levels_are_usable v5["4.7.3-3"] v3["4.7.3-3"];
    two_hundred_wildcards_match_or_are_refused v5["4.7.1-2"] v3["4.7.1-3"];
    topic_of_nothing_but_separators_is_taken_or_refused v5["4.7.3-3"] v3["4.7.3-3"];
}

fn wildcards_match_as_defined(t: &Run<'_>) -> Outcome {
    let names = ["sport", "sport/", "sport/a", "sport/a/b", "sport/a/b/c", "/sport", "other/a", "sports", "sport//b"];
    let cases: &[(&str, &[&str])] = &[
        ("sport/#", &["sport", "sport/", "sport/a", "sport/a/b", "sport/a/b/c", "sport//b"]),
        ("sport/+", &["sport/", "sport/a"]),
        ("sport/+/b", &["sport/a/b", "sport//b"]),
        ("+", &["sport", "sports"]),
        ("+/+", &["sport/", "sport/a", "/sport", "other/a"]),
        ("/+", &["/sport"]),
        ("+/a/#", &["sport/a", "sport/a/b", "sport/a/b/c", "other/a"]),
        ("sport/a/b", &["sport/a/b"]),
    ];
    let mut publisher = t.client("publisher")?;
    let mut subscribers = Vec::new();
    for (number, (pattern, _)) in cases.iter().enumerate() {
        let mut subscriber = t.client(&format!("s{number}"))?;
        subscriber.subscribe(&t.topic(pattern), 1)?;
        subscriber.subscribe(&t.topic("the/very/end/of/it"), 1)?;
        subscribers.push(subscriber);
    }
    for name in names {
        publisher.publish(&t.message(name, name).qos(1))?;
    }
    publisher.publish(&t.message("the/very/end/of/it", "end").qos(1))?;
    for (mut subscriber, (pattern, expected)) in subscribers.into_iter().zip(cases) {
        let found: Vec<String> = subscriber.messages_before("end")?.iter().map(|message| message.text()).collect();
        ensure!(found == *expected, "{pattern} matched {found:?} instead of {expected:?}");
    }
    Ok(())
}

/// A filter that is none: refused in SUBACK, or the connection is closed.
fn not_a_filter(t: &Run<'_>, name: &str) -> Outcome {
    let mut client = t.client("a")?;
    let packet_id = client.start_subscribe(&[filter("conformance/filler", 0), filter(name, 0)][1..], None);
    match client.codes(bucketmq_packet::PacketType::SubAck, packet_id) {
        Ok(suback) if suback.codes.len() == 1 && suback.codes[0] >= 0x80 => {
            let allowed: &[u8] = if t.v5() { &[0x80, 0x81, 0x83, 0x87, 0x8F] } else { &[0x80] };
            ensure!(allowed.contains(&suback.codes[0]), "{name:?} was refused with 0x{:02X}", suback.codes[0]);
            Ok(())
        }
        Ok(suback) => failed(format!("{name:?} was answered SUBACK {:02X?}", suback.codes)),
        Err(Failure::Failed(why)) if why.contains("closed") => Ok(()),
        Err(Failure::Failed(why))
            if why.contains("DISCONNECT 0x8F") || why.contains("DISCONNECT 0x81") || why.contains("DISCONNECT 0x82") =>
        {
            client.closed().map(|_| ())
        }
        Err(other) => Err(other),
    }
}

fn misplaced_multi_level_wildcard_is_refused(t: &Run<'_>) -> Outcome {
    for name in ["conformance/#/a", "conformance/a#", "#a", "conformance/##", "#/a"] {
        not_a_filter(t, name)?;
    }
    Ok(())
}

fn misplaced_single_level_wildcard_is_refused(t: &Run<'_>) -> Outcome {
    for name in ["conformance/a+", "conformance/+a", "conformance/a+/b", "++", "conformance/+#"] {
        not_a_filter(t, name)?;
    }
    Ok(())
}

fn empty_filter_is_refused(t: &Run<'_>) -> Outcome {
    not_a_filter(t, "")
}

/// A name below `$` that no broker uses itself, and one that filters beginning with a wildcard would find.
fn dollar(t: &Run<'_>) -> String {
    format!("$conformance/{}", t.topic("a"))
}

fn leading_wildcards_do_not_match_dollar_names(t: &Run<'_>) -> Outcome {
    let name = dollar(t);
    let below = name.split_once('/').expect("the name has levels").1.to_owned();
    let mut exact = t.client("exact")?;
    exact.subscribe(&name, 1)?;
    let mut narrow = t.client("narrow")?;
    narrow.subscribe(&format!("+/{below}"), 1)?;
    narrow.subscribe(&t.topic("end"), 1)?;
    let mut wide = t.client("wide")?;
    wide.subscribe("#", 0)?;
    let mut publisher = t.client("publisher")?;
    publisher.publish(&Message::new(name.as_str(), "dollar").qos(1))?;
    publisher.publish(&t.message("end", "end").qos(1))?;
    ensure!(narrow.messages_before("end")?.is_empty(), "a filter beginning with + matched {name}");
    loop {
        let message = wide.message()?;
        ensure!(!message.topic.starts_with('$'), "# matched {}", message.topic);
        if message.topic == t.topic("end") {
            break;
        }
    }
    // Where the broker allows such names at all they are found by their own filter.
    exact.nothing().map_or_else(|_| exact.expect("dollar").map(|_| ()), Ok)
}

fn broker_information_is_not_matched_by_leading_wildcards(t: &Run<'_>) -> Outcome {
    let mut own = t.client("own")?;
    own.subscribe("$SYS/#", 0)?;
    let Ok(first) = own.message() else { return crate::outcome::not_applicable("the broker publishes nothing below $SYS") };
    let below = first.topic.split_once('/').map_or("", |(_, below)| below).to_owned();
    let mut narrow = t.client("narrow")?;
    narrow.subscribe(&format!("+/{below}"), 0)?;
    narrow.subscribe("+/+/+", 0)?;
    let mut foreign = std::time::Instant::now();
    let until = foreign + std::time::Duration::from_millis(1500);
    while foreign < until {
        if narrow.nothing_for(std::time::Duration::from_millis(200)).is_err() {
            let message = narrow.message()?;
            ensure!(!message.topic.starts_with('$'), "a leading wildcard matched {}", message.topic);
        }
        foreign = std::time::Instant::now();
    }
    Ok(())
}

fn retained_dollar_messages_are_not_matched_by_leading_wildcards(t: &Run<'_>) -> Outcome {
    let name = dollar(t);
    let mut publisher = t.client("publisher")?;
    t.retain(&mut publisher, &Message::new(name.as_str(), "dollar").qos(1))?;
    let below = name.split_once('/').expect("the name has levels").1.to_owned();
    let mut subscriber = t.client("subscriber")?;
    subscriber.subscribe(&format!("+/{below}"), 1)?;
    subscriber.nothing()
}

fn nothing_is_normalized(t: &Run<'_>) -> Outcome {
    // Case, composed and decomposed forms, spaces, dots and a trailing separator all tell topics apart.
    let names = ["Abc", "abc", "caf\u{E9}", "cafe\u{301}", " abc", "abc ", "abc/", "./abc", "abc/../abc", "%61bc", "ſ", "s", "Ω", "Ω"];
    let mut subscriber = t.client("subscriber")?;
    for name in names {
        subscriber.subscribe(&t.topic(name), 1)?;
    }
    let mut publisher = t.client("publisher")?;
    for name in names {
        publisher.publish(&t.message(name, name).qos(1))?;
        let message = subscriber.expect(name)?;
        ensure!(message.topic == t.topic(name), "{name:?} came as {:?}", message.topic);
    }
    subscriber.nothing()
}

fn empty_levels_are_levels(t: &Run<'_>) -> Outcome {
    let names = ["a/b", "a//b", "/a/b", "a/b/", "//", "/"];
    let mut subscriber = t.client("subscriber")?;
    let mut publisher = t.client("publisher")?;
    for name in names {
        subscriber.subscribe(&t.topic(name), 1)?;
    }
    for name in names {
        publisher.publish(&t.message(name, name).qos(1))?;
        subscriber.expect(name)?;
    }
    subscriber.nothing()
}

fn unassigned_and_control_like_characters_are_passed_on(t: &Run<'_>) -> Outcome {
    let mut subscriber = t.subscriber("+", 1)?;
    let mut publisher = t.client("publisher")?;
    for name in ["\u{10FFFD}", "\u{1F980}", "\u{E000}", "a\u{200D}b", "\u{FFFD}"] {
        publisher.publish(&t.message(name, "x").qos(1))?;
        let message = subscriber.expect("x")?;
        ensure!(message.topic == t.topic(name), "{name:?} came as {:?}", message.topic);
    }
    Ok(())
}

fn usable(t: &Run<'_>, name: &str) -> Outcome {
    let mut client = t.client("a")?;
    client.subscribe(name, 1)?;
    client.publish(&Message::new(name, "x").qos(1))?;
    let message = client.expect("x")?;
    ensure!(message.topic == name, "the topic came back changed");
    Ok(())
}

fn longest_topic_is_usable(t: &Run<'_>) -> Outcome {
    usable(t, &format!("{:x<65535}", t.topic("")))
}

fn two_hundred_levels_are_usable(t: &Run<'_>) -> Outcome {
    usable(t, &format!("{}{}", t.topic(""), "l/".repeat(195)))
}

fn two_hundred_wildcards_match_or_are_refused(t: &Run<'_>) -> Outcome {
    let mut subscriber = t.client("subscriber")?;
    let pattern = t.topic(&["+"; 200].join("/"));
    let packet_id = subscriber.start_subscribe(&[filter(&pattern, 1)], None);
    // No statement bounds the levels, so a Server may; how it refuses what it finds too much is its own affair.
    if !matches!(subscriber.codes(bucketmq_packet::PacketType::SubAck, packet_id), Ok(suback) if suback.codes[0] < 0x80) {
        return crate::outcome::not_applicable("the broker limits levels or wildcards");
    }
    let mut publisher = t.client("publisher")?;
    publisher.publish(&t.message(&["l"; 199].join("/"), "one less").qos(1))?;
    publisher.publish(&t.message(&["l"; 200].join("/"), "as many").qos(1))?;
    publisher.publish(&t.message(&["l"; 201].join("/"), "one more").qos(1))?;
    subscriber.expect("as many")?;
    subscriber.nothing()
}

fn topic_of_nothing_but_separators_is_taken_or_refused(t: &Run<'_>) -> Outcome {
    // 65,536 levels: a Server may find that too many, and is none the worse for having been asked.
    let name = "/".repeat(65_535);
    let mut client = t.client("a")?;
    let packet_id = client.start_publish(&Message::new(name.as_str(), "x").qos(1));
    if client.acknowledged(bucketmq_packet::PacketType::PubAck, packet_id).is_err() {
        client.closed_with(&[0x90, 0x97, 0x83])?;
    }
    let mut client = t.client("b")?;
    let packet_id = client.start_subscribe(&[filter(&name, 0)], None);
    if client.codes(bucketmq_packet::PacketType::SubAck, packet_id).is_err() {
        client.closed_with(&[0x8F, 0x97, 0x83])?;
    }
    t.client("c")?.ping()
}
