//! Random numbers from a seed: the same on every machine and in every release (SplitMix64).

/// A source of random numbers.
#[derive(Debug, Clone)]
pub struct Dice(u64);

/// The golden ratio, as SplitMix64 steps.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// What SplitMix64 makes of a state.
pub const fn mix(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    state ^ (state >> 31)
}

impl Dice {
    /// The dice of `seed` for one purpose: others draw other numbers, and how many does not matter to these.
    pub fn new(seed: u64, purpose: &str) -> Self {
        let start = purpose.bytes().fold(mix(seed.wrapping_add(STEP)), |state, byte| mix(state ^ u64::from(byte)).wrapping_add(STEP));
        Self(start)
    }

    /// 64 random bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// 0 to `end` - 1; 0 when `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        // The bias of some 2^-40 does not matter here.
        if end == 0 { 0 } else { self.next() % end }
    }

    /// `from` to `to`, both included.
    pub fn between(&mut self, (from, to): (u64, u64)) -> u64 {
        from + self.below(to.saturating_sub(from) + 1)
    }

    /// True in `share` of a thousand cases.
    pub fn per_mille(&mut self, share: u64) -> bool {
        self.below(1000) < share
    }

    /// One of `all`.
    pub fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_for_ever_and_each_purpose_its_own() {
        let mut dice = Dice::new(1, "bucket");
        let drawn = [dice.next(), dice.below(10), dice.between((5, 7))];
        let mut again = Dice::new(1, "bucket");
        assert_eq!(drawn, [again.next(), again.below(10), again.between((5, 7))]);
        assert_ne!(Dice::new(1, "network").next(), drawn[0]);
        assert_ne!(Dice::new(2, "bucket").next(), drawn[0]);
        // The first number of the published test vector for state 0.
        assert_eq!(mix(STEP), 0xE220_A839_7B1D_CDAF);
    }
}
