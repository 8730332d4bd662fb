//! What was asked of the bucket, for Prometheus.

use std::sync::Arc;

use bucketmq_bucket::metrics::{BOUNDS_SECONDS, BYTES_TOTAL, Kind, Outcome, REQUEST_SECONDS, REQUESTS_TOTAL, Requests};
use prometheus::core::{Collector, Desc};
use prometheus::proto::{self, MetricFamily};
use prometheus::{IntCounterVec, Registry};

use super::durations::{family, label_pair};
use super::export::{counter, desc};

/// Shows [`Requests`].
pub struct BucketExporter {
    requests: Arc<Requests>,
    count: IntCounterVec,
    bytes: IntCounterVec,
    seconds: Desc,
}

impl BucketExporter {
    /// Shows `requests`.
    pub fn new(requests: Arc<Requests>) -> Self {
        Self {
            requests,
            count: counter(REQUESTS_TOTAL, "Requests to the bucket.", &["kind", "outcome"]),
            bytes: counter(BYTES_TOTAL, "Bytes of objects read from the bucket (in) and written to it (out).", &["direction"]),
            seconds: desc(REQUEST_SECONDS, "Until a request to the bucket was answered, its retries included.", &["kind"]),
        }
    }

    /// Registers with `registry`.
    pub fn register(self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self))
    }

    fn times(&self, kind: Kind) -> proto::Metric {
        let times = self.requests.times(kind);
        let mut histogram = proto::Histogram::default();
        let buckets = BOUNDS_SECONDS.iter().zip(times.cumulative).map(|(bound, count)| {
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(count);
            bucket
        });
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(times.count);
        histogram.set_sample_sum(times.sum_seconds);
        let mut metric = proto::Metric::default();
        metric.set_label(vec![label_pair(("kind", kind.label()))]);
        metric.set_histogram(histogram);
        metric
    }
}

impl Collector for BucketExporter {
    fn desc(&self) -> Vec<&Desc> {
        let mut all = self.count.desc();
        all.extend(self.bytes.desc());
        all.push(&self.seconds);
        all
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let set = |vec: &IntCounterVec, labels: &[&str], value: u64| {
            let one = vec.with_label_values(labels);
            one.inc_by(value.saturating_sub(one.get()));
        };
        for kind in Kind::ALL {
            for outcome in Outcome::ALL {
                set(&self.count, &[kind.label(), outcome.label()], self.requests.count(kind, outcome));
            }
        }
        set(&self.bytes, &["in"], self.requests.bytes_in());
        set(&self.bytes, &["out"], self.requests.bytes_out());
        let mut all = self.count.collect();
        all.extend(self.bytes.collect());
        all.push(family(&self.seconds, Kind::ALL.into_iter().map(|kind| self.times(kind)).collect()));
        all
    }
}
