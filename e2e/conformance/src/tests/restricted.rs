//! A Server that does without some features: it says so, and refuses what it cannot do.

use std::time::{Duration, Instant};

use bucketmq_packet::PacketType;

use crate::client::filter;
use crate::ensure;
use crate::outcome::{Outcome, failed, not_applicable};
use crate::reply::Accepted;
use crate::run::Run;

tests! {
    silence_beyond_the_server_keep_alive_closes v5["3.1.2-21", "3.1.2-22", "3.2.2-21"];
    maximum_qos_is_told v5["3.2.2-9"];
    every_requested_qos_is_accepted_in_subscribe v5["3.2.2-10", "3.8.4-7", "3.8.4-8"] v3["3.8.4-5", "3.8.4-6"];
    publish_above_the_maximum_qos_closes v5["3.2.2-11"];
    will_above_the_maximum_qos_is_refused v5["3.2.2-12"];
    retained_publish_where_there_is_none_closes v5["3.2.2-14"];
    will_with_retain_where_there_is_none_is_refused v5["3.2.2-13"] area["will-retain-unsupported"];
    server_keep_alive_is_told_to_who_asks_for_more v5["3.1.2-21", "3.2.2-22"];
    wildcard_where_there_is_none_is_refused v5["3.9.3-2"] v3["3.8.3-2"];
    shared_subscription_where_there_is_none_is_refused v5["3.9.3-2"];
    subscription_identifier_where_there_is_none_closes v5["4.13.1-1"];
}

fn feature(t: &Run<'_>, missing: impl Fn(&Accepted) -> bool, what: &str) -> Outcome<String> {
    let (address, accepted) = t.restricted()?;
    if missing(&accepted) { Ok(address) } else { not_applicable(format!("the broker at --restricted has {what}")) }
}

fn low_qos(t: &Run<'_>) -> Outcome<(String, u8)> {
    let address = feature(t, |accepted| accepted.maximum_qos.is_some(), "every QoS")?;
    let (_, accepted) = t.restricted()?;
    Ok((address, accepted.maximum_qos.unwrap_or(2)))
}

fn silence_beyond_the_server_keep_alive_closes(t: &Run<'_>) -> Outcome {
    let (address, _) = t.restricted()?;
    let (mut client, accepted) = t.connect("a").at(&address).keep_alive(300).open()?;
    let Some(seconds) = accepted.server_keep_alive else { return not_applicable("the broker sets no Server Keep Alive") };
    if seconds > 10 {
        return not_applicable("the Server Keep Alive is too long to wait for");
    }
    let started = Instant::now();
    let code = client.closed_within(Duration::from_millis(u64::from(seconds) * 1500 + 6500))?;
    ensure!(started.elapsed() >= Duration::from_millis(u64::from(seconds) * 950), "closed after {:?} of {seconds} s", started.elapsed());
    match code {
        None | Some(0x80 | 0x8D) => Ok(()),
        Some(code) => failed(format!("closed with 0x{code:02X} instead of 0x8D")),
    }
}

fn maximum_qos_is_told(t: &Run<'_>) -> Outcome {
    let (_, maximum) = low_qos(t)?;
    ensure!(maximum <= 1, "Maximum QoS {maximum}");
    Ok(())
}

fn every_requested_qos_is_accepted_in_subscribe(t: &Run<'_>) -> Outcome {
    let (address, maximum) = low_qos(t)?;
    let mut client = t.connect("a").at(&address).client()?;
    for quality in 0..=2 {
        let name = t.topic(&format!("q{quality}"));
        let codes = client.subscribe_with(&[filter(&name, quality)], None)?;
        ensure!(codes[0] <= 2 && codes[0] <= quality, "a requested QoS {quality} was answered 0x{:02X}", codes[0]);
        client.publish(&t.message(&format!("q{quality}"), "x").qos(maximum))?;
        let message = client.expect("x")?;
        ensure!(message.qos <= maximum.min(codes[0]), "granted {}, came at QoS {}", codes[0], message.qos);
    }
    Ok(())
}

