//! Fewer requests while a shard is opened: what SlateDB reads of one small object in two or three requests is read in one.
//!
//! An object of the log is asked for its size and then for its bytes, a table for its index and then for its blocks. There are some hundred of them
//! after a crash, and each request costs time, on a bucket far away as on a processor that is busy. Here the first request brings the whole object,
//! and the others are answered from memory. Objects never change, so nothing can be out of date. Only while the shard is opened: afterwards
//! everything goes through as it is.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, GetResult, GetResultPayload, ObjectMeta, ObjectStore, Result};
use parking_lot::Mutex;

/// A table that is larger than this is read as it is asked for.
const TABLE_BYTES_MAX: u64 = 256 * 1024;
/// A larger object of the log is not kept when its size is asked for.
const LOG_BYTES_MAX: u64 = 512 * 1024;
/// Bytes kept for a shard: so many times sixteen are in memory while a broker is opened, which serves nobody yet.
const KEPT_BYTES_MAX: usize = 1024 * 1024;

/// What a shard that is being opened has read ahead.
#[derive(Debug, Clone)]
pub(super) struct ReadAhead {
    /// None once the shard is open.
    kept: Arc<Mutex<Option<Kept>>>,
}

/// Beginnings of objects.
#[derive(Debug, Default)]
struct Kept {
    objects: HashMap<Path, Object>,
    /// The oldest first.
    order: VecDeque<Path>,
    bytes: usize,
}

#[derive(Debug)]
struct Object {
    meta: ObjectMeta,
    /// From its first byte on.
    bytes: Bytes,
    /// Ranges that were answered.
    given: Vec<Range<u64>>,
}

/// What an object is to SlateDB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Log,
    Table,
}

impl Kind {
    fn of(object: &Path) -> Option<Self> {
        let mut parts = object.parts().rev().map(|part| part.as_ref().to_owned());
        let (name, folder) = (parts.next()?, parts.next()?);
        match folder.as_str() {
            "wal" if name.ends_with(".sst") => Some(Self::Log),
            "compacted" if name.ends_with(".sst") => Some(Self::Table),
            _ => None,
        }
    }
}

impl Kept {
    fn put(&mut self, object: &Path, meta: ObjectMeta, bytes: Bytes) {
        self.take(object);
        self.bytes += bytes.len();
        self.order.push_back(object.clone());
        self.objects.insert(object.clone(), Object { meta, bytes, given: Vec::new() });
        while self.bytes > KEPT_BYTES_MAX
            && let Some(oldest) = self.order.front().cloned()
        {
            self.take(&oldest);
        }
    }

    fn take(&mut self, object: &Path) {
        if let Some(taken) = self.objects.remove(object) {
            self.bytes -= taken.bytes.len();
            self.order.retain(|other| other != object);
        }
    }

    /// The bytes of a range; none when they are not here, or were given before: who asks for the same again doubts what it was given.
    fn give(&mut self, object: &Path, range: &Range<u64>) -> Option<GetResult> {
        let kept = self.objects.get_mut(object)?;
        if kept.given.contains(range) {
            self.take(object);
            return None;
        }
        let bytes = kept.bytes.slice_ref(kept.bytes.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)?);
        kept.given.push(range.clone());
        Some(answer(kept.meta.clone(), bytes, range.clone()))
    }

    fn meta(&self, object: &Path) -> Option<GetResult> {
        let meta = self.objects.get(object)?.meta.clone();
        Some(answer(meta, Bytes::new(), 0..0))
    }
}

fn answer(meta: ObjectMeta, bytes: Bytes, range: Range<u64>) -> GetResult {
    let payload = GetResultPayload::Stream(futures_util::stream::once(std::future::ready(Ok(bytes))).boxed());
    GetResult { payload, meta, range, attributes: Default::default(), extensions: Default::default() }
}

/// True when nothing but these bytes, or this size, is asked for.
fn is_plain(options: &GetOptions) -> bool {
    let GetOptions { if_match, if_none_match, if_modified_since, if_unmodified_since, version, .. } = options;
    if_match.is_none() && if_none_match.is_none() && if_modified_since.is_none() && if_unmodified_since.is_none() && version.is_none()
}

impl ReadAhead {
    pub(super) fn new() -> Self {
        Self { kept: Arc::new(Mutex::new(Some(Kept::default()))) }
    }

    /// Answers from what is kept, or asks `bucket`, maybe for more than is wanted.
    pub(super) async fn get(&self, bucket: &dyn ObjectStore, location: &Path, options: GetOptions) -> Result<GetResult> {
        let is_opening = self.kept.lock().is_some();
        match (Kind::of(location), &options.range) {
            (Some(Kind::Log), None) if is_opening && options.head && is_plain(&options) => self.log(bucket, location, options).await,
            (Some(_), Some(GetRange::Bounded(range))) if is_opening && !options.head && is_plain(&options) => {
                self.range(bucket, location, range.clone(), options).await
            }
            _ => bucket.get_opts(location, options).await,
        }
    }

    /// The shard is open.
    pub(super) fn end(&self) {
        *self.kept.lock() = None;
    }

    /// With what is kept, while there is such a thing.
    fn kept<T>(&self, with: impl FnOnce(&mut Kept) -> Option<T>) -> Option<T> {
        self.kept.lock().as_mut().and_then(with)
    }

    /// The size of an object of the log, and its bytes for later.
    async fn log(&self, bucket: &dyn ObjectStore, object: &Path, options: GetOptions) -> Result<GetResult> {
        if let Some(known) = self.kept(|kept| kept.meta(object)) {
            return Ok(known);
        }
        let whole = bucket.get_opts(object, GetOptions { head: false, ..options }).await?;
        let meta = whole.meta.clone();
        // The rest of a large one is not taken from the connection.
        if meta.size <= LOG_BYTES_MAX {
            let bytes = whole.bytes().await?;
            self.kept(|kept| {
                kept.put(object, meta.clone(), bytes);
                Some(())
            });
        }
        Ok(answer(meta, Bytes::new(), 0..0))
    }

    /// Bytes of an object, and those before them for later: SlateDB begins at the end.
    async fn range(&self, bucket: &dyn ObjectStore, object: &Path, range: Range<u64>, options: GetOptions) -> Result<GetResult> {
        if let Some(known) = self.kept(|kept| kept.give(object, &range)) {
            return Ok(known);
        }
        let is_first = self.kept(|kept| Some(!kept.objects.contains_key(object))).unwrap_or_default();
        if !is_first || range.end > TABLE_BYTES_MAX {
            return bucket.get_opts(object, options).await;
        }
        let more = GetOptions { range: Some(GetRange::Bounded(0..range.end)), ..options.clone() };
        let beginning = bucket.get_opts(object, more).await?;
        let meta = beginning.meta.clone();
        let bytes = beginning.bytes().await?;
        let Some(wanted) = bytes.get(range.start as usize..range.end as usize).map(|wanted| bytes.slice_ref(wanted)) else {
            // It has lost its end: the bucket says so in its own words.
            return bucket.get_opts(object, options).await;
        };
        self.kept(|kept| {
            kept.put(object, meta.clone(), bytes);
            kept.give(object, &range)
        });
        Ok(answer(meta, wanted, range))
    }
}

#[cfg(test)]
mod tests;
