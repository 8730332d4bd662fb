//! Will Messages.

use std::thread::sleep;
use std::time::{Duration, Instant};

use bucketmq_packet::ReasonCode;

use crate::client::Client;
use crate::ensure;
use crate::outcome::Outcome;
use crate::run::Run;

tests! {
    will_is_published_when_the_connection_breaks v5["3.1.2-7", "3.1.2-8"] v3["3.1.2-8"] v31[];
    will_is_not_published_after_disconnect v5["3.14.4-3", "3.1.2-10"] v3["3.14.4-3", "3.1.2-10"] area["will-disconnect"] v31[];
    disconnect_with_will_publishes_it v5["3.1.2-8", "3.14.4-3"] area["will-disconnect"];
    will_is_published_once v5["3.1.2-10"] v3["3.1.2-10", "3.1.2-12"];
    no_will_is_published_without_the_flag v5["3.1.2-10"] v3["3.1.2-12"];
    will_is_published_when_the_client_breaks_the_protocol v5["3.1.2-8"] v3["3.1.2-8"];
    will_without_retain_is_not_retained v5["3.1.2-14"] v3["3.1.2-16"];
    will_with_retain_is_retained v5["3.1.2-15"] v3["3.1.2-17"];
    will_is_published_at_its_qos v5["3.1.2-12"] v3["3.1.2-14"];
    will_has_an_empty_payload_if_the_client_says_so v5["3.1.2-8"] v3["3.1.2-8"];
    will_passes_its_properties_on_in_order v5["3.1.3-10"];
    will_waits_for_its_delay v5["3.1.2-8"] area["will-delay"];
    will_goes_out_when_the_session_ends_before_its_delay v5["3.1.2-8"] area["will-delay"];
    will_goes_out_when_clean_start_ends_its_session v5["3.1.2-8", "3.1.2-4"] area["will-delay"];
    reconnect_in_time_keeps_the_will_back v5["3.1.3-9"] area["will-reconnect"];
    takeover_of_a_kept_session_keeps_a_delayed_will_back v5["3.1.3-9", "3.1.4-3"] area["will-reconnect"];
    takeover_of_a_session_without_expiry_publishes_its_will v5["3.1.2-8", "3.1.4-3"] area["will-takeover"];
    takeover_of_a_clean_session_publishes_its_will v3["3.1.2-8", "3.1.4-2"];
}

/// A Client that sees the Wills of this run.
fn observer(t: &Run<'_>) -> Outcome<Client> {
    let mut observer = t.client("observer")?;
    observer.subscribe(&t.topic("will"), 2)?;
    Ok(observer)
}

fn will_is_published_when_the_connection_breaks(t: &Run<'_>) -> Outcome {
    let mut observer = observer(t)?;
    let client = t.connect("a").will(t.message("will", "gone")).client()?;
    observer.nothing()?;
    client.cut();
    let will = observer.expect("gone")?;
    ensure!(!will.retain && will.qos == 0, "the Will came with RETAIN {} and QoS {}", will.retain, will.qos);
    Ok(())
}

fn will_is_not_published_after_disconnect(t: &Run<'_>) -> Outcome {
    let mut observer = observer(t)?;
    t.connect("a").will(t.message("will", "gone")).client()?.disconnect()?;
    observer.nothing()
}

fn disconnect_with_will_publishes_it(t: &Run<'_>) -> Outcome {
    let mut observer = observer(t)?;
    t.connect("a").will(t.message("will", "gone")).client()?.disconnect_with(ReasonCode::DisconnectWithWillMessage)?;
    observer.expect("gone")?;
    Ok(())
}

fn will_is_published_once(t: &Run<'_>) -> Outcome {
    let mut observer = observer(t)?;
    t.connect("a").kept().will(t.message("will", "gone")).client()?.cut();
    observer.expect("gone")?;
    t.connect("a").kept().present(true)?.cut();
    observer.nothing()
}

fn no_will_is_published_without_the_flag(t: &Run<'_>) -> Outcome {
    let mut observer = observer(t)?;
    // The second connection of the same Client has no Will any more.
    t.connect("a").will(t.message("will", "gone")).client()?.disconnect()?;
    t.client("a")?.cut();
    observer.nothing()
}

fn will_is_published_when_the_client_breaks_the_protocol(t: &Run<'_>) -> Outcome {
    let mut observer = observer(t)?;
    let mut client = t.connect("a").will(t.message("will", "gone").qos(1)).client()?;
    // QoS 3.
    client.send(&[0x36, 5, 0, 1, b'a', 0, 1]);
    client.closed()?;
    observer.expect("gone")?;
    Ok(())
}

fn will_without_retain_is_not_retained(t: &Run<'_>) -> Outcome {
    let mut observer = observer(t)?;
    t.connect("a").will(t.message("will", "gone").qos(1)).client()?.cut();
    observer.expect("gone")?;
    t.subscriber("will", 1)?.nothing()
}

fn will_with_retain_is_retained(t: &Run<'_>) -> Outcome {
    let mut observer = observer(t)?;
    let will = t.message("will", "gone").qos(1);
    t.connect("a").will(will.clone().retain()).client()?.cut();
    let live = observer.expect("gone")?;
    ensure!(!live.retain, "RETAIN 1 to an established Subscription");
    let retained = t.subscriber("will", 1)?.expect("gone")?;
    ensure!(retained.retain, "RETAIN 0 to a new Subscription");
    // Removed again by the run.
    t.retain(&mut observer, &t.message("will", ""))
}

