//! Object stores and the bucket URL.

mod config;

pub use config::{AzureUrl, BucketConfig, BucketUrl, ConfigError, GcsUrl, S3Url};
