//! What a broker says about itself at `/readyz`.

use std::time::Duration;

use serde::Deserialize;

/// A pod that does not answer in that time is asked again later.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The parts of the answer that the operator reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Readiness {
    /// Whether it serves.
    pub ready: bool,
    /// What it waits for.
    pub awaiting: Vec<String>,
    /// Which member owns the bucket that it waits for.
    pub owner: Option<String>,
    /// Whether it drains.
    pub draining: bool,
    /// Its version.
    pub version: String,
    /// The configuration in force.
    pub revision: Option<String>,
    /// SHA-256 of the users file in force.
    pub users_hash: Option<String>,
    /// The certificates in force.
    pub certificates: Vec<Certificate>,
    /// How the last reload went.
    pub last_reload: Option<LastReload>,
    /// How the bucket is.
    pub bucket: Option<Bucket>,
}

/// A certificate that a listener presents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Certificate {
    /// Of which listener.
    pub listener: String,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

/// How a reload went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct LastReload {
    /// Whether it is in force.
    pub ok: bool,
    /// Why not.
    pub error: Option<String>,
}

/// How the bucket is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Bucket {
    /// Whether it takes what it is given.
    pub healthy: bool,
    /// One word in PascalCase.
    pub reason: String,
    /// For people.
    pub message: String,
}

/// Asks a pod. `None`: no answer, or none that makes sense.
pub async fn ask(client: &reqwest::Client, address: &str) -> Option<Readiness> {
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    let request = client.get(format!("http://{host}:{}/readyz", crate::names::ADMIN_PORT)).timeout(TIMEOUT);
    // 503 has a body too: that is when it is most wanted.
    request.send().await.ok()?.json().await.ok()
}
