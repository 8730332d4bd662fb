//! A histogram of latencies with a bounded relative error.
//!
//! Log-linear buckets in the manner of HdrHistogram: 128 steps for every power of two, so that a percentile is right to
//! within 0.8 % at any size. Recording is a shift and an increment.

const STEPS_BITS: u32 = 7;
const STEPS: usize = 1 << STEPS_BITS;

/// Counts values from 0 to 2^64 - 1.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    largest: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { counts: vec![0; STEPS * (64 - STEPS_BITS as usize + 1)], total: 0, largest: 0 }
    }
}

#[inline]
fn index(value: u64) -> usize {
    if value < STEPS as u64 {
        return value as usize;
    }
    let shift = 63 - value.leading_zeros() - STEPS_BITS;
    STEPS * (shift as usize + 1) + ((value >> shift) as usize - STEPS)
}

/// The middle of the values that share a bucket.
fn value(index: usize) -> u64 {
    if index < STEPS {
        return index as u64;
    }
    let shift = (index / STEPS - 1) as u32;
    (((STEPS + index % STEPS) as u64) << shift) + ((1u64 << shift) >> 1)
}

impl Histogram {
    /// Counts one value.
    #[inline]
    pub fn record(&mut self, value: u64) {
        self.counts[index(value)] += 1;
        self.total += 1;
        self.largest = self.largest.max(value);
    }

    /// Adds all of another one.
    pub fn merge(&mut self, other: &Histogram) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
        self.largest = self.largest.max(other.largest);
    }

    /// How many values were counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The largest value counted.
    pub fn largest(&self) -> u64 {
        self.largest
    }

    /// The value that `share` (0 to 1) of all values do not exceed; None when nothing was counted.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let rank = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, &count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank && count > 0 {
                return Some(value(index).min(self.largest));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_within_one_percent() {
        let mut histogram = Histogram::default();
        for value in 1..=100_000u64 {
            histogram.record(value * 1_000);
        }
        for share in [0.01, 0.5, 0.99, 0.999] {
            let found = histogram.quantile(share).expect("values were recorded") as f64;
            let exact = share * 100_000_000.0;
            assert!((found - exact).abs() / exact < 0.01, "{share}: {found} is not near {exact}");
        }
        assert_eq!(histogram.largest(), 100_000_000);
    }

    #[test]
    fn every_value_falls_into_a_bucket_near_it() {
        for shift in 0..64 {
            for add in [0, 1, 77] {
                let exact = (1u64 << shift).saturating_add(add);
                let found = value(index(exact));
                assert!(found.abs_diff(exact) <= exact / 128, "{exact} became {found}");
            }
        }
        assert!(index(u64::MAX) < Histogram::default().counts.len());
    }

    #[test]
    fn merging_adds_and_an_empty_one_has_no_quantile() {
        let mut left = Histogram::default();
        assert_eq!(left.quantile(0.5), None);
        let mut right = Histogram::default();
        right.record(5);
        left.record(1);
        left.merge(&right);
        assert_eq!((left.total(), left.largest(), left.quantile(0.5), left.quantile(1.0)), (2, 5, Some(1), Some(5)));
    }
}
