//! Brokers that want one bucket, over a store in memory and a clock that jumps.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bucketmq_cluster::{Confirmation, Ending, Held, Member, MemberNote, Objects, Own, Ownership, TakeError, Takeover, Wait};
use bucketmq_storage::{ShardId, Shards};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::time::{Instant, sleep, timeout};

const SHARD: ShardId = ShardId(0);

fn shards() -> Shards {
    Shards::new(4).unwrap()
}

fn bucket() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}

fn ownership(bucket: &Arc<dyn ObjectStore>, name: &str, takeover: Takeover) -> Ownership {
    Ownership::new(bucket.clone(), shards(), Member::named(name).unwrap(), takeover)
}

async fn take(ownership: &Ownership) -> Held {
    ownership.take(Arc::new(Confirmation::pending()), &mut |_| {}).await.unwrap()
}

async fn own(bucket: &Arc<dyn ObjectStore>, shard: u16) -> Own {
    Objects::new(bucket.clone()).own(ShardId(shard)).await.unwrap().0.unwrap()
}

/// A broker in a task of its own that gives the shards up when it is asked.
fn polite(bucket: &Arc<dyn ObjectStore>, name: &str, takeover: Takeover) -> (Arc<AtomicBool>, tokio::task::JoinHandle<Ending>) {
    let (ownership, owns) = (ownership(bucket, name, takeover), Arc::new(AtomicBool::new(false)));
    let shown = owns.clone();
    let task = tokio::spawn(async move {
        let mut held = take(&ownership).await;
        shown.store(true, Ordering::SeqCst);
        let ending = held.ended().await;
        // Draining and closing take their time.
        sleep(Duration::from_secs(4)).await;
        shown.store(false, Ordering::SeqCst);
        held.release().await;
        ending
    });
    (owns, task)
}

#[tokio::test(start_paused = true)]
async fn the_first_broker_owns_every_shard_at_once_and_raises_every_epoch() {
    let bucket = bucket();
    let began = Instant::now();
    let first = take(&ownership(&bucket, "a", Takeover::Never)).await;
    assert_eq!((first.epochs(), began.elapsed()), (&[1, 1, 1, 1][..], Duration::ZERO));
    first.release().await;
    let second = take(&ownership(&bucket, "b", Takeover::Never)).await;
    assert_eq!((second.epochs(), began.elapsed()), (&[2, 2, 2, 2][..], Duration::ZERO));
    assert_eq!(own(&bucket, 3).await.owner.unwrap().member, "b");
}

