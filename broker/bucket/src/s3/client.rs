//! The SDK's client for one S3 URL: credentials from the default chain, timeouts, retries, and trust in one more CA where asked.

use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, Region};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{IdentityCache, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};

use super::credentials::{Refusals, Rotating, Source};
use super::retry::{FIRST_WAIT, LONGEST_WAIT};
use crate::config::{BucketConfig, S3Url};
use crate::open::OpenError;
use crate::pem;

/// What a server of one's own is told when nobody names a region: nearly all ignore it, and the signature needs one.
const REGION_OF_ENDPOINTS: &str = "us-east-1";

pub(super) async fn connect(url: &S3Url, config: &BucketConfig) -> Result<Client, OpenError> {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(config.connect_timeout)
        .read_timeout(config.attempt_timeout)
        .operation_attempt_timeout(config.attempt_timeout)
        .operation_timeout(config.request_timeout)
        .build();
    let retries =
        RetryConfig::standard().with_max_attempts(config.max_attempts).with_initial_backoff(FIRST_WAIT).with_max_backoff(LONGEST_WAIT);
    let http = http_client(url)?;
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .app_name(AppName::new("bucketmq").expect("letters are a valid name"))
        .http_client(http.clone())
        .timeout_config(timeouts)
        .retry_config(retries);
    if let Some(region) = &url.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(profile) = &url.profile {
        loader = loader.profile_name(profile);
    }
    let shared = loader.no_credentials().load().await;
    let credentials = Rotating::new(http, shared.region().cloned(), url.profile.clone());
    let mut builder = aws_sdk_s3::config::Builder::from(&shared)
        .credentials_provider(Source(credentials.clone()))
        .identity_cache(IdentityCache::no_cache())
        .interceptor(Refusals(credentials))
        .force_path_style(url.path_style)
        // The SDK's own default adds CRC trailers that many compatible servers answer with an error. SHA-256 of the signature covers what is sent.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if shared.region().is_none() {
        if url.endpoint.is_none() {
            return Err(OpenError::Region);
        }
        builder = builder.region(Region::new(REGION_OF_ENDPOINTS));
    }
    if let Some(endpoint) = &url.endpoint {
        builder = builder.endpoint_url(endpoint);
    }
    Ok(Client::from_conf(builder.build()))
}

fn http_client(url: &S3Url) -> Result<SharedHttpClient, OpenError> {
    let mut trust = TrustStore::default();
    if let Some(path) = &url.ca {
        // Read and checked here: the client would panic over what it cannot parse.
        trust = trust.with_pem_certificate(pem::read(path)?);
    }
    let context = TlsContext::builder().with_trust_store(trust).build().map_err(|error| OpenError::Tls { source: error.into() })?;
    Ok(Builder::new().tls_provider(Provider::Rustls(CryptoMode::AwsLc)).tls_context(context).build_https())
}
