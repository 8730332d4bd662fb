//! One `[[listeners]]` entry: what it may say, its defaults and the reason for each, and the checks that need no socket and no file.

mod address;
mod cidr;
mod mode;
mod url;

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use bucketmq_packet::AcknowledgeLevel;
use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use address::{Address, Endpoint, Protocol};
pub use cidr::{Cidr, CidrError};
pub use mode::{SocketMode, SocketModeError};

/// One listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The name in logs, metrics and access rules. Made of the scheme and the port when empty, such as `tls-8883`.
    #[serde(default)]
    pub name: String,
    /// Where to listen and what is spoken there: `tcp://127.0.0.1:1883`, `tls://0.0.0.0:8883`, `ws://[::]:8080`, `wss://broker.example:443` or
    /// `unix:/run/bucketmq/mqtt.sock`. Without a port it is 1883, 8883, 80 and 443. Port 0 lets the system choose.
    pub url: String,
    /// The role of Clients that show neither user name nor certificate. Empty, the default, because nobody is let in by omission.
    #[serde(default)]
    pub anonymous: String,
    /// WebSocket: the path of the HTTP request. `/mqtt` is what MQTT.js and Paho ask for by themselves.
    #[serde(default = "default_path")]
    pub path: String,
    /// WebSocket: the values of the `Origin` header that are let in, such as `https://app.example`. Empty means any, because a Client outside of a
    /// browser sends none and inside of one the password stays with the page.
    #[serde(default)]
    pub allowed_origins: Vec<String>,
    /// Peers that speak for others: from these networks a PROXY protocol header (version 1 or 2) is required, from all others it is refused. Empty, the
    /// default, means that there is no proxy.
    #[serde(default)]
    pub proxy_protocol: Vec<Cidr>,
    /// Take the common name of the certificate that a PROXY header reports as verified for the Client's own certificate identity. Off by default: it
    /// is right only when the proxy verifies against a CA of yours.
    #[serde(default)]
    pub proxy_identity: bool,
    /// Certificates and how Clients show theirs. Required for `tls` and `wss`, refused for the others.
    #[serde(default)]
    pub tls: Option<Tls>,
    /// Connections of this listener at one time; more are closed at once. 0, the default: only the total counts.
    #[serde(default)]
    pub max_connections: u32,
    /// Connections taken per second; more wait in the backlog. 0, the default: no limit, because a Client that waits retries and makes it worse.
    #[serde(default)]
    pub max_connection_rate: u32,
    /// From the accept to a whole CONNECT, the TLS and WebSocket handshakes included. 10 s let a handshake pass that lost packets twice and keep an
    /// idle socket from costing anything for longer.
    #[serde(default = "default_connect_timeout", with = "humantime_serde")]
    #[schemars(with = "String")]
    pub connect_timeout: Duration,
    /// PUBLISH packets per second over all Clients of this listener; above it they are read more slowly. 0, the default: no limit.
    #[serde(default)]
    pub messages_rate: u32,
    /// Bytes per second over all Clients of this listener, such as `10MiB`. 0, the default: no limit.
    #[serde(default)]
    #[schemars(with = "String")]
    pub bytes_rate: ByteSize,
    /// The highest QoS on this listener: 0, 1 or 2. 2 by default: the limit for all is `limits.max_qos`.
    #[serde(default = "default_max_qos")]
    #[schemars(range(max = 2))]
    pub max_qos: u8,
    /// When Clients of this listener get their acknowledgements: `durable` or `buffered`, unless a role of theirs says otherwise. Not given:
    /// `limits.acknowledge`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledge: Option<AcknowledgeLevel>,
    /// Connections that the system holds until they are accepted; capped by it (Linux: `net.core.somaxconn`). 4096 is Linux's own cap, enough for a
    /// fleet that comes back within a second.
    #[serde(default = "default_backlog")]
    pub backlog: u32,
    /// IPv6: `[::]` takes IPv6 connections only. Off by default, so that `[::]` is every address of both kinds.
    #[serde(default)]
    pub ipv6_only: bool,
    /// Unix socket: permissions of its file. `0660` by default: the broker's user and group.
    #[serde(default)]
    pub mode: SocketMode,
}

