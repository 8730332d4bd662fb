//! versitygw: S3 over a directory, in Go. Fast, durable across kill -9, its conditional writes are atomic. The one for load and crashes.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use anyhow::{bail, ensure};

use crate::access::{Credentials, REGION};
use crate::server::{Kind, Options, Server};
use crate::{http, installed, sign};

pub(crate) const HEALTH: &str = "/health";

/// versitygw, an S3 server over a directory.
pub struct Versitygw;

impl Versitygw {
    /// Starts one.
    pub fn start(options: Options) -> anyhow::Result<Server> {
        Kind::Versitygw.start(options)
    }

    /// Adds an account that may do everything with `server`.
    pub fn add_account(server: &Server, access_key: &str, secret_key: &str) -> anyhow::Result<()> {
        admin(server, &["create-user", "--role", "admin", "--access", access_key, "--secret", secret_key])
    }

    /// Takes an account away: from the next request on `server` refuses it.
    pub fn remove_account(server: &Server, access_key: &str) -> anyhow::Result<()> {
        admin(server, &["delete-user", "--access", access_key])
    }
}

/// Has the server's own command do something with its accounts.
fn admin(server: &Server, arguments: &[&str]) -> anyhow::Result<()> {
    let Credentials::S3 { access_key, secret_key, region } = server.credentials() else { bail!("versitygw takes keys of S3") };
    let mut command = Command::new(installed::program("versitygw/versitygw")?);
    command.arg("admin").args(arguments);
    command.env("ADMIN_ENDPOINT_URL", format!("http://{}", server.address())).env("ADMIN_REGION", region);
    command.env("ADMIN_ACCESS_KEY_ID", access_key).env("ADMIN_SECRET_ACCESS_KEY", secret_key);
    let output = command.output()?;
    ensure!(output.status.success(), "versitygw admin: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// Keys of its own for each server: whoever talks to another one by mistake is refused.
pub(crate) fn credentials() -> anyhow::Result<Credentials> {
    let mut secret = [0; 16];
    if aws_lc_rs::rand::fill(&mut secret).is_err() {
        bail!("the system gives no random bytes");
    }
    Ok(Credentials::S3 { access_key: "bucketmq".to_owned(), secret_key: sign::hex(&secret), region: REGION.to_owned() })
}

pub(crate) fn command(address: SocketAddr, data: &Path, credentials: &Credentials, scratch: &Path) -> anyhow::Result<Command> {
    let Credentials::S3 { access_key, secret_key, region } = credentials else { bail!("versitygw takes keys of S3") };
    let mut command = Command::new(installed::program("versitygw/versitygw")?);
    command.env("ROOT_ACCESS_KEY", access_key).env("ROOT_SECRET_KEY", secret_key);
    // Accounts beside that of the environment; without the cache a change is in force at once.
    let accounts = scratch.join("accounts");
    std::fs::create_dir_all(&accounts)?;
    command.arg("--iam-dir").arg(accounts).arg("--iam-cache-disable");
    // A line per request would cost more than the request; without --keep-alive it closes every connection.
    command.args(["--port", &address.to_string(), "--region", region, "--health", HEALTH, "--keep-alive", "--quiet", "posix"]).arg(data);
    Ok(command)
}

/// Makes a bucket on a versitygw that somebody else has started, with the keys of its root account.
pub fn create_bucket_at(address: SocketAddr, access_key: &str, secret_key: &str, name: &str) -> anyhow::Result<()> {
    let (access_key, secret_key) = (access_key.to_owned(), secret_key.to_owned());
    create_bucket(address, &Credentials::S3 { access_key, secret_key, region: REGION.to_owned() }, name)
}

pub(crate) fn create_bucket(address: SocketAddr, credentials: &Credentials, name: &str) -> anyhow::Result<()> {
    let Credentials::S3 { access_key, secret_key, region } = credentials else { bail!("versitygw takes keys of S3") };
    let path = format!("/{name}");
    let headers = sign::s3(SystemTime::now(), address, "PUT", &path, (access_key, secret_key, region));
    http::make_bucket(address, "PUT", &path, &headers, "")
}
