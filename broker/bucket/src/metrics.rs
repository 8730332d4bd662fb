//! What was asked of the bucket: counts, bytes and times in plain atomics, which the server exports.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::diagnosis::Diagnosis;

/// Counter, labels `kind` and `outcome`: requests to the bucket.
pub const REQUESTS_TOTAL: &str = "mqtt_bucket_requests_total";
/// Histogram, label `kind`: seconds until a request was answered, its retries included.
pub const REQUEST_SECONDS: &str = "mqtt_bucket_request_seconds";
/// Counter, label `direction` (`in` is read, `out` is written): bytes of objects.
pub const BYTES_TOTAL: &str = "mqtt_bucket_bytes_total";

/// What was asked; the values of the label `kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Kind {
    /// An object written whole.
    Put,
    /// One part of an object.
    Part,
    /// Beginning, completing and giving up an object in parts.
    Multipart,
    /// An object or a range of it read.
    Get,
    /// What is known about an object.
    Head,
    /// A page of up to 1,000 names.
    List,
    /// An object deleted; S3 takes a thousand in one request.
    Delete,
    /// An object copied.
    Copy,
}

/// How it ended; the values of the label `outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Outcome {
    /// As wished.
    Ok,
    /// There is no such object.
    NotFound,
    /// The condition did not hold: another writer was faster.
    Condition,
    /// These credentials may not.
    Denied,
    /// No answer in time.
    Timeout,
    /// Anything else.
    Failed,
}

impl Kind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Kind; 8] = [Kind::Put, Kind::Part, Kind::Multipart, Kind::Get, Kind::Head, Kind::List, Kind::Delete, Kind::Copy];

    /// The label's value.
    pub fn label(self) -> &'static str {
        ["put", "part", "multipart", "get", "head", "list", "delete", "copy"][self as usize]
    }
}

impl Outcome {
    /// All of them, in the order of their numbers.
    pub const ALL: [Outcome; 6] = [Outcome::Ok, Outcome::NotFound, Outcome::Condition, Outcome::Denied, Outcome::Timeout, Outcome::Failed];

    /// The label's value.
    pub fn label(self) -> &'static str {
        ["ok", "not_found", "condition", "denied", "timeout", "failed"][self as usize]
    }
}

/// Upper bounds of the histogram, seconds: a local disk answers in the first ones, a bucket in the middle, and what needs the last has had retries.
pub const BOUNDS_SECONDS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

/// Times of one kind.
#[derive(Debug, Default)]
struct Histogram {
    /// One per bound and one beyond.
    buckets: [AtomicU64; BOUNDS_SECONDS.len() + 1],
    micros: AtomicU64,
}

/// A request that did not go as wished, for people.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// When it was given up.
    pub at: Instant,
    /// What was wrong, with its causes.
    pub text: String,
    /// What that says about the bucket.
    pub diagnosis: Diagnosis,
}

/// Counted since the start. Some hundred atomics; a request that goes well touches three.
#[derive(Debug, Default)]
pub struct Requests {
    counts: [[AtomicU64; Outcome::ALL.len()]; Kind::ALL.len()],
    times: [Histogram; Kind::ALL.len()],
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    trouble: Mutex<Option<Trouble>>,
}

/// Times of one kind of request at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Times {
    /// For each of [`BOUNDS_SECONDS`], how many took at most that long; cumulative.
    pub cumulative: [u64; BOUNDS_SECONDS.len()],
    /// All of them.
    pub count: u64,
    /// Seconds of all of them together.
    pub sum_seconds: f64,
}

impl Requests {
    /// Requests of this kind that ended so.
    pub fn count(&self, kind: Kind, outcome: Outcome) -> u64 {
        self.counts[kind as usize][outcome as usize].load(Ordering::Relaxed)
    }

    /// Requests of this kind.
    pub fn total(&self, kind: Kind) -> u64 {
        Outcome::ALL.into_iter().map(|outcome| self.count(kind, outcome)).sum()
    }

    /// Bytes of objects that were read.
    pub fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Ordering::Relaxed)
    }

    /// Bytes of objects that were written, or that a request tried to write.
    pub fn bytes_out(&self) -> u64 {
        self.bytes_out.load(Ordering::Relaxed)
    }

    /// How long requests of this kind took.
    pub fn times(&self, kind: Kind) -> Times {
        let histogram = &self.times[kind as usize];
        let mut count = 0;
        let mut cumulative = [0; BOUNDS_SECONDS.len()];
        for (at, bucket) in histogram.buckets.iter().enumerate() {
            count += bucket.load(Ordering::Relaxed);
            if let Some(bound) = cumulative.get_mut(at) {
                *bound = count;
            }
        }
        Times { cumulative, count, sum_seconds: histogram.micros.load(Ordering::Relaxed) as f64 / 1e6 }
    }

    /// The last request that was refused, failed or was not answered in time.
    pub fn last_trouble(&self) -> Option<Trouble> {
        self.trouble.lock().clone()
    }

    pub(crate) fn troubled(&self, text: String, diagnosis: Diagnosis) {
        *self.trouble.lock() = Some(Trouble { at: Instant::now(), text, diagnosis });
    }

    pub(crate) fn record(&self, kind: Kind, outcome: Outcome, took: Duration) {
        self.add(kind, outcome, 1);
        let histogram = &self.times[kind as usize];
        let seconds = took.as_secs_f64();
        let at = BOUNDS_SECONDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS_SECONDS.len());
        histogram.buckets[at].fetch_add(1, Ordering::Relaxed);
        histogram.micros.fetch_add(took.as_micros() as u64, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, kind: Kind, outcome: Outcome, requests: u64) {
        self.counts[kind as usize][outcome as usize].fetch_add(requests, Ordering::Relaxed);
    }

    pub(crate) fn read(&self, bytes: u64) {
        self.bytes_in.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn wrote(&self, bytes: u64) {
        self.bytes_out.fetch_add(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_labels_belong_together() {
        assert!(Kind::ALL.into_iter().enumerate().all(|(at, kind)| kind as usize == at));
        assert!(Outcome::ALL.into_iter().enumerate().all(|(at, outcome)| outcome as usize == at));
        assert_eq!((Kind::Copy.label(), Outcome::Failed.label()), ("copy", "failed"));
    }

    #[test]
    fn times_are_added_up_from_below() {
        let requests = Requests::default();
        for millis in [1, 2, 700, 31_000] {
            requests.record(Kind::Put, Outcome::Ok, Duration::from_millis(millis));
        }
        let times = requests.times(Kind::Put);
        assert_eq!((times.cumulative[0], times.cumulative[1], times.cumulative[9], times.cumulative[12], times.count), (1, 2, 3, 3, 4));
        assert!((times.sum_seconds - 31.703).abs() < 1e-9);
        assert_eq!((requests.total(Kind::Put), requests.total(Kind::Get)), (4, 0));
    }
}