/// `[listeners.tls]`: certificates and how Clients show theirs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// Chosen by the name that the Client asks for (SNI); the first one is for Clients that ask for none or an unknown one.
    pub certificates: Vec<Certificate>,
    /// PEM file of the CAs whose certificates Clients show.
    pub client_ca: Option<PathBuf>,
    /// Whether Clients show a certificate: `none`, `optional` or `required`. `required` by default with a `client_ca`, else `none`.
    pub client_auth: Option<ClientAuth>,
    /// PEM file of revocation lists. With it, a Client's certificate whose issuer has no list in the file is refused.
    pub crl: Option<PathBuf>,
    /// The oldest TLS version: `1.2` or `1.3`. `1.2` by default, because many embedded Clients have no other and rustls offers only its sound part.
    pub min_version: TlsVersion,
    /// What of a Client's certificate is its identity. `common_name` by default, as in other brokers.
    pub identity: IdentityField,
}

/// A certificate chain and its key, as PEM files. Both are watched.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// The chain, the server's own certificate first.
    pub cert: PathBuf,
    /// Its private key (PKCS #8, PKCS #1 or SEC1), not encrypted.
    pub key: PathBuf,
}

/// Whether Clients show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// They are not asked.
    None,
    /// They may; a wrong one is refused.
    Optional,
    /// They must.
    Required,
}

/// A TLS version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    Tls13,
}

impl TlsVersion {
    /// `1.2` or `1.3`.
    pub fn label(self) -> &'static str {
        match self {
            TlsVersion::Tls12 => "1.2",
            TlsVersion::Tls13 => "1.3",
        }
    }
}

/// What of a Client's certificate is its identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IdentityField {
    /// The subject's common name.
    #[default]
    CommonName,
    /// The first DNS name of the subject's alternative names.
    SanDns,
    /// The first URI of the subject's alternative names, such as a SPIFFE id.
    SanUri,
    /// The first e-mail address of the subject's alternative names.
    SanEmail,
    /// SHA-256 of the whole certificate, 64 lower-case hex digits.
    Fingerprint,
}

/// What is wrong with a listener's configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct ConfigError {
    /// Which key, such as `tls.client_ca`.
    pub key: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl ConfigError {
    pub(crate) fn new(key: impl Into<String>, problem: impl Into<String>) -> ConfigError {
        ConfigError { key: key.into(), problem: problem.into() }
    }
}

fn default_path() -> String {
    "/mqtt".to_owned()
}

fn default_connect_timeout() -> Duration {
    Duration::from_secs(10)
}

fn default_max_qos() -> u8 {
    2
}

fn default_backlog() -> u32 {
    4096
}

impl Config {
    /// A listener with the defaults of everything but its URL, which carries no parameters here (see [`Config::from_url`]).
    pub fn new(url: impl Into<String>) -> Config {
        Config {
            name: String::new(),
            url: url.into(),
            anonymous: String::new(),
            path: default_path(),
            allowed_origins: Vec::new(),
            proxy_protocol: Vec::new(),
            proxy_identity: false,
            tls: None,
            max_connections: 0,
            max_connection_rate: 0,
            connect_timeout: default_connect_timeout(),
            messages_rate: 0,
            bytes_rate: ByteSize::default(),
            max_qos: default_max_qos(),
            acknowledge: None,
            backlog: default_backlog(),
            ipv6_only: false,
            mode: SocketMode::default(),
        }
    }

    /// Reads a `--listen` URL, such as `tls://0.0.0.0:8883?cert=server.pem&key=server.key&anonymous=local`. Parameters carry the names of the keys; those
    /// of `[listeners.tls]` stand beside the others, and lists are written by repeating one or with commas.
    pub fn from_url(url: &str) -> Result<Config, ConfigError> {
        url::parse(url)
    }

    /// Where it listens and what is spoken there.
    pub fn address(&self) -> Result<Address, ConfigError> {
        if self.url.contains('?') {
            let problem = format!("parameters are keys of their own here; {:?} may be said only to --listen", self.url);
            return Err(ConfigError::new("url", problem));
        }
        Address::parse("url", &self.url)
    }

