//! S3 against moto.

mod support;

use aws_sdk_s3::types::{
    BucketLifecycleConfiguration, ExpirationStatus, LifecycleExpiration, LifecycleRule, LifecycleRuleFilter, ServerSideEncryption,
};
use bucketmq_bucket::{Bucket, BucketConfig, BucketUrl, Lifecycle, S3Url, lifecycle, probe};
use bucketmq_servers::Kind;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode};
use support::{cases, servers};

#[tokio::test(flavor = "multi_thread")]
async fn every_case_passes() {
    let store = |_| async { servers::s3(&servers::config(Kind::Moto)).await };
    let failed = cases::run([cases::all(), cases::last_upload_wins(), cases::of_parts_and_pages()].concat(), store).await;
    assert!(failed.is_empty(), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_race_of_ten_probes_has_one_winner() {
    let bucket = Bucket::open(&servers::config(Kind::Moto)).await.unwrap();
    for _ in 0..10 {
        probe(bucket.store().as_ref()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_is_a_bucket_of_its_own() {
    servers::two_prefixes_do_not_meet(servers::config(Kind::Moto)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lifecycle_rule_that_would_delete_state_is_found() {
    let config = with(servers::config(Kind::Moto), |url| url.prefix = Path::from("prod"));
    let bucket = Bucket::open(&config).await.unwrap();
    assert_eq!(lifecycle(&bucket).await, Lifecycle::Harmless);
    for (prefix, harmless) in [("logs/", true), ("prod/", false)] {
        let rule = LifecycleRule::builder()
            .id("old things")
            .status(ExpirationStatus::Enabled)
            .filter(LifecycleRuleFilter::builder().prefix(prefix).build())
            .expiration(LifecycleExpiration::builder().days(30).build());
        let rules = BucketLifecycleConfiguration::builder().rules(rule.build().unwrap()).build().unwrap();
        let put = raw().await.put_bucket_lifecycle_configuration().bucket(name(&config)).lifecycle_configuration(rules);
        put.send().await.unwrap();
        match lifecycle(&bucket).await {
            Lifecycle::TakesAway(sentences) => assert!(!harmless && sentences[0].contains("old things"), "{sentences:?}"),
            other => assert!(harmless, "{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_objects_are_encrypted_with_the_key_of_the_url() {
    let config = with(servers::config(Kind::Moto), |url| url.kms_key = Some("alias/state".to_owned()));
    let bucket = Bucket::open(&config).await.unwrap();
    let store = bucket.store();
    store.put_opts(&Path::from("put"), "1".into(), PutMode::Create.into()).await.unwrap();
    let mut upload = store.put_multipart(&Path::from("parts")).await.unwrap();
    upload.put_part("1".into()).await.unwrap();
    upload.complete().await.unwrap();
    store.copy(&Path::from("put"), &Path::from("copy")).await.unwrap();
    for key in ["put", "parts", "copy"] {
        let head = raw().await.head_object().bucket(name(&config)).key(key).send().await.unwrap();
        assert_eq!(head.server_side_encryption, Some(ServerSideEncryption::AwsKms), "{key}");
        assert_eq!(head.ssekms_key_id.as_deref(), Some("alias/state"), "{key}");
    }
}

fn with(mut config: BucketConfig, change: impl FnOnce(&mut S3Url)) -> BucketConfig {
    let BucketUrl::S3(url) = &mut config.url else { panic!("{} is not S3", config.url) };
    change(url);
    config
}

fn name(config: &BucketConfig) -> &str {
    let BucketUrl::S3(url) = &config.url else { panic!("{} is not S3", config.url) };
    &url.bucket
}

/// The SDK itself, to see what the store did.
async fn raw() -> aws_sdk_s3::Client {
    let shared = aws_config::defaults(aws_config::BehaviorVersion::latest()).region("us-east-1").load().await;
    let config = aws_sdk_s3::config::Builder::from(&shared).endpoint_url(servers::server(Kind::Moto).endpoint()).force_path_style(true);
    aws_sdk_s3::Client::from_conf(config.build())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_or_a_server_that_is_not_there_is_told_as_what_it_is() {
    servers::what_is_away_is_told(Kind::Moto).await;
}
