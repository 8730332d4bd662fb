//! `[bucket]`: where state is kept, and how long one request may take.

mod parameters;
mod snapshots;
mod url;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use snapshots::{Schedule, SnapshotsConfig};
pub use url::{AzureUrl, BucketUrl, GcsUrl, S3Url};

/// Nobody should wait longer for an acknowledgement than that and a write.
const MIN_FLUSH_INTERVAL_MAX: Duration = Duration::from_secs(1);

/// Longer than any name of a cluster, a namespace and a resource together.
const OWNER_LEN_MAX: usize = 256;

/// What a broker does whose bucket cannot be used when it starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnUnusable {
    /// It says why and ends: whoever has started it sees at once that something is wrong.
    #[default]
    Exit,
    /// It says why, stays alive without being ready, and tries again every few seconds: for Kubernetes, which restarts what ends ever more slowly.
    Wait,
}

/// The bucket and the limits of its requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BucketConfig {
    /// `memory://`, the default: state lives as long as the process. `s3://name/prefix`, `gs://name/prefix`, `az://account/container/prefix`, or `file:///dir`, with parameters. Secrets have no place in it.
    pub url: BucketUrl,
    /// One request with all its attempts. 30 s: long enough for a part of 8 MiB on a slow link, and the broker stops acknowledging long before that.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub request_timeout: Duration,
    /// One attempt of a request, and the longest pause in the middle of a body. 10 s: a healthy bucket answers in a tenth of one, so what takes longer is lost.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub attempt_timeout: Duration,
    /// Making a connection, TLS included. 3 s let a handshake pass that lost a packet once.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub connect_timeout: Duration,
    /// Attempts of one request, the first included. 4, with waits that grow from 100 ms to 2 s: who asks decides about more.
    #[schemars(range(min = 1, max = 10))]
    pub max_attempts: u32,
    /// At least so long from the beginning of one write to a shard's log to that of the next, at most 1 s. 0 s: as soon as the write before is back. Acknowledgements of QoS 1 and 2 wait longer by as much at most, and a busy shard asks for fewer PUTs: with 250 ms four a second. Comes into force with a reload.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub min_flush_interval: Duration,
    /// What the broker does when the bucket cannot be used at the start: it is away, forbidden, not there, or does not keep what is promised.
    pub on_unusable: OnUnusable,
    /// For whom the prefix is, such as the name of a fleet: a broker that names somebody else waits instead of taking it, alive and not ready. Empty, the
    /// default: nobody asks. Up to 256 bytes.
    pub owner: String,
    /// With `owner`: whose prefix is taken over, once its own broker has stopped. Empty, the default: nobody's.
    pub adopt: String,
    /// Snapshots that the broker takes by itself.
    pub snapshots: SnapshotsConfig,
}

/// What is wrong with the configuration of the bucket.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct ConfigError {
    /// Which key, or which part of the URL, such as `url.region`.
    pub key: String,
    /// What is wrong and what would be right. Never a value that may be a secret.
    pub problem: String,
}

impl ConfigError {
    pub(crate) fn new(key: impl Into<String>, problem: impl Into<String>) -> ConfigError {
        ConfigError { key: key.into(), problem: problem.into() }
    }
}

impl Default for BucketConfig {
    fn default() -> BucketConfig {
        BucketConfig::new(BucketUrl::Memory)
    }
}

impl BucketConfig {
    /// This bucket with the default limits.
    pub fn new(url: BucketUrl) -> BucketConfig {
        BucketConfig {
            url,
            request_timeout: Duration::from_secs(30),
            attempt_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(3),
            max_attempts: 4,
            min_flush_interval: Duration::ZERO,
            on_unusable: OnUnusable::default(),
            owner: String::new(),
            adopt: String::new(),
            snapshots: SnapshotsConfig::default(),
        }
    }

    /// Everything that can be found wrong without a network.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let hour = Duration::from_secs(3600);
        for (key, value) in [
            ("request_timeout", self.request_timeout),
            ("attempt_timeout", self.attempt_timeout),
            ("connect_timeout", self.connect_timeout),
        ] {
            if value.is_zero() || value > hour {
                return Err(ConfigError::new(key, "is more than 0s and at most 1h"));
            }
        }
        if self.attempt_timeout > self.request_timeout {
            return Err(ConfigError::new("attempt_timeout", "is at most request_timeout, which covers all attempts"));
        }
        if self.connect_timeout > self.attempt_timeout {
            return Err(ConfigError::new("connect_timeout", "is at most attempt_timeout, which covers it"));
        }
        if !(1..=10).contains(&self.max_attempts) {
            return Err(ConfigError::new("max_attempts", "is from 1 to 10"));
        }
        if self.min_flush_interval > MIN_FLUSH_INTERVAL_MAX {
            return Err(ConfigError::new("min_flush_interval", "is at most 1s: Clients wait so long for their acknowledgements"));
        }
        for (key, name) in [("owner", &self.owner), ("adopt", &self.adopt)] {
            if name.len() > OWNER_LEN_MAX || name.chars().any(char::is_control) {
                return Err(ConfigError::new(key, format!("is up to {OWNER_LEN_MAX} bytes without control characters")));
            }
        }
        if self.owner.is_empty() && !self.adopt.is_empty() {
            return Err(ConfigError::new("adopt", "needs owner: who shall have the prefix instead"));
        }
        if !(1..=1000).contains(&self.snapshots.retain) {
            return Err(ConfigError::new("snapshots.retain", "is from 1 to 1000"));
        }
        if self.snapshots.schedule.is_some() && self.url == BucketUrl::Memory {
            return Err(ConfigError::new("snapshots.schedule", "needs a bucket: memory:// has nothing to keep a snapshot in"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
