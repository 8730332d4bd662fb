//! LIST and DELETE.

use std::collections::HashMap;

use async_trait::async_trait;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use object_store::list::{PaginatedListOptions, PaginatedListResult, PaginatedListStore};
use object_store::path::Path;
use object_store::{Error, Extensions, ListResult, ObjectMeta, Result};

use super::error::{Failure, Kind};
use super::read::time;
use super::{S3Store, STORE};

/// S3's own limit for one DeleteObjects.
const KEYS_PER_DELETE: usize = 1000;
/// DeleteObjects under way at one time: enough to hide the way to the bucket, and few enough not to be slowed down.
const DELETES_AT_A_TIME: usize = 8;

/// `a/b` becomes `a/b/`, so that `a/bc` is not meant.
fn folder(prefix: Option<&Path>) -> Option<String> {
    prefix.filter(|prefix| !prefix.as_ref().is_empty()).map(|prefix| format!("{prefix}/"))
}

#[async_trait]
impl PaginatedListStore for S3Store {
    async fn list_paginated(&self, prefix: Option<&str>, options: PaginatedListOptions) -> Result<PaginatedListResult> {
        const OPERATION: &str = "ListObjectsV2";
        let output = self
            .0
            .client
            .list_objects_v2()
            .bucket(&self.0.bucket)
            .set_prefix(prefix.map(str::to_owned))
            .set_delimiter(options.delimiter.map(Into::into))
            .set_start_after(options.offset)
            .set_continuation_token(options.page_token)
            .set_max_keys(options.max_keys.map(|keys| keys.try_into().unwrap_or(i32::MAX)))
            .send()
            .await
            .map_err(|error| Failure::of(OPERATION, &error).at(prefix.unwrap_or_default()))?;
        let mut objects = Vec::new();
        for object in output.contents.unwrap_or_default() {
            let key = object.key.unwrap_or_default();
            // A folder that a console made is no object of ours.
            if key.is_empty() || key.ends_with('/') {
                continue;
            }
            let last_modified = object.last_modified.as_ref().and_then(time);
            let (Some(last_modified), Some(size)) = (last_modified, object.size.and_then(|size| size.try_into().ok())) else {
                return Err(Failure::protocol(OPERATION, format!("left out time or size of {key}")).at(&key));
            };
            objects.push(ObjectMeta { location: Path::parse(key)?, last_modified, size, e_tag: object.e_tag, version: None });
        }
        let mut common_prefixes = Vec::new();
        for common in output.common_prefixes.unwrap_or_default() {
            common_prefixes.push(Path::parse(common.prefix.unwrap_or_default())?);
        }
        let page_token = output.next_continuation_token.filter(|_| output.is_truncated != Some(false));
        Ok(PaginatedListResult { result: ListResult { common_prefixes, objects, extensions: Extensions::new() }, page_token })
    }
}

impl S3Store {
    pub(super) fn pages(&self, prefix: Option<&Path>, offset: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let options = PaginatedListOptions { offset: offset.map(ToString::to_string), ..Default::default() };
        stream::try_unfold(Some((self.clone(), folder(prefix), options)), |state| async move {
            let Some((store, prefix, mut options)) = state else { return Ok::<_, Error>(None) };
            let page = store.list_paginated(prefix.as_deref(), options.clone()).await?;
            let next = page.page_token.map(|token| {
                options.page_token = Some(token);
                (store, prefix, options)
            });
            Ok(Some((stream::iter(page.result.objects.into_iter().map(Ok)), next)))
        })
        .try_flatten()
        .boxed()
    }

    pub(super) async fn folder(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let prefix = folder(prefix);
        let mut options = PaginatedListOptions { delimiter: Some("/".into()), ..Default::default() };
        let mut all = ListResult { common_prefixes: Vec::new(), objects: Vec::new(), extensions: Extensions::new() };
        loop {
            let page = self.list_paginated(prefix.as_deref(), options.clone()).await?;
            all.common_prefixes.extend(page.result.common_prefixes);
            all.objects.extend(page.result.objects);
            match page.page_token {
                Some(token) => options.page_token = Some(token),
                None => return Ok(all),
            }
        }
    }

    pub(super) fn delete_all(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .try_chunks(KEYS_PER_DELETE)
            .map(move |chunk| {
                let store = store.clone();
                async move {
                    let (chunk, error) = match chunk {
                        Ok(chunk) => (chunk, None),
                        // What came before the error was asked for too.
                        Err(stream::TryChunksError(chunk, error)) => (chunk, Some(Err(error))),
                    };
                    let mut results = store.delete_chunk(chunk).await;
                    results.extend(error);
                    stream::iter(results)
                }
            })
            .buffered(DELETES_AT_A_TIME)
            .flatten()
            .boxed()
    }

    async fn delete_chunk(&self, locations: Vec<Path>) -> Vec<Result<Path>> {
        match locations.as_slice() {
            [] => return Vec::new(),
            [_] => return self.delete_singly(locations).await,
            _ => {}
        }
        match self.delete_together(&locations).await {
            Ok(mut errors) => locations.into_iter().map(|path| errors.remove(path.as_ref()).map_or(Ok(path), Err)).collect(),
            // Some compatible servers do not have DeleteObjects, or want a checksum that S3 does not.
            Err(failure) if failure.kind == Kind::Other => {
                tracing::debug!(?failure, "deleting one by one, because the server refused DeleteObjects");
                self.delete_singly(locations).await
            }
            Err(failure) => {
                let problem = failure.at("").to_string();
                locations.iter().map(|path| Err(Error::Generic { store: STORE, source: format!("{path}: {problem}").into() })).collect()
            }
        }
    }

    async fn delete_singly(&self, locations: Vec<Path>) -> Vec<Result<Path>> {
        stream::iter(locations)
            .map(|location| async move {
                match self.0.client.delete_object().bucket(&self.0.bucket).key(location.as_ref()).send().await {
                    Ok(_) => Ok(location),
                    Err(error) => match Failure::of("DeleteObject", &error) {
                        failure if failure.kind == Kind::NotFound => Ok(location),
                        failure => Err(failure.at(location.as_ref())),
                    },
                }
            })
            .buffered(DELETES_AT_A_TIME)
            .collect()
            .await
    }

    /// What could not be deleted, by key.
    async fn delete_together(&self, locations: &[Path]) -> Result<HashMap<String, Error>, Failure> {
        const OPERATION: &str = "DeleteObjects";
        let identifier = |path: &Path| ObjectIdentifier::builder().key(path.as_ref()).build().expect("the key is set");
        let delete = Delete::builder().set_objects(Some(locations.iter().map(identifier).collect())).quiet(true).build();
        let delete = delete.expect("the objects are set");
        let sent = self.0.client.delete_objects().bucket(&self.0.bucket).delete(delete).send().await;
        let output = sent.map_err(|error| Failure::of(OPERATION, &error))?;
        let mut errors = HashMap::new();
        for error in output.errors.unwrap_or_default() {
            let (key, code) = (error.key.unwrap_or_default(), error.code.unwrap_or_default());
            let source = format!("{OPERATION}: {code}: {}", error.message.unwrap_or_default()).into();
            let error = match code.as_str() {
                "NoSuchKey" => continue,
                "AccessDenied" => Error::PermissionDenied { path: key.clone(), source },
                _ => Error::Generic { store: STORE, source },
            };
            errors.insert(key, error);
        }
        Ok(errors)
    }
}
