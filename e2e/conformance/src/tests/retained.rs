//! Retained messages.

use bucketmq_packet::RetainHandling;

use crate::client::{Client, filter};
use crate::ensure;
use crate::outcome::Outcome;
use crate::run::Run;

tests! {
    retained_message_is_sent_to_a_new_subscription v5["3.3.1-5", "3.3.1-9"] v3["3.3.1-5", "3.3.1-6", "3.3.1-8"] v31[];
    retained_message_is_replaced_by_the_next_one v5["3.3.1-5"] v3["3.3.1-5", "3.3.1-7"] v31[];
    retained_message_is_removed_by_an_empty_one v5["3.3.1-6", "3.3.1-7"] v3["3.3.1-10", "3.3.1-11"] area["retained-delete"] v31[];
    empty_retained_message_is_delivered_as_usual v5["3.3.1-6"] v3["3.3.1-10"] area["retained-delete"];
    ordinary_message_leaves_the_retained_one_alone v5["3.3.1-8"] v3["3.3.1-12"];
    ordinary_message_is_not_retained v5["3.3.1-8"] v3["3.3.1-12"];
    established_subscription_sees_retain_0 v5["3.3.1-12"] v3["3.3.1-9"];
    retain_as_published_keeps_the_flag v5["3.3.1-13"] area["retain-as-published"];
    retain_as_published_holds_in_the_queue v5["3.3.1-12", "3.3.1-13"] area["retain-as-published"];
    retain_handling_0_sends_at_every_subscribe v5["3.3.1-9", "3.8.4-4"] area["retain-handling"];
    every_subscribe_sends_retained_messages_before_5_0 v3["3.8.4-3", "3.3.1-6"];
    retain_handling_1_sends_only_to_a_new_subscription v5["3.3.1-10"] area["retain-handling"];
    retain_handling_1_knows_the_subscriptions_of_a_resumed_session v5["3.3.1-10"] area["retain-handling"];
    retain_handling_2_sends_none v5["3.3.1-11"] area["retain-handling"];
    retained_message_comes_at_the_lower_qos v5["3.8.4-8"] v3["3.8.4-6"] area["retained-qos"];
    wildcards_find_all_retained_messages v5["3.3.1-9"] v3["3.3.1-6"];
    retained_messages_outlive_sessions v5["3.3.1-5"] v3["3.1.2-7"];
    each_filter_of_one_subscribe_gets_its_retained_messages v5["3.8.4-5"] v3["3.8.4-4"];
}

/// A publisher that has set a retained message on `a`.
fn retained(t: &Run<'_>, payload: &str, quality: u8) -> Outcome<Client> {
    let mut publisher = t.client("publisher")?;
    t.retain(&mut publisher, &t.message("a", payload).qos(quality))?;
    // At QoS 0 nothing says when the broker has it; an answer to what came later does.
    publisher.ping()?;
    Ok(publisher)
}

fn retained_message_is_sent_to_a_new_subscription(t: &Run<'_>) -> Outcome {
    for quality in 0..=2 {
        retained(t, "kept", quality)?;
        let mut subscriber = t.subscriber("a", 2)?;
        let message = subscriber.expect("kept")?;
        ensure!(message.retain && message.qos == quality, "came with RETAIN {} at QoS {}", message.retain, message.qos);
        subscriber.nothing()?;
    }
    Ok(())
}

fn retained_message_is_replaced_by_the_next_one(t: &Run<'_>) -> Outcome {
    let mut publisher = retained(t, "one", 1)?;
    publisher.publish(&t.message("a", "two").qos(2).retain())?;
    // Also by one of QoS 0.
    publisher.publish(&t.message("a", "three").retain())?;
    publisher.ping()?;
    let mut subscriber = t.subscriber("a", 1)?;
    subscriber.expect("three")?;
    subscriber.nothing()
}

fn retained_message_is_removed_by_an_empty_one(t: &Run<'_>) -> Outcome {
    let mut publisher = retained(t, "kept", 1)?;
    publisher.publish(&t.message("a", "").qos(1).retain())?;
    t.subscriber("a", 1)?.nothing()
}

fn empty_retained_message_is_delivered_as_usual(t: &Run<'_>) -> Outcome {
    let mut publisher = retained(t, "kept", 1)?;
    let mut subscriber = t.subscriber("a", 1)?;
    subscriber.expect("kept")?;
    publisher.publish(&t.message("a", "").qos(1).retain())?;
    let message = subscriber.expect("")?;
    ensure!(!message.retain, "RETAIN 1 to an established Subscription");
    Ok(())
}

fn ordinary_message_leaves_the_retained_one_alone(t: &Run<'_>) -> Outcome {
    let mut publisher = retained(t, "kept", 1)?;
    publisher.publish(&t.message("a", "passing").qos(1))?;
    publisher.publish(&t.message("a", "").qos(1))?;
    let mut subscriber = t.subscriber("a", 1)?;
    subscriber.expect("kept")?;
    subscriber.nothing()
}

fn ordinary_message_is_not_retained(t: &Run<'_>) -> Outcome {
    t.client("publisher")?.publish(&t.message("a", "passing").qos(1))?;
    t.subscriber("a", 1)?.nothing()
}

fn established_subscription_sees_retain_0(t: &Run<'_>) -> Outcome {
    let mut subscriber = t.subscriber("a", 1)?;
    retained(t, "kept", 1)?;
    let message = subscriber.expect("kept")?;
    ensure!(!message.retain, "RETAIN 1 to an established Subscription");
    Ok(())
}

