//! The clock SlateDB goes by. It refuses writes that are older than what a database has, and closes it: after the clock of a host was set back by an
//! hour, a restarted broker could write nothing for that hour. So this clock begins no earlier than the last owner's ended.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use chrono::{DateTime, Utc};
use slatedb_common::clock::{SystemClock, SystemClockTicker};
use tokio::time::Instant;

/// The host's clock at the beginning, or a later time, going on steadily whatever becomes of the host's.
#[derive(Debug)]
pub(crate) struct Clock {
    began_at: DateTime<Utc>,
    began: Instant,
}

impl Clock {
    /// A clock that shows `not_before_ms`, milliseconds since 1970, or the present time if that is later.
    pub(crate) fn new(not_before_ms: u64) -> Self {
        let not_before = i64::try_from(not_before_ms).ok().and_then(DateTime::from_timestamp_millis).unwrap_or_default();
        Self { began_at: Utc::now().max(not_before), began: Instant::now() }
    }
}

impl SystemClock for Clock {
    fn now(&self) -> DateTime<Utc> {
        self.began_at + self.began.elapsed()
    }

    fn sleep<'a>(&'a self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn ticker<'a>(&'a self, duration: Duration) -> SystemClockTicker<'a> {
        SystemClockTicker::new(self, duration)
    }
}
