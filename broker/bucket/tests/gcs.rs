//! Google Cloud Storage against fake-gcs-server behind the translation of `e2e/servers`.

mod support;

use bucketmq_bucket::{Bucket, Lifecycle, lifecycle, probe};
use bucketmq_servers::Kind;
use support::{cases, servers};

/// fake-gcs-server keeps no older version of an object in a bucket without versioning, and the case reads one.
const NOT_THERE: [&str; 1] = ["get_opts"];

#[tokio::test(flavor = "multi_thread")]
async fn every_case_passes_but_for_older_versions() {
    let store = |_| async { Bucket::open(&servers::config(Kind::FakeGcs)).await.unwrap().store() };
    let failed = cases::run([cases::all(), cases::last_upload_wins()].concat(), store).await;
    assert_eq!(failed, NOT_THERE);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_race_of_ten_probes_has_one_winner() {
    let bucket = Bucket::open(&servers::config(Kind::FakeGcs)).await.unwrap();
    for _ in 0..10 {
        probe(bucket.store().as_ref()).await.unwrap();
    }
    assert!(matches!(lifecycle(&bucket).await, Lifecycle::Unknown(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_is_a_bucket_of_its_own() {
    servers::two_prefixes_do_not_meet(servers::config(Kind::FakeGcs)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_or_a_server_that_is_not_there_is_told_as_what_it_is() {
    servers::what_is_away_is_told(Kind::FakeGcs).await;
}
