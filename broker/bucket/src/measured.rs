//! A store whose requests are counted, timed, and given up when they take too long.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use tokio::time::Instant;

use crate::diagnosis::{Ailment, Diagnosis, no_bucket};
use crate::metrics::{Kind, Outcome, Requests};

/// Names in one page of a listing, on every cloud's default.
const NAMES_PER_PAGE: u64 = 1000;

/// A request that was given up. Whether a write was stored is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: no answer within {after:?}")]
pub struct TimedOut {
    /// Such as `put`.
    pub kind: &'static str,
    /// The configured time.
    pub after: Duration,
}

impl TimedOut {
    /// The one in `error`, if that is what happened.
    pub fn find(error: &Error) -> Option<&TimedOut> {
        match error {
            Error::Generic { source, .. } => source.downcast_ref(),
            _ => None,
        }
    }
}

/// What shares counters and the limit of time.
#[derive(Clone, Debug)]
struct Watch {
    requests: Arc<Requests>,
    limit: Duration,
}

/// Wraps a store.
#[derive(Debug)]
pub struct Measured<S> {
    store: S,
    watch: Watch,
}

impl<S: ObjectStore> Measured<S> {
    /// Counts in `requests`; `limit` is for a whole request with its retries, and for each wait for more of a body or a list.
    pub fn new(store: S, requests: Arc<Requests>, limit: Duration) -> Measured<S> {
        Measured { store, watch: Watch { requests, limit } }
    }
}

impl Watch {
    async fn request<T>(&self, kind: Kind, request: impl Future<Output = Result<T>>) -> Result<T> {
        let started = Instant::now();
        let result = self.in_time(kind, request).await;
        self.requests.record(kind, self.outcome(&result), started.elapsed());
        result
    }

    /// How it ended; trouble is kept for people.
    fn outcome<T>(&self, result: &Result<T>) -> Outcome {
        let Err(error) = result else { return Outcome::Ok };
        let outcome = outcome_of(error);
        let is_trouble = match outcome {
            Outcome::Denied | Outcome::Timeout | Outcome::Failed => true,
            // Of the bucket, not of an object.
            Outcome::NotFound => Diagnosis::of_request(error).ailment == Ailment::NotFound,
            Outcome::Ok | Outcome::Condition => false,
        };
        if is_trouble {
            self.requests.troubled(chain(error), Diagnosis::of_request(error));
        }
        outcome
    }

    async fn in_time<T>(&self, kind: Kind, request: impl Future<Output = Result<T>>) -> Result<T> {
        match tokio::time::timeout(self.limit, request).await {
            Ok(result) => result,
            Err(_) => Err(Error::Generic { store: "bucket", source: Box::new(TimedOut { kind: kind.label(), after: self.limit }) }),
        }
    }

    fn body(self, body: BoxStream<'static, Result<bytes::Bytes>>) -> BoxStream<'static, Result<bytes::Bytes>> {
        stream::try_unfold((self, body), |(watch, mut body)| async move {
            match watch.in_time(Kind::Get, body.try_next()).await {
                Ok(Some(bytes)) => {
                    watch.requests.read(bytes.len() as u64);
                    Ok(Some((bytes, (watch, body))))
                }
                Ok(None) => Ok(None),
                Err(error) => {
                    // The request was counted when its answer began.
                    let failed = Err(error);
                    watch.requests.add(Kind::Get, watch.outcome(&failed), 1);
                    failed
                }
            }
        })
        .boxed()
    }

    /// A page is counted, and timed, with its first name.
    fn pages(self, names: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
        stream::try_unfold((self, names, 0), |(watch, mut names, seen)| async move {
            let started = Instant::now();
            let next = watch.in_time(Kind::List, names.try_next()).await;
            if seen % NAMES_PER_PAGE == 0 && (seen == 0 || !matches!(next, Ok(None))) || next.is_err() {
                watch.requests.record(Kind::List, watch.outcome(&next), started.elapsed());
            }
            Ok(next?.map(|meta| (meta, (watch, names, seen + 1))))
        })
        .boxed()
    }
}

/// An error and its causes, each said once: object_store's own text has that of its cause in it.
fn chain(error: &Error) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    causes
        .map(ToString::to_string)
        .reduce(|text, cause| if text.contains(&cause) { text } else { format!("{text}: {cause}") })
        .unwrap_or_default()
}

