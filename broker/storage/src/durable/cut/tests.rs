//! What is in a snapshot, what is left of one that failed, and what the garbage collector leaves alone.

use std::sync::atomic::{AtomicBool, AtomicU64};

use bucketmq_packet::QoS;
use bucketmq_packet::message::Message;
use futures_util::TryStreamExt;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use slatedb::admin::AdminBuilder;
use slatedb::config::{CompactionWorkerOptions, CompactorOptions, GarbageCollectorDirectoryOptions, GarbageCollectorOptions};

use super::*;
use crate::offline::{At, Reader};
use crate::record::retained::Retained;
use crate::shard::Shards;
use crate::store::{RetainedLimit, Store};

fn place() -> Place {
    Place { bucket: Arc::new(InMemory::new()), prefix: Path::from("test"), shards: Shards::new(4).expect("a power of two") }
}

/// One topic of each shard.
fn topics(place: &Place) -> Vec<String> {
    let of = |shard| (0..).map(|number| format!("t{number}")).find(|topic| place.shards.of(topic) == shard);
    place.shards.all().filter_map(of).collect()
}

fn set(store: &DurableStore, topic: &str, number: u64) -> crate::store::Position {
    let message = Message::new(topic, number.to_string().as_bytes(), b"", QoS::AtLeastOnce, true, None);
    store.set_retained(message, RetainedLimit::NONE).expect("room")
}

/// What `cut` has of `topic`.
async fn number_in(place: &Place, cut: &Cut, topic: &str) -> u64 {
    let shard = place.shards.of(topic);
    let (.., checkpoint, _) = cut.checkpoints.iter().find(|(known, ..)| *known == shard).expect("all are in it");
    let reader = Reader::open(place, &Root::at("shards"), shard, At::Checkpoint(*checkpoint)).await.expect("opens");
    let found = reader.record::<Retained>(&topic.to_owned()).await.expect("readable");
    reader.close().await;
    found.map_or(0, |found| std::str::from_utf8(found.message.payload()).expect("text").parse().expect("a number"))
}

