//! For whom a prefix is: whoever comes first has it, until somebody says that it is to be taken over.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;

use bucketmq_cluster::{ObjectError, Objects, PrefixClaim};
use futures_util::future::join_all;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

fn bucket() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}

async fn look(bucket: &Arc<dyn ObjectStore>, owner: &str, adopt: &str) -> Option<String> {
    PrefixClaim::new(bucket.clone(), owner, adopt).look().await.unwrap()
}

async fn owner(bucket: &Arc<dyn ObjectStore>) -> Option<String> {
    Objects::new(bucket.clone()).prefix_owner().await.unwrap().0.map(|prefix| prefix.owner)
}

#[tokio::test]
async fn a_prefix_of_nobody_is_taken_and_is_that_owner_s_from_then_on() {
    let bucket = bucket();
    assert_eq!(owner(&bucket).await, None);
    for _ in 0..2 {
        assert_eq!(look(&bucket, "fleet", "").await, None);
        assert_eq!(owner(&bucket).await.as_deref(), Some("fleet"));
    }
    assert_eq!(look(&bucket, "other", "").await.as_deref(), Some("fleet"));
    assert_eq!(look(&bucket, "other", "somebody").await.as_deref(), Some("fleet"), "that is not who has it");
    assert_eq!(owner(&bucket).await.as_deref(), Some("fleet"));
}

#[tokio::test]
async fn who_is_named_is_replaced_and_waits_then() {
    let bucket = bucket();
    look(&bucket, "old", "").await;
    assert_eq!(look(&bucket, "new", "old").await, None);
    assert_eq!(owner(&bucket).await.as_deref(), Some("new"));
    assert_eq!(look(&bucket, "old", "").await.as_deref(), Some("new"));
    assert_eq!(look(&bucket, "new", "old").await, None, "it has it already");
}

#[tokio::test]
async fn of_many_that_come_at_once_one_has_it_and_the_others_know_which() {
    let bucket = bucket();
    let names: Vec<String> = (0..16).map(|number| format!("owner-{number}")).collect();
    let looks = join_all(names.iter().map(|name| look(&bucket, name, ""))).await;
    let winner = owner(&bucket).await.unwrap();
    for (name, whose) in names.iter().zip(looks) {
        assert_eq!(whose, (*name != winner).then(|| winner.clone()), "{name}");
    }
}

#[tokio::test]
async fn what_a_later_release_wrote_is_left_alone() {
    let bucket = bucket();
    let object = Path::from("prefix-owner");
    bucket.put(&object, r#"{"format":2,"owners":[]}"#.into()).await.unwrap();
    let refused = PrefixClaim::new(bucket.clone(), "fleet", "").look().await.unwrap_err();
    assert!(matches!(refused, ObjectError::Format { .. }) && refused.to_string().contains("format 2"), "{refused}");
    assert_eq!(bucket.get(&object).await.unwrap().bytes().await.unwrap(), r#"{"format":2,"owners":[]}"#.as_bytes());
}
