//! S3 against real servers.

mod support;

use bucketmq_bucket::{BucketConfig, BucketUrl, S3Store};
use support::cases;
use support::servers::Server;

async fn store(config: &BucketConfig) -> S3Store {
    let BucketUrl::S3(url) = &config.url else { panic!("not S3") };
    S3Store::connect(url, config).await.unwrap()
}

async fn every_case_passes_on(server: &Server) {
    let empty = |number: usize| async move { store(&server.bucket(&format!("cases-{number}")).await).await };
    let mut failed = cases::run(cases::all(), empty).await;
    let empty = |number: usize| async move { store(&server.bucket(&format!("parts-{number}")).await).await };
    failed.extend(cases::run(cases::of_parts_and_pages(), empty).await);
    assert!(failed.is_empty(), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_case_passes_on_versitygw() {
    every_case_passes_on(&Server::versitygw().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_case_passes_on_moto() {
    every_case_passes_on(&Server::moto().await).await;
}
