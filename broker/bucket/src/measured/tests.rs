//! Counting and giving up.

use object_store::memory::InMemory;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use object_store::{ObjectStoreExt, PutMode};

use super::*;

fn measured<S: ObjectStore>(store: S) -> (Measured<S>, Arc<Requests>) {
    let requests = Arc::new(Requests::default());
    (Measured::new(store, Arc::clone(&requests), Duration::from_secs(5)), requests)
}

#[tokio::test]
async fn requests_are_counted_by_kind_and_outcome_and_bytes_by_direction() {
    let (store, requests) = measured(InMemory::new());
    let location = Path::from("a/b");
    store.put(&location, "12345".into()).await.unwrap();
    store.put_opts(&location, "123".into(), PutMode::Create.into()).await.unwrap_err();
    assert_eq!(store.get(&location).await.unwrap().bytes().await.unwrap().len(), 5);
    store.get_ranges(&location, &[0..1, 3..4]).await.unwrap();
    store.head(&location).await.unwrap();
    store.get(&Path::from("none")).await.unwrap_err();
    assert_eq!(store.list(None).try_collect::<Vec<_>>().await.unwrap().len(), 1);
    store.list(Some(&Path::from("none"))).try_collect::<Vec<_>>().await.unwrap();
    store.list_with_delimiter(None).await.unwrap();
    store.copy(&location, &Path::from("c")).await.unwrap();
    store.delete(&location).await.unwrap();
    let mut upload = store.put_multipart(&location).await.unwrap();
    upload.put_part("1234567".into()).await.unwrap();
    upload.complete().await.unwrap();
    let expected = [
        (Kind::Put, Outcome::Ok, 1),
        (Kind::Put, Outcome::Condition, 1),
        (Kind::Get, Outcome::Ok, 2),
        (Kind::Get, Outcome::NotFound, 1),
        (Kind::Head, Outcome::Ok, 1),
        (Kind::List, Outcome::Ok, 3),
        (Kind::Copy, Outcome::Ok, 1),
        (Kind::Delete, Outcome::Ok, 1),
        (Kind::Part, Outcome::Ok, 1),
        (Kind::Multipart, Outcome::Ok, 2),
    ];
    for (kind, outcome, count) in expected {
        assert_eq!(requests.count(kind, outcome), count, "{kind:?} {outcome:?}");
        assert!(requests.times(kind).count > 0);
    }
    assert_eq!((requests.bytes_out(), requests.bytes_in()), (5 + 3 + 7, 5 + 4));
}

#[tokio::test]
async fn pages_of_a_list_are_counted() {
    let (store, requests) = measured(InMemory::new());
    for number in 0..1001 {
        store.put(&Path::from(format!("{number:04}")), "".into()).await.unwrap();
    }
    store.list(None).try_collect::<Vec<_>>().await.unwrap();
    assert_eq!(requests.total(Kind::List), 2);
    store.list_with_delimiter(None).await.unwrap();
    assert_eq!(requests.total(Kind::List), 4);
}

#[tokio::test(start_paused = true)]
async fn what_takes_too_long_is_given_up_and_counted() {
    let slow = Duration::from_secs(6);
    let config = ThrottleConfig {
        wait_put_per_call: slow,
        wait_get_per_call: slow,
        wait_delete_per_call: slow,
        wait_list_per_entry: slow,
        ..ThrottleConfig::default()
    };
    let inner = InMemory::new();
    let location = Path::from("a");
    inner.put(&location, "1".into()).await.unwrap();
    let (store, requests) = measured(ThrottledStore::new(inner, config));
    let timed_out = |result: Result<()>| assert!(TimedOut::find(&result.unwrap_err()).is_some());
    timed_out(store.put(&location, "2".into()).await.map(drop));
    timed_out(store.get(&location).await.map(drop));
    timed_out(store.list(None).try_collect::<Vec<_>>().await.map(drop));
    timed_out(store.delete(&location).await);
    for kind in [Kind::Put, Kind::Get, Kind::List, Kind::Delete] {
        assert_eq!(requests.count(kind, Outcome::Timeout), 1, "{kind:?}");
    }
}
