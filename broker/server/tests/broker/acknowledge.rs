//! When acknowledgements leave, with a bucket that is slow or gone: a real S3 server behind a proxy.

use std::time::{Duration, Instant};

use bucketmq_packet::{Packet, QoS, ReasonCode};
use bucketmq_servers::{FaultProxy, Options, ProxyOptions, Server, Versitygw};

use crate::client::{Broker, Came, Client, connect, pass, tcp, until};
use crate::durable::resume;

/// What the slow bucket takes for a write.
const SLOW: Duration = Duration::from_millis(1500);
/// Not that of the bucket.
const SOON: Duration = Duration::from_millis(1000);

pub struct Scene {
    pub broker: Broker,
    pub proxy: FaultProxy,
    _server: Server,
}

/// A broker whose bucket is behind a proxy.
pub fn start(config: &str) -> Scene {
    let server = Versitygw::start(Options::default()).unwrap();
    let proxy = FaultProxy::start(&server, ProxyOptions::default()).unwrap();
    let bucket = format!("\n[bucket]\nurl = \"s3://{}/levels?region=us-east-1&endpoint={}\"\n", server.bucket(), proxy.endpoint());
    let environment: String = proxy
        .access()
        .environment()
        .into_iter()
        .filter(|(name, _)| name.contains("KEY"))
        .map(|(name, value)| format!("{name}={value}\n"))
        .collect();
    let broker =
        Broker::start_with(&format!("{config}{bucket}"), |folder| std::fs::write(folder.join("environment"), environment).unwrap());
    Scene { broker, proxy, _server: server }
}

/// How long PUBACK takes.
fn time_of_puback(client: &mut Client) -> Duration {
    let began = Instant::now();
    assert_eq!(client.publish_acknowledged("t", b"x"), Came::PubAck(ReasonCode::Success));
    began.elapsed()
}

#[test]
fn the_level_of_a_role_goes_before_that_of_a_listener_and_that_before_the_broker_s() {
    let scene = start(
        "[limits]\nacknowledge = \"buffered\"\n\
         [[listeners]]\nurl = \"tcp://@ADDRESS@\"\nanonymous = \"local\"\n\
         [[listeners]]\nname = \"strict\"\nurl = \"tcp://127.0.0.1:0\"\nanonymous = \"local\"\nacknowledge = \"durable\"\n\
         [[listeners]]\nname = \"hasty\"\nurl = \"tcp://127.0.0.1:0\"\nanonymous = \"hasty\"\nacknowledge = \"durable\"\n\
         [access.roles.hasty]\nrules = [\"allow connect\", \"allow publish *\"]\nacknowledge = \"buffered\"\n",
    );
    let broker = &scene.broker;
    let (mut away, _) = resume(broker, "away");
    away.subscribe("t", QoS::AtLeastOnce);
    drop(away);
    broker.until_away(1);
    let open = |listener: &str, id| Client::over(tcp(broker.endpoint(listener)), &connect(id, true, None)).unwrap();
    let (mut strict, mut hasty, mut plain) = (open("strict", "strict"), open("hasty", "hasty"), broker.client("plain"));
    scene.proxy.set_latency(Duration::ZERO, SLOW);
    assert!(time_of_puback(&mut hasty) < SOON);
    assert!(time_of_puback(&mut plain) < SOON);
    assert!(time_of_puback(&mut strict) >= SOON);
}

#[test]
fn while_the_bucket_is_gone_messages_flow_and_acknowledgements_wait() {
    let scene = start("[[listeners]]\nurl = \"tcp://@ADDRESS@\"\nanonymous = \"local\"\n");
    let broker = &scene.broker;
    let (mut subscriber, mut publisher) = (broker.client("subscriber"), broker.client("publisher"));
    subscriber.subscribe("t", QoS::AtLeastOnce);
    assert_eq!(publisher.publish_acknowledged("t", b"before"), Came::PubAck(ReasonCode::Success));
    assert_eq!(subscriber.next(), Came::Publish("t".into(), b"before".to_vec()));
    scene.proxy.refuse(true);
    broker.until_readyz("\"awaiting\":[\"bucket\"]");
    assert_eq!(broker.metric("mqtt_acknowledgements_confirmed"), 0);
    // Nobody here has a Session that lasts, and yet somebody else may own the bucket by now, with Sessions this broker knows nothing of.
    publisher.publish("t", b"during", QoS::AtLeastOnce);
    assert_eq!(subscriber.next(), Came::Publish("t".into(), b"during".to_vec()));
    publisher.publish("t", b"qos 0", QoS::AtMostOnce);
    assert_eq!(subscriber.next(), Came::Publish("t".into(), b"qos 0".to_vec()));
    publisher.send(&Packet::PingReq);
    assert_eq!(publisher.next(), Came::Pong);
    pass(Duration::from_secs(1));
    scene.proxy.refuse(false);
    assert_eq!(publisher.next(), Came::PubAck(ReasonCode::Success));
    until(|| broker.get("/readyz").contains("\"ready\":true").then_some(()));
    assert_eq!(publisher.publish_acknowledged("t", b"after"), Came::PubAck(ReasonCode::Success));
}
