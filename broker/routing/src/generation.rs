//! A number that changes with every change of the Subscriptions, readable without their lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A view of [`Subscriptions::generation`](crate::Subscriptions::generation) that needs no access to the Subscriptions themselves: who remembers
/// what a topic matched compares two numbers and skips the lock.
#[derive(Debug, Clone, Default)]
pub struct Generation(Arc<AtomicU64>);

impl Generation {
    /// The current number. One read while a change is under way is the old one; once the change is done every reader sees the new one.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Writers hold `&mut Subscriptions`, so there is one at a time.
    pub(crate) fn advance(&self) {
        self.0.store(self.0.load(Ordering::Relaxed) + 1, Ordering::Release);
    }
}
