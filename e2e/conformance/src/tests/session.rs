//! Sessions: begun, resumed, ended.

use std::thread::sleep;
use std::time::Duration;

use bucketmq_packet::property::Property;

use crate::bytes::Bytes;
use crate::client::filter;
use crate::ensure;
use crate::outcome::Outcome;
use crate::run::Run;

tests! {
    session_is_resumed_with_its_subscriptions v5["3.1.2-5", "3.1.2-23", "3.2.2-3", "3.1.3-2"] v3["3.1.2-4", "3.2.2-2", "3.1.3-2", "4.1.0-1"] area["session-present"] v31[];
    messages_wait_for_a_session_that_is_away v5["3.1.2-5", "3.1.2-23", "4.5.0-1"] v3["3.1.2-4", "3.1.2-5", "4.5.0-1"] v31[];
    clean_start_discards_the_session v5["3.1.2-4", "3.1.4-4", "3.2.2-2"] v3["3.1.2-6", "3.1.4-3", "3.2.2-1"] area["session-present"] v31[];
    clean_start_0_without_a_session_makes_one v5["3.1.2-6", "3.2.2-3"] v3["3.1.2-4", "3.2.2-3"] area["session-present"] v31[];
    session_without_expiry_ends_with_its_connection v5["4.1.0-2", "3.2.2-3"] v3["3.1.2-6", "3.2.2-3"] area["session-present"];
    session_ends_when_its_expiry_has_passed v5["4.1.0-2"];
    session_lasts_while_the_connection_is_open v5["4.1.0-1"] v3["4.1.0-2"];
    clean_start_with_expiry_begins_a_session_that_is_kept v5["3.1.2-4", "3.1.2-23"];
    disconnect_can_end_the_session_at_once v5["4.1.0-2"];
    disconnect_can_lengthen_the_session v5["3.1.2-23"];
    disconnect_cannot_give_expiry_to_a_session_without v5["4.13.1-1"];
    session_of_one_client_is_not_anothers v5["3.1.3-2"] v3["3.1.3-2"];
    session_is_resumed_only_by_its_own_user v5[] v3[] area["identity"];
}

fn session_is_resumed_with_its_subscriptions(t: &Run<'_>) -> Outcome {
    let mut client = t.connect("a").kept().present(false)?;
    client.subscribe(&t.topic("a"), 1)?;
    client.disconnect()?;
    let mut client = t.connect("a").kept().present(true)?;
    t.client("publisher")?.publish(&t.message("a", "hello").qos(1))?;
    client.expect("hello")?;
    client.cut();
    t.connect("a").kept().present(true)?.disconnect()
}

fn messages_wait_for_a_session_that_is_away(t: &Run<'_>) -> Outcome {
    let mut away = t.connect("a").kept().present(false)?;
    let one = t.topic("one");
    let two = t.topic("two");
    away.subscribe_with(&[filter(&one, 1), filter(&two, 2)], None)?;
    away.disconnect()?;
    let mut here = t.client("b")?;
    here.subscribe(&one, 1)?;
    let mut publisher = t.client("publisher")?;
    publisher.publish(&t.message("one", "1").qos(1))?;
    publisher.publish(&t.message("two", "2").qos(2))?;
    here.expect("1")?;
    let mut back = t.connect("a").kept().present(true)?;
    let messages = [back.message()?, back.message()?];
    for (payload, qos) in [("1", 1), ("2", 2)] {
        ensure!(
            messages.iter().any(|message| message.text() == payload && message.qos == qos),
            "{payload} did not wait at QoS {qos}: {messages:?}"
        );
    }
    back.nothing()
}

fn clean_start_discards_the_session(t: &Run<'_>) -> Outcome {
    let mut client = t.connect("a").kept().present(false)?;
    client.subscribe(&t.topic("a"), 1)?;
    client.disconnect()?;
    let mut publisher = t.client("publisher")?;
    publisher.publish(&t.message("a", "queued").qos(1))?;
    let mut client = t.connect("a").present(false)?;
    publisher.publish(&t.message("a", "live").qos(1))?;
    client.nothing()?;
    client.disconnect()?;
    // What was discarded stays discarded.
    t.connect("a").kept().present(false)?.nothing()
}

fn clean_start_0_without_a_session_makes_one(t: &Run<'_>) -> Outcome {
    let mut client = t.connect("a").resume().present(false)?;
    client.ping()?;
    client.disconnect()
}

