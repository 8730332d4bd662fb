//! Each client publishes to itself through the broker: 10,000 messages at each QoS, retained messages, Wills, Sessions that last, and TLS with a
//! Client certificate.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use bucketmq_e2e_clients::{Broker, Event, Job, RealClient, Received, Role, Transport, Version, WillJob};

/// One message for each, without loss and in order.
const MANY: usize = 10_000;
/// What waits for a Client while it is away.
const QUEUED: usize = 2_000;
/// Long enough for what is on its way to arrive where nothing should.
const LINGER_MS: u64 = 300;
/// For a client without a certificate, to get in if it could.
const STRANGER: Duration = Duration::from_secs(2);

/// A client in one version over one transport, with a broker of its own.
struct Scene {
    client: RealClient,
    version: Version,
    transport: Transport,
    broker: Broker,
}

impl Scene {
    fn new(client: RealClient, version: Version, transport: Transport) -> anyhow::Result<Self> {
        Ok(Self { client, version, transport, broker: Broker::start()? })
    }

    fn job(&self, role: Role, topic: &str, qos: u8, count: usize) -> Job {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let certificates = self.broker.certificates();
        let path = |path: &Path| (self.transport == Transport::Tls).then(|| path.display().to_string());
        Job {
            role,
            host: "127.0.0.1".to_owned(),
            port: self.broker.port(self.transport),
            transport: self.transport,
            version: self.version,
            client_id: format!("client-{}", NUMBER.fetch_add(1, Ordering::Relaxed)),
            topic: topic.to_owned(),
            qos,
            count,
            payload: None,
            retain: false,
            clean: true,
            linger_ms: 0,
            will: None,
            ca: path(&certificates.ca),
            cert: path(&certificates.client_cert),
            key: path(&certificates.client_key),
        }
    }

    fn publish(&self, job: &Job) -> anyhow::Result<()> {
        self.client.start(job)?.finish().context("publishing")?;
        Ok(())
    }

    /// Says what the broker logged beside what went wrong.
    fn checked(&self, outcome: anyhow::Result<()>) {
        if let Err(error) = outcome {
            panic!("{error:#}\nthe broker's log:\n{}", self.broker.log());
        }
    }
}

/// All numbers, each once and in their order, with this QoS.
fn ensure_all(messages: &[Received], count: usize, qos: u8) -> anyhow::Result<()> {
    for (number, message) in messages.iter().enumerate() {
        ensure!(message.payload == number.to_string(), "{} came as number {number} of {}", message.payload, messages.len());
        ensure!(message.qos == qos, "number {number} came with QoS {}", message.qos);
    }
    ensure!(messages.len() == count, "{} of {count} came", messages.len());
    Ok(())
}

fn many_messages(scene: &Scene, qos: u8, count: usize) -> anyhow::Result<()> {
    let mut job = scene.job(Role::Subscribe, "many", qos, count);
    job.linger_ms = LINGER_MS;
    let mut subscriber = scene.client.start(&job)?;
    subscriber.subscribed()?;
    scene.publish(&scene.job(Role::Publish, "many", qos, count))?;
    ensure_all(&subscriber.messages()?, count, qos)
}

fn retained_messages(scene: &Scene, qos: u8) -> anyhow::Result<()> {
    let topic = format!("retained/{qos}");
    let mut publish = scene.job(Role::Publish, &topic, qos, 1);
    publish.retain = true;
    for payload in ["older", "newer"] {
        publish.payload = Some(payload.to_owned());
        scene.publish(&publish)?;
    }
    let kept = scene.client.start(&scene.job(Role::Subscribe, &topic, qos, 1))?.messages()?;
    ensure!(kept == [Received { payload: "newer".to_owned(), qos, retain: true }], "{kept:?}");

    publish.payload = Some(String::new());
    scene.publish(&publish)?;
    let mut subscribe = scene.job(Role::Subscribe, &topic, qos, 0);
    subscribe.linger_ms = LINGER_MS;
    let cleared = scene.client.start(&subscribe)?.messages()?;
    ensure!(cleared.is_empty(), "{cleared:?}");
    Ok(())
}

fn will(scene: &Scene, qos: u8) -> anyhow::Result<()> {
    let topic = format!("will/{qos}");
    let mut watcher = scene.client.start(&scene.job(Role::Subscribe, &topic, qos, 1))?;
    watcher.subscribed()?;
    let will = || Some(WillJob { topic: topic.clone(), payload: "lost".to_owned(), qos, retain: false });

    let mut leaving = scene.job(Role::Subscribe, "elsewhere", 0, 0);
    leaving.will = will().map(|will| WillJob { payload: "left".to_owned(), ..will });
    scene.client.start(&leaving)?.finish().context("leaving by DISCONNECT")?;

    let mut lost = scene.job(Role::Subscribe, "elsewhere", 0, 1);
    lost.will = will();
    let mut lost = scene.client.start(&lost)?;
    lost.subscribed()?;
    lost.kill()?;
    let messages = watcher.messages()?;
    ensure!(messages == [Received { payload: "lost".to_owned(), qos, retain: false }], "{messages:?}");
    Ok(())
}

