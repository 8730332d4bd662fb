//! The store in a bucket: the suite, what is there after a crash, and who is fenced.

use std::sync::Arc;

use bucketmq_packet::message::{Message, QueueEntry};
use bucketmq_packet::{PacketIdentifier, QoS};
use futures_util::StreamExt;
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path;

use super::*;
use crate::offline::Writer;
use crate::record::inbound::Inbound;
use crate::record::outbox::Target;
use crate::record::session::{Presence, Session, SessionKey};
use crate::root::FIRST_FOLDER;

fn place() -> Place {
    Place { bucket: Arc::new(InMemory::new()), prefix: Path::from("test"), shards: Shards::new(4).expect("a power of two") }
}

async fn open(place: &Place) -> DurableStore {
    DurableStore::open(place).await.expect("it opens")
}

fn entry(payload: &str) -> QueueEntry {
    let message = Message::new("t", payload.as_bytes(), b"", QoS::AtLeastOnce, false, None);
    QueueEntry { message, identifiers: Box::default(), share: 0, qos: QoS::AtLeastOnce, retain: false }
}

/// Writes the record without which a queue is taken for the rest of a Session that ended.
fn own(store: &DurableStore, number: SessionNumber) {
    let client_id = format!("client-{}", number.0);
    let key = SessionKey::of(&client_id);
    let mut batch = Batch::default();
    batch.put(&key, &Session { client_id, owner: None, number, expiry_interval: 60, presence: Presence::Away(0), last_share: 0 });
    store.write(number.shard(), batch);
}

async fn payloads(store: &DurableStore, session: SessionNumber, from: u64, max_entries: usize) -> Vec<String> {
    let page = store.page(session, Sequence(from), max_entries, usize::MAX).await.expect("readable");
    page.into_iter().map(|(_, entry)| String::from_utf8(entry.message.payload().to_vec()).expect("text")).collect()
}

