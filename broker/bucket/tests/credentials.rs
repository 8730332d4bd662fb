//! Keys that are rotated while a client is in use. A binary of its own, because it takes the keys of the environment away.

use std::path::Path;
use std::time::{Duration, Instant};

use bucketmq_bucket::{Bucket, BucketConfig};
use bucketmq_servers::{Kind, Options, Server, Versitygw};
use object_store::path::Path as Key;
use object_store::{Error, ObjectStoreExt};

/// Puts the keys of an account into a file, as whoever mounts a Secret does: all at once.
fn write_keys(file: &Path, access_key: &str, secret_key: &str) {
    let text = format!("[default]\naws_access_key_id = {access_key}\naws_secret_access_key = {secret_key}\n");
    let next = file.with_extension("next");
    std::fs::write(&next, text).expect("a file");
    std::fs::rename(next, file).expect("a file");
}

fn server() -> Server {
    Kind::Versitygw.start(Options::default()).expect("the server starts")
}

#[tokio::test]
async fn keys_that_are_rotated_in_their_file_are_taken_up_when_the_old_ones_are_refused() {
    let server = server();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("credentials");
    // SAFETY: this is the only test of its binary, and nothing else has begun to read the environment.
    unsafe {
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"] {
            std::env::remove_var(name);
        }
        std::env::set_var("AWS_SHARED_CREDENTIALS_FILE", &file);
        std::env::set_var("AWS_CONFIG_FILE", folder.path().join("none"));
        std::env::set_var("AWS_EC2_METADATA_DISABLED", "true");
    }
    Versitygw::add_account(&server, "one", "the first secret").unwrap();
    write_keys(&file, "one", "the first secret");
    let url = format!("s3://{}?region=us-east-1&endpoint={}", server.bucket(), server.endpoint());
    let config = BucketConfig { max_attempts: 1, ..BucketConfig::new(url.parse().unwrap()) };
    let store = Bucket::open(&config).await.unwrap().store();
    let key = Key::from("object");
    store.put(&key, "1".into()).await.expect("the first keys do");

    // Gone before there are others, the file too: what there was is tried until there is something else, and the refusal is told as such.
    std::fs::remove_file(&file).unwrap();
    Versitygw::remove_account(&server, "one").unwrap();
    for _ in 0..3 {
        let error = store.put(&key, "2".into()).await.unwrap_err();
        assert!(matches!(error, Error::Unauthenticated { .. }) && error.to_string().contains("InvalidAccessKeyId"), "{error:?}");
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
    Versitygw::add_account(&server, "two", "another secret").unwrap();
    write_keys(&file, "two", "another secret");
    let began = Instant::now();
    while let Err(error) = store.put(&key, "3".into()).await {
        assert!(began.elapsed() < Duration::from_secs(5), "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
