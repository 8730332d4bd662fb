//! moto: S3 in memory, in Python. Slow and forgetful, but a second implementation of the same API.

use std::net::SocketAddr;
use std::process::Command;

use crate::access::{Credentials, REGION};
use crate::server::{Kind, Options, Server};
use crate::{http, installed};

pub(crate) const HEALTH: &str = "/moto-api/data.json";

/// Its own way to start serves requests at once, and then its conditional writes are not atomic.
const SERVE: &str = include_str!("../moto/serve.py");

/// moto's S3 server, all in memory.
pub struct Moto;

impl Moto {
    /// Starts one.
    pub fn start(options: Options) -> anyhow::Result<Server> {
        Kind::Moto.start(options)
    }
}

/// It checks no signature.
pub(crate) fn credentials() -> Credentials {
    Credentials::S3 { access_key: "bucketmq".to_owned(), secret_key: "bucketmq-secret".to_owned(), region: REGION.to_owned() }
}

pub(crate) fn command(address: SocketAddr) -> anyhow::Result<Command> {
    let mut command = Command::new(installed::program("moto/bin/python")?);
    command.args(["-c", SERVE, &address.ip().to_string(), &address.port().to_string()]);
    // Its output is a log here, which has to be whole when the process is killed.
    command.env("PYTHONUNBUFFERED", "1");
    Ok(command)
}

/// Without a signature moto takes every request for one to S3.
pub(crate) fn create_bucket(address: SocketAddr, name: &str) -> anyhow::Result<()> {
    http::make_bucket(address, "PUT", &format!("/{name}"), &[], "")
}
