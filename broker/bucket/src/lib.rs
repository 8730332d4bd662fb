//! Object stores and the bucket URL: the broker's only way to what lasts. No MQTT in here.
//!
//! ```no_run
//! # async fn start() -> Result<(), Box<dyn std::error::Error>> {
//! use bucketmq_bucket::{Bucket, BucketConfig, Lifecycle, lifecycle, probe};
//!
//! let bucket = Bucket::open(&BucketConfig::new("s3://my-bucket/prod?region=eu-central-1".parse()?)).await?;
//! probe(bucket.store().as_ref()).await?;
//! if let Lifecycle::TakesAway(sentences) = lifecycle(&bucket).await {
//!     return Err(sentences.join("; ").into());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`Bucket::store`] is an `object_store::ObjectStore` below the URL's prefix, which SlateDB takes as it is. Every request through it is counted
//! ([`metrics::Requests`]) and ends within the configured time.

mod cloud;
mod config;
mod diagnosis;
mod lifecycle;
mod local;
mod measured;
pub mod metrics;
mod open;
mod pem;
mod policy;
mod probe;
mod s3;

pub use config::{AzureUrl, BucketConfig, BucketUrl, ConfigError, GcsUrl, OnUnusable, S3Url, Schedule, SnapshotsConfig};
pub use diagnosis::{Ailment, Diagnosis};
pub use lifecycle::{Lifecycle, lifecycle};
pub use local::{LocalError, LocalStore};
pub use measured::{Measured, TimedOut};
pub use open::{Bucket, OpenError};
pub use policy::policy;
pub use probe::{ProbeError, Rule, probe};
pub use s3::{S3Error, S3Store};
