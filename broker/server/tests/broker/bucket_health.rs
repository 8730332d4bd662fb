//! What `/readyz` says of the bucket: one reason and one text for one trouble, whichever request met it.

use std::time::{Duration, Instant};

use bucketmq_packet::{QoS, ReasonCode};
use bucketmq_servers::Fault;

use crate::acknowledge::start;
use crate::client::{Broker, Came, pass, until};
use crate::durable::{STORED, resume};

const OPEN: &str = "[[listeners]]\nurl = \"tcp://@ADDRESS@\"\nanonymous = \"local\"\n";

/// Waits for a reason: its message.
pub fn until_reason(broker: &Broker, reason: &str) -> String {
    until(|| {
        let bucket = broker.readyz()["bucket"].clone();
        (bucket["reason"] == reason).then(|| bucket["message"].as_str().unwrap().to_owned())
    })
}

#[test]
fn without_a_bucket_nothing_is_told_of_one_and_a_directory_is_healthy() {
    let broker = Broker::start(OPEN);
    assert!(broker.readyz()["bucket"].is_null());
    let broker = Broker::start(STORED);
    let bucket = broker.readyz()["bucket"].clone();
    assert!(bucket["healthy"] == true && bucket["reason"] == "Healthy", "{bucket}");
    assert!(bucket["message"].as_str().unwrap().starts_with("file://"), "{bucket}");
}

#[test]
fn while_it_serves_each_trouble_has_its_reason_and_the_same_text_each_time() {
    let scene = start(OPEN);
    let broker = &scene.broker;
    let (mut away, _) = resume(broker, "away");
    away.subscribe("t", QoS::AtLeastOnce);
    drop(away);
    until_reason(broker, "Healthy");
    let mut texts: Vec<String> = Vec::new();
    for (fault, reason, says) in [
        (None, "Unreachable", "the connection is refused"),
        (Some(Fault::AccessDenied), "AccessDenied", "bucketmq bucket policy"),
        (Some(Fault::SlowDown), "Unreachable", "503 SlowDown"),
    ] {
        for _ in 0..2 {
            match fault {
                None => scene.proxy.refuse(true),
                Some(fault) => drop(scene.proxy.inject(fault.always())),
            }
            let text = until(|| {
                let bucket = broker.readyz()["bucket"].clone();
                let text = bucket["message"].as_str().unwrap().to_owned();
                (bucket["reason"] == reason && bucket["healthy"] == false && text.contains(says)).then_some(text)
            });
            assert!(text.starts_with("s3://") && !text.contains('\n'), "{text}");
            let looked = Instant::now();
            while looked.elapsed() < Duration::from_secs(3) {
                let ready = broker.readyz();
                assert_eq!((ready["bucket"]["message"].as_str(), ready["ready"].as_bool()), (Some(&*text), Some(false)), "{ready}");
                assert_eq!(ready["awaiting"], serde_json::json!(["bucket"]));
                std::thread::sleep(Duration::from_millis(50));
            }
            texts.push(text);
            scene.proxy.refuse(false);
            scene.proxy.heal();
            until_reason(broker, "Healthy");
            until(|| broker.readyz()["ready"].as_bool().filter(|ready| *ready));
            assert_eq!(broker.client("publisher").publish_acknowledged("t", b"x"), Came::PubAck(ReasonCode::Success));
        }
    }
    assert!(texts.chunks(2).all(|pair| pair[0] == pair[1]), "{texts:?}");
}

#[test]
fn a_bucket_whose_writes_wait_without_an_answer_is_slow() {
    let scene = start(OPEN);
    let broker = &scene.broker;
    let (mut away, _) = resume(broker, "away");
    away.subscribe("t", QoS::AtLeastOnce);
    drop(away);
    broker.until_away(1);
    scene.proxy.inject(Fault::Hang.always().on_writes().key_containing("/wal/"));
    let mut publisher = broker.client("publisher");
    publisher.publish("t", b"x", QoS::AtLeastOnce);
    let text = until_reason(broker, "Slow");
    assert!(text.contains("acknowledgements wait"), "{text}");
    pass(Duration::from_secs(1));
    scene.proxy.heal();
    until_reason(broker, "Healthy");
}
