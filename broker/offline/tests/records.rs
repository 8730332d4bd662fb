//! Records that contradict each other, written as no broker would: found by name, mended without losing what is sound.

use std::sync::Arc;

use bucketmq_offline::repair::{self, Abandoned};
use bucketmq_offline::verify::{self, Remedy, Report};
use bucketmq_offline::{Exclusive, Site, ensure_not_owned, export, inspect, restore, snapshot};
use bucketmq_packet::QoS;
use bucketmq_packet::message::{Message, QueueEntry};
use bucketmq_storage::durable::Place;
use bucketmq_storage::offline::Writer;
use bucketmq_storage::record::Record;
use bucketmq_storage::record::applied::Applied;
use bucketmq_storage::record::cursor::Cursor;
use bucketmq_storage::record::outbox::OutboxNumber;
use bucketmq_storage::record::session::{Presence, Session, SessionKey};
use bucketmq_storage::record::subscription::Subscription;
use bucketmq_storage::{Batch, DurableStore, Sequence, SessionNumber, ShardId, Shards, Store};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

const CLIENT: &str = "pump";

/// A prefix with one Session whose queue holds five messages of one byte and topic.
async fn place() -> (Place, SessionNumber) {
    let place = Place { bucket: Arc::new(InMemory::new()), prefix: Path::default(), shards: Shards::new(2).expect("a power of two") };
    let number = SessionNumber::new(place.shards.of(CLIENT), 7);
    let store = DurableStore::open(&place).await.expect("opens");
    let session =
        Session { client_id: CLIENT.into(), owner: None, number, expiry_interval: 60, presence: Presence::Away(0), last_share: 0 };
    let mut batch = Batch::default();
    batch.put(&SessionKey::of(CLIENT), &session);
    for sequence in 0..5 {
        let message = Message::new("t", b"x", b"", QoS::AtLeastOnce, false, None);
        let entry = QueueEntry { message, identifiers: Box::default(), share: 0, qos: QoS::AtLeastOnce, retain: false };
        batch.append(number, Sequence(sequence), entry);
    }
    store.write(number.shard(), batch);
    store.close().await.expect("closes");
    (place, number)
}

async fn own(place: &Place) -> (Site, Exclusive) {
    let site = Site::find(place.bucket.clone()).await.expect("there is state");
    let exclusive = ensure_not_owned(&site.place, None, &|_| {}).await.expect("nobody owns it");
    (site, exclusive)
}

async fn verified(place: &Place) -> Report {
    let site = Site::find(place.bucket.clone()).await.expect("there is state");
    verify::verify(&site, None, &|_| {}).await
}