fn publish_above_the_maximum_qos_closes(t: &Run<'_>) -> Outcome {
    let (address, maximum) = low_qos(t)?;
    for quality in maximum + 1..=2 {
        let mut client = t.connect("a").at(&address).client()?;
        client.start_publish(&t.message("a", "x").qos(quality));
        client.closed_with(&[0x9B])?;
    }
    Ok(())
}

fn will_above_the_maximum_qos_is_refused(t: &Run<'_>) -> Outcome {
    let (address, _) = low_qos(t)?;
    t.connect("a").at(&address).will(t.message("will", "gone").qos(2)).refused(&[0x9B, 0x80], false)
}

fn retained_publish_where_there_is_none_closes(t: &Run<'_>) -> Outcome {
    let address = feature(t, |accepted| !accepted.retain_available, "retained messages")?;
    let mut client = t.connect("a").at(&address).client()?;
    client.start_publish(&t.message("a", "x").retain());
    client.closed_with(&[0x9A])
}

fn will_with_retain_where_there_is_none_is_refused(t: &Run<'_>) -> Outcome {
    let address = feature(t, |accepted| !accepted.retain_available, "retained messages")?;
    t.connect("a").at(&address).will(t.message("will", "gone").retain()).refused(&[0x9A, 0x80], false)
}

fn server_keep_alive_is_told_to_who_asks_for_more(t: &Run<'_>) -> Outcome {
    let (address, accepted) = t.restricted()?;
    let Some(cap) = accepted.server_keep_alive else { return not_applicable("the broker sets no Server Keep Alive") };
    for asked in [0, cap + 1, 65_535] {
        let (_, accepted) = t.connect("a").at(&address).keep_alive(asked).open()?;
        ensure!(
            accepted.server_keep_alive.is_some_and(|told| told > 0 && told <= cap),
            "asked {asked}, told {:?}",
            accepted.server_keep_alive
        );
    }
    Ok(())
}

/// The filter is refused in SUBACK with `code`, or DISCONNECT says it.
fn not_supported(t: &Run<'_>, address: &str, name: &str, code: u8) -> Outcome {
    let mut client = t.connect("a").at(address).client()?;
    let packet_id = client.start_subscribe(&[filter(name, 0)], None);
    match client.codes(PacketType::SubAck, packet_id) {
        Ok(suback) => {
            let expected = if t.v5() { code } else { 0x80 };
            ensure!(suback.codes == [expected], "{name} was answered SUBACK {:02X?} instead of 0x{expected:02X}", suback.codes);
            Ok(())
        }
        Err(crate::outcome::Failure::Failed(why)) if t.v5() && why.contains(&format!("DISCONNECT 0x{code:02X}")) => {
            client.closed().map(|_| ())
        }
        Err(other) => Err(other),
    }
}

fn wildcard_where_there_is_none_is_refused(t: &Run<'_>) -> Outcome {
    let address = feature(t, |accepted| !accepted.wildcard_available, "wildcards")?;
    for name in ["a/#", "+/b"] {
        not_supported(t, &address, name, 0xA2)?;
    }
    let mut client = t.connect("b").at(&address).client()?;
    client.subscribe(&t.topic("plain"), 0)
}

fn shared_subscription_where_there_is_none_is_refused(t: &Run<'_>) -> Outcome {
    let address = feature(t, |accepted| !accepted.shared_available, "Shared Subscriptions")?;
    not_supported(t, &address, &format!("$share/g/{}", t.topic("a")), 0x9E)
}

fn subscription_identifier_where_there_is_none_closes(t: &Run<'_>) -> Outcome {
    let address = feature(t, |accepted| !accepted.identifiers_available, "Subscription Identifiers")?;
    let mut client = t.connect("a").at(&address).client()?;
    let name = t.topic("a");
    let packet_id = client.start_subscribe(&[filter(&name, 0)], Some(1));
    match client.codes(PacketType::SubAck, packet_id) {
        Ok(suback) if suback.codes == [0xA1] => Ok(()),
        Ok(suback) => failed(format!("answered SUBACK {:02X?}", suback.codes)),
        Err(crate::outcome::Failure::Failed(why)) if why.contains("DISCONNECT 0xA1") || why.contains("closed") => {
            client.closed().map(|_| ())
        }
        Err(other) => Err(other),
    }
}
