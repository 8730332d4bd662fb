//! object_store's own clients, set up by nothing but the environment that [`Access`] tells.

use std::sync::Arc;
use std::time::Duration;

use bucketmq_servers::{Access, Kind};
use object_store::aws::{AmazonS3Builder, S3CopyIfNotExists};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::list::PaginatedListStore;
use object_store::multipart::MultipartStore;
use object_store::{ObjectStore, RetryConfig};

/// What a client of all three clouds can do.
pub trait Store: ObjectStore + MultipartStore + PaginatedListStore {}

impl<T: ObjectStore + MultipartStore + PaginatedListStore> Store for T {}

/// A client that asks once: what the server or a fault says is what it returns.
pub fn client(access: &Access) -> Arc<dyn Store> {
    let retry = RetryConfig { max_retries: 0, retry_timeout: Duration::from_secs(10), ..RetryConfig::default() };
    /// Every variable has to be one the builder knows.
    macro_rules! build {
        ($builder:expr) => {{
            let known = |name: &&(&str, String)| name.0 != "STORAGE_EMULATOR_HOST";
            let environment = access.environment();
            let builder = environment.iter().filter(known).fold($builder, |builder, (name, value)| {
                builder.with_config(name.to_lowercase().parse().expect("a variable that object_store knows"), value)
            });
            Arc::new(builder.with_retry(retry).build().expect("a client"))
        }};
    }
    match access.kind {
        Kind::Versitygw | Kind::Moto => build!(AmazonS3Builder::new().with_copy_if_not_exists(S3CopyIfNotExists::Multipart)),
        Kind::Azurite => build!(MicrosoftAzureBuilder::new()),
        Kind::FakeGcs => build!(GoogleCloudStorageBuilder::new()),
    }
}