async fn write(place: &Place, site: &Site, shard: ShardId, rows: &[(Vec<u8>, Vec<u8>)]) {
    let mut writer = Writer::open(place, &site.root, shard, 0).await.expect("opens");
    for (key, value) in rows {
        writer.row(key, Some(value)).await.expect("written");
    }
    writer.close().await.expect("closes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_contradicts_is_named_set_aside_or_counted_anew() {
    let (place, number) = place().await;
    let (site, exclusive) = own(&place).await;
    assert!(verified(&place).await.is_clean());
    let shard = number.shard();
    let orphan =
        Subscription { options: bucketmq_packet::subscribe::SubscriptionOptions::with_qos(QoS::AtMostOnce), identifier: None, share: 0 };
    let orphan = (Subscription::key(&(SessionKey::of("nobody"), "a/#".into())), orphan.encode());
    let miscounted = Cursor { head: Sequence(0), next: Sequence(5), sent: Sequence(0), messages: 9, bytes: 999 };
    let garbage = (Session::key(&SessionKey::of("other")), vec![1, 2, 3]);
    write(&place, &site, shard, &[orphan, (Cursor::key(&number), miscounted.encode()), garbage.clone()]).await;

    let report = verified(&place).await;
    let problems: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    assert_eq!(report.faults, 3, "{problems:#?}");
    assert!(report.findings.iter().all(|finding| finding.shard == shard.0 && finding.remedy != Remedy::None), "{problems:#?}");
    assert!(problems.iter().any(|problem| problem.contains("\"a/#\" of a Session that is not there")), "{problems:#?}");
    assert!(problems.iter().any(|problem| problem.contains("says 9 messages")), "{problems:#?}");

    let repaired = repair::repair(&site, &exclusive, &report, &|_| {}).await.expect("mended");
    assert_eq!((repaired.set_aside, repaired.cursors, repaired.left.len()), (2, 1, 0), "{repaired:?}");
    let kept = place.bucket.get(&Path::from(repaired.kept_in[0].as_str())).await.expect("kept").bytes().await.expect("read");
    let kept = String::from_utf8(kept.to_vec()).expect("lines of JSON");
    assert!(kept.lines().count() == 2 && kept.contains("\"value_hex\":\"010203\""), "{kept}");
    assert!(verified(&place).await.is_clean());
    let shown = inspect::session(&site, CLIENT).await.expect("read").expect("there is one");
    assert_eq!(shown["queue"]["messages"], 5, "{shown}");
    let mut lines = Vec::new();
    assert_eq!(export::export(&site, None, &mut lines, &|_| {}).await.expect("written"), 1 + 1 + 1 + 5);
    exclusive.release().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_below_what_others_have_seen_is_found_and_raised() {
    let (place, _) = place().await;
    let (site, exclusive) = own(&place).await;
    let seen = Applied { number: OutboxNumber { epoch: 900, counter: 3 } };
    write(&place, &site, ShardId(1), &[(Applied::key(&ShardId(0)), seen.encode())]).await;
    let report = verified(&place).await;
    assert_eq!(report.findings[0].remedy, Remedy::RaiseEpoch { epoch: 900 }, "{report:?}");
    assert_eq!(repair::repair(&site, &exclusive, &report, &|_| {}).await.expect("mended").epochs, 1);
    assert!(verified(&place).await.is_clean());
    exclusive.release().await;
    let (_, exclusive) = own(&place).await;
    assert!(exclusive.epoch() > 900);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_is_given_up_comes_back_with_a_snapshot() {
    let (place, number) = place().await;
    let (site, exclusive) = own(&place).await;
    let taken = snapshot::make(&site, &exclusive, "before", &|_| {}).await.expect("a snapshot");
    let Abandoned { objects, to, snapshots, .. } = repair::abandon(&site, &exclusive, number.shard(), &|_| {}).await.expect("given up");
    assert!(objects > 0 && snapshots == 1);
    assert!(verified(&place).await.is_clean());
    assert!(inspect::session(&site, CLIENT).await.expect("read").is_none());
    let taken = snapshot::find(&place, &taken.name).await.expect("it is there");
    assert_eq!(taken.root_of(number.shard()).shard(&place, number.shard()), Path::from(to));
    restore::restore(&site, &exclusive, &taken, &|_| {}).await.expect("restored");
    exclusive.release().await;
    let site = Site::find(place.bucket.clone()).await.expect("there is state");
    assert!(inspect::session(&site, CLIENT).await.expect("read").is_some());
    assert!(verified(&place).await.is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_fails_changes_nothing() {
    let (place, _) = place().await;
    let (site, exclusive) = own(&place).await;
    let mut taken = snapshot::make(&site, &exclusive, "before", &|_| {}).await.expect("a snapshot");
    taken.shards[1].checkpoint = Default::default();
    let error = restore::restore(&site, &exclusive, &taken, &|_| {}).await.expect_err("there is no such checkpoint");
    assert!(error.to_string().contains("cannot be used"), "{error}");
    let left = place.bucket.list_with_delimiter(Some(&Path::from("restored"))).await.expect("listed");
    assert!(left.common_prefixes.is_empty(), "{left:?}");
    assert_eq!(Site::find(place.bucket.clone()).await.expect("there is state").root.folder(), "shards");
    exclusive.release().await;
}