fn retain_as_published_keeps_the_flag(t: &Run<'_>) -> Outcome {
    let mut subscriber = t.client("subscriber")?;
    subscriber.subscribed(filter(&t.topic("a"), 1).retain_as_published(), None)?;
    let mut publisher = retained(t, "kept", 1)?;
    publisher.publish(&t.message("a", "passing").qos(1))?;
    ensure!(subscriber.expect("kept")?.retain, "RETAIN 1 came as 0");
    ensure!(!subscriber.expect("passing")?.retain, "RETAIN 0 came as 1");
    Ok(())
}

fn retain_as_published_holds_in_the_queue(t: &Run<'_>) -> Outcome {
    for (who, expected) in [("as", true), ("not", false)] {
        let mut away = t.connect(who).kept().client()?;
        let topic = t.topic("a");
        let asked = filter(&topic, 1).retain_handling(RetainHandling::DoNotSend);
        away.subscribed(if expected { asked.retain_as_published() } else { asked }, None)?;
        away.cut();
        retained(t, "kept", 1)?;
        let message = t.connect(who).kept().present(true)?.expect("kept")?;
        ensure!(message.retain == expected, "from the queue came RETAIN {}", message.retain);
    }
    Ok(())
}

fn retain_handling_0_sends_at_every_subscribe(t: &Run<'_>) -> Outcome {
    retained(t, "kept", 1)?;
    let mut subscriber = t.client("subscriber")?;
    for _ in 0..2 {
        subscriber.subscribe(&t.topic("a"), 1)?;
        let message = subscriber.expect("kept")?;
        ensure!(message.retain, "RETAIN 0 though the SUBSCRIBE asked for it");
    }
    subscriber.nothing()
}

fn every_subscribe_sends_retained_messages_before_5_0(t: &Run<'_>) -> Outcome {
    retain_handling_0_sends_at_every_subscribe(t)
}

fn retain_handling_1_sends_only_to_a_new_subscription(t: &Run<'_>) -> Outcome {
    retained(t, "kept", 1)?;
    let topic = t.topic("a");
    let asked = filter(&topic, 1).retain_handling(RetainHandling::SendIfNew);
    let mut subscriber = t.client("subscriber")?;
    subscriber.subscribed(asked, None)?;
    subscriber.expect("kept")?;
    subscriber.subscribed(asked, None)?;
    subscriber.nothing()?;
    // After UNSUBSCRIBE it is new again.
    subscriber.unsubscribe(&[&topic])?;
    subscriber.subscribed(asked, None)?;
    subscriber.expect("kept")?;
    Ok(())
}

fn retain_handling_1_knows_the_subscriptions_of_a_resumed_session(t: &Run<'_>) -> Outcome {
    retained(t, "kept", 1)?;
    let topic = t.topic("a");
    let asked = filter(&topic, 1).retain_handling(RetainHandling::SendIfNew);
    let mut subscriber = t.connect("a").kept().client()?;
    subscriber.subscribed(asked, None)?;
    subscriber.expect("kept")?;
    subscriber.ping()?;
    subscriber.cut();
    let mut subscriber = t.connect("a").kept().present(true)?;
    subscriber.subscribed(asked, None)?;
    subscriber.nothing()
}

fn retain_handling_2_sends_none(t: &Run<'_>) -> Outcome {
    let mut publisher = retained(t, "kept", 1)?;
    let mut subscriber = t.client("subscriber")?;
    subscriber.subscribed(filter(&t.topic("a"), 1).retain_handling(RetainHandling::DoNotSend), None)?;
    subscriber.nothing()?;
    publisher.publish(&t.message("a", "live").qos(1))?;
    subscriber.expect("live")?;
    Ok(())
}

fn retained_message_comes_at_the_lower_qos(t: &Run<'_>) -> Outcome {
    for published in 0..=2 {
        retained(t, "kept", published)?;
        for granted in 0..=2 {
            let message = t.subscriber("a", granted)?.expect("kept")?;
            let lower = published.min(granted);
            ensure!(message.qos == lower, "published at {published}, granted {granted}, came at {}", message.qos);
        }
    }
    Ok(())
}

fn wildcards_find_all_retained_messages(t: &Run<'_>) -> Outcome {
    let mut publisher = t.client("publisher")?;
    for name in ["x/1", "x/2", "x/2/deep", "x"] {
        t.retain(&mut publisher, &t.message(name, name).qos(1))?;
    }
    for (pattern, expected) in
        [("x/#", vec!["x", "x/1", "x/2", "x/2/deep"]), ("x/+", vec!["x/1", "x/2"]), ("+/2/#", vec!["x/2", "x/2/deep"])]
    {
        let mut subscriber = t.client("subscriber")?;
        subscriber.subscribe(&t.topic(pattern), 1)?;
        let mut found = Vec::new();
        for _ in 0..expected.len() {
            found.push(subscriber.message()?.text());
        }
        subscriber.nothing()?;
        found.sort();
        ensure!(found == expected, "{pattern} found {found:?}");
    }
    Ok(())
}

fn retained_messages_outlive_sessions(t: &Run<'_>) -> Outcome {
    retained(t, "kept", 1)?.disconnect()?;
    t.client("publisher")?.disconnect()?;
    t.subscriber("a", 1)?.expect("kept")?;
    Ok(())
}

fn each_filter_of_one_subscribe_gets_its_retained_messages(t: &Run<'_>) -> Outcome {
    let mut publisher = t.client("publisher")?;
    t.retain(&mut publisher, &t.message("a", "kept").qos(1))?;
    let mut subscriber = t.client("subscriber")?;
    let (one, two) = (t.topic("a"), t.topic("+"));
    subscriber.subscribe_with(&[filter(&one, 1), filter(&two, 0)], None)?;
    let mut qualities = vec![subscriber.message()?.qos, subscriber.message()?.qos];
    qualities.sort_unstable();
    ensure!(qualities == [0, 1], "two filters got QoS {qualities:?}");
    subscriber.nothing()
}