#[tokio::test(start_paused = true)]
async fn a_broker_waits_for_one_that_lives_and_says_for_whom() {
    let bucket = bucket();
    let _first = take(&ownership(&bucket, "a", Takeover::Never)).await;
    let second = ownership(&bucket, "b", Takeover::Never);
    let mut waited_for = Vec::new();
    let mut on_wait = |wait: Wait<'_>| match wait {
        Wait::For(name) => waited_for.push(name.to_owned()),
        Wait::Bucket(error) => panic!("{error}"),
    };
    assert!(timeout(Duration::from_secs(300), second.take(Arc::new(Confirmation::pending()), &mut on_wait)).await.is_err());
    assert!(waited_for.len() > 250 && waited_for.iter().all(|name| name == "a"), "{}", waited_for.len());
    assert_eq!(own(&bucket, 0).await.epoch, 1);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_died_is_replaced_after_ten_seconds_of_silence_and_three_of_grace() {
    let bucket = bucket();
    let first = take(&ownership(&bucket, "a", Takeover::Never)).await;
    sleep(Duration::from_secs(7)).await;
    // Killed: nothing is released.
    drop(first);
    let began = Instant::now();
    let second = take(&ownership(&bucket, "b", Takeover::Never)).await;
    assert_eq!(second.epochs(), [2, 2, 2, 2]);
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(13) && took < Duration::from_secs(18), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_restarted_broker_with_a_unique_name_has_its_shards_back_at_once() {
    let bucket = bucket();
    drop(take(&ownership(&bucket, "a", Takeover::Never)).await);
    let began = Instant::now();
    assert_eq!(take(&ownership(&bucket, "a", Takeover::Never)).await.epochs(), [2, 2, 2, 2]);
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_newer_broker_asks_and_gets_the_shards_when_they_are_closed() {
    let bucket = bucket();
    let (a_owns, a) = polite(&bucket, "a", Takeover::New);
    sleep(Duration::from_secs(1)).await;
    let began = Instant::now();
    let b = take(&ownership(&bucket, "b", Takeover::New)).await;
    assert!(!a_owns.load(Ordering::SeqCst), "two own the shards");
    assert_eq!(a.await.unwrap(), Ending::Asked { by: "b".into() });
    assert_eq!(b.epochs(), [2, 2, 2, 2]);
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    let note = Objects::new(bucket.clone()).note("b").await.unwrap().unwrap();
    assert!(note.asked, "it would ask again");
}

#[tokio::test(start_paused = true)]
async fn who_has_asked_once_waits_when_it_is_started_again() {
    let bucket = bucket();
    drop(take(&ownership(&bucket, "a", Takeover::Never)).await);
    // Asks, gets the shards, and is replaced by a newer one.
    let second = take(&ownership(&bucket, "b", Takeover::New)).await;
    drop(second);
    let _third = take(&ownership(&bucket, "c", Takeover::New)).await;
    let again = ownership(&bucket, "b", Takeover::New);
    assert!(timeout(Duration::from_secs(120), again.take(Arc::new(Confirmation::pending()), &mut |_| {})).await.is_err());
    assert_eq!(own(&bucket, 0).await.owner.unwrap().member, "c");
    // A person may insist.
    take(&ownership(&bucket, "b", Takeover::Always)).await;
}

#[tokio::test(start_paused = true)]
async fn who_could_not_use_the_bucket_until_a_newer_one_had_it_leaves_it_to_that() {
    let bucket = bucket();
    let (newer_owns, _newer) = polite(&bucket, "newer", Takeover::New);
    sleep(Duration::from_secs(1)).await;
    let minute_ago = std::time::Instant::now().checked_sub(Duration::from_secs(60)).expect("this machine runs for longer");
    let mut older = ownership(&bucket, "older", Takeover::New);
    older.kept_waiting_since(minute_ago);
    assert!(timeout(Duration::from_secs(120), older.take(Arc::new(Confirmation::pending()), &mut |_| {})).await.is_err());
    assert!(newer_owns.load(Ordering::SeqCst) && own(&bucket, 0).await.claim.is_none(), "it was asked");
}

#[tokio::test(start_paused = true)]
async fn who_had_the_shards_without_asking_does_not_ask_its_successor_for_them() {
    let bucket = bucket();
    let (_, a) = polite(&bucket, "a", Takeover::New);
    sleep(Duration::from_secs(1)).await;
    let _b = take(&ownership(&bucket, "b", Takeover::New)).await;
    assert_eq!(a.await.unwrap(), Ending::Asked { by: "b".into() });
    // Its next term, and a process that is started again under its name.
    for _ in 0..2 {
        let again = ownership(&bucket, "a", Takeover::New);
        assert!(timeout(Duration::from_secs(300), take(&again)).await.is_err(), "a took the shards back");
    }
    let own = own(&bucket, 0).await;
    assert_eq!((own.owner.unwrap().member.as_str(), own.claim), ("b", None));
}

#[tokio::test(start_paused = true)]
async fn who_insisted_and_gave_way_waits_in_its_next_term() {
    let bucket = bucket();
    let insists = ownership(&bucket, "a", Takeover::Always);
    let mut held = take(&insists).await;
    let newer = ownership(&bucket, "b", Takeover::Always);
    let newer = tokio::spawn(async move { take(&newer).await });
    assert_eq!(held.ended().await, Ending::Asked { by: "b".into() });
    held.release().await;
    let _newer = newer.await.unwrap();
    assert!(timeout(Duration::from_secs(300), take(&insists)).await.is_err(), "the two would take the shards from each other in turn");
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_does_not_answer_is_fenced_after_three_seconds() {
    let bucket = bucket();
    let first = take(&ownership(&bucket, "a", Takeover::Never)).await;
    // Frozen: it reads nothing and writes nothing.
    drop(first);
    let began = Instant::now();
    let second = take(&ownership(&bucket, "b", Takeover::Always)).await;
    let took = began.elapsed();
    assert_eq!(second.epochs(), [2, 2, 2, 2]);
    assert!(took >= Duration::from_secs(3) && took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_answers_and_never_closes_is_fenced_after_twenty_seconds() {
    let bucket = bucket();
    let mut first = take(&ownership(&bucket, "a", Takeover::Never)).await;
    let began = Instant::now();
    let second = ownership(&bucket, "b", Takeover::Always);
    let second = tokio::spawn(async move { take(&second).await });
    assert_eq!(first.ended().await, Ending::Asked { by: "b".into() });
    let second = second.await.unwrap();
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(23) && took < Duration::from_secs(27), "{took:?}");
    assert_eq!(second.epochs(), [2, 2, 2, 2]);
    // The first one learns it at its next look, and confirms nothing any more.
    sleep(Duration::from_secs(2)).await;
    assert!(!first.confirmation().holds());
}

#[tokio::test(start_paused = true)]
async fn what_was_released_for_one_that_never_comes_is_taken_back() {
    let bucket = bucket();
    let first = take(&ownership(&bucket, "a", Takeover::Never)).await;
    let objects = Objects::new(bucket.clone());
    let (record, version) = objects.own(SHARD).await.unwrap();
    let gone = Member::named("gone").unwrap();
    objects.change_own(SHARD, &version, &record.unwrap().claimed(&gone)).await.unwrap();
    sleep(Duration::from_secs(2)).await;
    first.release().await;
    let began = Instant::now();
    let again = take(&ownership(&bucket, "a", Takeover::New)).await;
    assert!(began.elapsed() >= Duration::from_secs(10) && began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    assert_eq!(again.epochs(), [2, 2, 2, 2]);
}

#[tokio::test(start_paused = true)]
async fn of_many_that_start_at_the_same_time_one_owns_the_shards() {
    let bucket = bucket();
    let starting: Vec<_> = (0..8).map(|n| polite(&bucket, &format!("broker-{n}"), Takeover::Never)).collect();
    sleep(Duration::from_secs(30)).await;
    let owning = starting.iter().filter(|(owns, _)| owns.load(Ordering::SeqCst)).count();
    assert_eq!(owning, 1);
    assert_eq!(own(&bucket, 0).await.epoch, 1);
}

#[tokio::test(start_paused = true)]
async fn an_object_of_a_later_release_is_not_touched() {
    let bucket = bucket();
    bucket.put(&Path::from("own/00"), br#"{"format":9}"#.to_vec().into()).await.unwrap();
    let error = ownership(&bucket, "a", Takeover::Always).take(Arc::new(Confirmation::pending()), &mut |_| {}).await.unwrap_err();
    assert!(matches!(error, TakeError::Unreadable(_)));
    assert!(error.to_string().contains("own/00"), "{error}");
    assert_eq!(bucket.get(&Path::from("own/00")).await.unwrap().bytes().await.unwrap(), br#"{"format":9}"#.as_slice());
}

#[tokio::test(start_paused = true)]
async fn the_lock_of_a_directory_decides_at_once_when_its_broker_is_gone() {
    let (bucket, folder) = (bucket(), tempfile::tempdir().unwrap());
    let file = folder.path().join("broker");
    let first = take(&ownership(&bucket, "a", Takeover::Never).with_directory_lock(file.clone())).await;
    let second = ownership(&bucket, "b", Takeover::Never).with_directory_lock(file);
    assert!(timeout(Duration::from_secs(60), second.take(Arc::new(Confirmation::pending()), &mut |_| {})).await.is_err());
    // Killed: the system lets go of the lock.
    drop(first);
    let began = Instant::now();
    assert_eq!(take(&second).await.epochs(), [2, 2, 2, 2]);
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn an_owner_is_confirmed_while_it_reads_its_name_and_not_when_it_cannot() {
    let bucket = bucket();
    let held = take(&ownership(&bucket, "a", Takeover::Never)).await;
    sleep(Duration::from_millis(100)).await;
    assert!(held.confirmation().holds());
    // Somebody else's name, written over it: what a person with a tool may do.
    let objects = Objects::new(bucket.clone());
    let (record, version) = objects.own(SHARD).await.unwrap();
    let other = Member::named("other").unwrap();
    objects.change_own(SHARD, &version, &Own::taken(record.as_ref(), &other, None)).await.unwrap();
    let mut held = held;
    assert_eq!(held.ended().await, Ending::Lost { to: "other".into() });
    assert!(!held.confirmation().holds());
}

#[tokio::test(start_paused = true)]
async fn signs_of_life_come_every_five_seconds() {
    let bucket = bucket();
    let _held = take(&ownership(&bucket, "a", Takeover::Never)).await;
    sleep(Duration::from_secs(61)).await;
    let note: MemberNote = Objects::new(bucket.clone()).note("a").await.unwrap().unwrap();
    assert!((12..=14).contains(&note.count), "{}", note.count);
}

#[tokio::test(start_paused = true)]
async fn the_time_of_an_owner_whose_clock_was_ahead_is_known_to_the_next() {
    let bucket = bucket();
    let objects = Objects::new(bucket.clone());
    let first = take(&ownership(&bucket, "a", Takeover::Never)).await;
    first.release().await;
    let (record, version) = objects.own(SHARD).await.unwrap();
    let ahead = record.as_ref().unwrap().at_ms + 3_600_000;
    objects.change_own(SHARD, &version, &record.unwrap().written_at(ahead)).await.unwrap();
    let second = take(&ownership(&bucket, "b", Takeover::Never)).await;
    assert_eq!(second.not_before_ms(), ahead);
    sleep(Duration::from_secs(20)).await;
    // Its own signs of life go on from there, and so do those after it.
    drop(second);
    let third = take(&ownership(&bucket, "b", Takeover::Never)).await;
    assert!(third.not_before_ms() >= ahead + 20_000, "{}", third.not_before_ms() - ahead);
}
