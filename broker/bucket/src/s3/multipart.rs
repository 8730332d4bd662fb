//! Objects in parts, and copies.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, ServerSideEncryption};
use bytes::Bytes;
use futures_util::FutureExt;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    Error, Extensions, GetOptions, MultipartId, MultipartUpload, PutMultipartOptions, PutPayload, PutResult, Result, UploadPart,
};

use super::attributes::Headers;
use super::error::{Failure, Kind};
use super::retry::wait_before;
use super::write::new_put_id;
use super::{S3Store, STORE};

/// Whether completing an upload may replace an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replace {
    Yes,
    No,
}

impl S3Store {
    pub(super) async fn begin(&self, location: &Path, headers: Headers, tags: Option<String>) -> Result<MultipartId, Failure> {
        const OPERATION: &str = "CreateMultipartUpload";
        let mut request = self
            .0
            .client
            .create_multipart_upload()
            .bucket(&self.0.bucket)
            .key(location.as_ref())
            .set_cache_control(headers.cache_control)
            .set_content_disposition(headers.content_disposition)
            .set_content_encoding(headers.content_encoding)
            .set_content_language(headers.content_language)
            .set_content_type(headers.content_type)
            .set_storage_class(headers.storage_class)
            .set_metadata(Some(headers.metadata))
            .set_tagging(tags);
        if let Some(key) = &self.0.kms_key {
            request = request.server_side_encryption(ServerSideEncryption::AwsKms).ssekms_key_id(key).bucket_key_enabled(true);
        }
        let output = request.send().await.map_err(|error| Failure::of(OPERATION, &error))?;
        output.upload_id.ok_or_else(|| Failure::protocol(OPERATION, "sent no UploadId"))
    }

    /// Part `index`, counted from 0. Its ETag.
    async fn part(&self, location: &Path, id: &str, index: usize, body: Bytes) -> Result<String, Failure> {
        const OPERATION: &str = "UploadPart";
        let number = part_number(index).ok_or_else(|| Failure::protocol(OPERATION, "takes no more than 10000 parts"))?;
        let request = self.0.client.upload_part().bucket(&self.0.bucket).key(location.as_ref()).upload_id(id);
        let output = request.part_number(number).body(body.into()).send().await.map_err(|error| Failure::of(OPERATION, &error))?;
        output.e_tag.ok_or_else(|| Failure::protocol(OPERATION, "sent no ETag"))
    }

