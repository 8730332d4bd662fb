//! Each server passes object_store's integration suite, and its conditional writes have one winner.

mod client;

use std::sync::Arc;

use bucketmq_servers::{Kind, Options};
use futures_util::future::join_all;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion, integration};

use client::{Store, client};

const ROUNDS: usize = 20;
const RACERS: usize = 16;

/// Sixteen tasks create one object, then sixteen update one version of it, over and over: one wins each time and is the one that is read.
async fn races(store: Arc<dyn Store>) {
    for round in 0..ROUNDS {
        let path = Path::from(format!("race/{round}"));
        let created = race(&store, &path, "create", PutMode::Create).await;
        assert!(created.losers.iter().all(|error| matches!(error, Error::AlreadyExists { .. })), "{:?}", created.losers);
        let updated = race(&store, &path, "update", PutMode::Update(created.version.clone())).await;
        assert!(updated.losers.iter().all(|error| matches!(error, Error::Precondition { .. })), "{:?}", updated.losers);
        let stale = store.put_opts(&path, "stale".into(), PutMode::Update(created.version).into()).await;
        assert!(matches!(stale, Err(Error::Precondition { .. })), "{stale:?}");
    }
}

struct Race {
    version: UpdateVersion,
    losers: Vec<Error>,
}

/// What is written differs each time: an ETag of S3 is a hash of the content, so whoever writes what is there leaves its version as it was, and the next
/// one that expects that version is right.
async fn race(store: &Arc<dyn Store>, path: &Path, step: &str, mode: PutMode) -> Race {
    let content = |number: usize| format!("{step} by racer {number}");
    let racer = |number: usize| {
        let (store, path, options, content) = (store.clone(), path.clone(), PutOptions::from(mode.clone()), content(number));
        tokio::spawn(async move { store.put_opts(&path, PutPayload::from(content), options).await })
    };
    let mut winner = None;
    let mut losers = Vec::new();
    for (number, result) in join_all((0..RACERS).map(racer)).await.into_iter().enumerate() {
        match result.expect("a racer does not panic") {
            Ok(put) => assert!(winner.replace((number, put)).is_none(), "two winners of {step} at {path}"),
            Err(error) => losers.push(error),
        }
    }
    let (number, put) = winner.expect("a winner");
    assert_eq!(losers.len(), RACERS - 1);
    let read = store.get(path).await.expect("what the winner wrote").bytes().await.expect("all of it");
    assert_eq!(read, content(number));
    Race { version: UpdateVersion { e_tag: put.e_tag, version: put.version }, losers }
}

/// What object_store asks of its own back ends, in its order.
async fn suite(kind: Kind, store: &dyn Store) {
    integration::put_get_delete_list(store).await;
    integration::list_with_offset_exclusivity(store).await;
    // fake-gcs-server keeps no old generations. versitygw compares If-Unmodified-Since with a time finer than the one it tells.
    if !matches!(kind, Kind::FakeGcs | Kind::Versitygw) {
        integration::get_opts(store).await;
    }
    integration::list_uses_directories_correctly(store).await;
    integration::list_with_delimiter(store).await;
    integration::rename_and_copy(store).await;
    integration::copy_if_not_exists(store).await;
    integration::stream_get(store).await;
    integration::put_opts(store, true).await;
    integration::multipart(store, store).await;
    integration::multipart_put_part_out_of_order(store, store).await;
    integration::multipart_out_of_order(store).await;
    integration::put_get_attributes(store).await;
    integration::list_paginated(store, store).await;
}

macro_rules! server {
    ($name:ident, $kind:expr) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let server = $kind.start(Options::default()).unwrap();
            let store = client(server.access());
            races(store.clone()).await;
            suite($kind, &*store).await;
        }
    };
}

server!(versitygw, Kind::Versitygw);
server!(moto, Kind::Moto);
server!(azurite, Kind::Azurite);
server!(gcs, Kind::FakeGcs);
