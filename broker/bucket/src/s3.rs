//! S3 and what speaks its protocol, over the SDK of Amazon.
//!
//! What it promises beyond the trait: a conditional write never reports "another was faster" about a write of its own, nor because of a 409, and
//! every request ends within the configured time.

mod attributes;
mod client;
mod credentials;
mod error;
mod list;
mod multipart;
mod read;
mod retry;
mod write;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, Extensions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::config::{BucketConfig, S3Url};
use crate::open::OpenError;

pub use error::S3Error;
pub(crate) use error::chain;

/// The name in errors.
const STORE: &str = "S3";

/// One bucket. Clones share its connections.
#[derive(Clone)]
pub struct S3Store(Arc<Inner>);

struct Inner {
    client: Client,
    bucket: String,
    kms_key: Option<String>,
    max_attempts: u32,
}

impl S3Store {
    /// Prepares a client; the bucket is not asked yet.
    ///
    /// # Errors
    ///
    /// When the CA file cannot be used, or no region is known.
    pub async fn connect(url: &S3Url, config: &BucketConfig) -> Result<S3Store, OpenError> {
        let client = client::connect(url, config).await?;
        Ok(S3Store(Arc::new(Inner { client, bucket: url.bucket.clone(), kms_key: url.kms_key.clone(), max_attempts: config.max_attempts })))
    }

    pub(crate) fn client(&self) -> (&Client, &str) {
        (&self.0.client, &self.0.bucket)
    }
}

impl fmt::Debug for S3Store {
    /// Without the client, which knows credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Store").field("bucket", &self.0.bucket).finish_non_exhaustive()
    }
}

impl fmt::Display for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.0.bucket)
    }
}

#[async_trait]
impl ObjectStore for S3Store {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.put_object(location, payload, options).await
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.upload(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if !options.head {
            return self.get_object(location, options).await.map_err(|failure| failure.at(location.as_ref()));
        }
        let head = self.head_object(location, options).await.map_err(|failure| failure.at(location.as_ref()))?;
        Ok(GetResult {
            payload: GetResultPayload::Stream(stream::empty().boxed()),
            range: 0..head.meta.size,
            meta: head.meta,
            attributes: head.attributes,
            extensions: Extensions::new(),
        })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.delete_all(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.pages(prefix, None)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.pages(prefix, Some(offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.folder(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        match options.mode {
            CopyMode::Overwrite => self.copy_object(from, to).await.map_err(|failure| failure.at(from.as_ref())),
            CopyMode::Create => self.copy_if_absent(from, to).await,
        }
    }
}
