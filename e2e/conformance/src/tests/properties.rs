//! Properties a Server passes on: live, from the queue, and with retained messages.

use crate::ensure;
use crate::message::Message;
use crate::outcome::Outcome;
use crate::run::Run;

tests! {
    payload_format_indicator_is_passed_on v5["3.3.2-4"];
    content_type_is_passed_on v5["3.3.2-20"];
    response_topic_is_passed_on v5["3.3.2-15"];
    correlation_data_is_passed_on v5["3.3.2-16"];
    user_properties_are_passed_on_in_order v5["3.3.2-17", "3.3.2-18"];
    properties_are_passed_on_from_the_queue v5["3.3.2-4", "3.3.2-15", "3.3.2-16", "3.3.2-17", "3.3.2-18", "3.3.2-20"];
    properties_are_passed_on_with_retained_messages v5["3.3.2-4", "3.3.2-15", "3.3.2-16", "3.3.2-17", "3.3.2-18", "3.3.2-20"];
    properties_in_any_order_are_understood v5["3.3.2-17"];
    no_property_is_added v5["3.3.2-4", "3.3.2-20"];
}

fn full(t: &Run<'_>) -> Message {
    let mut message = t.message("a", "{\"π\": 3.14}").qos(1).user("b", "1").user("a", "2").user("b", "1").user("", "").user("名", "値");
    message.payload_format = Some(true);
    message.content_type = Some("application/json; charset=utf-8".into());
    message.response_topic = Some(t.topic("answers/to/a"));
    message.correlation_data = Some((0..=255).collect());
    message
}

/// What a Server forwards is the same in both.
fn same(received: &Message, sent: &Message) -> Outcome {
    ensure!(received.payload == sent.payload, "payload came as {:?}", received.text());
    ensure!(received.payload_format == sent.payload_format, "Payload Format Indicator came as {:?}", received.payload_format);
    ensure!(received.content_type == sent.content_type, "Content Type came as {:?}", received.content_type);
    ensure!(received.response_topic == sent.response_topic, "Response Topic came as {:?}", received.response_topic);
    ensure!(received.correlation_data == sent.correlation_data, "Correlation Data came as {:?}", received.correlation_data);
    ensure!(received.user_properties == sent.user_properties, "User Properties came as {:?}", received.user_properties);
    Ok(())
}

fn live(t: &Run<'_>, change: impl Fn(&mut Message)) -> Outcome {
    let mut subscriber = t.subscriber("a", 2)?;
    let mut publisher = t.client("publisher")?;
    for qos in 0..=2 {
        let mut message = t.message("a", "x").qos(qos);
        change(&mut message);
        publisher.publish(&message)?;
        same(&subscriber.message()?, &message)?;
    }
    Ok(())
}

fn payload_format_indicator_is_passed_on(t: &Run<'_>) -> Outcome {
    live(t, |message| message.payload_format = Some(true))?;
    live(t, |message| message.payload_format = Some(false))
}

fn content_type_is_passed_on(t: &Run<'_>) -> Outcome {
    live(t, |message| message.content_type = Some("text/plain".into()))?;
    live(t, |message| message.content_type = Some(String::new()))
}

fn response_topic_is_passed_on(t: &Run<'_>) -> Outcome {
    live(t, |message| message.response_topic = Some("any/topic at all".into()))
}

fn correlation_data_is_passed_on(t: &Run<'_>) -> Outcome {
    live(t, |message| message.correlation_data = Some((0..=255).collect()))?;
    live(t, |message| message.correlation_data = Some(Vec::new()))
}

fn user_properties_are_passed_on_in_order(t: &Run<'_>) -> Outcome {
    let pairs = [("z", "1"), ("a", "2"), ("z", "1"), ("", ""), ("名", "値"), ("a", "0")];
    live(t, |message| message.user_properties = pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
}

fn properties_are_passed_on_from_the_queue(t: &Run<'_>) -> Outcome {
    let mut away = t.connect("a").kept().client()?;
    away.subscribe(&t.topic("a"), 1)?;
    away.cut();
    let message = full(t);
    t.client("publisher")?.publish(&message)?;
    same(&t.connect("a").kept().present(true)?.message()?, &message)
}

fn properties_are_passed_on_with_retained_messages(t: &Run<'_>) -> Outcome {
    let message = full(t);
    let mut publisher = t.client("publisher")?;
    t.retain(&mut publisher, &message)?;
    same(&t.subscriber("a", 1)?.message()?, &message)
}

fn properties_in_any_order_are_understood(t: &Run<'_>) -> Outcome {
    use bucketmq_packet::property::Property;
    let mut subscriber = t.subscriber("a", 0)?;
    let properties = [
        Property::UserProperty("n", "1"),
        Property::MessageExpiryInterval(100),
        Property::CorrelationData(b"c"),
        Property::UserProperty("m", "2"),
        Property::ContentType("t"),
        Property::PayloadFormatIndicator(true),
        Property::ResponseTopic("r"),
        Property::UserProperty("n", "3"),
    ];
    let mut publisher = t.client("publisher")?;
    publisher.send(&crate::bytes::Bytes::new(t.version).binary(t.topic("a")).properties(&properties).raw("x").packet(0x30));
    let mut expected = t.message("a", "x").user("n", "1").user("m", "2").user("n", "3");
    expected.correlation_data = Some(b"c".to_vec());
    expected.content_type = Some("t".into());
    expected.payload_format = Some(true);
    expected.response_topic = Some("r".into());
    let received = subscriber.message()?;
    same(&received, &expected)?;
    ensure!(received.expiry.is_some_and(|left| left > 90), "Message Expiry Interval came as {:?}", received.expiry);
    Ok(())
}

fn no_property_is_added(t: &Run<'_>) -> Outcome {
    live(t, |_| {})
}
