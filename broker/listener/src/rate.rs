//! A token bucket without a lock: how many things per second, changeable while it is used.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The clock's zero; all buckets count nanoseconds from here, which lasts for 584 years.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// What may come at once although it is ahead of its time: a tenth of a second's worth, and one thing in any case.
const BURST_NS: u64 = 100_000_000;

/// So many per second. 0: no limit.
///
/// Who takes something is told how long to pause before taking more, instead of being refused: what has been read from a socket is there, and the
/// pause makes up for it.
#[derive(Debug, Default)]
pub struct Rate {
    per_second: AtomicU64,
    /// The time up to which all that is taken is paid for.
    paid_until_ns: AtomicU64,
}

impl Rate {
    /// A bucket of so many per second, 0 for no limit.
    pub fn new(per_second: u64) -> Rate {
        Rate { per_second: AtomicU64::new(per_second), paid_until_ns: AtomicU64::new(0) }
    }

    /// Changes the limit for what is taken from now on.
    pub fn set(&self, per_second: u64) {
        self.per_second.store(per_second, Ordering::Relaxed);
    }

    /// The limit, 0 for none.
    pub fn per_second(&self) -> u64 {
        self.per_second.load(Ordering::Relaxed)
    }

    /// Takes `n` and says how long to pause before taking more; zero mostly.
    #[inline]
    pub fn take(&self, n: u64) -> Duration {
        match self.per_second() {
            0 => Duration::ZERO,
            per_second => self.take_at(n, per_second, u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX)),
        }
    }

    fn take_at(&self, n: u64, per_second: u64, now_ns: u64) -> Duration {
        let cost_of_one_ns = 1_000_000_000 / per_second;
        let cost_ns = u64::try_from(u128::from(n) * 1_000_000_000 / u128::from(per_second)).unwrap_or(u64::MAX);
        let pay = |paid_until: u64| paid_until.max(now_ns).saturating_add(cost_ns);
        let before = self
            .paid_until_ns
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |paid_until| Some(pay(paid_until)))
            .unwrap_or_else(|unchanged| unchanged);
        Duration::from_nanos((pay(before) - now_ns).saturating_sub(BURST_NS.max(cost_of_one_ns)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn without_a_limit_nothing_pauses() {
        assert_eq!(Rate::new(0).take(u64::MAX), Duration::ZERO);
    }

    #[test]
    fn over_a_second_no_more_pass_than_the_rate_and_its_burst() {
        for per_second in [1, 7, 100, 50_000] {
            let rate = Rate::new(per_second);
            let (mut now, mut taken) = (SECOND, 0);
            while now < 11 * SECOND {
                now += rate.take_at(1, per_second, now).as_nanos() as u64 + 1;
                taken += 1;
            }
            assert!(taken >= per_second * 10 - 1 && taken <= per_second * 10 + per_second / 10 + 2, "{per_second}: {taken}");
        }
    }

    #[test]
    fn a_batch_larger_than_the_burst_is_paid_for_afterwards() {
        let rate = Rate::new(1000);
        assert_eq!(rate.take_at(2000, 1000, SECOND), Duration::from_millis(1900));
        assert_eq!(rate.take_at(1, 1000, 3 * SECOND), Duration::ZERO);
    }

    #[test]
    fn unused_time_is_not_saved_up() {
        let rate = Rate::new(100);
        assert_eq!(rate.take_at(1, 100, SECOND), Duration::ZERO);
        assert_eq!(rate.take_at(100, 100, 100 * SECOND), Duration::from_millis(900));
    }
}
