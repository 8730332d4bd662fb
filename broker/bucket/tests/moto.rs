//! S3 against moto.

mod support;

use bucketmq_servers::Kind;
use support::{cases, servers};

#[tokio::test(flavor = "multi_thread")]
async fn every_case_passes() {
    let store = |_| async { servers::s3(&servers::config(Kind::Moto)).await };
    let mut failed = cases::run(cases::all(), store).await;
    failed.extend(cases::run(cases::of_parts_and_pages(), store).await);
    assert!(failed.is_empty(), "{failed:?}");
}