fn outcome_of(error: &Error) -> Outcome {
    match error {
        Error::NotFound { .. } => Outcome::NotFound,
        Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotModified { .. } => Outcome::Condition,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => Outcome::Denied,
        error if TimedOut::find(error).is_some() => Outcome::Timeout,
        _ => Outcome::Failed,
    }
}

impl<S: fmt::Display> fmt::Display for Measured<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

// `get_ranges` and `rename_opts` stay the trait's own, so that each request behind them is counted.
#[async_trait]
impl<S: ObjectStore> ObjectStore for Measured<S> {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.watch.requests.wrote(payload.content_length() as u64);
        let creates = !matches!(options.mode, PutMode::Update(_));
        let result = self.watch.request(Kind::Put, self.store.put_opts(location, payload, options)).await;
        if let (Err(error @ Error::NotFound { .. }), true) = (&result, creates) {
            self.watch.requests.troubled(chain(error), no_bucket());
        }
        result
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.watch.request(Kind::Multipart, self.store.put_multipart_opts(location, options)).await?;
        Ok(Box::new(MeasuredUpload { upload, watch: self.watch.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let kind = if options.head { Kind::Head } else { Kind::Get };
        let mut result = self.watch.request(kind, self.store.get_opts(location, options)).await?;
        result.payload = match result.payload {
            GetResultPayload::Stream(body) => GetResultPayload::Stream(self.watch.clone().body(body)),
            // A local file is read by whoever asked, not by us.
            file => {
                if kind == Kind::Get {
                    self.watch.requests.read(result.range.end - result.range.start);
                }
                file
            }
        };
        Ok(result)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let state = Some((self.watch.clone(), self.store.delete_stream(locations)));
        stream::unfold(state, |state| async move {
            let (watch, mut deleted) = state?;
            let started = Instant::now();
            let next = match watch.in_time(Kind::Delete, deleted.next().map(Ok)).await {
                Ok(next) => next?,
                Err(error) => Err(error),
            };
            watch.requests.record(Kind::Delete, watch.outcome(&next), started.elapsed());
            // Who goes on after a timeout would wait for ever.
            let over = next.as_ref().is_err_and(|error| TimedOut::find(error).is_some());
            Some((next, (!over).then_some((watch, deleted))))
        })
        .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.watch.clone().pages(self.store.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.watch.clone().pages(self.store.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let result = self.watch.request(Kind::List, self.store.list_with_delimiter(prefix)).await?;
        let more = (result.objects.len() + result.common_prefixes.len()).saturating_sub(1) as u64 / NAMES_PER_PAGE;
        self.watch.requests.add(Kind::List, Outcome::Ok, more);
        Ok(result)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.watch.request(Kind::Copy, self.store.copy_opts(from, to, options)).await
    }
}

#[derive(Debug)]
struct MeasuredUpload {
    upload: Box<dyn MultipartUpload>,
    watch: Watch,
}

#[async_trait]
impl MultipartUpload for MeasuredUpload {
    fn put_part(&mut self, payload: PutPayload) -> UploadPart {
        self.watch.requests.wrote(payload.content_length() as u64);
        let (watch, part) = (self.watch.clone(), self.upload.put_part(payload));
        async move { watch.request(Kind::Part, part).await }.boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.watch.request(Kind::Multipart, self.upload.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.watch.request(Kind::Multipart, self.upload.abort()).await
    }
}

#[cfg(test)]
mod tests;
