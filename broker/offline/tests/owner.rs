//! No tool touches what a broker has, and none stands in the way of one that takes over.

use std::sync::Arc;
use std::time::Duration;

use bucketmq_cluster::{Confirmation, Held, Member, Ownership, PrefixClaim, Takeover};
use bucketmq_offline::exclusive::OwnError;
use bucketmq_offline::{delete, ensure_not_owned, ensure_prefix_of, owner, prefix_owner};
use bucketmq_storage::Shards;
use bucketmq_storage::durable::Place;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::time::Instant;

fn place() -> Place {
    Place { bucket: Arc::new(InMemory::new()), prefix: Path::default(), shards: Shards::new(2).expect("a power of two") }
}

async fn broker(place: &Place, name: &str, takeover: Takeover) -> Held {
    let member = Member::named(name).expect("a name");
    let ownership = Ownership::new(place.bucket.clone(), place.shards, member, takeover);
    ownership.take(Arc::new(Confirmation::pending()), &mut |_| {}).await.expect("taken")
}

async fn objects(place: &Place) -> u64 {
    delete::count(place).await.expect("listed").0
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_lives_is_recognized_within_a_few_seconds_and_one_that_died_by_its_silence() {
    let place = place();
    let held = broker(&place, "a", Takeover::Never).await;
    let began = Instant::now();
    let refused = ensure_not_owned(&place, None, &|_| {}).await;
    assert!(matches!(refused, Err(OwnError::Owned { by }) if by == "a"));
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert_eq!(owner(&place).await.expect("read").as_deref(), Some("a"));
    // It dies without a word.
    held.forget().await;
    let exclusive = ensure_not_owned(&place, None, &|_| {}).await.expect("it is gone");
    assert!(exclusive.epoch() > 1);
    exclusive.check().await.expect("nobody has come");
    exclusive.release().await;
    assert_eq!(owner(&place).await.expect("read"), None);
    let left = place.bucket.list_with_delimiter(Some(&Path::from("members"))).await.expect("listed");
    assert_eq!(left.objects.len(), 1, "a tool leaves no sign of life behind");
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_was_told_to_take_over_comes_first() {
    let place = place();
    place.bucket.put(&Path::from("shards/00/x"), "state".into()).await.expect("written");
    let exclusive = ensure_not_owned(&place, None, &|_| {}).await.expect("nobody owns it");
    let coming = tokio::spawn({
        let place = place.clone();
        async move { broker(&place, "new", Takeover::New).await }
    });
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(matches!(exclusive.check().await, Err(OwnError::Wanted { by }) if by == "new"));
    let stopped = delete::delete(&place, exclusive, &|_| {}).await.expect_err("a broker wants it");
    assert_eq!(stopped.deleted, 0);
    coming.await.expect("it has the shards");
    assert!(place.bucket.head(&Path::from("shards/00/x")).await.is_ok(), "nothing of it is lost");
}

#[tokio::test(start_paused = true)]
async fn delete_leaves_nothing_and_what_lies_beside_the_prefix() {
    let whole: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    whole.put(&Path::from("other/x"), "kept".into()).await.expect("written");
    let bucket = Arc::new(object_store::prefix::PrefixStore::new(whole.clone(), "prod"));
    let place = Place { bucket, ..place() };
    broker(&place, "a", Takeover::Never).await.release().await;
    for number in 0..20 {
        place.bucket.put(&Path::from(format!("shards/00/{number}")), "state".into()).await.expect("written");
    }
    assert_eq!(PrefixClaim::new(place.bucket.clone(), "fleet", "").look().await.expect("taken"), None);
    let exclusive = ensure_not_owned(&place, None, &|_| {}).await.expect("nobody owns it");
    assert!(delete::delete(&place, exclusive, &|_| {}).await.expect("deleted") > 20);
    assert_eq!(objects(&place).await, 0);
    assert!(whole.head(&Path::from("other/x")).await.is_ok());
    // A broker begins anew.
    assert_eq!(broker(&place, "a", Takeover::Never).await.epochs(), [1, 1]);
}

#[tokio::test]
async fn a_prefix_is_for_whom_it_says_and_for_everybody_when_it_says_nothing() {
    let place = place();
    assert_eq!(prefix_owner(&place).await.expect("read"), None);
    ensure_prefix_of(&place, "fleet").await.expect("it is nobody's");
    PrefixClaim::new(place.bucket.clone(), "fleet", "").look().await.expect("taken");
    assert_eq!(prefix_owner(&place).await.expect("read").as_deref(), Some("fleet"));
    ensure_prefix_of(&place, "fleet").await.expect("it is its own");
    let refused = ensure_prefix_of(&place, "other").await.expect_err("it is another's");
    assert!(matches!(&refused, OwnError::Foreign { owner } if owner == "fleet"), "{refused}");
}
