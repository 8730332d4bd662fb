//! Objects that are missing, cut short or altered: how that shows, and which one it was.
//!
//! SlateDB tries again for ever when it cannot read a part of an object, which is right while a bucket is unwell and wrong for an object that has
//! lost its end: that one is told apart here. Not every error of its names the object, so those read last are remembered.

use std::collections::VecDeque;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;
use slatedb::ErrorKind;

use super::ahead::ReadAhead;
use crate::record::DecodeError;

/// Objects remembered: SlateDB reads some objects of its log ahead of the one it looks at, and manifests beside.
const READ_LAST: usize = 16;

/// An object is shorter than what refers to it says.
#[derive(Debug, thiserror::Error)]
#[error("it has lost its end: {size} bytes are left, and byte {wanted} is asked for")]
struct Shortened {
    size: u64,
    wanted: u64,
}

/// The bucket as one shard sees it.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    bucket: Arc<dyn ObjectStore>,
    ahead: ReadAhead,
    read_last: Arc<Mutex<VecDeque<Path>>>,
}

impl Watched {
    pub(super) fn new(bucket: Arc<dyn ObjectStore>) -> Self {
        Self { bucket, ahead: ReadAhead::new(), read_last: Arc::default() }
    }

    /// The shard is open: from now on everything is asked as it comes.
    pub(super) fn opened(&self) {
        self.ahead.end();
    }

    /// What is wrong, with the object's name.
    pub(super) fn explain(&self, error: &(dyn StdError + 'static)) -> String {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        let read_last = self.read_last.lock();
        if read_last.is_empty() || read_last.iter().any(|object| text.contains(object.as_ref())) {
            return text;
        }
        // It says at least when it was the log.
        let is_suspect = |object: &&str| !text.contains("wal data error") || object.contains("/wal/");
        let objects: Vec<&str> = read_last.iter().map(AsRef::as_ref).filter(is_suspect).collect();
        format!("{text} (read last: {})", objects.join(", "))
    }

    fn note(&self, object: &Path) {
        let mut read_last = self.read_last.lock();
        read_last.retain(|known| known != object);
        read_last.push_front(object.clone());
        read_last.truncate(READ_LAST);
    }

    /// The error of reading from byte `wanted` on: another one when the object does not reach so far.
    async fn judge(&self, object: &Path, wanted: u64, error: Error) -> Error {
        match self.bucket.head(object).await {
            Ok(meta) if meta.size <= wanted => {
                Error::NotFound { path: object.to_string(), source: Box::new(Shortened { size: meta.size, wanted }) }
            }
            _ => error,
        }
    }
}

/// True for what no waiting heals: something was read, and it is not what was written.
pub(super) fn is_damage(error: &(dyn StdError + Send + Sync + 'static)) -> bool {
    error.is::<DecodeError>() || error.downcast_ref::<slatedb::Error>().is_some_and(|error| matches!(error.kind(), ErrorKind::Data))
}

/// The same at the opening, where a manifest that cannot be read is told as an internal error.
pub(super) fn is_damage_at_opening(error: &slatedb::Error) -> bool {
    matches!(error.kind(), ErrorKind::Data | ErrorKind::Internal)
}

impl fmt::Display for Watched {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bucket.fmt(formatter)
    }
}

#[async_trait]
impl ObjectStore for Watched {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.bucket.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.bucket.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let wanted = match &options.range {
            Some(GetRange::Bounded(range)) => Some(range.start),
            Some(GetRange::Offset(start)) => Some(*start),
            _ => None,
        };
        self.note(location);
        match (self.ahead.get(&*self.bucket, location, options).await, wanted) {
            (Err(error), Some(wanted)) if !matches!(error, Error::NotFound { .. }) => Err(self.judge(location, wanted, error).await),
            (result, _) => result,
        }
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.bucket.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.bucket.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.bucket.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.bucket.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.bucket.copy_opts(from, to, options).await
    }
}
