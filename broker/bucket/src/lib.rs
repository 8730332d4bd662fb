//! Object stores and the bucket URL.

mod cloud;
mod config;
mod local;
mod open;
mod pem;
mod s3;

pub use config::{AzureUrl, BucketConfig, BucketUrl, ConfigError, GcsUrl, S3Url};
pub use local::{LocalError, LocalStore};
pub use open::{Bucket, OpenError};
pub use s3::{S3Error, S3Store};
