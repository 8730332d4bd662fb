//! A small random generator with a seed, so that a soak can be repeated.

use std::time::Duration;

/// xorshift64*; good enough to choose whom to disturb.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Begins at `seed`.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// A time shorter than `bound`.
    pub fn within(&mut self, bound: Duration) -> Duration {
        bound.mul_f64(self.below(1 << 20) as f64 / f64::from(1 << 20))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_repeat_with_the_seed_and_spread() {
        let (mut left, mut right) = (Random::new(7), Random::new(7));
        let mut counts = [0; 10];
        for _ in 0..10_000 {
            let number = left.below(10);
            assert_eq!(number, right.below(10));
            counts[number] += 1;
        }
        assert!(counts.iter().all(|&count| (800..1200).contains(&count)), "{counts:?}");
        assert!(left.within(Duration::from_secs(2)) < Duration::from_secs(2));
    }
}