    async fn complete(&self, location: &Path, id: &str, parts: Vec<PartId>, replace: Replace) -> Result<PutResult, Failure> {
        const OPERATION: &str = "CompleteMultipartUpload";
        let mut parts = parts;
        if parts.is_empty() {
            // S3 wants at least one.
            parts.push(PartId { content_id: self.part(location, id, 0, Bytes::new()).await? });
        }
        let part =
            |(index, part): (usize, PartId)| CompletedPart::builder().set_part_number(part_number(index)).e_tag(part.content_id).build();
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts.into_iter().enumerate().map(part).collect())).build();
        let request = self.0.client.complete_multipart_upload().bucket(&self.0.bucket).key(location.as_ref());
        let request = request.upload_id(id).multipart_upload(parts).set_if_none_match((replace == Replace::No).then(|| "*".to_owned()));
        let output = request.send().await.map_err(|error| Failure::of(OPERATION, &error))?;
        let e_tag = output.e_tag.ok_or_else(|| Failure::protocol(OPERATION, "sent no ETag"))?;
        Ok(PutResult { e_tag: Some(e_tag), version: output.version_id, extensions: Extensions::new() })
    }

    async fn abort(&self, location: &Path, id: &str) -> Result<(), Failure> {
        let request = self.0.client.abort_multipart_upload().bucket(&self.0.bucket).key(location.as_ref()).upload_id(id);
        match request.send().await.map_err(|error| Failure::of("AbortMultipartUpload", &error)) {
            Err(failure) if !matches!(failure.kind, Kind::NoSuchUpload | Kind::NotFound) => Err(failure),
            _ => Ok(()),
        }
    }

    pub(super) async fn upload(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let put_id = new_put_id();
        let headers = Headers::of(&options.attributes)?.with_put_id(&put_id);
        let tags = (!options.tags.is_empty()).then(|| options.tags.encoded().to_owned());
        let id = self.begin(location, headers, tags).await.map_err(|failure| failure.at(location.as_ref()))?;
        Ok(Box::new(S3Upload { store: self.clone(), location: location.clone(), id, put_id, parts: Arc::default(), next: 0 }))
    }

    /// Replaces `to`.
    pub(super) async fn copy_object(&self, from: &Path, to: &Path) -> Result<(), Failure> {
        let mut request =
            self.0.client.copy_object().bucket(&self.0.bucket).key(to.as_ref()).copy_source(copy_source(&self.0.bucket, from));
        if let Some(key) = &self.0.kms_key {
            request = request.server_side_encryption(ServerSideEncryption::AwsKms).ssekms_key_id(key).bucket_key_enabled(true);
        }
        request.send().await.map(drop).map_err(|error| Failure::of("CopyObject", &error))
    }

    /// Refuses to replace `to`. CopyObject ignores If-None-Match on many servers; completing an upload does not.
    pub(super) async fn copy_if_absent(&self, from: &Path, to: &Path) -> Result<()> {
        let mut attempt = 1;
        loop {
            let source = self.head_object(from, GetOptions::new()).await.map_err(|failure| failure.at(from.as_ref()))?;
            let put_id = new_put_id();
            let headers = Headers::of(&source.attributes)?.with_put_id(&put_id);
            let id = self.begin(to, headers, None).await.map_err(|failure| failure.at(to.as_ref()))?;
            let failure = match self.complete_copy(from, source.meta.e_tag, to, &id).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            // The first failure counts; an upload that stays behind is a matter for the bucket's lifecycle rule.
            if let Err(failure) = self.abort(to, &id).await {
                tracing::debug!(location = %to, ?failure, "upload could not be aborted");
            }
            let stored = match failure.kind {
                Kind::NotFound => return Err(failure.at(from.as_ref())),
                Kind::Precondition | Kind::Conflict | Kind::NoSuchUpload => self.stored_by(to, &put_id).await?,
                _ => return Err(failure.at(to.as_ref())),
            };
            match failure.kind {
                _ if stored.is_some() => return Ok(()),
                Kind::Precondition => return Err(failure.already_exists(to.as_ref())),
                // 409 asks for a new upload: somebody else wrote `to` meanwhile, or tried to.
                _ if attempt >= self.0.max_attempts => return Err(failure.at(to.as_ref())),
                _ => attempt += 1,
            }
            tokio::time::sleep(wait_before(attempt)).await;
        }
    }

    async fn complete_copy(&self, from: &Path, e_tag: Option<String>, to: &Path, id: &str) -> Result<(), Failure> {
        const OPERATION: &str = "UploadPartCopy";
        let request = self.0.client.upload_part_copy().bucket(&self.0.bucket).key(to.as_ref()).upload_id(id).part_number(1);
        let request = request.copy_source(copy_source(&self.0.bucket, from)).set_copy_source_if_match(e_tag);
        let output = request.send().await.map_err(|error| match Failure::of(OPERATION, &error) {
            // The source changed since it was looked at: not a word about the target.
            failure if failure.kind == Kind::Precondition => Failure { kind: Kind::Conflict, ..failure },
            failure => failure,
        })?;
        let e_tag = output.copy_part_result.and_then(|result| result.e_tag);
        let e_tag = e_tag.ok_or_else(|| Failure::protocol(OPERATION, "sent no ETag"))?;
        self.complete(to, id, vec![PartId { content_id: e_tag }], Replace::No).await.map(drop)
    }
}

fn part_number(index: usize) -> Option<i32> {
    i32::try_from(index).ok().map(|index| index + 1).filter(|number| *number <= 10_000)
}