    /// Its name: the configured one, or one made of scheme and port.
    pub fn name(&self) -> Cow<'_, str> {
        if !self.name.is_empty() {
            return Cow::Borrowed(&self.name);
        }
        Cow::Owned(match self.address() {
            Ok(Address { protocol, endpoint: Endpoint::Ip { port, .. }, .. }) => format!("{protocol}-{port}"),
            Ok(Address { protocol, .. }) => protocol.to_string(),
            Err(_) => "unnamed".to_owned(),
        })
    }

    /// Whether Clients show certificates.
    pub fn client_auth(&self) -> ClientAuth {
        match &self.tls {
            None => ClientAuth::None,
            Some(tls) => tls.client_auth.unwrap_or(if tls.client_ca.is_some() { ClientAuth::Required } else { ClientAuth::None }),
        }
    }

    /// The role of Clients that show nothing.
    pub fn anonymous_role(&self) -> Option<&str> {
        Some(self.anonymous.as_str()).filter(|role| !role.is_empty())
    }

    /// The whole WebSocket path: what the URL says, else the key.
    pub(crate) fn web_socket_path(&self) -> Cow<'_, str> {
        match self.address() {
            Ok(Address { path: Some(path), .. }) => Cow::Owned(path),
            _ => Cow::Borrowed(&self.path),
        }
    }

    /// Why nobody could pass this listener, and what to add, when there are users or not. None: somebody can.
    pub fn problem_without(&self, has_users: bool) -> Option<String> {
        let certificates = self.client_auth() != ClientAuth::None || (self.proxy_identity && !self.proxy_protocol.is_empty());
        if has_users || certificates || self.anonymous_role().is_some() {
            return None;
        }
        let tls = self.address().is_ok_and(|address| address.protocol.is_tls());
        Some(format!(
            "listener {:?}: nobody could connect to {}: it has no anonymous role and there are no users. Add `anonymous = \"ROLE\"` \
             (--listen {}?anonymous=ROLE; the role `local` is built in), or a users file{}.",
            self.name(),
            self.url,
            self.url,
            if tls { ", or Client certificates (`client_ca`)" } else { "" }
        ))
    }

    /// Everything that can be found wrong without a socket and without a file.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let error = |key: &str, problem: &str| Err(ConfigError::new(key, problem));
        let address = self.address()?;
        let protocol = address.protocol;
        // 63: the length of a DNS label, which an operator makes of it.
        if self.name.len() > 63 || !self.name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
            return error("name", "at most 63 letters, digits, '-', '_' and '.'");
        }
        if protocol.is_web_socket() {
            if address.path.as_ref().is_some_and(|path| *path != self.path && self.path != default_path()) {
                return error("path", "the url says another one; say it once");
            }
            let path = self.web_socket_path();
            if !path.starts_with('/') || path.contains(['?', '#', ' ']) || !path.is_ascii() {
                return error("path", "begins with / and has no '?', '#' or space, such as /mqtt");
            }
        } else if self.path != default_path() {
            return error("path", "belongs to ws:// and wss:// only");
        } else if !self.allowed_origins.is_empty() {
            return error("allowed_origins", "belongs to ws:// and wss:// only");
        }
        if protocol == Protocol::Unix && !self.proxy_protocol.is_empty() {
            return error("proxy_protocol", "does not belong to unix:, whose peers have no address to trust");
        }
        if protocol != Protocol::Unix && self.mode != SocketMode::default() {
            return error("mode", "belongs to unix: only");
        }
        if self.proxy_identity && (self.proxy_protocol.is_empty() || protocol.is_tls()) {
            return error("proxy_identity", "belongs to tcp:// and ws:// with proxy_protocol, where the proxy ends TLS");
        }
        if self.max_qos > 2 {
            return error("max_qos", "is 0, 1 or 2");
        }
        if self.connect_timeout.is_zero() || self.connect_timeout > Duration::from_secs(3600) {
            return error("connect_timeout", "is more than 0s and at most 1h");
        }
        if self.backlog == 0 || self.backlog > i32::MAX as u32 {
            return error("backlog", "is from 1 to 2147483647");
        }
        match &self.tls {
            None if protocol.is_tls() => error("tls", "is needed for tls:// and wss://: name a certificate and its key"),
            None => Ok(()),
            Some(_) if !protocol.is_tls() => error("tls", "belongs to tls:// and wss:// only"),
            Some(tls) => self.validate_tls(tls),
        }
    }

    fn validate_tls(&self, tls: &Tls) -> Result<(), ConfigError> {
        let error = |key: &str, problem: &str| Err(ConfigError::new(key, problem));
        if tls.certificates.is_empty() {
            return error("tls.certificates", "needs at least one { cert = \"...\", key = \"...\" }");
        }
        if tls.client_ca.is_none() && self.client_auth() != ClientAuth::None {
            return error("tls.client_ca", "is needed to check the certificates of Clients");
        }
        if tls.client_ca.is_some() && self.client_auth() == ClientAuth::None {
            return error(
                "tls.client_auth",
                "\"none\" never uses the client_ca; say \"optional\" or \"required\", or take the client_ca away",
            );
        }
        if tls.crl.is_some() && tls.client_ca.is_none() {
            return error("tls.crl", "needs a client_ca, whose certificates it revokes");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
