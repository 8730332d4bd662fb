//! `file://` and `memory://`: every case of object_store.

mod support;

use bucketmq_bucket::LocalStore;
use object_store::memory::InMemory;
use support::cases;

#[tokio::test(flavor = "multi_thread")]
async fn every_case_passes_on_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let empty = |number: usize| {
        let path = dir.path().join(number.to_string());
        async move { LocalStore::open(&path).unwrap() }
    };
    let failed = cases::run([cases::all(), cases::last_upload_wins()].concat(), empty).await;
    assert!(failed.is_empty(), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_case_passes_in_memory() {
    let failed = cases::run([cases::all(), cases::last_upload_wins()].concat(), |_| async { InMemory::new() }).await;
    assert!(failed.is_empty(), "{failed:?}");
}
