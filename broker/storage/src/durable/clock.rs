//! The clock SlateDB goes by. It refuses writes that are older than what a database has, and closes it: after the clock of a host was set back by an
//! hour, a restarted broker could write nothing for that hour. So this clock begins no earlier than the last owner's ended.
//!
//! It also says when the first round of housekeeping is: SlateDB looks for garbage, for something to compact and for another owner at once when a
//! database is built, which is some ten requests for each shard, just when Clients wait for it to be opened. Here they wait until it is open.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use chrono::{DateTime, Utc};
use slatedb_common::clock::{SystemClock, SystemClockTicker};
use tokio::sync::watch;
use tokio::time::Instant;

/// After a shard was opened there is no housekeeping for so long: Clients come back, and ask for what is queued.
const REST: Duration = Duration::from_secs(5);
/// Housekeeping begins so long after the clock whether the shard is open or not: opening may have to wait for a compaction.
const HELD_MAX: Duration = Duration::from_secs(15);

/// The host's clock at the beginning, or a later time, going on steadily whatever becomes of the host's.
#[derive(Debug)]
pub(crate) struct Clock {
    hands: Hands,
    housekeeping: Housekeeping,
}

/// What shows the time.
#[derive(Debug, Clone, Copy)]
struct Hands {
    began_at: DateTime<Utc>,
    began: Instant,
}

/// The clock of what is done again and again. Its first rounds, which are due at once, come when the shard has been open for [`REST`].
#[derive(Debug)]
struct Housekeeping {
    hands: Hands,
    begins: watch::Sender<Option<Instant>>,
}

impl Clock {
    /// A clock that shows `not_before_ms`, milliseconds since 1970, or the present time if that is later.
    pub(crate) fn new(not_before_ms: u64) -> Self {
        let not_before = i64::try_from(not_before_ms).ok().and_then(DateTime::from_timestamp_millis).unwrap_or_default();
        let hands = Hands { began_at: Utc::now().max(not_before), began: Instant::now() };
        Self { hands, housekeeping: Housekeeping { hands, begins: watch::Sender::new(None) } }
    }

    /// The shard is open: housekeeping begins soon.
    pub(super) fn opened(&self) {
        self.housekeeping.begins.send_replace(Some(Instant::now() + REST));
    }
}

impl Hands {
    fn now(self) -> DateTime<Utc> {
        self.began_at + self.began.elapsed()
    }
}

impl Housekeeping {
    /// Returns when housekeeping may begin, at once if it has begun.
    async fn begun(&self) {
        let latest = self.hands.began + HELD_MAX;
        let mut begins = self.begins.subscribe();
        // The sender is this clock's own: it is never gone before the time has come.
        let begins =
            tokio::time::timeout_at(latest, begins.wait_for(Option::is_some)).await.ok().and_then(|found| found.ok().and_then(|at| *at));
        tokio::time::sleep_until(begins.unwrap_or(latest)).await;
    }
}

impl SystemClock for Clock {
    fn now(&self) -> DateTime<Utc> {
        self.hands.now()
    }

    fn sleep<'a>(&'a self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn ticker<'a>(&'a self, duration: Duration) -> SystemClockTicker<'a> {
        SystemClockTicker::new(&self.housekeeping, duration)
    }
}

impl SystemClock for Housekeeping {
    fn now(&self) -> DateTime<Utc> {
        self.hands.now()
    }

    fn sleep<'a>(&'a self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            tokio::time::sleep(duration).await;
            self.begun().await;
        })
    }

    fn ticker<'a>(&'a self, duration: Duration) -> SystemClockTicker<'a> {
        SystemClockTicker::new(self, duration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn housekeeping_begins_when_the_shard_has_been_open_for_a_while() {
        let clock = Clock::new(0);
        let began = Instant::now();
        let opening = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            clock.opened();
        };
        let mut ticker = clock.ticker(Duration::from_secs(15));
        let ((), ()) = tokio::join!(opening, ticker.tick());
        assert_eq!(began.elapsed().as_secs(), 8, "3 s until it is open, and the rest");
        ticker.tick().await;
        assert_eq!(began.elapsed().as_secs(), 23, "and then as always");
        clock.ticker(Duration::from_secs(15)).tick().await;
        assert_eq!(began.elapsed().as_secs(), 23, "what starts later starts at once");
    }

    #[tokio::test(start_paused = true)]
    async fn housekeeping_begins_although_the_shard_never_opens() {
        let (clock, began) = (Clock::new(0), Instant::now());
        clock.sleep(Duration::ZERO).await;
        assert!(began.elapsed() < Duration::from_secs(1), "only what is done again and again is held");
        clock.ticker(Duration::from_secs(5)).tick().await;
        assert_eq!(began.elapsed(), HELD_MAX);
    }
}