async fn checkpoints(place: &Place) -> usize {
    let mut count = 0;
    for shard in place.shards.all() {
        let admin = AdminBuilder::new(Root::at("shards").shard(place, shard), place.bucket.clone()).build();
        count += admin.list_checkpoints(None).await.expect("a manifest").len();
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_has_everything_before_its_moment_in_every_shard_and_nothing_after_it() {
    let place = place();
    let store = Arc::new(DurableStore::open(&place).await.expect("opens"));
    let topics = topics(&place);
    let (stop, durable) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writer = tokio::spawn({
        let (store, topics, stop, durable) = (store.clone(), topics.clone(), stop.clone(), durable.clone());
        async move {
            for number in 1.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let positions: Vec<_> = topics.iter().map(|topic| (store.shards().of(topic), set(&store, topic, number))).collect();
                if number % 16 == 0 {
                    for (shard, position) in positions {
                        store.wait_durable(shard, position).await.expect("durable");
                    }
                    durable.store(number, Ordering::Release);
                }
                tokio::task::yield_now().await;
            }
        }
    });
    for _ in 0..12 {
        tokio::time::sleep(Duration::from_millis(30)).await;
        let acknowledged = durable.load(Ordering::Acquire);
        let cut = store.cut("moment").await.expect("a cut");
        assert!(cut.held < HELD_MAX);
        let mut found = Vec::new();
        for topic in &topics {
            found.push(number_in(&place, &cut, topic).await);
        }
        // They are set one after the other, so the moment is between two of them.
        let last = *found.last().expect("some");
        assert!(last >= acknowledged, "{found:?}: {acknowledged} was acknowledged before");
        assert!(found.is_sorted_by(|before, after| before >= after) && found[0] <= last + 1, "{found:?} is no moment");
    }
    stop.store(true, Ordering::Relaxed);
    writer.await.expect("writes");
    store.close().await.expect("closes");
    assert_eq!(checkpoints(&place).await, 12 * 4);
}

#[tokio::test]
async fn a_snapshot_of_what_is_not_written_yet_makes_it_durable_and_the_store_goes_on() {
    let place = place();
    let store = DurableStore::open(&place).await.expect("opens");
    let topic = &topics(&place)[2];
    set(&store, topic, 1);
    let cut = store.cut("one").await.expect("a cut");
    let position = set(&store, topic, 2);
    store.wait_durable(place.shards.of(topic), position).await.expect("durable");
    assert_eq!(number_in(&place, &cut, topic).await, 1);
    let second = store.cut("two").await.expect("a cut");
    assert_eq!(number_in(&place, &second, topic).await, 2);
    store.close().await.expect("closes");
}

#[tokio::test]
async fn a_snapshot_that_is_given_up_leaves_no_checkpoint() {
    let place = place();
    let store = DurableStore::open(&place).await.expect("opens");
    {
        let mut making = std::pin::pin!(store.cut("given up"));
        // Set apart, and no longer waited for.
        assert!(futures_util::poll!(&mut making).is_pending());
        assert!(matches!(store.cut("another").await, Err(CutError::Busy)));
    }
    let mut made = Some(store.cut("whole").await);
    while let Some(Err(CutError::Busy)) = made {
        made = Some(store.cut("whole").await);
        tokio::task::yield_now().await;
    }
    made.expect("one").expect("a cut");
    let deadline = Instant::now() + Duration::from_secs(10);
    while checkpoints(&place).await != 4 {
        assert!(Instant::now() < deadline, "{} checkpoints", checkpoints(&place).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    store.close().await.expect("closes");
}

#[tokio::test]
async fn a_shard_that_takes_no_more_writes_makes_the_snapshot_fail_and_leaves_nothing_of_it() {
    let place = place();
    let store = DurableStore::open(&place).await.expect("opens");
    let shard = ShardId(2);
    // Somebody else opens one of them.
    let other = slatedb::Db::builder(Root::at("shards").shard(&place, shard), place.bucket.clone())
        .with_segment_extractor(Arc::new(crate::durable::settings::ByKind))
        .build()
        .await
        .expect("opens");
    set(&store, &topics(&place)[2], 1);
    let error = store.cut("never").await.expect_err("one is missing");
    let named = match error {
        CutError::Held { shard } | CutError::Late { shard } | CutError::Database { shard, .. } | CutError::Refused { shard, .. } => shard,
        CutError::Busy => panic!("busy"),
    };
    assert_eq!(named, shard);
    other.close().await.expect("closes");
    let deadline = Instant::now() + Duration::from_secs(10);
    while checkpoints(&place).await != 0 {
        assert!(Instant::now() < deadline, "checkpoints stay");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How many tables `shard` has.
async fn tables(place: &Place, shard: ShardId) -> usize {
    let folder = Root::at("shards").shard(place, shard).join("compacted");
    place.bucket.list(Some(&folder)).try_collect::<Vec<_>>().await.expect("listed").len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_snapshot_names_outlives_compaction_and_the_garbage_collector_until_it_is_deleted() {
    let place = place();
    let topic = &topics(&place)[1];
    let shard = place.shards.of(topic);
    let store = DurableStore::open(&place).await.expect("opens");
    set(&store, topic, 1);
    let kept = store.cut("kept").await.expect("a cut");
    let root = Root::at("shards").shard(&place, shard);
    for number in 2..12 {
        set(&store, topic, number);
        let cut = store.cut("passing").await.expect("a cut");
        for (shard, checkpoint, _) in cut.checkpoints {
            delete_checkpoint(&place, Root::at("shards").shard(&place, shard), shard, checkpoint).await.expect("deleted");
        }
    }
    store.close().await.expect("closes");
    let admin = AdminBuilder::new(root.clone(), place.bucket.clone()).build();
    let compactor = CompactorOptions {
        poll_interval: Duration::from_millis(20),
        scheduler_options: [("min_compaction_sources".to_owned(), "2".to_owned())].into(),
        worker: Some(CompactionWorkerOptions {
            compactions_poll_interval: Duration::from_millis(20),
            ..CompactionWorkerOptions::default()
        }),
        ..CompactorOptions::default()
    };
    // It runs until it is stopped.
    let _ = tokio::time::timeout(Duration::from_secs(3), admin.run_compactor_with_options(Default::default(), compactor)).await;
    // The compactor keeps what it read for a quarter of an hour.
    for passing in admin.list_checkpoints(None).await.expect("a manifest").iter().filter(|checkpoint| checkpoint.name.is_none()) {
        admin.delete_checkpoint(passing.id).await.expect("deleted");
    }
    let all = Some(GarbageCollectorDirectoryOptions { interval: None, min_age: Duration::ZERO, dry_run: false });
    let collect = GarbageCollectorOptions {
        manifest_options: all,
        wal_options: all,
        compacted_options: all,
        compactions_options: all,
        ..GarbageCollectorOptions::default()
    };
    let before = tables(&place, shard).await;
    admin.run_gc_once(collect.clone()).await.expect("collected");
    let held = tables(&place, shard).await;
    assert!(held < before, "something was there to collect: {held} of {before}");
    assert_eq!(number_in(&place, &kept, topic).await, 1);
    let (.., checkpoint, _) = kept.checkpoints[shard.index()];
    delete_checkpoint(&place, root, shard, checkpoint).await.expect("deleted");
    admin.run_gc_once(collect).await.expect("collected");
    assert!(tables(&place, shard).await < held, "only the snapshot needed it");
}
