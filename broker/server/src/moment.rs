//! Moments on the broker's monotonic clock, small enough to be kept per Client.

use std::num::NonZeroU64;
use std::time::Duration;

/// Nanoseconds since the broker's start; an `Option` of it is as small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(NonZeroU64);

impl Moment {
    /// The moment `elapsed` after the start.
    #[inline]
    pub fn after(elapsed: Duration) -> Self {
        Self(NonZeroU64::new(elapsed.as_nanos() as u64).unwrap_or(NonZeroU64::MIN))
    }

    /// Nanoseconds since the broker's start.
    #[inline]
    pub fn ns(self) -> u64 {
        self.0.get()
    }

    /// Whole seconds since the broker's start.
    #[inline]
    pub fn second(self) -> u32 {
        (self.0.get() / 1_000_000_000) as u32
    }

    /// Nanoseconds from `earlier` to this moment; 0 when it is not earlier.
    #[inline]
    pub fn since_ns(self, earlier: Self) -> u64 {
        self.0.get().saturating_sub(earlier.0.get())
    }
}
