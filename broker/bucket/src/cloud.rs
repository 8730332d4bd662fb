//! Google Cloud Storage and Azure Blob Storage, through object_store's own back ends: their native conditions hold, where an emulation of S3 ignores them.
//!
//! Credentials come from the environment and the machine: a service account or workload identity, a managed identity.

use std::path::Path;
use std::sync::Arc;

use object_store::azure::{MicrosoftAzure, MicrosoftAzureBuilder};
use object_store::gcp::{GcpCredential, GoogleCloudStorage, GoogleCloudStorageBuilder};
use object_store::{BackoffConfig, Certificate, ClientOptions, RetryConfig, StaticCredentialProvider};

use crate::config::{AzureUrl, BucketConfig, GcsUrl};
use crate::open::OpenError;
use crate::pem;

pub(crate) fn gcs(url: &GcsUrl, config: &BucketConfig) -> Result<GoogleCloudStorage, OpenError> {
    let mut builder = GoogleCloudStorageBuilder::from_env()
        .with_bucket_name(&url.bucket)
        .with_client_options(client_options(config, url.ca.as_deref(), url.endpoint.as_deref())?)
        .with_retry(retries(config));
    if url.anonymous {
        // Without the credential it would ask the machine for a token all the same, for writes.
        let nobody = StaticCredentialProvider::new(GcpCredential { bearer: String::new() });
        builder = builder.with_skip_signature(true).with_credentials(Arc::new(nobody));
    }
    if let Some(endpoint) = &url.endpoint {
        builder = builder.with_base_url(endpoint);
    }
    builder.build().map_err(|source| OpenError::Client { scheme: "gs", source })
}

pub(crate) fn azure(url: &AzureUrl, config: &BucketConfig) -> Result<MicrosoftAzure, OpenError> {
    let mut builder = MicrosoftAzureBuilder::from_env()
        .with_account(&url.account)
        .with_container_name(&url.container)
        .with_client_options(client_options(config, url.ca.as_deref(), url.endpoint.as_deref())?)
        .with_retry(retries(config));
    if let Some(endpoint) = &url.endpoint {
        builder = builder.with_endpoint(endpoint.clone());
    }
    builder.build().map_err(|source| OpenError::Client { scheme: "az", source })
}

fn client_options(config: &BucketConfig, ca: Option<&Path>, endpoint: Option<&str>) -> Result<ClientOptions, OpenError> {
    let mut options = ClientOptions::new()
        .with_timeout(config.attempt_timeout)
        .with_connect_timeout(config.connect_timeout)
        .with_allow_http(endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")));
    if let Some(path) = ca {
        let problem = |source: object_store::Error| OpenError::Ca { path: path.to_owned(), problem: source.to_string() };
        for certificate in Certificate::from_pem_bundle(&pem::read(path)?).map_err(problem)? {
            options = options.with_root_certificate(certificate);
        }
    }
    Ok(options)
}

fn retries(config: &BucketConfig) -> RetryConfig {
    RetryConfig { backoff: BackoffConfig::default(), max_retries: config.max_attempts as usize - 1, retry_timeout: config.request_timeout }
}
