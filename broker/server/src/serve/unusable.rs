//! A bucket that cannot be used: the process ends, or waits and tries again, as `[bucket] on_unusable` has it.

use std::time::Duration;

use bucketmq_admin::BucketReason;
use bucketmq_bucket::OnUnusable;
use tracing::info;

use super::{Next, Process, tell_systemd};
use crate::durable::condition;

/// The first pause; each is twice the one before it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause where the bucket may be back at any moment: it adds that much to an outage.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// The pause where a person has to mend something: a try is some 70 requests, and more where shards are opened.
const PERSON_PAUSE: Duration = Duration::from_secs(10);

/// How long it is waited before the next try.
#[derive(Debug)]
pub(super) struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Self(FIRST_PAUSE)
    }
}

impl Pauses {
    fn next(&mut self, reason: BucketReason) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(PAUSE_MAX);
        match reason {
            BucketReason::Unsuitable | BucketReason::FormatUnknown | BucketReason::Invalid => PERSON_PAUSE,
            _ => pause,
        }
    }
}

impl Process {
    /// What follows from `error`: the end, or another try, which `/readyz` is told of at once.
    pub(super) fn unusable(&mut self, error: anyhow::Error) -> anyhow::Result<Next> {
        let config = &self.loaded.config.bucket;
        if config.on_unusable == OnUnusable::Exit {
            return Err(error);
        }
        let bucket = condition::of_error(&config.url, error.as_ref());
        let (reason, status) = (bucket.reason(), format!("waiting for the bucket: {}", bucket.message()));
        self.report.trouble(bucket, &format!("{error:#}"));
        // It lives, and it may have to wait for a person.
        tell_systemd(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status(&status)]);
        Ok(Next::TryAgain(reason))
    }

    /// Waits before the next try; false: told to stop.
    pub(super) async fn pause(&mut self, pauses: &mut Pauses, reason: BucketReason) -> bool {
        tokio::select! {
            () = tokio::time::sleep(pauses.next(reason)) => true,
            signal = self.stop.told() => {
                info!(signal, "stopped before the bucket could be used");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_five_seconds_and_are_ten_where_a_person_is_needed() {
        let mut pauses = Pauses::default();
        let seconds: Vec<u64> = (0..5).map(|_| pauses.next(BucketReason::Unreachable).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 5, 5]);
        assert_eq!(Pauses::default().next(BucketReason::Unsuitable), Duration::from_secs(10));
    }
}
