//! Object stores and the bucket URL.

mod cloud;
mod config;
mod lifecycle;
mod local;
mod measured;
pub mod metrics;
mod open;
mod pem;
mod policy;
mod probe;
mod s3;

pub use config::{AzureUrl, BucketConfig, BucketUrl, ConfigError, GcsUrl, S3Url};
pub use lifecycle::{Lifecycle, lifecycle};
pub use local::{LocalError, LocalStore};
pub use measured::{Measured, TimedOut};
pub use open::{Bucket, OpenError};
pub use policy::policy;
pub use probe::{ProbeError, Rule, probe};
pub use s3::{S3Error, S3Store};