fn numbers(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_in_a_bucket_passes_the_suite() {
    crate::suite::run(async || open(&place()).await).await;
}

#[tokio::test]
async fn what_was_durable_is_there_after_a_crash() {
    let place = place();
    let session = SessionNumber::new(ShardId(1), 7);
    let store = open(&place).await;
    own(&store, session);
    let mut position = Position::default();
    for number in 0..200 {
        position = store.append(session, Sequence(number), entry(&number.to_string()));
    }
    store.wait_durable(session.shard(), position).await.expect("durable");
    position = store.remove_through(session, Sequence(99));
    store.wait_durable(session.shard(), position).await.expect("durable");
    let retained = store.set_retained(Message::new("a/b", b"kept", b"", QoS::AtMostOnce, true, None), RetainedLimit::NONE).expect("room");
    store.wait_durable(place.shards.of("a/b"), retained).await.expect("durable");
    // A crash: nothing is closed.
    std::mem::forget(store);
    let store = open(&place).await;
    let usage = store.queue(session);
    assert_eq!((usage.messages, usage.first, usage.last), (100, Some(Sequence(100)), Some(Sequence(199))));
    assert_eq!(payloads(&store, session, 0, 1000).await, numbers(100..200));
    assert_eq!(store.try_retained_page("a/+", None, 9, 99).expect("at hand").messages[0].payload(), b"kept");
    // Half of a chunk, then chunks, some of them never read here.
    store.remove_through(session, Sequence(130));
    assert_eq!(payloads(&store, session, 0, 1000).await, numbers(131..200));
    store.append(session, Sequence(200), entry("200"));
    store.remove_through(session, Sequence(198));
    assert_eq!(payloads(&store, session, 0, 1000).await, ["199", "200"]);
    assert_eq!(store.queue(session).messages, 2);
    store.close().await.expect("closes");
    let store = open(&place).await;
    assert_eq!(payloads(&store, session, 0, 1000).await, ["199", "200"]);
    store.close().await.expect("closes");
}

#[tokio::test]
async fn a_queue_read_in_pages_that_end_within_chunks_is_removed_without_being_looked_for() {
    let place = place();
    let session = SessionNumber::new(ShardId(2), 1);
    let store = open(&place).await;
    own(&store, session);
    for number in 0..1000 {
        store.append(session, Sequence(number), entry(&number.to_string()));
    }
    store.close().await.expect("closes");
    let store = open(&place).await;
    for page in 0..10 {
        assert_eq!(payloads(&store, session, 100 * page, 100).await, numbers(100 * page..100 * (page + 1)));
        store.remove_through(session, Sequence(100 * page + 99));
        let batch = store.part(session.shard()).pending.lock().take().expect("a removal");
        assert!(batch.work.look_for.is_empty(), "{:?} after page {page}", batch.work);
    }
    assert_eq!(store.queue(session).messages, 0);
    store.close().await.expect("closes");
}

#[tokio::test]
async fn a_queue_that_loses_its_oldest_message_again_and_again_counts_right_and_survives_a_crash() {
    let place = place();
    let session = SessionNumber::new(ShardId(3), 5);
    let mut store = open(&place).await;
    own(&store, session);
    // A chunk for each, which is far more than are known while nobody reads.
    for number in 0..400 {
        let position = store.append(session, Sequence(number), entry(&number.to_string()));
        store.wait_durable(session.shard(), position).await.expect("durable");
    }
    for number in 0..390 {
        let mut position = store.remove_through(session, Sequence(number));
        if number % 50 == 7 {
            // Out of the middle, while others are looked for.
            position = store.remove(session, Sequence(number + 2));
        }
        if number % 3 == 0 {
            store.wait_durable(session.shard(), position).await.expect("durable");
        }
        if number % 130 == 99 {
            store.wait_durable(session.shard(), position).await.expect("durable");
            std::mem::forget(store);
            store = open(&place).await;
            assert_eq!(payloads(&store, session, 0, 1).await, numbers(number + 1..number + 2));
        }
    }
    assert_eq!(payloads(&store, session, 0, 1000).await, numbers(390..400));
    store.remove_through(session, Sequence(399));
    assert!(payloads(&store, session, 0, 1000).await.is_empty());
    store.close().await.expect("closes");
}

#[tokio::test]
async fn pages_of_many_queues_of_one_shard_are_all_read_in_turn() {
    let place = place();
    let store = Arc::new(open(&place).await);
    for number in 0..100 {
        let session = SessionNumber::new(ShardId(1), number + 1);
        own(&store, session);
        store.append(session, Sequence(0), entry(&number.to_string()));
    }
    let reading: Vec<_> = (0..100)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move { payloads(&store, SessionNumber::new(ShardId(1), number + 1), 0, 10).await })
        })
        .collect();
    for (number, read) in reading.into_iter().enumerate() {
        assert_eq!(read.await.expect("reads"), [number.to_string()]);
    }
    store.close().await.expect("closes");
}

#[tokio::test]
async fn a_queue_that_was_never_read_is_removed_without_being_known() {
    let place = place();
    let session = SessionNumber::new(ShardId(2), 1);
    let store = open(&place).await;
    own(&store, session);
    for number in 0..300 {
        store.append(session, Sequence(number), entry(&number.to_string()));
    }
    store.close().await.expect("closes");
    let store = open(&place).await;
    store.remove_through(session, Sequence(170));
    assert_eq!(payloads(&store, session, 0, 2).await, ["171", "172"]);
    assert_eq!(store.queue(session).messages, 129);
    store.remove(session, Sequence(172));
    assert_eq!(payloads(&store, session, 0, 2).await, ["171", "173"]);
    let position = store.remove_session(session);
    store.wait_durable(session.shard(), position).await.expect("durable");
    assert!(payloads(&store, session, 0, 9).await.is_empty());
    store.close().await.expect("closes");
    let store = open(&place).await;
    assert_eq!(store.queue(session), QueueUsage::default());
    assert!(payloads(&store, session, 0, 9).await.is_empty());
    store.close().await.expect("closes");
}

#[tokio::test]
async fn a_queue_without_a_session_is_deleted_when_the_shard_is_opened() {
    let place = place();
    let session = SessionNumber::new(ShardId(3), 1);
    let store = open(&place).await;
    store.append(session, Sequence(0), entry("of a Session that ended"));
    store.close().await.expect("closes");
    let store = open(&place).await;
    assert_eq!(store.queue(session), QueueUsage::default());
    assert!(payloads(&store, session, 0, 9).await.is_empty());
    store.close().await.expect("closes");
}

