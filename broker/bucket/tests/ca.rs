//! A bucket behind a certificate of one's own CA.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;

use bucketmq_bucket::{Bucket, BucketConfig, OpenError};
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Answers every request over TLS with 404. Its port, and the file of its CA.
fn server(dir: &tempfile::TempDir) -> (u16, PathBuf) {
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, cert.pem()).expect("a file");
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let config = Arc::new(config.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key).expect("a configuration"));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = ServerConnection::new(Arc::clone(&config)).expect("a connection");
            let mut stream = StreamOwned::new(connection, stream.expect("a stream"));
            let mut bytes = [0; 8192];
            if stream.read(&mut bytes).is_ok_and(|length| length > 0) {
                let _ = stream.write_all(b"HTTP/1.1 404 -\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    (port, ca)
}

async fn head(url: String) -> Error {
    let config = BucketConfig { max_attempts: 1, ..BucketConfig::new(url.parse().expect("a bucket URL")) };
    let bucket = Bucket::open(&config).await.expect("a client");
    bucket.store().head(&Path::from("key")).await.expect_err("it answers 404 or not at all")
}

#[tokio::test]
async fn a_ca_of_ones_own_is_trusted_when_it_is_named_and_not_before() {
    let dir = tempfile::tempdir().expect("a directory");
    let (port, ca) = server(&dir);
    // SAFETY: the only test of this binary that reads the environment.
    unsafe {
        std::env::set_var("AWS_ACCESS_KEY_ID", "someone");
        std::env::set_var("AWS_SECRET_ACCESS_KEY", "hush");
        std::env::set_var("AZURE_STORAGE_ACCOUNT_KEY", "aHVzaA==");
    }
    for place in ["s3://bucket", "gs://bucket", "az://account1/container"] {
        let anonymous = if place.starts_with("gs") { "&anonymous=true" } else { "" };
        let url = format!("{place}?endpoint=https://localhost:{port}{anonymous}");
        let stranger = head(url.clone()).await;
        assert!(matches!(stranger, Error::Generic { .. }), "{place}: {stranger}");
        let trusted = head(format!("{url}&ca={}", ca.display())).await;
        assert!(matches!(trusted, Error::NotFound { .. }), "{place}: {trusted}");
    }
}

#[tokio::test]
async fn a_file_that_is_no_ca_is_refused_when_the_bucket_is_opened() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("ca.pem");
    for (content, says) in [
        (None, "No such file"),
        (Some(""), "holds no certificate"),
        (Some("-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n"), "no certificate"),
        (Some("-----BEGIN CERTIFICATE-----\n"), "PEM"),
    ] {
        if let Some(content) = content {
            std::fs::write(&path, content).expect("a file");
        }
        let url = format!("s3://bucket?region=eu-west-1&ca={}", path.display()).parse().expect("a bucket URL");
        let error = Bucket::open(&BucketConfig::new(url)).await.expect_err("it is no CA");
        assert!(matches!(error, OpenError::Ca { .. }) && error.to_string().contains(says), "{error}");
    }
}
