//! How long to wait between attempts. The SDK retries what may be repeated; conditional writes are retried here, where it is known what an answer means.

use std::time::Duration;

use rand::Rng as _;

pub(super) const FIRST_WAIT: Duration = Duration::from_millis(100);
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Before attempt `next` (2, 3, ...): a random part of a wait that doubles, so that writers that collided do not collide again.
pub(super) fn wait_before(next: u32) -> Duration {
    let longest = FIRST_WAIT.saturating_mul(1 << next.saturating_sub(2).min(10)).min(LONGEST_WAIT);
    longest.mul_f64(rand::rng().random_range(0.1..=1.0))
}
