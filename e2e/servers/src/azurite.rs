//! Azurite: Azure Blob Storage over a directory, on Node.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use anyhow::bail;

use crate::access::Credentials;
use crate::server::{Kind, Options, Server};
use crate::{http, installed, sign};

/// Refused without a signature, and so an answer.
pub(crate) const HEALTH: &str = "/devstoreaccount1?comp=list";

/// Microsoft's published key of the one account that Azurite has.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// Azurite, a server that speaks Azure Blob Storage.
pub struct Azurite;

impl Azurite {
    /// Starts one.
    pub fn start(options: Options) -> anyhow::Result<Server> {
        Kind::Azurite.start(options)
    }
}

pub(crate) fn credentials() -> Credentials {
    Credentials::Azure { account: ACCOUNT.to_owned(), key: KEY.to_owned() }
}

pub(crate) fn command(address: SocketAddr, data: &Path) -> anyhow::Result<Command> {
    let mut command = Command::new(installed::program("azurite/node_modules/.bin/azurite-blob")?);
    command.args(["--blobHost", &address.ip().to_string(), "--blobPort", &address.port().to_string()]);
    // Clients keep connections longer than the five seconds it would; newer clients name API versions it does not know.
    command.args(["--blobKeepAliveTimeout", "120", "--skipApiVersionCheck", "--silent", "--disableTelemetry", "--location"]).arg(data);
    Ok(command)
}

pub(crate) fn create_bucket(address: SocketAddr, credentials: &Credentials, name: &str) -> anyhow::Result<()> {
    let Credentials::Azure { account, key } = credentials else { bail!("Azurite takes the key of an account") };
    let path = format!("/{account}/{name}");
    let headers = sign::azure_container(SystemTime::now(), &path, account, key)?;
    http::make_bucket(address, "PUT", &format!("{path}?restype=container"), &headers, "")
}
