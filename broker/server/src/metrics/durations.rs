//! Histograms of durations, as cheap as the counters.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::core::Desc;
use prometheus::proto::{self, MetricFamily};

use super::{CELL, CELLS};

/// Upper bounds of the buckets of every duration, in microseconds.
const DURATION_BOUNDS_US: [u64; 19] = [
    10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000,
];

#[repr(align(128))]
#[derive(Debug, Default)]
struct DurationCell {
    /// Not cumulative; the last one is beyond all bounds.
    buckets: [AtomicU64; DURATION_BOUNDS_US.len() + 1],
    sum_ns: AtomicU64,
}

/// A histogram of durations spread over the threads' own cache lines.
#[derive(Debug, Default)]
pub struct Durations([DurationCell; CELLS]);

impl Durations {
    /// Counts `count` times a duration of `elapsed_ns` nanoseconds.
    #[inline]
    pub fn observe(&self, elapsed_ns: u64, count: u64) {
        if count == 0 {
            return;
        }
        let cell = &self.0[CELL.get()];
        let elapsed_us = elapsed_ns.div_ceil(1_000);
        let bucket = DURATION_BOUNDS_US.iter().position(|bound| elapsed_us <= *bound).unwrap_or(DURATION_BOUNDS_US.len());
        cell.buckets[bucket].fetch_add(count, Ordering::Relaxed);
        cell.sum_ns.fetch_add(elapsed_ns.saturating_mul(count), Ordering::Relaxed);
    }

    /// The sums as Prometheus wants them, labelled with `label` when there is one.
    pub(super) fn metric(&self, label: Option<(&str, &str)>) -> proto::Metric {
        let sum = |read: &dyn Fn(&DurationCell) -> u64| self.0.iter().map(read).sum::<u64>();
        let mut cumulative = 0;
        let mut buckets = Vec::with_capacity(DURATION_BOUNDS_US.len());
        for (place, bound) in DURATION_BOUNDS_US.iter().enumerate() {
            cumulative += sum(&|cell| cell.buckets[place].load(Ordering::Relaxed));
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(*bound as f64 / 1e6);
            bucket.set_cumulative_count(cumulative);
            buckets.push(bucket);
        }
        cumulative += sum(&|cell| cell.buckets[DURATION_BOUNDS_US.len()].load(Ordering::Relaxed));
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(cumulative);
        histogram.set_sample_sum(sum(&|cell| cell.sum_ns.load(Ordering::Relaxed)) as f64 / 1e9);
        let mut metric = proto::Metric::default();
        metric.set_histogram(histogram);
        metric.set_label(label.map(label_pair).into_iter().collect());
        metric
    }
}

pub(super) fn label_pair((name, value): (&str, &str)) -> proto::LabelPair {
    let mut pair = proto::LabelPair::default();
    pair.set_name(name.into());
    pair.set_value(value.into());
    pair
}

/// A histogram as Prometheus sees it.
pub(super) fn family(desc: &Desc, metrics: Vec<proto::Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(desc.fq_name.clone());
    family.set_help(desc.help.clone());
    family.set_field_type(proto::MetricType::HISTOGRAM);
    family.set_metric(metrics);
    family
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_the_first_bucket_that_holds_it() {
        let durations = Durations::default();
        durations.observe(10_000, 3);
        durations.observe(10_001, 1);
        durations.observe(60_000_000_000, 2);
        durations.observe(5, 0);
        let metric = durations.metric(Some(("qos", "1")));
        let histogram = metric.get_histogram();
        let cumulative: Vec<_> = histogram.get_bucket().iter().map(proto::Bucket::cumulative_count).collect();
        assert_eq!((cumulative[0], cumulative[1], cumulative[18]), (3, 4, 4));
        assert_eq!(histogram.get_sample_count(), 6);
        assert!((histogram.get_sample_sum() - 120.000_040_001).abs() < 1e-9);
    }
}
