//! Keep Alive and PINGREQ.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::ensure;
use crate::outcome::{Outcome, failed};
use crate::run::Run;

tests! {
    silence_beyond_one_and_a_half_keep_alives_closes v5["3.1.2-22", "3.2.2-22"] v3["3.1.2-24"] v31[];
    silence_publishes_the_will v5["3.1.2-22", "3.1.2-8"] v3["3.1.2-24", "3.1.2-8"];
    any_packet_keeps_the_connection_alive v5["3.1.2-22", "3.12.4-1"] v3["3.1.2-24", "3.12.4-1"];
    messages_to_a_client_do_not_keep_it_alive v5["3.1.2-22"] v3["3.1.2-24"];
    keep_alive_0_is_never_too_long v5["3.1.2-22"] v3["3.1.2-24"];
    pingreq_is_answered v5["3.12.4-1"] v3["3.12.4-1"] v31[];
}

/// What a broker may be late: timers of whole seconds, checked in rounds, on a busy machine.
const SLACK: Duration = Duration::from_millis(6500);

fn silence_beyond_one_and_a_half_keep_alives_closes(t: &Run<'_>) -> Outcome {
    let mut client = t.connect("a").keep_alive(2).client()?;
    let silent_since = Instant::now();
    let code = client.closed_within(Duration::from_secs(3) + SLACK)?;
    ensure!(silent_since.elapsed() >= Duration::from_millis(1900), "closed after {:?} of a Keep Alive of 2 s", silent_since.elapsed());
    match code {
        None | Some(0x80 | 0x8D) => Ok(()),
        Some(code) => failed(format!("closed with 0x{code:02X} instead of 0x8D")),
    }
}

fn silence_publishes_the_will(t: &Run<'_>) -> Outcome {
    let mut observer = t.connect("observer").client()?;
    observer.subscribe(&t.topic("will"), 0)?;
    let silent = t.connect("silent").keep_alive(1).will(t.message("will", "silent")).client()?;
    let deadline = Instant::now() + Duration::from_millis(1500) + SLACK;
    let message = loop {
        match observer.message() {
            Ok(message) => break message,
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => {}
        }
    };
    ensure!(message.text() == "silent", "{:?} instead of the Will", message.text());
    drop(silent);
    Ok(())
}

fn any_packet_keeps_the_connection_alive(t: &Run<'_>) -> Outcome {
    let mut pinging = t.connect("a").keep_alive(1).client()?;
    let mut publishing = t.connect("b").keep_alive(1).client()?;
    for _ in 0..7 {
        sleep(Duration::from_millis(600));
        publishing.start_publish(&t.message("a", "alive"));
        pinging.ping()?;
    }
    publishing.ping()
}

fn messages_to_a_client_do_not_keep_it_alive(t: &Run<'_>) -> Outcome {
    let mut listening = t.connect("a").keep_alive(1).client()?;
    listening.subscribe(&t.topic("a"), 0)?;
    let mut publisher = t.client("publisher")?;
    let deadline = Instant::now() + Duration::from_millis(1500) + SLACK;
    loop {
        publisher.publish(&t.message("a", "tick"))?;
        publisher.ping()?;
        if listening.closed_within(Duration::from_millis(300)).is_ok() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "a silent Client was kept because it received messages");
    }
}

fn keep_alive_0_is_never_too_long(t: &Run<'_>) -> Outcome {
    let (mut client, accepted) = t.connect("a").keep_alive(0).open()?;
    if accepted.server_keep_alive.is_some_and(|seconds| seconds < 5) {
        return crate::outcome::not_applicable("the broker sets a short Server Keep Alive");
    }
    sleep(Duration::from_millis(4500));
    client.ping()
}

fn pingreq_is_answered(t: &Run<'_>) -> Outcome {
    let mut client = t.client("a")?;
    for _ in 0..5 {
        client.ping()?;
    }
    Ok(())
}