#[tokio::test]
async fn what_was_acknowledged_before_the_batch_never_reaches_the_bucket() {
    let place = place();
    let session = SessionNumber::new(ShardId(0), 1);
    let store = open(&place).await;
    let before = store.part(ShardId(0)).db().expect("not refused").status().durable_seq;
    for number in 0..50 {
        store.append(session, Sequence(number), entry("short-lived"));
        store.remove_through(session, Sequence(number));
    }
    let position = store.append(session, Sequence(50), entry("stays"));
    store.wait_durable(session.shard(), position).await.expect("durable");
    // One batch: one chunk with one entry, and the cursor.
    assert_eq!(store.part(ShardId(0)).db().expect("not refused").status().durable_seq, before + 1);
    assert_eq!(payloads(&store, session, 0, 99).await, ["stays"]);
    store.close().await.expect("closes");
}

#[tokio::test]
async fn a_prefix_made_for_another_number_of_shards_is_refused() {
    let place = place();
    open(&place).await.close().await.expect("closes");
    let other = Place { shards: Shards::new(2).expect("a power of two"), ..place };
    let error = DurableStore::open(&other).await.err().expect("refused");
    assert!(error.to_string().contains("of 4") && error.to_string().contains("wants 2 shards"), "{error}");
}

#[tokio::test]
async fn an_opening_that_failed_leaves_nothing_behind_that_fences_the_next() {
    let (place, other) = (place(), Place { shards: Shards::new(8).expect("a power of two"), ..self::place() });
    open(&place).await.close().await.expect("it closes");
    let other = Place { bucket: place.bucket.clone(), prefix: Path::from("other"), ..other };
    open(&other).await.close().await.expect("it closes");
    // The first shard is one of another division, and the others are opened beside it.
    let move_all = async |from: &str, to: &str| {
        let objects: Vec<_> = place.bucket.list(Some(&Path::from(from))).collect().await;
        for object in objects {
            let location = object.expect("listed").location;
            let target = Path::from(location.as_ref().replacen(from, to, 1));
            place.bucket.rename(&location, &target).await.expect("renamed");
        }
    };
    move_all("test/shards/00", "kept").await;
    move_all("other/shards/00", "test/shards/00").await;
    let failed = DurableStore::open(&place).await.err().expect("shard 00 is another's");
    assert!(matches!(failed, OpenError::Format { shard: ShardId(0), .. }), "{failed}");
    move_all("test/shards/00", "other/shards/00").await;
    move_all("kept", "test/shards/00").await;
    let store = open(&place).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    for shard in place.shards.all() {
        let session = SessionNumber::new(shard, 7);
        own(&store, session);
        let written = store.append(session, Sequence(0), entry("x"));
        store.wait_durable(shard, written).await.expect("nobody has fenced it");
    }
    store.close().await.expect("it closes");
}

#[tokio::test]
async fn a_fenced_shard_takes_no_more_writes() {
    let place = place();
    let old = open(&place).await;
    let session = SessionNumber::new(ShardId(3), 1);
    own(&old, session);
    let position = old.append(session, Sequence(0), entry("before"));
    old.wait_durable(ShardId(3), position).await.expect("durable");
    let new = open(&place).await;
    let position = old.append(session, Sequence(1), entry("after"));
    let error = old.wait_durable(ShardId(3), position).await.expect_err("fenced");
    assert!(error.source.to_string().contains("newer DB client"), "{}", error.source);
    assert_eq!(payloads(&new, session, 0, 9).await, ["before"]);
    new.close().await.expect("closes");
}

#[tokio::test]
async fn an_idle_shard_that_was_fenced_says_so_without_a_write() {
    let place = place();
    let old = open(&place).await;
    let new = open(&place).await;
    // As often as it looks at its manifest, and some time for a busy machine.
    let limit = settings::MANIFEST_POLL * 4;
    let error = tokio::time::timeout(limit, old.failed()).await.expect("told by itself");
    assert!(error.source.to_string().contains("newer DB client"), "{}", error.source);
    new.close().await.expect("closes");
}

