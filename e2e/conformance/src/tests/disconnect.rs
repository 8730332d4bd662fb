//! DISCONNECT, from either side.

use bucketmq_packet::property::Property;

use crate::bytes::Bytes;
use crate::ensure;
use crate::outcome::Outcome;
use crate::run::Run;

tests! {
    server_closes_after_the_clients_disconnect v5["3.14.4-1", "3.14.4-2"] v3["3.14.4-1"] v31[];
    nothing_after_disconnect_is_processed v5["3.14.4-1"] v3["3.14.4-2"];
    disconnect_with_reserved_flags_closes v5["3.14.1-1"] v3["3.14.1-1"];
    disconnect_with_an_unlisted_reason_code_closes v5["3.14.2-1"];
    disconnect_in_every_form_is_understood v5["2.2.2-1", "3.14.4-3"];
    server_disconnect_is_the_last_word v5["3.14.4-1", "3.14.4-2", "3.14.2-1", "3.14.2-2", "4.13.2-1"];
    server_says_nothing_before_it_closes_before_5_0 v3["4.8.0-1"];
    error_of_one_client_leaves_the_others_alone v5["4.13.1-1"] v3["4.8.0-1"];
}

fn server_closes_after_the_clients_disconnect(t: &Run<'_>) -> Outcome {
    t.client("a")?.disconnect()
}

fn nothing_after_disconnect_is_processed(t: &Run<'_>) -> Outcome {
    let mut subscriber = t.subscriber("a", 0)?;
    subscriber.subscribe(&t.topic("end"), 0)?;
    let mut client = t.client("a")?;
    client.send(&[vec![0xE0, 0], t.message("a", "too late").encode(t.version)].concat());
    client.closed()?;
    t.client("publisher")?.publish(&t.message("end", "end"))?;
    ensure!(subscriber.messages_before("end")?.is_empty(), "a PUBLISH behind DISCONNECT was processed");
    Ok(())
}

fn disconnect_with_reserved_flags_closes(t: &Run<'_>) -> Outcome {
    let mut observer = t.subscriber("will", 0)?;
    let mut client = t.connect("a").will(t.message("will", "gone")).client()?;
    client.send(&[0xE1, 0]);
    client.closed_as_malformed()?;
    // It is not the DISCONNECT that would have dropped the Will.
    observer.expect("gone")?;
    Ok(())
}

fn disconnect_with_an_unlisted_reason_code_closes(t: &Run<'_>) -> Outcome {
    for code in [0x01, 0x10, 0x8C] {
        let mut client = t.client("a")?;
        client.send(&[0xE0, 1, code]);
        client.closed_as_wrong()?;
    }
    Ok(())
}

fn disconnect_in_every_form_is_understood(t: &Run<'_>) -> Outcome {
    let body = || Bytes::new(t.version);
    let forms = [
        vec![0xE0, 0],
        vec![0xE0, 1, 0],
        body().u8(0).properties(&[]).packet(0xE0),
        body().u8(0).properties(&[Property::ReasonString("done"), Property::UserProperty("n", "v")]).packet(0xE0),
    ];
    let mut observer = t.subscriber("will", 0)?;
    for form in forms {
        let mut client = t.connect("a").will(t.message("will", "gone")).client()?;
        client.send(&form);
        let code = client.closed()?;
        ensure!(code.is_none(), "DISCONNECT {form:02X?} was answered by one of 0x{:02X}", code.unwrap_or(0));
    }
    observer.nothing()
}

fn server_disconnect_is_the_last_word(t: &Run<'_>) -> Outcome {
    // `closed` fails on anything behind DISCONNECT, and on a DISCONNECT with a Session Expiry Interval.
    let mut client = t.subscriber("a", 1)?;
    let mut publisher = t.client("publisher")?;
    // SUBSCRIBE with wrong flags.
    client.send(&[0x80, 0]);
    for _ in 0..5 {
        publisher.publish(&t.message("a", "too late").qos(1))?;
    }
    client.closed_as_wrong()
}

fn server_says_nothing_before_it_closes_before_5_0(t: &Run<'_>) -> Outcome {
    // Any DISCONNECT fails the read.
    let mut client = t.client("a")?;
    client.send(&[0x00, 0]);
    client.closed().map(|_| ())
}

fn error_of_one_client_leaves_the_others_alone(t: &Run<'_>) -> Outcome {
    let mut other = t.subscriber("a", 1)?;
    for bad in [&[0x80, 0][..], &[0x36, 5, 0, 1, b'a', 0, 1], &[0x00, 0], &[0xFF; 20]] {
        let mut client = t.client("bad")?;
        client.send(bad);
        client.closed()?;
    }
    t.client("publisher")?.publish(&t.message("a", "fine").qos(1))?;
    other.expect("fine")?;
    Ok(())
}