fn lasting_session(scene: &Scene, qos: u8) -> anyhow::Result<()> {
    let topic = format!("session/{qos}");
    let mut job = scene.job(Role::Subscribe, &topic, qos, 0);
    job.clean = false;
    scene.client.start(&job)?.finish().context("making the Session")?;

    // QoS 0 does not wait for those who are away.
    let count = if qos == 0 { 1 } else { QUEUED };
    if qos > 0 {
        scene.publish(&scene.job(Role::Publish, &topic, qos, count))?;
    }
    job.count = count;
    job.linger_ms = LINGER_MS;
    let mut resumed = scene.client.start(&job)?;
    if qos == 0 {
        resumed.subscribed()?;
        scene.publish(&scene.job(Role::Publish, &topic, qos, count))?;
    }
    let events = resumed.finish()?;
    // mosquitto_sub and MQTT 3.1 do not tell.
    let tells = scene.version != Version::V3_1;
    let denies = |event: &Event| matches!(event, Event::Connected { session_present: Some(false) });
    ensure!(!tells || !events.iter().any(denies), "Session Present is 0");
    let messages: Vec<_> =
        events.into_iter().filter_map(|event| if let Event::Message(message) = event { Some(message) } else { None }).collect();
    ensure_all(&messages, count, qos)
}

fn stranger_is_refused(scene: &Scene) -> anyhow::Result<()> {
    let mut watch = scene.job(Role::Subscribe, "secret", 1, 0);
    watch.linger_ms = STRANGER.as_millis() as u64 + LINGER_MS;
    let mut watcher = scene.client.start(&watch)?;
    watcher.subscribed()?;
    let mut job = scene.job(Role::Publish, "secret", 1, 1);
    (job.cert, job.key) = (None, None);
    // mosquitto_pub would try for ever, the others give up.
    let published = scene.client.start(&job)?.hurry(STRANGER).finish();
    ensure!(published.is_err(), "published without a certificate");
    let messages = watcher.messages()?;
    ensure!(messages.is_empty(), "{messages:?}");
    Ok(())
}

macro_rules! scenarios {
    ($module:ident: $client:ident, $version:ident, $transport:ident) => {
        mod $module {
            use super::*;

            fn scene() -> Scene {
                Scene::new(RealClient::$client, Version::$version, Transport::$transport).expect("a broker")
            }

            #[test]
            fn ten_thousand_messages_of_qos_0_arrive_in_order() {
                let scene = scene();
                scene.checked(many_messages(&scene, 0, MANY));
            }

            #[test]
            fn ten_thousand_messages_of_qos_1_arrive_in_order() {
                let scene = scene();
                scene.checked(many_messages(&scene, 1, MANY));
            }

            #[test]
            fn ten_thousand_messages_of_qos_2_arrive_in_order() {
                let scene = scene();
                scene.checked(many_messages(&scene, 2, MANY));
            }

            #[test]
            fn retained_message_comes_to_who_subscribes_later_until_it_is_cleared() {
                let scene = scene();
                (0..=2).for_each(|qos| scene.checked(retained_messages(&scene, qos)));
            }

            #[test]
            fn will_is_published_when_the_client_is_lost_and_not_when_it_leaves() {
                let scene = scene();
                (0..=2).for_each(|qos| scene.checked(will(&scene, qos)));
            }

            #[test]
            fn session_goes_on_where_it_was() {
                let scene = scene();
                (0..=2).for_each(|qos| scene.checked(lasting_session(&scene, qos)));
            }
        }
    };
}

macro_rules! tls {
    ($module:ident: $client:ident, $version:ident) => {
        mod $module {
            use super::*;

            #[test]
            fn certificate_is_asked_for_and_lets_in() {
                let scene = Scene::new(RealClient::$client, Version::$version, Transport::Tls).expect("a broker");
                (0..=2).for_each(|qos| scene.checked(many_messages(&scene, qos, 1_000)));
                scene.checked(stranger_is_refused(&scene));
            }
        }
    };
}

scenarios!(mosquitto_3_1_1: Mosquitto, V3_1_1, Tcp);
scenarios!(mosquitto_5: Mosquitto, V5, Tcp);
scenarios!(paho_3_1_1: Paho, V3_1_1, Tcp);
scenarios!(paho_5: Paho, V5, Tcp);
scenarios!(mqttjs_3_1_1: MqttJs, V3_1_1, Tcp);
scenarios!(mqttjs_5: MqttJs, V5, Tcp);
scenarios!(mqttjs_websocket_3_1_1: MqttJs, V3_1_1, Ws);
scenarios!(mqttjs_websocket_5: MqttJs, V5, Ws);
scenarios!(rumqttc_3_1_1: Rumqttc, V3_1_1, Tcp);
scenarios!(rumqttc_5: Rumqttc, V5, Tcp);
scenarios!(bucketmq_3_1: Bucketmq, V3_1, Tcp);
scenarios!(bucketmq_3_1_1: Bucketmq, V3_1_1, Tcp);
scenarios!(bucketmq_5: Bucketmq, V5, Tcp);
scenarios!(bucketmq_websocket_5: Bucketmq, V5, Ws);

tls!(mosquitto_tls_3_1_1: Mosquitto, V3_1_1);
tls!(mosquitto_tls_5: Mosquitto, V5);
tls!(paho_tls_3_1_1: Paho, V3_1_1);
tls!(paho_tls_5: Paho, V5);
tls!(mqttjs_tls_3_1_1: MqttJs, V3_1_1);
tls!(mqttjs_tls_5: MqttJs, V5);
tls!(rumqttc_tls_3_1_1: Rumqttc, V3_1_1);
tls!(rumqttc_tls_5: Rumqttc, V5);
tls!(bucketmq_tls_3_1_1: Bucketmq, V3_1_1);
tls!(bucketmq_tls_5: Bucketmq, V5);
