//! A probe of good stores, and of one for each rule that can be broken.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::{
    CopyOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, PutMultipartOptions, PutPayload, Result as StoreResult,
};

use super::*;

/// A store in memory that breaks one rule.
#[derive(Debug)]
struct Bad {
    inner: InMemory,
    rule: Rule,
    writes: AtomicUsize,
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bad({:?})", self.rule)
    }
}

#[async_trait]
impl ObjectStore for Bad {
    async fn put_opts(&self, location: &Path, payload: PutPayload, mut options: PutOptions) -> StoreResult<PutResult> {
        let nth = self.writes.fetch_add(1, Ordering::Relaxed);
        let is_update = matches!(options.mode, PutMode::Update(_));
        match self.rule {
            Rule::OneCreatorWins if options.mode == PutMode::Create => options.mode = PutMode::Overwrite,
            Rule::StaleUpdateIsRefused if is_update => options.mode = PutMode::Overwrite,
            Rule::FreshUpdateIsAccepted if is_update => {
                return Err(Error::Precondition { path: location.to_string(), source: "no".into() });
            }
            // The sequential ones are right: only the race shows it.
            Rule::OneUpdaterWins if is_update && nth > RACES * WRITERS + 2 => options.mode = PutMode::Overwrite,
            Rule::MetadataComesBack => options.attributes = Default::default(),
            _ => {}
        }
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> StoreResult<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, StoreResult<Path>>) -> BoxStream<'static, StoreResult<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        match self.rule {
            Rule::WritesAreSeen => futures_util::stream::empty().boxed(),
            _ => self.inner.list(prefix),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

async fn names(store: &dyn ObjectStore) -> usize {
    store.list(None).try_collect::<Vec<_>>().await.expect("a list").len()
}

#[tokio::test]
async fn memory_and_a_directory_pass_and_are_left_clean() {
    let memory = InMemory::new();
    let other = Path::from("other");
    memory.put(&other, "x".into()).await.unwrap();
    probe(&memory).await.unwrap();
    assert_eq!(names(&memory).await, 1);
    let dir = tempfile::tempdir().unwrap();
    let directory = crate::LocalStore::open(dir.path()).unwrap();
    probe(&directory).await.unwrap();
    assert_eq!(names(&directory).await, 0);
}

#[tokio::test]
async fn each_broken_rule_is_named() {
    for rule in [
        Rule::OneCreatorWins,
        Rule::StaleUpdateIsRefused,
        Rule::FreshUpdateIsAccepted,
        Rule::OneUpdaterWins,
        Rule::MetadataComesBack,
        Rule::WritesAreSeen,
    ] {
        let store = Bad { inner: InMemory::new(), rule, writes: AtomicUsize::new(0) };
        let error = probe(&store).await.expect_err("it is broken");
        assert!(matches!(error, ProbeError::Broken { rule: named, .. } if named == rule), "{rule:?}: {error}");
        assert!(error.to_string().contains(rule.text()), "{error}");
        if rule != Rule::WritesAreSeen {
            assert_eq!(names(&store.inner).await, 0, "{rule:?}");
        }
    }
}
