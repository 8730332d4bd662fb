//! One broker's way to the bucket: an `ObjectStore` whose requests take time and meet their fate.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, Result, UploadPart,
};

use super::{Bucket, Fate, Write};
use crate::reality;

/// How often a request that cannot go through looks whether it can.
const LOOK: Duration = Duration::from_millis(20);

/// A broker's way to the bucket.
#[derive(Debug, Clone)]
pub struct Road {
    bucket: Bucket,
    /// Whose it is, for the trace.
    name: Arc<str>,
    blocked: Arc<AtomicBool>,
}

/// A failure of the simulated bucket.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Trouble(&'static str);

fn trouble(what: &'static str) -> Error {
    Error::Generic { store: "simulated", source: Box::new(Trouble(what)) }
}

/// A write that has not been done yet; dropping it makes it one of nobody.
struct UnderWay<'a> {
    bucket: &'a Bucket,
    write: Option<Write>,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some(write) = self.write.take() {
            self.bucket.orphan(write);
        }
    }
}

impl Road {
    /// The way of `name` to `bucket`.
    pub fn new(bucket: Bucket, name: &str) -> Self {
        Self { bucket, name: name.into(), blocked: Arc::default() }
    }

    /// Nothing goes through any more, in either direction, until it may again.
    pub fn block(&self, blocked: bool) {
        self.blocked.store(blocked, Ordering::Relaxed);
    }

    /// Waits out a blocked way and an outage that hangs; an error in one that does not.
    async fn pass(&self) -> Result<()> {
        loop {
            if !self.blocked.load(Ordering::Relaxed) {
                match self.bucket.outage() {
                    None => return Ok(()),
                    Some(outage) if !outage.hangs => return Err(trouble("unavailable")),
                    Some(_) => {}
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn rest(ms: u64) {
        if ms > 0 {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
    }

    async fn write(&self, write: Write) -> Result<Option<PutResult>> {
        let (there, back, fate) = self.bucket.draw(true);
        let mut under_way = UnderWay { bucket: &self.bucket, write: Some(write) };
        Self::rest(there).await;
        self.pass().await.inspect_err(|_| under_way.write = None)?;
        let write = under_way.write.take().expect("taken once");
        let outcome = match fate {
            Fate::Failed => Err(trouble("internal error")),
            Fate::Late(after) => {
                self.bucket.postpone(reality::now_ms() + after, write.clone());
                Err(trouble("time-out"))
            }
            Fate::Done | Fate::AnswerLost => self.bucket.apply(&write),
        };
        self.bucket.trace.note(format_args!("{}: {write} {}", self.name, tell(fate, &outcome)));
        Self::rest(back).await;
        self.pass().await?;
        if fate == Fate::AnswerLost { Err(trouble("connection reset")) } else { outcome }
    }

    async fn read<T>(&self, what: String, read: impl Future<Output = Result<T>>) -> Result<T> {
        let (there, back, fate) = self.bucket.draw(false);
        Self::rest(there).await;
        self.pass().await?;
        let outcome = if fate == Fate::Done { read.await } else { Err(trouble("internal error")) };
        self.bucket.trace.note(format_args!("{}: {what} {}", self.name, tell(fate, &outcome)));
        Self::rest(back).await;
        self.pass().await?;
        outcome
    }
}

fn tell<T>(fate: Fate, outcome: &Result<T>) -> &'static str {
    match (fate, outcome) {
        (Fate::AnswerLost, Ok(_)) => "done, answer lost",
        (Fate::Late(_), _) => "late",
        (_, Ok(_)) => "ok",
        (_, Err(Error::NotFound { .. })) => "not found",
        (_, Err(Error::AlreadyExists { .. })) => "exists",
        (_, Err(Error::Precondition { .. })) => "precondition",
        (_, Err(_)) => "failed",
    }
}

impl fmt::Display for Road {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "simulated bucket of {}", self.name)
    }
}

#[async_trait]
impl ObjectStore for Road {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let result = self.write(Write::Put(location.clone(), payload, Box::new(options))).await?;
        Ok(result.expect("a put answers"))
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.read(format!("begin {location}"), self.bucket.objects.put_multipart_opts(location, options)).await?;
        Ok(Box::new(Upload { upload, road: self.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let what = if options.head { "head" } else { "get" };
        self.read(format!("{what} {location}"), self.bucket.objects.get_opts(location, options)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let road = self.clone();
        locations
            .then(move |location| {
                let road = road.clone();
                async move {
                    let location = location?;
                    road.write(Write::Delete(location.clone())).await?;
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (road, prefix) = (self.clone(), prefix.cloned());
        let listing = async move {
            let name = prefix.clone().unwrap_or_default();
            let all = road.read(format!("list {name}"), road.bucket.objects.list(prefix.as_ref()).try_collect::<Vec<_>>()).await?;
            Ok::<_, Error>(stream::iter(all.into_iter().map(Ok)))
        };
        stream::once(listing).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.read("list".to_owned(), self.bucket.objects.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.read(format!("copy {from} {to}"), self.bucket.objects.copy_opts(from, to, options)).await
    }
}

/// A multipart upload: nothing is there before it is complete.
#[derive(Debug)]
struct Upload {
    upload: Box<dyn MultipartUpload>,
    road: Road,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, payload: PutPayload) -> UploadPart {
        let (road, part) = (self.road.clone(), self.upload.put_part(payload));
        Box::pin(async move { road.read("part".to_owned(), part).await })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.road.read("complete".to_owned(), self.upload.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.road.read("abort".to_owned(), self.upload.abort()).await
    }
}
