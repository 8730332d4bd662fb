//! The one server of a test binary, and its credentials in the environment, where the broker looks for them.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use bucketmq_bucket::{Ailment, Bucket, BucketConfig, BucketUrl, Diagnosis, S3Store, probe};
use bucketmq_servers::{Credentials, Kind, Options, Server};
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

static SERVER: OnceLock<Server> = OnceLock::new();

/// Starts it with the first call; it goes with this process.
pub fn server(kind: Kind) -> &'static Server {
    SERVER.get_or_init(|| {
        let server = kind.start(Options::default()).expect("the server starts");
        for (name, value) in server.access().environment() {
            // Where it is and what the bucket is called stands in the URLs.
            if !name.contains("ENDPOINT") && !name.contains("BUCKET") && !name.contains("BASE_URL") && !name.contains("CONTAINER") {
                // SAFETY: every test of the binary comes through here before it reads the environment, and waits for the lock of SERVER.
                unsafe { std::env::set_var(name, value) };
            }
        }
        server
    })
}

/// A new bucket of its own.
pub fn config(kind: Kind) -> BucketConfig {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let server = server(kind);
    let name = format!("bucket-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    server.create_bucket(&name).expect("a bucket");
    let url = match server.credentials() {
        Credentials::S3 { .. } => format!("s3://{name}?endpoint={}", server.endpoint()),
        Credentials::Azure { account, .. } => format!("az://{account}/{name}?endpoint={}", server.endpoint()),
        Credentials::Gcs { .. } => format!("gs://{name}?anonymous=true&endpoint={}", server.endpoint()),
    };
    BucketConfig::new(url.parse().expect("a bucket URL"))
}

/// The store of an S3 URL.
pub async fn s3(config: &BucketConfig) -> S3Store {
    let BucketUrl::S3(url) = &config.url else { panic!("{} is not S3", config.url) };
    S3Store::connect(url, config).await.expect("a client")
}

/// What is written below one prefix is not seen below another.
pub async fn two_prefixes_do_not_meet(config: BucketConfig) {
    let mut stores = Vec::new();
    for prefix in ["prod", "prod-2"] {
        let (place, parameters) =
            config.url.to_string().split_once('?').map(|(place, rest)| (place.to_owned(), rest.to_owned())).expect("?");
        let url = format!("{place}/{prefix}?{parameters}").parse().expect("a bucket URL");
        let bucket = Bucket::open(&BucketConfig { url, ..config.clone() }).await.expect("a bucket");
        stores.push(bucket.store());
    }
    let location = Path::from("a/b");
    stores[0].put(&location, "1".into()).await.expect("a put");
    for (store, names) in stores.iter().zip([vec![location.clone()], vec![]]) {
        let listed: Vec<Path> = store.list(None).map_ok(|meta| meta.location).try_collect().await.expect("a list");
        assert_eq!(listed, names);
        assert_eq!(store.get(&location).await.is_ok(), !names.is_empty());
    }
}

/// What is told of a bucket that is not there, and of a server that is not.
pub async fn what_is_away_is_told(kind: Kind) {
    let config = config(kind);
    let url = config.url.to_string();
    let (place, _) = url.split_once('?').expect("an endpoint");
    let name = place.rsplit('/').next().expect("a name");
    for (url, ailment) in [
        (url.replace(&format!("{name}?"), "nobody-made-it?"), Ailment::NotFound),
        (url.replace(server(kind).endpoint(), "http://127.0.0.1:1"), Ailment::Unreachable),
    ] {
        let url = url.parse().expect("a bucket URL");
        let bucket = Bucket::open(&BucketConfig { url, max_attempts: 2, ..config.clone() }).await.expect("a bucket");
        let failed = probe(bucket.store().as_ref()).await.expect_err("it is away");
        let told = Diagnosis::of(&failed).expect("it says something");
        assert_eq!(told.ailment, ailment, "{told}: {failed}");
        // While it serves, the broker knows it from the requests alone.
        let trouble = bucket.requests().last_trouble().expect("there was some");
        assert_eq!(trouble.diagnosis, told);
    }
}