fn session_without_expiry_ends_with_its_connection(t: &Run<'_>) -> Outcome {
    let mut client = t.connect("a").present(false)?;
    client.subscribe(&t.topic("a"), 1)?;
    client.disconnect()?;
    let mut client = t.connect("a").resume().present(false)?;
    t.client("publisher")?.publish(&t.message("a", "live").qos(1))?;
    client.nothing()
}

fn session_ends_when_its_expiry_has_passed(t: &Run<'_>) -> Outcome {
    let mut client = t.connect("a").expiry(1).client()?;
    client.subscribe(&t.topic("a"), 1)?;
    client.cut();
    t.connect("b").expiry(60).client()?.cut();
    sleep(Duration::from_millis(3500));
    t.connect("b").resume().present(true)?.disconnect()?;
    t.connect("a").resume().present(false)?.disconnect()
}

fn session_lasts_while_the_connection_is_open(t: &Run<'_>) -> Outcome {
    let mut client = t.connect("a").expiry(1).resume().client()?;
    client.subscribe(&t.topic("a"), 1)?;
    for _ in 0..6 {
        sleep(Duration::from_millis(500));
        client.ping()?;
    }
    t.client("publisher")?.publish(&t.message("a", "still").qos(1))?;
    client.expect("still")?;
    client.cut();
    t.connect("a").expiry(1).resume().present(true)?.disconnect()
}

fn clean_start_with_expiry_begins_a_session_that_is_kept(t: &Run<'_>) -> Outcome {
    let mut client = t.connect("a").expiry(60).present(false)?;
    client.subscribe(&t.topic("a"), 1)?;
    client.cut();
    t.client("publisher")?.publish(&t.message("a", "kept").qos(1))?;
    let mut client = t.connect("a").kept().present(true)?;
    client.expect("kept")?;
    Ok(())
}

fn disconnect_with_expiry(t: &Run<'_>, seconds: u32) -> Vec<u8> {
    Bytes::new(t.version).u8(0).properties(&[Property::SessionExpiryInterval(seconds)]).packet(0xE0)
}

fn disconnect_can_end_the_session_at_once(t: &Run<'_>) -> Outcome {
    let mut client = t.connect("a").expiry(60).client()?;
    client.send(&disconnect_with_expiry(t, 0));
    client.closed()?;
    t.connect("a").resume().present(false)?.disconnect()
}

fn disconnect_can_lengthen_the_session(t: &Run<'_>) -> Outcome {
    let mut client = t.connect("a").expiry(1).client()?;
    client.send(&disconnect_with_expiry(t, 60));
    client.closed()?;
    sleep(Duration::from_millis(3000));
    t.connect("a").resume().present(true)?.disconnect()
}

fn disconnect_cannot_give_expiry_to_a_session_without(t: &Run<'_>) -> Outcome {
    let mut client = t.connect("a").expiry(0).client()?;
    client.send(&disconnect_with_expiry(t, 60));
    client.closed_as_protocol_error()?;
    t.connect("a").resume().present(false)?.disconnect()
}

fn session_of_one_client_is_not_anothers(t: &Run<'_>) -> Outcome {
    let mut client = t.connect("a").kept().present(false)?;
    client.subscribe(&t.topic("a"), 1)?;
    client.cut();
    // Identifiers differ already by the case of one letter.
    let mut other = t.connect("A").kept().present(false)?;
    t.client("publisher")?.publish(&t.message("a", "for a").qos(1))?;
    other.nothing()?;
    t.connect("a").kept().present(true)?.expect("for a")?;
    Ok(())
}

fn session_is_resumed_only_by_its_own_user(t: &Run<'_>) -> Outcome {
    let address = t.secured()?;
    let connecting = |user: &str| t.connect("a").at(&address).login(user, crate::secured::PASSWORD).kept();
    let mut owner = connecting(crate::secured::USER).client()?;
    owner.subscribe(&t.topic("private"), 1)?;
    owner.cut();
    let mut publisher = t.connect("publisher").at(&address).login(crate::secured::USER, crate::secured::PASSWORD).client()?;
    publisher.publish(&t.message("private", "secret").qos(1))?;
    // Another user under the same Client Identifier is refused, or begins with nothing.
    let mut thief = connecting(crate::secured::OTHER_USER).start()?;
    if let Ok(crate::reply::Reply::ConnAck(accepted)) = thief.reply()
        && accepted.code == 0
    {
        ensure!(!accepted.session_present, "another user was given the Session");
        thief.nothing()?;
        thief.disconnect()?;
    }
    Ok(())
}