#[tokio::test]
async fn records_come_back_with_the_queue_they_were_written_with() {
    let place = place();
    let store = open(&place).await;
    let (session, shard) = (SessionNumber::new(ShardId(1), 4), ShardId(1));
    let key = SessionKey::of("client");
    let record = Session {
        client_id: "client".into(),
        owner: None,
        number: session,
        expiry_interval: 60,
        presence: Presence::Connected,
        last_share: 0,
    };
    let id = PacketIdentifier::new(7).expect("not 0");
    let mut batch = Batch::default();
    batch.put(&key, &record).begin(session, id).append(session, Sequence(0), entry("first")).sent(session, Sequence(1024));
    let position = store.write(shard, batch);
    store.wait_durable(shard, position).await.expect("durable");
    let mut batch = Batch::default();
    batch.finish(session, id);
    store.write(shard, batch);
    assert!(store.records::<Inbound>(shard).await.expect("readable").is_empty(), "what is written is read");
    std::mem::forget(store);
    let store = open(&place).await;
    assert_eq!(store.records::<Session>(shard).await.expect("readable"), [(key, record)]);
    assert_eq!(store.cursor(session), Cursor { head: Sequence(0), next: Sequence(1), sent: Sequence(1024), messages: 1, bytes: 6 });
    assert_eq!(payloads(&store, session, 0, 9).await, ["first"]);
    // The Session ends, and what belongs to it.
    let mut batch = Batch::default();
    batch.delete::<Session>(&key).remove_session(session);
    let position = store.write(shard, batch);
    store.wait_durable(shard, position).await.expect("durable");
    assert!(store.records::<Cursor>(shard).await.expect("readable").is_empty());
    assert!(store.records::<Inbound>(shard).await.expect("readable").is_empty());
    store.close().await.expect("closes");
}

#[tokio::test]
async fn whatever_was_done_to_queues_they_stand_after_a_crash_where_they_stood() {
    let place = place();
    let shard = ShardId(2);
    let sessions = [1, 2, 3, 4].map(|number| SessionNumber::new(shard, number));
    let mut random = 7_u64;
    let mut below = move |limit: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % limit
    };
    let mut store = open(&place).await;
    sessions.iter().for_each(|session| own(&store, *session));
    for _crash in 0..25 {
        for _batch in 0..60 {
            for _change in 0..=below(3) {
                let session = sessions[below(4) as usize];
                let Cursor { head, next, .. } = store.cursor(session);
                match below(20) {
                    0 if next > head => _ = store.remove_through(session, Sequence(head.0 + below(next.0 - head.0))),
                    1 if next > head => _ = store.remove(session, Sequence(head.0 + below(next.0 - head.0))),
                    2 => _ = store.write(shard, std::mem::take(Batch::default().sent(session, next))),
                    // Numbers leave gaps.
                    3 => _ = store.append(session, Sequence(next.0 + 5), entry("gap")),
                    4 => assert!(payloads(&store, session, head.0, 6).await.len() <= 6),
                    _ => _ = store.append(session, next, entry("message")),
                }
            }
            store.wait_durable(shard, store.position(shard)).await.expect("durable");
        }
        let before: Vec<_> = sessions.iter().map(|session| store.cursor(*session)).collect();
        std::mem::forget(store);
        store = open(&place).await;
        for (session, before) in sessions.iter().zip(before) {
            assert_eq!(store.cursor(*session), before);
            assert_eq!(payloads(&store, *session, 0, usize::MAX).await.len() as u64, before.messages);
        }
    }
    let [few, many] = [sessions[0], sessions[1]];
    store.remove_session(few);
    store.append(many, store.cursor(many).next, entry("last"));
    let before = store.cursor(many);
    store.close().await.expect("closes");
    let store = open(&place).await;
    assert_eq!((store.cursor(few), store.cursor(many)), (Cursor::default(), before));
    store.close().await.expect("closes");
}

