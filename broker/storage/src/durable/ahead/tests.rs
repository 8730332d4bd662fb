//! What is asked of the bucket, and that the answers are the bucket's own.

use std::sync::atomic::{AtomicUsize, Ordering};

use object_store::ObjectStoreExt;
use object_store::memory::InMemory;

use std::fmt;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use object_store::{CopyOptions, ListResult, MultipartUpload, PutMultipartOptions, PutOptions, PutPayload, PutResult};

use super::super::damage::Watched;
use super::*;

/// Counts what is read.
#[derive(Debug)]
struct Counted {
    bucket: InMemory,
    reads: AtomicUsize,
}

impl fmt::Display for Counted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bucket.fmt(formatter)
    }
}

#[async_trait]
impl ObjectStore for Counted {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.bucket.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.bucket.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.bucket.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.bucket.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.bucket.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.bucket.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.bucket.copy_opts(from, to, options).await
    }
}

async fn scene(objects: &[(&str, usize)]) -> (Arc<Counted>, Watched) {
    let bucket = Arc::new(Counted { bucket: InMemory::new(), reads: AtomicUsize::new(0) });
    for (name, size) in objects {
        bucket.put(&Path::from(*name), bytes_of(0..*size as u64).into()).await.unwrap();
    }
    (bucket.clone(), Watched::new(bucket))
}

/// What stands in this part of every object.
fn bytes_of(range: Range<u64>) -> Bytes {
    range.map(|at| (at % 251) as u8).collect::<Vec<u8>>().into()
}

async fn get(ahead: &Watched, object: &str, range: Range<u64>) -> Bytes {
    ahead.get_range(&Path::from(object), range).await.unwrap()
}

#[tokio::test]
async fn an_object_of_the_log_is_one_request() {
    let (bucket, ahead) = scene(&[("shards/00/wal/01.sst", 5_000), ("shards/00/wal/02.sst", 0)]).await;
    for (object, size) in [("shards/00/wal/01.sst", 5_000), ("shards/00/wal/02.sst", 0)] {
        assert_eq!(ahead.head(&Path::from(object)).await.unwrap().size, size);
    }
    assert_eq!(bucket.reads.load(Ordering::SeqCst), 2);
    assert_eq!(get(&ahead, "shards/00/wal/01.sst", 0..5_000).await, bytes_of(0..5_000));
    assert_eq!(bucket.reads.load(Ordering::SeqCst), 2);
    let missing = ahead.head(&Path::from("shards/00/wal/03.sst")).await;
    assert!(matches!(missing, Err(object_store::Error::NotFound { .. })), "{missing:?}");
}

#[tokio::test]
async fn a_small_table_is_one_request_from_its_end_to_its_beginning() {
    let (bucket, ahead) = scene(&[("shards/00/compacted/A.sst", 9_000)]).await;
    for range in [8_000..9_000, 0..4_000, 4_000..8_000] {
        assert_eq!(get(&ahead, "shards/00/compacted/A.sst", range.clone()).await, bytes_of(range));
    }
    assert_eq!(bucket.reads.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn who_asks_again_is_answered_by_the_bucket() {
    let (bucket, ahead) = scene(&[("shards/00/compacted/A.sst", 9_000)]).await;
    get(&ahead, "shards/00/compacted/A.sst", 8_000..9_000).await;
    bucket.put(&Path::from("shards/00/compacted/A.sst"), vec![7; 9_000].into()).await.unwrap();
    assert_eq!(get(&ahead, "shards/00/compacted/A.sst", 8_000..9_000).await, vec![7; 1_000]);
    assert_eq!(bucket.reads.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn what_is_large_or_something_else_or_comes_later_is_left_as_it_is() {
    let large = TABLE_BYTES_MAX as usize + 1_000;
    let (bucket, ahead) = scene(&[("shards/00/compacted/A.sst", large), ("shards/00/manifest/1.manifest", 100)]).await;
    let end = large as u64;
    for range in [end - 100..end, 0..100] {
        get(&ahead, "shards/00/compacted/A.sst", range).await;
    }
    for range in [90..100, 0..10] {
        get(&ahead, "shards/00/manifest/1.manifest", range).await;
    }
    assert_eq!(bucket.reads.load(Ordering::SeqCst), 4);
    ahead.opened();
    for range in [90..100, 0..10] {
        get(&ahead, "shards/00/compacted/A.sst", range).await;
    }
    assert_eq!(bucket.reads.load(Ordering::SeqCst), 6);
}

#[tokio::test]
async fn an_object_that_has_lost_its_end_is_told_as_the_bucket_tells_it() {
    let (_, ahead) = scene(&[("shards/00/compacted/A.sst", 500)]).await;
    assert!(ahead.get_range(&Path::from("shards/00/compacted/A.sst"), 600..700).await.is_err());
    assert_eq!(get(&ahead, "shards/00/compacted/A.sst", 400..600).await, bytes_of(400..500));
}

#[tokio::test]
async fn no_more_is_kept_than_the_limit() {
    let names: Vec<String> = (0..40).map(|number| format!("shards/00/compacted/{number}.sst")).collect();
    let objects: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 100_000)).collect();
    let (bucket, _) = scene(&objects).await;
    let ahead = ReadAhead::new();
    for name in &names {
        let range = Some(GetRange::Bounded(99_000..100_000));
        ahead.get(&*bucket, &Path::from(name.as_str()), GetOptions { range, ..GetOptions::default() }).await.unwrap();
    }
    let kept = ahead.kept.lock();
    let kept = kept.as_ref().unwrap();
    assert!(kept.bytes <= KEPT_BYTES_MAX && kept.objects.len() == 10 && kept.order.len() == 10, "{} {}", kept.bytes, kept.objects.len());
}
