//! Messages of a Shared Subscription while its members go, in whatever way, and the broker dies before anything has reached the other members' shards:
//! what was in the bucket stays there.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bucketmq_access::Access;
use bucketmq_listener::{Config as ListenerConfig, ListenerHandle, Totals};
use bucketmq_packet::{
    Connect, ConnectProperties, Packet, PacketIdentifier, ProtocolVersion, Publish, QoS, Sender, Subscribe, SubscriptionOptions,
    Unsubscribe, decode,
};
use bucketmq_storage::durable::Place;
use bucketmq_storage::{DurableStore, ShardId, Shards, Store};
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinSet;

use crate::broker::{Broker, Inherited};
use crate::config::Limits;
use crate::connect;
use crate::durable::restore::Restored;

const FILTER: &str = "$share/g/t";
const SHARDS: u16 = 4;
/// Longer than anything here takes that is not held back.
const QUIET: Duration = Duration::from_millis(300);

/// A bucket in which, once it is shut, writes go on to one shard only: the others wait for ever.
#[derive(Debug)]
struct Gate {
    objects: Arc<InMemory>,
    shut: AtomicBool,
    open_shard: OnceLock<ShardId>,
}

impl Gate {
    fn shut_but_for(&self, shard: ShardId) {
        self.open_shard.get_or_init(|| shard);
        self.shut.store(true, Ordering::Relaxed);
    }

    async fn pass(&self, location: &Path) {
        let open = self.open_shard.get().map(|shard| format!("shards/{shard}/"));
        if self.shut.load(Ordering::Relaxed) && !open.is_some_and(|open| location.as_ref().starts_with(&open)) {
            std::future::pending().await
        }
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a bucket that is shut in part")
    }
}

#[async_trait]
impl ObjectStore for Gate {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.pass(location).await;
        self.objects.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.pass(location).await;
        self.objects.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.objects.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.objects.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.objects.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}

/// A broker on a bucket.
struct Bench {
    gate: Arc<Gate>,
    store: Arc<DurableStore>,
    broker: Arc<Broker>,
    listener: Arc<ListenerHandle>,
    tasks: JoinSet<()>,
}

impl Bench {
    async fn open(objects: Arc<InMemory>) -> Self {
        let gate = Arc::new(Gate { objects, shut: AtomicBool::new(false), open_shard: OnceLock::new() });
        let place = Place { bucket: gate.clone(), prefix: Path::default(), shards: Shards::new(SHARDS).expect("a power of two") };
        let store = Arc::new(DurableStore::open(&place).await.expect("it opens"));
        let mut restored = Restored::read(&store, &[0; SHARDS as usize], 1_000_000).await.expect("it is read");
        let outboxes = std::mem::take(&mut restored.outboxes);
        let inherited = Inherited { outboxes, next_number: restored.next_number, ..Inherited::nothing() };
        let access = Access::load(&bucketmq_access::Config::default()).expect("nothing to load");
        let broker = Arc::new(Broker::new(Limits::default(), access, store.clone(), inherited));
        restored.put_into(&broker, &store);
        broker.know();
        let mut tasks = JoinSet::new();
        broker.start_outboxes(&mut tasks);
        let config = ListenerConfig { anonymous: "local".to_owned(), ..ListenerConfig::new("tcp://127.0.0.1:1883") };
        let listener = ListenerHandle::without_socket(config, Totals::new(0, 0));
        Self { gate, store, broker, listener, tasks }
    }

    /// The broker is gone, with everything that is not in the bucket; the next one.
    async fn crash(mut self) -> Self {
        self.tasks.shutdown().await;
        Self::open(self.gate.objects.clone()).await
    }

    async fn client(&mut self, id: &str, receive_maximum: u16, clean_start: bool) -> Client {
        let (here, there) = tokio::io::duplex(1 << 20);
        let accepted = self.listener.take(Box::new(there)).expect("room");
        self.tasks.spawn(connect::serve(self.broker.clone(), accepted));
        let mut client = Client { stream: here, input: Vec::new() };
        let properties = ConnectProperties {
            session_expiry_interval: Some(u32::MAX),
            receive_maximum: Some(receive_maximum),
            ..ConnectProperties::default()
        };
        let version = ProtocolVersion::V5;
        client
            .send(&Packet::Connect(Connect {
                version,
                clean_start,
                keep_alive: 0,
                client_id: id,
                username: None,
                password: None,
                will: None,
                properties,
            }))
            .await;
        client.until(|packet| matches!(packet, Packet::ConnAck(_)).then_some(())).await;
        client
    }

    /// Everything there is now of the shard of `id` is in the bucket.
    async fn shard_is_durable(&self, id: &str) {
        let shard = self.broker.shards.of(id);
        self.store.wait_durable(shard, self.store.position(shard)).await.expect("it is not lost");
    }

    /// Nothing is on its way any more.
    async fn is_at_rest(&self) {
        tokio::time::sleep(QUIET).await;
        for shard in self.broker.shards.all() {
            self.store.wait_durable(shard, self.store.position(shard)).await.expect("it is not lost");
        }
    }

    async fn until_away(&self, id: &str) {
        while !self.is_away(id) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn is_away(&self, id: &str) -> bool {
        let mut connected = false;
        self.broker.registry.for_each(|client| connected |= &*client.id == id && client.connected.load(Ordering::Relaxed));
        !connected
    }
}

struct Client {
    stream: DuplexStream,
    input: Vec<u8>,
}

fn id(id: u16) -> PacketIdentifier {
    PacketIdentifier::new(id).expect("not 0")
}

impl Client {
    async fn send(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(ProtocolVersion::V5, &mut bytes);
        self.stream.write_all(&bytes).await.expect("the broker is there");
    }

