//! How a client reaches a bucket: where it is, what it is called, and with what credentials.

use std::path::PathBuf;

use crate::Kind;

/// The region all S3 servers here are in.
pub(crate) const REGION: &str = "us-east-1";

/// What a client shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Keys of S3.
    S3 {
        /// The public half.
        access_key: String,
        /// The secret half.
        secret_key: String,
        /// Part of every signature.
        region: String,
    },
    /// A storage account of Azure.
    Azure {
        /// The account, which is also the first part of every path.
        account: String,
        /// Its key, in base64.
        key: String,
    },
    /// A service account of Google whose file says that no token is to be fetched.
    Gcs {
        /// The file.
        service_account: PathBuf,
    },
}

/// How a client reaches a bucket, directly or through a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// What answers.
    pub kind: Kind,
    /// Base URL without a slash at its end. Azure's ends with the account.
    pub endpoint: String,
    /// The bucket (Azure: the container).
    pub bucket: String,
    /// What the client shows.
    pub credentials: Credentials,
}

impl Access {
    /// As environment variables: those that object_store's builders, the SDKs and the command-line tools of each cloud read.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let yes = || "true".to_owned();
        match &self.credentials {
            Credentials::S3 { access_key, secret_key, region } => vec![
                ("AWS_ACCESS_KEY_ID", access_key.clone()),
                ("AWS_SECRET_ACCESS_KEY", secret_key.clone()),
                ("AWS_REGION", region.clone()),
                ("AWS_ENDPOINT_URL", self.endpoint.clone()),
                ("AWS_ALLOW_HTTP", yes()),
                ("AWS_BUCKET", self.bucket.clone()),
            ],
            Credentials::Azure { account, key } => vec![
                ("AZURE_STORAGE_ACCOUNT_NAME", account.clone()),
                ("AZURE_STORAGE_ACCOUNT_KEY", key.clone()),
                ("AZURE_STORAGE_ENDPOINT", self.endpoint.clone()),
                ("AZURE_ALLOW_HTTP", yes()),
                ("AZURE_CONTAINER_NAME", self.bucket.clone()),
            ],
            Credentials::Gcs { service_account } => vec![
                ("GOOGLE_SERVICE_ACCOUNT", service_account.display().to_string()),
                ("GOOGLE_BASE_URL", self.endpoint.clone()),
                ("GOOGLE_SKIP_SIGNATURE", yes()),
                ("GOOGLE_ALLOW_HTTP", yes()),
                ("STORAGE_EMULATOR_HOST", self.endpoint.clone()),
                ("GOOGLE_BUCKET", self.bucket.clone()),
            ],
        }
    }
}