#[tokio::test]
async fn rows_of_the_outbox_come_back_until_all_of_their_record_are_done_with() {
    let place = place();
    let shard = ShardId(0);
    let store = open(&place).await;
    let number = |counter| OutboxNumber { epoch: 3, counter };
    let row = |text: &str| Row { target: Target::Shards(Vec::new()), publisher: SessionNumber(1), message: entry(text).message };
    let mut batch = Batch::default();
    batch.send(number(0), row("0")).send(number(1), row("1"));
    store.wait_durable(shard, store.write(shard, batch)).await.expect("durable");
    store.write(shard, std::mem::take(Batch::default().send(number(2), row("2")).done(number(0))));
    store.wait_durable(shard, store.position(shard)).await.expect("durable");
    std::mem::forget(store);
    let store = open(&place).await;
    let rows = store.outbox(shard).await.expect("readable");
    assert_eq!(rows, [(number(0), row("0")), (number(1), row("1")), (number(2), row("2"))]);
    store.write(shard, std::mem::take(Batch::default().done(number(2)).done(number(0))));
    assert_eq!(store.outbox(shard).await.expect("readable"), rows[..2]);
    store.write(shard, std::mem::take(Batch::default().done(number(1))));
    assert!(store.outbox(shard).await.expect("readable").is_empty());
    store.close().await.expect("closes");
}

#[tokio::test]
async fn flushes_keep_the_distance_that_is_asked_for_and_no_longer_than_it_is() {
    let place = place();
    let store = open(&place).await;
    let session = SessionNumber::new(ShardId(1), 1);
    own(&store, session);
    let append = async || {
        let (position, began) = (store.append(session, store.cursor(session).next, entry("message")), std::time::Instant::now());
        store.wait_durable(ShardId(1), position).await.expect("durable");
        began.elapsed()
    };
    append().await;
    let pause = Duration::from_millis(400);
    store.set_min_flush_interval(pause);
    let began = std::time::Instant::now();
    append().await;
    let (second, third) = (append().await, append().await);
    assert!(began.elapsed() > pause * 2 && second > pause / 2 && third > pause / 2, "{second:?} {third:?}");
    // Who waits already does not wait for the end of what is not asked for any more.
    store.set_min_flush_interval(Duration::from_secs(600));
    let (waited, ()) = tokio::join!(append(), async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        store.set_min_flush_interval(Duration::ZERO);
    });
    assert!(waited < pause, "{waited:?}");
    store.close().await.expect("closes");
}

