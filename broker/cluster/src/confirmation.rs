//! Whether QoS 1 and 2 may be acknowledged now.
//!
//! Asked once for every batch of a connection, so it is one load of an atomic; whoever has to wait leaves a waker.

use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A read that named this process counts so long from its beginning. Who takes over waits a second longer.
pub(crate) const GOOD_FOR: Duration = Duration::from_secs(2);

/// For ever.
const ALWAYS: u64 = u64::MAX;

/// Shared by who reads `own/00` and who acknowledges.
#[derive(Debug)]
pub struct Confirmation {
    base: Instant,
    /// Nanoseconds from `base` to when it ends.
    until: AtomicU64,
    /// Not confirmed, whatever is read: a shard cannot be read, so that it is not known who subscribes.
    withheld: Mutex<bool>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// How often all that waited were woken.
    rounds: u64,
    wakers: Vec<Waker>,
}

/// In which round a waiter has left its waker: it does so once a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Registered(Option<u64>);

impl Confirmation {
    /// Of a broker whose state is its own: always.
    pub fn always() -> Self {
        Self::until(ALWAYS)
    }

    /// Not confirmed yet.
    pub fn pending() -> Self {
        Self::until(0)
    }

    fn until(until: u64) -> Self {
        Self { base: Instant::now(), until: AtomicU64::new(until), withheld: Mutex::new(false), waiting: Mutex::default() }
    }

    /// The moment its clock counts from.
    pub fn base(&self) -> Instant {
        self.base
    }

    /// True when acknowledgements may leave at `now_ns`, nanoseconds after [`Self::base`].
    #[inline]
    pub fn holds_at(&self, now_ns: u64) -> bool {
        now_ns < self.until.load(Ordering::Acquire)
    }

    /// True when acknowledgements may leave now.
    pub fn holds(&self) -> bool {
        self.holds_at(self.since_base(Instant::now()))
    }

    fn since_base(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.base).as_nanos() as u64
    }

    /// A read that began at `began` has named this process.
    pub(crate) fn confirm(&self, began: Instant) {
        let withheld = self.withheld.lock();
        if *withheld {
            return;
        }
        self.until.fetch_max(self.since_base(began + GOOD_FOR), Ordering::AcqRel);
        drop(withheld);
        self.wake();
    }

    /// Nothing may be acknowledged until the next read that names this process.
    pub(crate) fn revoke(&self) {
        self.until.store(0, Ordering::Release);
    }

    /// Nothing may be acknowledged any more, whatever is read, until this process ends.
    pub fn withhold(&self) {
        let mut withheld = self.withheld.lock();
        *withheld = true;
        self.revoke();
    }

    /// True when nothing is acknowledged any more, whatever is read.
    pub fn is_withheld(&self) -> bool {
        *self.withheld.lock()
    }

    /// Ready when acknowledgements may leave; otherwise the task of `context` is woken when they may. `registered` belongs to the waiter.
    pub fn poll(&self, registered: &mut Registered, context: &mut Context<'_>) -> Poll<()> {
        if self.holds() {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.lock();
        if registered.0 != Some(waiting.rounds) {
            registered.0 = Some(waiting.rounds);
            waiting.wakers.push(context.waker().clone());
        }
        drop(waiting);
        // It may have been confirmed before the waker was there.
        if self.holds() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn wake(&self) {
        let wakers = {
            let mut waiting = self.waiting.lock();
            if waiting.wakers.is_empty() {
                return;
            }
            waiting.rounds += 1;
            std::mem::take(&mut waiting.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_two_seconds_after_the_read_began_and_not_after_it_was_answered() {
        let confirmation = Confirmation::pending();
        let base = confirmation.base();
        let at = |ms| confirmation.since_base(base + Duration::from_millis(ms));
        assert!(!confirmation.holds_at(at(0)));
        confirmation.confirm(base + Duration::from_millis(100));
        assert!(confirmation.holds_at(at(2099)) && !confirmation.holds_at(at(2100)));
        // An answer that comes late does not take time back.
        confirmation.confirm(base);
        assert!(confirmation.holds_at(at(2099)));
        confirmation.revoke();
        assert!(!confirmation.holds_at(at(0)));
    }

    #[test]
    fn what_is_withheld_stays_so() {
        let confirmation = Confirmation::pending();
        confirmation.withhold();
        confirmation.confirm(Instant::now());
        assert!(!confirmation.holds());
        assert!(Confirmation::always().holds_at(u64::MAX - 1));
    }

    #[tokio::test]
    async fn who_waits_is_woken_and_leaves_one_waker_however_often_it_looks() {
        let confirmation = std::sync::Arc::new(Confirmation::pending());
        let (mut registered, waiting) = (Registered::default(), confirmation.clone());
        let waiter = tokio::spawn(async move {
            std::future::poll_fn(|context| {
                let _ = waiting.poll(&mut registered, context);
                waiting.poll(&mut registered, context)
            })
            .await;
        });
        tokio::task::yield_now().await;
        assert_eq!(confirmation.waiting.lock().wakers.len(), 1);
        confirmation.confirm(Instant::now());
        waiter.await.unwrap();
        assert!(confirmation.waiting.lock().wakers.is_empty());
    }
}
