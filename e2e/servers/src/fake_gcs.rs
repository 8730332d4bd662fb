//! fake-gcs-server: Google Cloud Storage over a directory, in Go. It speaks Google's JSON API whole and little of the XML API, so a translation stands
//! before it (`proxy/gcs.rs`).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use serde_json::json;

use crate::access::Credentials;
use crate::server::{Kind, Options, Server};
use crate::{http, installed};

pub(crate) const HEALTH: &str = "/_internal/healthcheck";

/// fake-gcs-server behind a translation, which together are a server that speaks Google Cloud Storage.
pub struct FakeGcs;

impl FakeGcs {
    /// Starts one.
    pub fn start(options: Options) -> anyhow::Result<Server> {
        Kind::FakeGcs.start(options)
    }
}

/// The file is written when it is known where clients connect to.
pub(crate) fn credentials(directory: &Path) -> Credentials {
    Credentials::Gcs { service_account: directory.join("service-account.json") }
}

/// Writes the file of a service account that leads clients to `address` and spares them to fetch a token.
pub(crate) fn service_account(directory: &Path, address: SocketAddr) -> anyhow::Result<PathBuf> {
    let path = directory.join(format!("service-account-{}.json", address.port()));
    let content = json!({
        "type": "service_account",
        "gcs_base_url": format!("http://{address}"),
        "disable_oauth": true,
        "client_email": "",
        "private_key": "",
        "private_key_id": "",
    });
    std::fs::write(&path, content.to_string()).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

pub(crate) fn command(address: SocketAddr, data: &Path) -> anyhow::Result<Command> {
    let mut command = Command::new(installed::program("fake-gcs-server/fake-gcs-server")?);
    command.args(["-scheme", "http", "-host", &address.ip().to_string(), "-port", &address.port().to_string()]);
    // A line per request would cost more than the request.
    command.args(["-log-level", "warn", "-backend", "filesystem", "-filesystem-root"]).arg(data);
    Ok(command)
}

pub(crate) fn create_bucket(address: SocketAddr, name: &str) -> anyhow::Result<()> {
    let headers = [("content-type", "application/json".to_owned())];
    http::make_bucket(address, "POST", "/storage/v1/b?project=bucketmq", &headers, &json!({ "name": name }).to_string())
}