fn will_is_published_at_its_qos(t: &Run<'_>) -> Outcome {
    let mut observer = observer(t)?;
    for qos in 0..=2 {
        t.connect("a").will(t.message("will", format!("gone {qos}")).qos(qos)).client()?.cut();
        let will = observer.expect(format!("gone {qos}"))?;
        ensure!(will.qos == qos, "a Will of QoS {qos} came at QoS {}", will.qos);
    }
    Ok(())
}

fn will_has_an_empty_payload_if_the_client_says_so(t: &Run<'_>) -> Outcome {
    let mut observer = observer(t)?;
    t.connect("a").will(t.message("will", "")).client()?.cut();
    observer.expect("")?;
    Ok(())
}

fn will_passes_its_properties_on_in_order(t: &Run<'_>) -> Outcome {
    let mut observer = observer(t)?;
    let mut will = t.message("will", "gone").user("b", "1").user("a", "2").user("b", "0").expiry(100);
    will.content_type = Some("text/plain".into());
    will.response_topic = Some(t.topic("answer"));
    will.correlation_data = Some(vec![0, 1, 255]);
    will.payload_format = Some(true);
    t.connect("a").will(will.clone()).client()?.cut();
    let received = observer.expect("gone")?;
    ensure!(received.user_properties == will.user_properties, "User Properties came as {:?}", received.user_properties);
    ensure!(received.content_type == will.content_type, "Content Type came as {:?}", received.content_type);
    ensure!(received.response_topic == will.response_topic, "Response Topic came as {:?}", received.response_topic);
    ensure!(received.correlation_data == will.correlation_data, "Correlation Data came as {:?}", received.correlation_data);
    ensure!(received.payload_format == will.payload_format, "Payload Format Indicator came as {:?}", received.payload_format);
    ensure!(received.expiry.is_some_and(|left| (95..=100).contains(&left)), "Message Expiry Interval came as {:?}", received.expiry);
    Ok(())
}

/// The Will comes between `earliest` and `latest` from now.
fn comes_between(observer: &mut Client, earliest: Duration, latest: Duration) -> Outcome {
    let start = Instant::now();
    loop {
        match observer.message() {
            Ok(will) => {
                ensure!(will.text() == "gone", "{:?} instead of the Will", will.text());
                ensure!(start.elapsed() >= earliest, "the Will came after {:?}", start.elapsed());
                return Ok(());
            }
            Err(error) if start.elapsed() > latest => return Err(error),
            Err(_) => {}
        }
    }
}

fn will_waits_for_its_delay(t: &Run<'_>) -> Outcome {
    let mut observer = observer(t)?;
    let client = t.connect("a").kept().will(t.message("will", "gone")).will_delay(3).client()?;
    client.cut();
    // A second of tolerance below: the broker may count whole seconds.
    comes_between(&mut observer, Duration::from_millis(1900), Duration::from_secs(6))
}

fn will_goes_out_when_the_session_ends_before_its_delay(t: &Run<'_>) -> Outcome {
    let mut observer = observer(t)?;
    t.connect("a").expiry(2).will(t.message("will", "gone")).will_delay(120).client()?.cut();
    comes_between(&mut observer, Duration::from_millis(900), Duration::from_secs(6))
}

fn will_goes_out_when_clean_start_ends_its_session(t: &Run<'_>) -> Outcome {
    let mut observer = observer(t)?;
    t.connect("a").kept().will(t.message("will", "gone")).will_delay(120).client()?.cut();
    observer.nothing()?;
    let successor = t.connect("a").present(false)?;
    observer.expect("gone")?;
    successor.disconnect()
}

fn reconnect_in_time_keeps_the_will_back(t: &Run<'_>) -> Outcome {
    let mut observer = observer(t)?;
    t.connect("a").kept().will(t.message("will", "gone")).will_delay(2).client()?.cut();
    sleep(Duration::from_millis(300));
    let client = t.connect("a").kept().present(true)?;
    sleep(Duration::from_millis(3500));
    observer.nothing()?;
    client.disconnect()
}

fn takeover_of_a_kept_session_keeps_a_delayed_will_back(t: &Run<'_>) -> Outcome {
    let mut observer = observer(t)?;
    let mut first = t.connect("a").kept().will(t.message("will", "gone")).will_delay(2).client()?;
    let second = t.connect("a").kept().present(true)?;
    first.closed()?;
    sleep(Duration::from_millis(3500));
    observer.nothing()?;
    second.disconnect()
}

fn takeover_of_a_session_without_expiry_publishes_its_will(t: &Run<'_>) -> Outcome {
    let mut observer = observer(t)?;
    let mut first = t.connect("a").will(t.message("will", "gone").qos(1)).will_delay(120).client()?;
    // The Session ends with its connection, so Clean Start 0 finds none.
    let second = t.connect("a").resume().present(false)?;
    first.closed()?;
    observer.expect("gone")?;
    second.disconnect()
}

fn takeover_of_a_clean_session_publishes_its_will(t: &Run<'_>) -> Outcome {
    let mut observer = observer(t)?;
    let mut first = t.connect("a").will(t.message("will", "gone").qos(1)).client()?;
    let second = t.client("a")?;
    first.closed()?;
    observer.expect("gone")?;
    second.disconnect()
}