/// A header, so everything beyond letters, digits and a few marks is escaped.
fn copy_source(bucket: &str, location: &Path) -> String {
    let mut source = format!("{bucket}/");
    for byte in location.as_ref().bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => source.push(byte as char),
            _ => source.push_str(&format!("%{byte:02X}")),
        }
    }
    source
}

/// One upload in parts.
#[derive(Debug)]
struct S3Upload {
    store: S3Store,
    location: Path,
    id: MultipartId,
    put_id: String,
    /// By part; they may finish in any order.
    parts: Arc<Mutex<Vec<Option<String>>>>,
    next: usize,
}

#[async_trait]
impl MultipartUpload for S3Upload {
    fn put_part(&mut self, payload: PutPayload) -> UploadPart {
        let index = self.next;
        self.next += 1;
        let (store, location, id, parts) = (self.store.clone(), self.location.clone(), self.id.clone(), Arc::clone(&self.parts));
        async move {
            let e_tag = store.part(&location, &id, index, Bytes::from(payload)).await.map_err(|failure| failure.at(location.as_ref()))?;
            let mut parts = parts.lock().expect("nobody panics with this lock");
            if parts.len() <= index {
                parts.resize(index + 1, None);
            }
            parts[index] = Some(e_tag);
            Ok(())
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let parts = self.parts.lock().expect("nobody panics with this lock").clone();
        let finished: Vec<PartId> = parts.into_iter().flatten().map(|content_id| PartId { content_id }).collect();
        if finished.len() != self.next {
            let source = format!("{}: {} of {} parts were uploaded", self.location, finished.len(), self.next).into();
            return Err(Error::Generic { store: STORE, source });
        }
        match self.store.complete(&self.location, &self.id, finished, Replace::Yes).await {
            // After a lost answer the upload is gone because it is complete.
            Err(failure) if matches!(failure.kind, Kind::NoSuchUpload | Kind::NotFound) => {
                match self.store.stored_by(&self.location, &self.put_id).await? {
                    Some(result) => Ok(result),
                    None => Err(failure.at(self.location.as_ref())),
                }
            }
            result => result.map_err(|failure| failure.at(self.location.as_ref())),
        }
    }

    async fn abort(&mut self) -> Result<()> {
        self.store.abort(&self.location, &self.id).await.map_err(|failure| failure.at(self.location.as_ref()))
    }
}

#[async_trait]
impl MultipartStore for S3Store {
    async fn create_multipart(&self, location: &Path) -> Result<MultipartId> {
        self.create_multipart_opts(location, PutMultipartOptions::default()).await
    }

    async fn create_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<MultipartId> {
        let tags = (!options.tags.is_empty()).then(|| options.tags.encoded().to_owned());
        self.begin(location, Headers::of(&options.attributes)?, tags).await.map_err(|failure| failure.at(location.as_ref()))
    }

    async fn put_part(&self, location: &Path, id: &MultipartId, index: usize, payload: PutPayload) -> Result<PartId> {
        let e_tag = self.part(location, id, index, Bytes::from(payload)).await.map_err(|failure| failure.at(location.as_ref()))?;
        Ok(PartId { content_id: e_tag })
    }

    async fn complete_multipart(&self, location: &Path, id: &MultipartId, parts: Vec<PartId>) -> Result<PutResult> {
        self.complete(location, id, parts, Replace::Yes).await.map_err(|failure| failure.at(location.as_ref()))
    }

    async fn abort_multipart(&self, location: &Path, id: &MultipartId) -> Result<()> {
        self.abort(location, id).await.map_err(|failure| failure.at(location.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_of_a_copy_is_escaped() {
        assert_eq!(copy_source("b-1", &Path::parse("a b/ü+%").unwrap()), "b-1/a%20b/%C3%BC%2B%25");
    }

    #[test]
    fn parts_are_counted_from_one_to_ten_thousand() {
        assert_eq!((part_number(0), part_number(9_999), part_number(10_000)), (Some(1), Some(10_000), None));
    }
}
