//! The bucket URL taken apart. It holds no secret, so it may be logged as it is.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use object_store::path::Path;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::parameters::{Parameters, decode, encode, where_secrets_go};

const SCHEMES: &str = "s3://name/prefix, gs://name/prefix, az://account/container/prefix, file:///dir or memory://";

/// Where state is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum BucketUrl {
    /// Amazon S3 and what speaks its protocol.
    S3(S3Url),
    /// Google Cloud Storage.
    Gcs(GcsUrl),
    /// Azure Blob Storage.
    Azure(AzureUrl),
    /// A directory of this host.
    File(PathBuf),
    /// This process; gone with it.
    Memory,
}

/// `s3://name/prefix?...`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Url {
    /// The bucket.
    pub bucket: String,
    /// What all keys begin with.
    pub prefix: Path,
    /// None: what the environment, the profile or the instance says.
    pub region: Option<String>,
    /// None: Amazon's own.
    pub endpoint: Option<String>,
    /// The bucket in the path instead of the host name. True by default with an endpoint, because few of them have a host name per bucket.
    pub path_style: bool,
    /// PEM file of CAs to trust beside the system's.
    pub ca: Option<PathBuf>,
    /// Id or ARN of the KMS key that new objects are encrypted with. None: the bucket's own default.
    pub kms_key: Option<String>,
    /// The profile in `~/.aws`.
    pub profile: Option<String>,
}

/// `gs://name/prefix?...`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GcsUrl {
    /// The bucket.
    pub bucket: String,
    /// What all keys begin with.
    pub prefix: Path,
    /// None: Google's own.
    pub endpoint: Option<String>,
    /// Ask for no token, as emulators want it.
    pub anonymous: bool,
    /// PEM file of CAs to trust beside the system's.
    pub ca: Option<PathBuf>,
}

/// `az://account/container/prefix?...`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AzureUrl {
    /// The storage account.
    pub account: String,
    /// The container.
    pub container: String,
    /// What all keys begin with.
    pub prefix: Path,
    /// None: Azure's public cloud.
    pub endpoint: Option<String>,
    /// PEM file of CAs to trust beside the system's.
    pub ca: Option<PathBuf>,
}

impl BucketUrl {
    /// The scheme, which is also the value of metric labels.
    pub fn scheme(&self) -> &'static str {
        match self {
            BucketUrl::S3(_) => "s3",
            BucketUrl::Gcs(_) => "gs",
            BucketUrl::Azure(_) => "az",
            BucketUrl::File(_) => "file",
            BucketUrl::Memory => "memory",
        }
    }

    /// What all keys in the bucket begin with; empty for a directory and for memory, which belong to the broker alone.
    pub fn prefix(&self) -> Path {
        match self {
            BucketUrl::S3(S3Url { prefix, .. }) | BucketUrl::Gcs(GcsUrl { prefix, .. }) | BucketUrl::Azure(AzureUrl { prefix, .. }) => {
                prefix.clone()
            }
            BucketUrl::File(_) | BucketUrl::Memory => Path::default(),
        }
    }

    /// Whether it is reached over a network.
    pub fn is_remote(&self) -> bool {
        !matches!(self, BucketUrl::File(_) | BucketUrl::Memory)
    }

    /// Whether what is written survives the process.
    pub fn is_durable(&self) -> bool {
        !matches!(self, BucketUrl::Memory)
    }
}

impl FromStr for BucketUrl {
    type Err = ConfigError;

    fn from_str(url: &str) -> Result<BucketUrl, ConfigError> {
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(ConfigError::new("url", format!("has no scheme; it is one of {SCHEMES}")));
        };
        let scheme = match scheme {
            "s3" => "s3",
            "gs" => "gs",
            "az" => "az",
            "file" => "file",
            "memory" => "memory",
            _ => return Err(ConfigError::new("url", format!("{scheme:?} is not a scheme; it is one of {SCHEMES}"))),
        };
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (host, path) = place.split_once('/').unwrap_or((place, ""));
        if host.contains('@') {
            return Err(ConfigError::new("url", format!("has a user name before the bucket; {}", where_secrets_go(scheme))));
        }
        if place.contains('#') {
            return Err(ConfigError::new("url", "has a '#'; a file name with one is written %23"));
        }
        let mut parameters = Parameters::parse(scheme, query)?;
        let path = decode("url", path)?;
        match scheme {
            "s3" => {
                let endpoint = parameters.take_endpoint()?;
                bucket_name("url.name", host, endpoint.is_some(), "s3://my-bucket/prefix")?;
                Ok(BucketUrl::S3(S3Url {
                    bucket: host.to_owned(),
                    prefix: prefix(&path)?,
                    region: parameters.take("region"),
                    path_style: parameters.take_as("path_style", "true or false")?.unwrap_or(endpoint.is_some()),
                    endpoint,
                    ca: parameters.take("ca").map(PathBuf::from),
                    kms_key: parameters.take("kms_key"),
                    profile: parameters.take("profile"),
                }))
            }
            "gs" => {
                bucket_name("url.name", host, true, "gs://my-bucket/prefix")?;
                Ok(BucketUrl::Gcs(GcsUrl {
                    bucket: host.to_owned(),
                    prefix: prefix(&path)?,
                    endpoint: parameters.take_endpoint()?,
                    anonymous: parameters.take_as("anonymous", "true or false")?.unwrap_or(false),
                    ca: parameters.take("ca").map(PathBuf::from),
                }))
            }
            "az" => {
                if !(3..=24).contains(&host.len()) || !host.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
                    let problem = "is 3 to 24 lower-case letters and digits, such as az://myaccount/container/prefix";
                    return Err(ConfigError::new("url.account", problem));
                }
                let (container, path) = path.split_once('/').unwrap_or((&path, ""));
                bucket_name("url.container", container, false, "az://myaccount/container/prefix")?;
                Ok(BucketUrl::Azure(AzureUrl {
                    account: host.to_owned(),
                    container: container.to_owned(),
                    prefix: prefix(path)?,
                    endpoint: parameters.take_endpoint()?,
                    ca: parameters.take("ca").map(PathBuf::from),
                }))
            }
            "file" if !host.is_empty() || path.trim_matches('/').is_empty() => {
                Err(ConfigError::new("url", "file:// needs an absolute path of a directory, with three slashes: file:///var/lib/bucketmq"))
            }
            "file" => Ok(BucketUrl::File(PathBuf::from(format!("/{}", path.trim_matches('/'))))),
            _ if !place.is_empty() => Err(ConfigError::new("url", "memory:// has neither name nor path")),
            _ => Ok(BucketUrl::Memory),
        }
    }
}

