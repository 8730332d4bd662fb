//! A bucket with state in it: verified, snapshotted, changed, restored and copied.

use std::sync::Arc;

use bucketmq_cluster::PrefixClaim;
use bucketmq_offline::{Site, clone, ensure_not_owned, prefix_owner, restore, snapshot, verify};
use bucketmq_packet::QoS;
use bucketmq_packet::message::Message;
use bucketmq_storage::durable::Place;
use bucketmq_storage::{DurableStore, RetainedLimit, Shards, Store};
use object_store::memory::InMemory;
use object_store::path::Path;

async fn retain(place: &Place, topic: &str) {
    let store = DurableStore::open(place).await.expect("opens");
    store.set_retained(Message::new(topic, b"kept", b"", QoS::AtLeastOnce, true, None), RetainedLimit::NONE).expect("room");
    store.close().await.expect("closes");
}

async fn retained(place: &Place) -> u64 {
    let store = DurableStore::open(place).await.expect("opens");
    let usage = store.retained_usage();
    store.close().await.expect("closes");
    usage.messages
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_comes_back_and_a_copy_is_whole() {
    let place = Place { bucket: Arc::new(InMemory::new()), prefix: Path::default(), shards: Shards::new(2).expect("a power of two") };
    retain(&place, "first").await;
    assert_eq!(PrefixClaim::new(place.bucket.clone(), "fleet", "").look().await.expect("taken"), None);
    let site = Site::find(place.bucket.clone()).await.expect("there is state");
    let report = verify::verify(&site, None, &|_| {}).await;
    assert!(report.is_clean(), "{report:?}");
    let exclusive = ensure_not_owned(&site.place, None, &|_| {}).await.expect("nobody owns it");
    let taken = snapshot::make(&site, &exclusive, "one", &|_| {}).await.expect("a snapshot");
    retain(&place, "second").await;
    assert_eq!(retained(&place).await, 2);
    restore::restore(&site, &exclusive, &taken, &|_| {}).await.expect("restored");
    exclusive.release().await;
    assert_eq!(retained(&place).await, 1, "as it was at the snapshot");
    let site = Site::find(place.bucket.clone()).await.expect("there is state");
    let report = verify::verify(&site, None, &|_| {}).await;
    assert!(report.is_clean(), "{report:?}");
    let copy = Place { bucket: Arc::new(InMemory::new()), ..place.clone() };
    clone::clone(&site, None, copy.bucket.clone(), &|_| {}).await.expect("copied");
    assert_eq!(retained(&copy).await, 1);
    assert_eq!(prefix_owner(&copy).await.expect("read"), None, "a copy is for whoever comes first");
    assert_eq!(prefix_owner(&place).await.expect("read").as_deref(), Some("fleet"), "a restore gives it to nobody else");
}
