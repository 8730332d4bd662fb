//! From a configuration to a bucket that can be used.

use std::path::PathBuf;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::prefix::PrefixStore;

use crate::cloud;
use crate::config::{BucketConfig, BucketUrl, ConfigError};
use crate::local::{self, LocalError, LocalStore};
use crate::measured::Measured;
use crate::metrics::Requests;
use crate::s3::S3Store;

/// Why a bucket cannot be opened. Found without asking the bucket itself; [`crate::probe`] does that.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The configuration contradicts itself.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The file of CAs cannot be used.
    #[error("url.ca: {}: {problem}", path.display())]
    Ca {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// TLS cannot be set up.
    #[error("TLS: {source}")]
    Tls {
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Nobody says where the bucket is.
    #[error("url.region: is not known: add region=... to the URL, or set AWS_REGION")]
    Region,
    /// The directory cannot be a bucket.
    #[error("file://{0}")]
    Local(#[from] LocalError),
    /// The client of a cloud refused its configuration.
    #[error("{scheme}://: {source}")]
    Client {
        /// `gs` or `az`.
        scheme: &'static str,
        /// Why.
        source: object_store::Error,
    },
}

/// A bucket, seen from its prefix.
#[derive(Clone, Debug)]
pub struct Bucket {
    url: BucketUrl,
    store: Arc<dyn ObjectStore>,
    requests: Arc<Requests>,
    pub(crate) s3: Option<S3Store>,
}

impl Bucket {
    /// Prepares the bucket of `config`; nothing is asked of it yet.
    ///
    /// # Errors
    ///
    /// For what can be found wrong on this host.
    pub async fn open(config: &BucketConfig) -> Result<Bucket, OpenError> {
        config.validate()?;
        let mut s3 = None;
        let whole: Arc<dyn ObjectStore> = match &config.url {
            BucketUrl::S3(url) => {
                let store = S3Store::connect(url, config).await?;
                s3 = Some(store.clone());
                Arc::new(store)
            }
            BucketUrl::Gcs(url) => Arc::new(cloud::gcs(url, config)?),
            BucketUrl::Azure(url) => Arc::new(cloud::azure(url, config)?),
            BucketUrl::File(root) => Arc::new(LocalStore::open(root)?),
            BucketUrl::Memory => Arc::new(InMemory::new()),
        };
        let requests = Arc::new(Requests::default());
        let whole = Measured::new(whole, Arc::clone(&requests), config.request_timeout);
        let prefix = config.url.prefix();
        let store: Arc<dyn ObjectStore> =
            if prefix.as_ref().is_empty() { Arc::new(whole) } else { Arc::new(PrefixStore::new(whole, prefix)) };
        Ok(Bucket { url: config.url.clone(), store, requests, s3 })
    }

    /// Where it is.
    pub fn url(&self) -> &BucketUrl {
        &self.url
    }

    /// The objects below the prefix, named without it.
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.store)
    }

    /// For a directory: the file whose lock tells that no other broker of this host uses it. In a folder that is no object's.
    pub fn broker_lock(&self) -> Option<PathBuf> {
        match &self.url {
            BucketUrl::File(root) => Some(local::broker_lock(root)),
            _ => None,
        }
    }

    /// What was asked of it so far.
    pub fn requests(&self) -> &Arc<Requests> {
        &self.requests
    }
}
