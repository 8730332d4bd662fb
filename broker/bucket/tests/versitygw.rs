//! S3 against versitygw.

mod support;

use bucketmq_servers::Kind;
use support::{cases, servers};

/// versitygw compares If-Unmodified-Since, which has whole seconds, with the file's nanoseconds, and refuses the object's own time.
const NOT_THERE: [&str; 1] = ["get_opts"];

#[tokio::test(flavor = "multi_thread")]
async fn every_case_passes_but_for_times_in_conditions() {
    let store = |_| async { servers::s3(&servers::config(Kind::Versitygw)).await };
    let mut failed = cases::run(cases::all(), store).await;
    failed.extend(cases::run(cases::of_parts_and_pages(), store).await);
    assert_eq!(failed, NOT_THERE);
}
