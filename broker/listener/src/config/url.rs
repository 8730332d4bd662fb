//! `--listen` URLs with parameters. Each parameter is known here by name, so that an unknown one is answered with those that apply.

use std::borrow::Cow;
use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

use super::{Address, Certificate, ClientAuth, Config, ConfigError, IdentityField, Protocol, Tls, TlsVersion};

/// Parameters of every listener.
const COMMON: &[&str] = &[
    "acknowledge",
    "anonymous",
    "backlog",
    "bytes_rate",
    "connect_timeout",
    "max_connection_rate",
    "max_connections",
    "max_qos",
    "messages_rate",
    "name",
];
const IP: &[&str] = &["ipv6_only", "proxy_protocol"];
const PLAIN_IP: &[&str] = &["proxy_identity"];
const TLS: &[&str] = &["cert", "client_auth", "client_ca", "crl", "identity", "key", "min_version"];
const WEB_SOCKET: &[&str] = &["allowed_origins", "path"];
const UNIX: &[&str] = &["mode"];

pub(super) fn parse(url: &str) -> Result<Config, ConfigError> {
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let base = decode("url", base)?;
    let protocol = Address::parse("url", &base)?.protocol;
    let mut config = Config::new(base);
    let mut tls = Tls::default();
    let mut keys: Vec<PathBuf> = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        check_applies(protocol, name)?;
        let repeats = matches!(name, "cert" | "key" | "proxy_protocol" | "allowed_origins");
        if seen.contains(&name) && !repeats {
            return Err(ConfigError::new(name, "stands there twice"));
        }
        seen.push(name);
        let value = decode(name, value)?;
        if value.is_empty() {
            return Err(ConfigError::new(name, format!("needs a value: {name}=...")));
        }
        match name {
            "name" => config.name = value,
            "anonymous" => config.anonymous = value,
            "path" => config.path = value,
            "allowed_origins" => config.allowed_origins.extend(value.split(',').map(|origin| origin.trim().to_owned())),
            "proxy_protocol" => {
                for network in value.split(',') {
                    config.proxy_protocol.push(read(name, network.trim(), "a network like 10.0.0.0/8")?);
                }
            }
            "proxy_identity" => config.proxy_identity = read(name, &value, "true or false")?,
            "ipv6_only" => config.ipv6_only = read(name, &value, "true or false")?,
            "max_connections" => config.max_connections = read(name, &value, "a number")?,
            "max_connection_rate" => config.max_connection_rate = read(name, &value, "a number per second")?,
            "messages_rate" => config.messages_rate = read(name, &value, "a number per second")?,
            "bytes_rate" => config.bytes_rate = read(name, &value, "a size like 10MiB")?,
            "max_qos" => config.max_qos = read(name, &value, "0, 1 or 2")?,
            "acknowledge" => config.acknowledge = Some(deserialize(name, &value, "durable or buffered")?),
            "backlog" => config.backlog = read(name, &value, "a number")?,
            "mode" => config.mode = read(name, &value, "an octal file mode like 0660")?,
            "connect_timeout" => {
                let wrapped: humantime_serde::Serde<std::time::Duration> = deserialize(name, &value, "a time like 10s")?;
                config.connect_timeout = wrapped.into_inner();
            }
            "cert" => tls.certificates.push(Certificate { cert: value.into(), key: PathBuf::new() }),
            "key" => keys.push(value.into()),
            "client_ca" => tls.client_ca = Some(value.into()),
            "crl" => tls.crl = Some(value.into()),
            "client_auth" => tls.client_auth = Some(deserialize::<ClientAuth>(name, &value, "none, optional or required")?),
            "min_version" => tls.min_version = deserialize::<TlsVersion>(name, &value, "1.2 or 1.3")?,
            "identity" => {
                tls.identity = deserialize::<IdentityField>(name, &value, "common_name, san_dns, san_uri, san_email or fingerprint")?;
            }
            _ => unreachable!("check_applies lets only names through that stand above"),
        }
    }
    if protocol.is_tls() {
        if tls.certificates.is_empty() || keys.len() != tls.certificates.len() {
            let problem = format!("{protocol}:// needs cert=FILE&key=FILE, as many of one as of the other");
            return Err(ConfigError::new(if tls.certificates.len() <= keys.len() { "cert" } else { "key" }, problem));
        }
        for (certificate, key) in tls.certificates.iter_mut().zip(keys) {
            certificate.key = key;
        }
        config.tls = Some(tls);
    }
    config.validate()?;
    Ok(config)
}

/// The parameters that `protocol` takes.
fn applicable(protocol: Protocol) -> Vec<&'static str> {
    let mut names: Vec<&str> = COMMON.to_vec();
    match protocol {
        Protocol::Unix => names.extend(UNIX),
        _ => names.extend(IP),
    }
    if matches!(protocol, Protocol::Tcp | Protocol::WebSocket) {
        names.extend(PLAIN_IP);
    }
    if protocol.is_tls() {
        names.extend(TLS);
    }
    if protocol.is_web_socket() {
        names.extend(WEB_SOCKET);
    }
    names.sort_unstable();
    names
}

fn check_applies(protocol: Protocol, name: &str) -> Result<(), ConfigError> {
    let applicable = applicable(protocol);
    if applicable.contains(&name) {
        return Ok(());
    }
    let elsewhere: Vec<String> =
        Protocol::ALL.into_iter().filter(|&other| self::applicable(other).contains(&name)).map(|other| other.to_string()).collect();
    let problem = match elsewhere.is_empty() {
        true => format!("is not a parameter; {protocol} takes {}", applicable.join(", ")),
        false => format!("belongs to {} only; {protocol} takes {}", elsewhere.join(", "), applicable.join(", ")),
    };
    Err(ConfigError::new(name, problem))
}

fn read<T: FromStr>(name: &str, value: &str, expected: &str) -> Result<T, ConfigError> {
    value.parse().map_err(|_| ConfigError::new(name, format!("{value:?} is not {expected}")))
}

fn deserialize<'a, T: serde::Deserialize<'a>>(name: &str, value: &'a str, expected: &str) -> Result<T, ConfigError> {
    let deserializer = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(value);
    T::deserialize(deserializer).map_err(|_| ConfigError::new(name, format!("{value:?} is not {expected}")))
}

/// Undoes `%20` and the like; `+` stays what it is, because paths may hold it.
fn decode(name: &str, text: &str) -> Result<String, ConfigError> {
    let error = || ConfigError::new(name, format!("{text:?} has a % that is not followed by two hex digits of UTF-8"));
    let is_escape = |rest: &str| rest.as_bytes().first_chunk::<2>().is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    if !text.split('%').skip(1).all(is_escape) {
        return Err(error());
    }
    percent_decode_str(text).decode_utf8().map(Cow::into_owned).map_err(|_| error())
}