    /// The first packet of which `wanted` makes something.
    async fn until<T>(&mut self, wanted: impl Fn(&Packet<'_>) -> Option<T>) -> T {
        loop {
            if let Some((packet, used)) = decode(&self.input, ProtocolVersion::V5, Sender::Server, u32::MAX).expect("it can be read") {
                let found = wanted(&packet);
                self.input.drain(..used);
                match found {
                    Some(found) => return found,
                    None => continue,
                }
            }
            assert_ne!(self.stream.read_buf(&mut self.input).await.expect("the broker is there"), 0, "the broker hung up");
        }
    }

    async fn subscribe(&mut self) {
        let filters = vec![(FILTER, SubscriptionOptions::with_qos(QoS::ExactlyOnce))];
        self.send(&Packet::Subscribe(Subscribe { packet_id: id(1), subscription_identifier: None, user_properties: Vec::new(), filters }))
            .await;
        self.until(|packet| matches!(packet, Packet::SubAck(_)).then_some(())).await;
    }

    async fn unsubscribe(&mut self) {
        self.send(&Packet::Unsubscribe(Unsubscribe { packet_id: id(1), user_properties: Vec::new(), filters: vec![FILTER] })).await;
        self.until(|packet| matches!(packet, Packet::UnsubAck(_)).then_some(())).await;
    }

    /// Publishes and waits for the acknowledgement.
    async fn publish(&mut self, payload: &str, qos: QoS) {
        let (dup, retain, packet_id) = (false, false, Some(id(9)));
        let (topic, payload) = ("t", payload.as_bytes());
        self.send(&Packet::Publish(Publish { dup, qos, retain, topic, packet_id, properties: Default::default(), payload })).await;
        self.until(|packet| matches!(packet, Packet::PubAck(_) | Packet::PubRec(_)).then_some(())).await;
    }

    async fn next(&mut self) -> String {
        self.until(|packet| match packet {
            Packet::Publish(publish) => Some(String::from_utf8_lossy(publish.payload).into_owned()),
            _ => None,
        })
        .await
    }

    /// Payloads that come until nothing comes any more.
    async fn all(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        while let Ok(payload) = tokio::time::timeout(QUIET, self.next()).await {
            all.push(payload);
        }
        all.sort();
        all.dedup();
        all
    }
}

/// A Client Identifier whose Session is in another shard than `others`.
fn elsewhere(shards: Shards, prefix: &str, others: &[&str]) -> String {
    let names = (0..).map(|number| format!("{prefix}{number}"));
    let mut free = names.filter(|name| others.iter().all(|other| shards.of(other) != shards.of(name)));
    free.next().expect("there are more shards than others")
}

/// How a member is there no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Disconnects,
    Unsubscribes,
    StartsClean,
}

/// Two members, of which `leaves` has two messages at QoS 1, of which one was sent, or one at QoS 2 that was sent, and goes; before anything of that
/// is in another shard, the broker dies. What the other one then gets.
async fn left(way: Way, receive_maximum: u16, qos: QoS) -> Vec<String> {
    let mut bench = Bench::open(Arc::new(InMemory::new())).await;
    let shards = bench.broker.shards;
    let leaves = elsewhere(shards, "leaves", &[FILTER]);
    let stays = elsewhere(shards, "stays", &[FILTER, &leaves]);
    let mut staying = bench.client(&stays, 100, false).await;
    staying.subscribe().await;
    drop(staying);
    bench.until_away(&stays).await;
    let mut leaving = bench.client(&leaves, receive_maximum, false).await;
    leaving.subscribe().await;
    let mut publisher = bench.client("publisher", 100, true).await;
    publisher.publish("1", qos).await;
    assert_eq!(leaving.next().await, "1");
    if qos == QoS::AtLeastOnce {
        publisher.publish("2", qos).await;
    }
    bench.is_at_rest().await;
    bench.gate.shut_but_for(shards.of(&leaves));
    match way {
        Way::Disconnects => drop(leaving),
        Way::Unsubscribes => leaving.unsubscribe().await,
        Way::StartsClean => {
            drop(leaving);
            bench.until_away(&leaves).await;
            let _ = bench.client(&leaves, 100, true).await;
        }
    }
    tokio::time::sleep(QUIET).await;
    bench.shard_is_durable(&leaves).await;
    let mut bench = bench.crash().await;
    let mut staying = bench.client(&stays, 100, false).await;
    let mut came = staying.all().await;
    // What is still with the one that left is not lost.
    let mut back = bench.client(&leaves, 100, false).await;
    came.extend(back.all().await);
    came.sort();
    came.dedup();
    came
}

#[tokio::test]
async fn what_a_member_leaves_is_not_lost_when_the_broker_dies_before_another_one_has_it() {
    for way in [Way::Disconnects, Way::Unsubscribes, Way::StartsClean] {
        // Sent, or waiting in the window; waiting in the bucket only.
        for receive_maximum in [100, 1] {
            assert_eq!(left(way, receive_maximum, QoS::AtLeastOnce).await, ["1", "2"], "{way:?} with Receive Maximum {receive_maximum}");
        }
    }
}

#[tokio::test]
async fn qos_2_in_delivery_ends_with_its_session() {
    assert_eq!(left(Way::StartsClean, 100, QoS::ExactlyOnce).await, [""; 0], "[MQTT-4.8.2-5]");
    assert_eq!(left(Way::Disconnects, 100, QoS::ExactlyOnce).await, ["1"], "[MQTT-4.8.2-4]");
}