/// Amazon's rule; `loose` adds what other servers take too.
fn bucket_name(key: &str, name: &str, loose: bool, example: &str) -> Result<(), ConfigError> {
    let allowed =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.' || (loose && (b == b'_' || b.is_ascii_uppercase()));
    let inner = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    if name.is_empty() {
        return Err(ConfigError::new(key, format!("is missing; write {example}")));
    }
    let bytes = name.as_bytes();
    if !(3..=63).contains(&name.len()) || !name.bytes().all(allowed) || !inner(bytes.first()) || !inner(bytes.last()) {
        let problem = format!(
            "{name:?} is not 3 to 63 lower-case letters, digits, '-' and '.' with a letter or digit at both ends, such as {example}"
        );
        return Err(ConfigError::new(key, problem));
    }
    Ok(())
}

fn prefix(path: &str) -> Result<Path, ConfigError> {
    let path = path.strip_suffix('/').unwrap_or(path);
    Path::parse(path).map_err(|error| {
        ConfigError::new("url.prefix", format!("{path:?} is not names with '/' between them, such as prod/broker-1: {error}"))
    })
}

impl fmt::Display for BucketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parameters: Vec<(&str, String)> = Vec::new();
        let mut add = |name, value: Option<String>| parameters.extend(value.map(|value| (name, value)));
        let file = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        match self {
            BucketUrl::S3(url) => {
                write!(f, "s3://{}", joined(&[&url.bucket, url.prefix.as_ref()]))?;
                add("region", url.region.clone());
                add("endpoint", url.endpoint.clone());
                add("path_style", (url.path_style != url.endpoint.is_some()).then(|| url.path_style.to_string()));
                add("ca", file(&url.ca));
                add("kms_key", url.kms_key.clone());
                add("profile", url.profile.clone());
            }
            BucketUrl::Gcs(url) => {
                write!(f, "gs://{}", joined(&[&url.bucket, url.prefix.as_ref()]))?;
                add("endpoint", url.endpoint.clone());
                add("anonymous", url.anonymous.then(|| "true".to_owned()));
                add("ca", file(&url.ca));
            }
            BucketUrl::Azure(url) => {
                write!(f, "az://{}", joined(&[&url.account, &url.container, url.prefix.as_ref()]))?;
                add("endpoint", url.endpoint.clone());
                add("ca", file(&url.ca));
            }
            BucketUrl::File(path) => write!(f, "file://{}", encode(&path.display().to_string()))?,
            BucketUrl::Memory => f.write_str("memory://")?,
        }
        for (at, (name, value)) in parameters.iter().enumerate() {
            write!(f, "{}{name}={}", if at == 0 { '?' } else { '&' }, encode(value))?;
        }
        Ok(())
    }
}

fn joined(parts: &[&str]) -> String {
    parts.iter().filter(|part| !part.is_empty()).map(|part| encode(part)).collect::<Vec<_>>().join("/")
}

impl TryFrom<String> for BucketUrl {
    type Error = ConfigError;

    fn try_from(text: String) -> Result<BucketUrl, ConfigError> {
        text.parse()
    }
}

impl From<BucketUrl> for String {
    fn from(url: BucketUrl) -> String {
        url.to_string()
    }
}

impl JsonSchema for BucketUrl {
    fn schema_name() -> Cow<'static, str> {
        "BucketUrl".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^(s3|gs|az|file|memory)://", "examples": ["s3://my-bucket/prod?region=eu-central-1"] })
    }
}
