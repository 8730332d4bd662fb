//! Before a term: the prefix has to be for this broker's owner, where one is configured.

use std::time::Duration;

use bucketmq_cluster::{ObjectError, PrefixClaim};
use tracing::info;

use super::{Process, tell_systemd};
use crate::durable::condition;
use crate::durable::open::error_chain;

/// Between two looks at a prefix that is somebody else's.
const LOOK: Duration = Duration::from_secs(5);
/// The first pause after a request that failed; each is twice the one before it, up to [`LOOK`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);

impl Process {
    /// Waits until the prefix is for the configured owner; false: told to stop. Without a bucket or an owner there is nothing to wait for.
    pub(super) async fn claim_prefix(&mut self) -> anyhow::Result<bool> {
        let (Some((bucket, _)), config) = (&self.bucket, &self.loaded.config.bucket) else { return Ok(true) };
        if config.owner.is_empty() {
            return Ok(true);
        }
        let (url, claim) = (bucket.url(), PrefixClaim::new(bucket.store(), &config.owner, &config.adopt));
        let (report, mut has_waited) = (&mut self.report, false);
        let claiming = async {
            let mut pause = FIRST_PAUSE;
            loop {
                let wait = match claim.look().await {
                    Ok(None) => return Ok(()),
                    Ok(Some(other)) => {
                        report.in_use(condition::in_use(url, &other));
                        // It lives, and waits for a person.
                        let status = format!("waiting: the prefix belongs to {other}");
                        tell_systemd(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status(&status)]);
                        LOOK
                    }
                    Err(error @ ObjectError::Format { .. }) => return Err(error),
                    Err(error) => {
                        report.trouble(condition::of_error(url, &error), &error_chain(&error));
                        let longer = (pause * 2).min(LOOK);
                        std::mem::replace(&mut pause, longer)
                    }
                };
                has_waited = true;
                tokio::time::sleep(wait).await;
            }
        };
        tokio::select! {
            claimed = claiming => claimed?,
            signal = self.stop.told() => {
                info!(signal, "stopped before the prefix was for this broker");
                return Ok(false);
            }
        }
        if has_waited {
            self.kept_waiting = true;
            self.report.fine(condition::opening(url));
        }
        Ok(true)
    }
}