#[tokio::test]
async fn a_queue_that_ends_before_its_batch_leaves_an_idle_shard() {
    let place = place();
    let store = open(&place).await;
    let session = SessionNumber::new(ShardId(1), 9);
    store.append(session, Sequence(0), entry("short-lived"));
    let position = store.remove_session(session);
    // Nobody waits for it: after the interval it is done, and the task rests, or this would never be reached.
    while store.durable(ShardId(1)) < position {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    store.close().await.expect("closes");
}

/// What happens to an object.
#[derive(Debug, Clone, Copy)]
enum Damage {
    CutShort,
    OneBit,
    Missing,
}

async fn damage(place: &Place, object: &Path, how: Damage) {
    let bytes = place.bucket.get(object).await.expect("there").bytes().await.expect("readable");
    let mut altered = bytes.to_vec();
    match how {
        Damage::CutShort => altered.truncate(bytes.len() / 2),
        Damage::OneBit => altered[bytes.len() / 2] ^= 1,
        Damage::Missing => {
            place.bucket.delete(object).await.expect("deleted");
            return;
        }
    }
    place.bucket.put(object, altered.into()).await.expect("written");
}

/// The largest object of a shard under `folder`, or the last one when `last`.
async fn object(place: &Place, shard: ShardId, folder: &str, last: bool) -> Path {
    let prefix = place.prefix.clone().join("shards").join(shard.to_string()).join(folder);
    let mut objects: Vec<_> = place.bucket.list(Some(&prefix)).map(|meta| meta.expect("listed")).collect().await;
    objects.sort_by_key(|meta| (if last { 0 } else { meta.size }, meta.location.clone()));
    objects.pop().expect("there is one").location
}

const DAMAGED: SessionNumber = SessionNumber::new(ShardId(1), 7);
const SOUND: SessionNumber = SessionNumber::new(ShardId(2), 7);

/// Two Sessions with queues, in two shards: most of them in tables, the last entry in the log.
async fn two_queues() -> Place {
    let place = place();
    let store = open(&place).await;
    for session in [DAMAGED, SOUND] {
        own(&store, session);
        for number in 0..4000 {
            store.append(session, Sequence(number), entry(&format!("{number} {}", "x".repeat(300))));
        }
    }
    store.close().await.expect("closes");
    let store = open(&place).await;
    for session in [DAMAGED, SOUND] {
        let position = store.append(session, Sequence(4000), entry("last"));
        store.wait_durable(session.shard(), position).await.expect("durable");
    }
    std::mem::forget(store);
    place
}

async fn read_all(store: &DurableStore, session: SessionNumber) -> Result<usize, ReadError> {
    let (mut from, mut count) = (0, 0);
    loop {
        let page = store.page(session, Sequence(from), 1000, usize::MAX).await?;
        let Some((last, _)) = page.last() else { return Ok(count) };
        (from, count) = (last.0 + 1, count + page.len());
    }
}

#[tokio::test]
async fn a_damaged_object_makes_its_shard_refused_and_is_named_and_the_other_shards_are_served() {
    let cases = [
        ("compacted", false, Damage::CutShort),
        ("compacted", false, Damage::OneBit),
        ("compacted", false, Damage::Missing),
        ("wal", true, Damage::CutShort),
        ("wal", true, Damage::OneBit),
        ("manifest", true, Damage::CutShort),
        ("manifest", true, Damage::OneBit),
    ];
    for (folder, last, how) in cases {
        let place = two_queues().await;
        let object = object(&place, DAMAGED.shard(), folder, last).await;
        damage(&place, &object, how).await;
        let store = open(&place).await;
        // What is read at the opening shows there; what is read with the queue, then.
        let found = tokio::time::timeout(Duration::from_secs(10), read_all(&store, DAMAGED)).await.expect("not tried for ever");
        assert!(found.is_err(), "{how:?} of {object} is not seen: {found:?}");
        let refused = store.refused();
        assert_eq!(refused.iter().map(|(shard, _)| *shard).collect::<Vec<_>>(), [DAMAGED.shard()], "{how:?} of {object}");
        assert!(refused[0].1.contains(object.as_ref()), "{how:?} of {object}: {}", refused[0].1);
        // Nothing there is promised any more, and nothing is kept in memory for it.
        let position = store.append(DAMAGED, Sequence(9000), entry("in vain"));
        let waiting = store.wait_durable(DAMAGED.shard(), position);
        assert!(tokio::time::timeout(Duration::from_millis(300), waiting).await.is_err());
        assert_eq!(store.unwritten_bytes(), 0);
        // The others go on.
        assert_eq!(read_all(&store, SOUND).await.expect("sound"), 4001);
        let position = store.append(SOUND, Sequence(9000), entry("kept"));
        store.wait_durable(SOUND.shard(), position).await.expect("durable");
        store.close().await.expect("the sound ones close");
    }
}

#[tokio::test]
async fn a_clock_that_was_set_back_by_an_hour_keeps_nobody_from_writing() {
    let place = place();
    let in_an_hour = u64::try_from(chrono::Utc::now().timestamp_millis()).expect("after 1970") + 3_600_000;
    let ahead = Arc::new(clock::Clock::new(in_an_hour));
    let db = open_database(&place, &Root::at(FIRST_FOLDER), ShardId(1), place.bucket.clone(), ahead, Arc::new(SplitCache::new()))
        .await
        .expect("opens");
    db.put(b"\x01key", b"written an hour ahead").await.expect("written");
    db.delete(b"\x01key").await.expect("written");
    db.flush().await.expect("durable");
    std::mem::forget(db);
    // Nor a tool.
    let mut tool = Writer::open(&place, &Root::at(FIRST_FOLDER), ShardId(1), in_an_hour + 10_000).await.expect("opens");
    tool.row(b"\x01key", Some(b"written by a tool")).await.expect("taken");
    tool.row(b"\x01key", None).await.expect("taken");
    tool.checkpoint("tool").await.expect("made");
    tool.close().await.expect("closes");
    let store = DurableStore::open_not_before(&place, in_an_hour + 20_000).await.expect("opens");
    let session = SessionNumber::new(ShardId(1), 7);
    own(&store, session);
    for number in 0..3 {
        let position = store.append(session, Sequence(number), entry(&number.to_string()));
        store.wait_durable(session.shard(), position).await.expect("durable");
    }
    assert_eq!(payloads(&store, session, 0, 10).await, numbers(0..3));
    store.close().await.expect("closes");
    assert_eq!(payloads(&open(&place).await, session, 0, 10).await, numbers(0..3));
}
