//! Snapshots of a broker that is serving: what is in them, and that nobody waits for them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bucketmq_packet::{PacketType, QoS, ReasonCode};

use crate::bucket_tools::{Bucket, stop};
use crate::client::{Broker, Came, until};
use crate::durable::resume;

/// Messages of each publisher in flight: each waits for the one before.
const PUBLISHERS: [(&str, QoS); 4] =
    [("one", QoS::AtLeastOnce), ("two", QoS::ExactlyOnce), ("three", QoS::ExactlyOnce), ("four", QoS::AtLeastOnce)];

/// What a publisher knows to be there.
#[derive(Default)]
struct Acknowledged {
    last: AtomicU64,
    slowest_ms: AtomicU64,
}

/// Publishes 1, 2, 3 and so on until told to stop, first to `id`, then to the Session behind it.
fn load(broker: &Broker, id: &str, qos: QoS, ended: &AtomicBool, acknowledged: &Acknowledged) {
    let (mut client, _) = resume(broker, &format!("publisher-{id}"));
    for number in 1.. {
        if ended.load(Ordering::Relaxed) {
            return;
        }
        for topic in [format!("work/{id}"), format!("after/{id}")] {
            let began = Instant::now();
            match qos {
                QoS::ExactlyOnce => {
                    client.publish(&topic, number.to_string().as_bytes(), qos);
                    assert_eq!(client.next(), Came::Step(PacketType::PubRec, 7, ReasonCode::Success));
                    client.step(PacketType::PubRel, 7);
                    assert_eq!(client.next(), Came::Step(PacketType::PubComp, 7, ReasonCode::Success));
                }
                _ => {
                    let sent = client.publish_acknowledged(&topic, number.to_string().as_bytes());
                    assert_eq!(sent, Came::PubAck(ReasonCode::Success));
                }
            }
            acknowledged.slowest_ms.fetch_max(began.elapsed().as_millis() as u64, Ordering::Relaxed);
        }
        acknowledged.last.store(number, Ordering::Release);
    }
}

/// Comes behind everything else.
const LAST: &str = "last";

/// The numbers that wait for a Session at `topic`, each of them once and none left out.
fn numbers(broker: &Broker, id: &str, topic: &str) -> u64 {
    let sent = broker.client("ender").publish_acknowledged(topic, LAST.as_bytes());
    assert_eq!(sent, Came::PubAck(ReasonCode::Success));
    let (mut client, present) = resume(broker, id);
    assert!(present, "{id}");
    let mut last = 0;
    loop {
        match client.next() {
            Came::Publish(_, payload) => {
                if payload == LAST.as_bytes() {
                    return last;
                }
                let number: u64 = std::str::from_utf8(&payload).unwrap().parse().unwrap();
                assert_eq!(number, last + 1, "{id}");
                last = number;
                let got = client.last.unwrap();
                if got.qos == QoS::ExactlyOnce {
                    client.step(PacketType::PubRec, got.packet_id.unwrap().get());
                } else {
                    client.acknowledge();
                }
            }
            Came::Step(PacketType::PubRel, packet_id, _) => client.step(PacketType::PubComp, packet_id),
            other => panic!("unexpected {other:?}"),
        }
    }
}

/// A snapshot under load holds all that was acknowledged before it was asked for, nothing twice, and no answer to what it does not hold.
fn under_load(bucket: &Bucket, load_time: Duration) {
    let broker = bucket.broker("live");
    for (id, _) in PUBLISHERS {
        resume(&broker, id).0.subscribe(&format!("work/{id}"), QoS::ExactlyOnce);
        resume(&broker, &format!("after-{id}")).0.subscribe(&format!("after/{id}"), QoS::ExactlyOnce);
    }
    broker.until_away(2 * PUBLISHERS.len() as u64);
    let ended = AtomicBool::new(false);
    let acknowledged: [Acknowledged; 4] = Default::default();
    let before = std::thread::scope(|scope| {
        for ((id, qos), acknowledged) in PUBLISHERS.into_iter().zip(&acknowledged) {
            let (broker, ended) = (&broker, &ended);
            scope.spawn(move || load(broker, id, qos, ended, acknowledged));
        }
        crate::client::pass(load_time);
        let before: Vec<_> = acknowledged.iter().map(|of| of.last.load(Ordering::Acquire)).collect();
        let slowest = || acknowledged.iter().map(|of| of.slowest_ms.swap(0, Ordering::Relaxed)).max();
        let usual = slowest();
        let taken = bucket.done("live", &["snapshot", "under-load"]);
        let slow = slowest();
        crate::client::pass(load_time / 4);
        ended.store(true, Ordering::Relaxed);
        let held = taken["held_ms"].as_u64().unwrap();
        assert!(held < 2000, "{taken}; slowest acknowledgement {slow:?} ms, {usual:?} ms before");
        assert_eq!(taken["scheduled"], false);
        before
    });
    assert_eq!(broker.metric("mqtt_snapshots_taken_total"), 1);
    stop(broker);
    bucket.done("live", &["restore", "under-load"]);
    let broker = bucket.broker("live");
    for ((id, _), before) in PUBLISHERS.into_iter().zip(before) {
        let (work, after) = (numbers(&broker, id, &format!("work/{id}")), numbers(&broker, &format!("after-{id}"), &format!("after/{id}")));
        assert!(before > 0 && after >= before, "{id}: {before} were acknowledged, {after} are there");
        assert!(work >= after, "{id}: {after} came because {work} had been acknowledged");
    }
    stop(broker);
}

#[test]
fn a_snapshot_under_load_is_one_moment_in_a_directory() {
    under_load(&Bucket::directory(), Duration::from_secs(2));
}

#[test]
fn a_snapshot_under_load_is_one_moment_on_s3() {
    under_load(&Bucket::s3(), Duration::from_secs(2));
}

#[test]
fn a_broker_takes_snapshots_by_its_schedule() {
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "[[listeners]]\nurl = \"tcp://@ADDRESS@\"\nanonymous = \"local\"\n[bucket]\nurl = \"file://{}\"\n[bucket.snapshots]\nschedule = \"* * * * *\"\nretain \
         = 1\n",
        folder.path().display()
    );
    let broker = Broker::start(&config);
    until_taken(&broker, 1);
    assert!(broker.log().contains("snapshot taken"), "{}", broker.log());
    stop(broker);
}

/// A minute comes in a minute.
fn until_taken(broker: &Broker, count: u64) {
    let deadline = Instant::now() + Duration::from_secs(75);
    while broker.metric("mqtt_snapshots_taken_total") < count {
        assert!(Instant::now() < deadline, "{}", broker.log());
        std::thread::sleep(Duration::from_millis(200));
    }
    until(|| broker.get("/metrics").contains("mqtt_snapshot_last_success_timestamp_seconds 1").then_some(()));
}
