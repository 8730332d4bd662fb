//! The `[admin]` section: where health and metrics are served.
//!
//! Reading it never touches the network; [`Config::address`] says whether what stands there can be an address at all.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Health and metrics over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where `/metrics`, `/livez` and `/readyz` are served: `host:port` or `http://host:port`; `""` switches them off. Port 0 takes a free
    /// one. Default: `127.0.0.1:9090`, the loopback, because whoever reaches it may read it without a password.
    pub listen: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: "127.0.0.1:9090".to_owned() }
    }
}

/// Why `admin.listen` is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("admin.listen {listen:?}: {problem}; expected host:port such as 127.0.0.1:9090 or [::]:9090, http://host:port, or \"\" for off")]
pub struct AddressError {
    listen: String,
    problem: &'static str,
}

impl Config {
    /// The `host:port` to listen on; `None` when switched off. Host names are resolved only when listening.
    pub fn address(&self) -> Result<Option<String>, AddressError> {
        let refused = |problem| Err(AddressError { listen: self.listen.clone(), problem });
        if self.listen.is_empty() {
            return Ok(None);
        }
        let authority = match self.listen.split_once("://") {
            None => self.listen.as_str(),
            Some(("http", rest)) => rest.strip_suffix('/').unwrap_or(rest),
            Some(("https", _)) => return refused("TLS is not served here"),
            Some(_) => return refused("the scheme is not http"),
        };
        let Some((host, port)) = authority.rsplit_once(':') else {
            return refused("the port is missing");
        };
        if port.parse::<u16>().is_err() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return refused("the port is not a number from 0 to 65535");
        }
        match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(address) if address.parse::<std::net::Ipv6Addr>().is_err() => refused("what stands in brackets is not an IPv6 address"),
            Some(_) => Ok(Some(authority.to_owned())),
            None if host.is_empty() => refused("the host is missing"),
            None if host.contains(':') => refused("an IPv6 address stands in brackets"),
            None if host.contains(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))) => {
                refused("the host holds a character that no host name has")
            }
            None => Ok(Some(authority.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(listen: &str) -> Result<Option<String>, String> {
        Config { listen: listen.to_owned() }.address().map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_section_listens_on_the_loopback() {
        let config: Config = toml::from_str("").unwrap();
        assert_eq!(config.address().unwrap().as_deref(), Some("127.0.0.1:9090"));
    }

    #[test]
    fn an_unknown_key_is_refused_with_what_was_expected() {
        let error = toml::from_str::<Config>("listn = ''").unwrap_err().to_string();
        assert!(error.contains("unknown field `listn`, expected `listen`"), "{error}");
    }

    #[test]
    fn addresses_are_taken_bare_or_as_a_url() {
        for (listen, expected) in [
            ("", None),
            ("0.0.0.0:9090", Some("0.0.0.0:9090")),
            ("localhost:0", Some("localhost:0")),
            ("[::1]:9090", Some("[::1]:9090")),
            ("http://127.0.0.1:9090", Some("127.0.0.1:9090")),
            ("http://broker_1.example:80/", Some("broker_1.example:80")),
            ("http://[::]:9090", Some("[::]:9090")),
        ] {
            assert_eq!(address(listen), Ok(expected.map(str::to_owned)), "{listen}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        for (listen, expected) in [
            ("9090", "the port is missing"),
            (":9090", "the host is missing"),
            ("::1:9090", "an IPv6 address stands in brackets"),
            ("[localhost]:9090", "not an IPv6 address"),
            ("localhost:http", "the port is not a number"),
            ("localhost:+80", "the port is not a number"),
            ("localhost:65536", "the port is not a number"),
            ("https://localhost:9090", "TLS is not served here"),
            ("tcp://localhost:9090", "the scheme is not http"),
            ("http://me@localhost:9090", "no host name has"),
            ("http://localhost:9090/metrics", "the port is not a number"),
        ] {
            let error = address(listen).unwrap_err();
            assert!(error.contains(expected) && error.contains("expected host:port"), "{listen}: {error}");
        }
    }

    #[test]
    fn the_schema_knows_the_field_and_its_default() {
        let schema = serde_json::to_value(schemars::schema_for!(Config)).unwrap();
        assert_eq!(schema["properties"]["listen"]["default"], "127.0.0.1:9090");
        assert_eq!(schema["additionalProperties"], false);
    }
}
