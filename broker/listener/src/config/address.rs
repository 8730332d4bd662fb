//! Where a listener listens and what is spoken there: the part of a listen URL before its `?`.

use std::fmt;
use std::path::PathBuf;

use super::ConfigError;

/// What is spoken on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// MQTT over TCP.
    Tcp,
    /// MQTT over TLS.
    Tls,
    /// MQTT over WebSocket.
    WebSocket,
    /// MQTT over WebSocket over TLS.
    SecureWebSocket,
    /// MQTT over a Unix socket.
    Unix,
}

impl Protocol {
    /// All of them, in the order of the documentation.
    pub const ALL: [Protocol; 5] = [Protocol::Tcp, Protocol::Tls, Protocol::WebSocket, Protocol::SecureWebSocket, Protocol::Unix];

    /// The scheme in listen URLs, which is also the value of metric labels.
    pub fn label(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Tls => "tls",
            Protocol::WebSocket => "ws",
            Protocol::SecureWebSocket => "wss",
            Protocol::Unix => "unix",
        }
    }

    /// Whether TLS is spoken.
    pub fn is_tls(self) -> bool {
        matches!(self, Protocol::Tls | Protocol::SecureWebSocket)
    }

    /// Whether WebSocket is spoken.
    pub fn is_web_socket(self) -> bool {
        matches!(self, Protocol::WebSocket | Protocol::SecureWebSocket)
    }

    /// The port of a URL that names none: those registered for MQTT and for HTTP.
    fn default_port(self) -> u16 {
        match self {
            Protocol::Tcp | Protocol::Unix => 1883,
            Protocol::Tls => 8883,
            Protocol::WebSocket => 80,
            Protocol::SecureWebSocket => 443,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// Where connections come in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A port of an address, or of every address of a host name.
    Ip {
        /// An IPv4 address, an IPv6 address without brackets, or a host name.
        host: String,
        /// Port 0 lets the system choose.
        port: u16,
    },
    /// A path in the file system.
    Unix(PathBuf),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Ip { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Endpoint::Ip { host, port } => write!(f, "{host}:{port}"),
            Endpoint::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A listen URL without parameters, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// What is spoken.
    pub protocol: Protocol,
    /// Where.
    pub endpoint: Endpoint,
    /// What stood behind the port of a WebSocket URL.
    pub(crate) path: Option<String>,
}

impl Address {
    /// Takes `url` apart; `key` is where it was written, for the error.
    pub(crate) fn parse(key: &str, url: &str) -> Result<Address, ConfigError> {
        let error = |problem: String| Err(ConfigError::new(key, problem));
        let schemes = "tcp://, tls://, ws://, wss:// or unix:/path";
        let Some((scheme, rest)) = url.split_once(':') else {
            return error(format!("{url:?} is not a listen URL; it begins with {schemes}"));
        };
        let Some(protocol) = Protocol::ALL.into_iter().find(|protocol| protocol.label() == scheme) else {
            return error(format!("{scheme:?} is not a scheme; a listen URL begins with {schemes}"));
        };
        if protocol == Protocol::Unix {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            return match path.starts_with('/') {
                true => Ok(Address { protocol, endpoint: Endpoint::Unix(path.into()), path: None }),
                false => error(format!("{url:?} needs an absolute path, such as unix:/run/bucketmq/mqtt.sock")),
            };
        }
        let Some(rest) = rest.strip_prefix("//") else {
            return error(format!("{url:?} needs // after {scheme}:, such as {scheme}://127.0.0.1:{}", protocol.default_port()));
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => (&rest[..at], &rest[at..]),
            None => (rest, ""),
        };
        let path = match path {
            "" | "/" => None,
            _ if !protocol.is_web_socket() => return error(format!("{scheme}:// takes no path, but {url:?} has {path:?}")),
            _ => Some(path.to_owned()),
        };
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => match rest.split_once(']') {
                Some((host, port)) if host.parse::<std::net::Ipv6Addr>().is_ok() => (host, port),
                _ => return error(format!("{authority:?} is not an IPv6 address in brackets, such as [::1]:1883")),
            },
            None => match authority.find(':') {
                Some(at) if authority[at + 1..].contains(':') => {
                    return error(format!("an IPv6 address stands in brackets: [{authority}]"));
                }
                Some(at) => authority.split_at(at),
                None => (authority, ""),
            },
        };
        if host.is_empty() || host.contains(['@', '*', ' ', '?', '#', '%']) {
            return error(format!("{url:?} needs an address to listen on; every address is 0.0.0.0 or [::]"));
        }
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => protocol.default_port(),
            Some(digits) if !digits.starts_with('+') && digits.parse::<u16>().is_ok() => digits.parse().expect("just parsed"),
            _ => return error(format!("{:?} is not a port from 0 to 65535", port.trim_start_matches(':'))),
        };
        Ok(Address { protocol, endpoint: Endpoint::Ip { host: host.to_owned(), port }, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_urls_are_taken_apart() {
        for (url, protocol, endpoint) in [
            ("tcp://127.0.0.1:1883", Protocol::Tcp, "127.0.0.1:1883"),
            ("tcp://localhost", Protocol::Tcp, "localhost:1883"),
            ("tls://[::]:0", Protocol::Tls, "[::]:0"),
            ("tls://[2001:db8::1]", Protocol::Tls, "[2001:db8::1]:8883"),
            ("ws://0.0.0.0:8080/mqtt", Protocol::WebSocket, "0.0.0.0:8080"),
            ("wss://broker.example/", Protocol::SecureWebSocket, "broker.example:443"),
            ("unix:/run/mqtt.sock", Protocol::Unix, "/run/mqtt.sock"),
            ("unix:///run/mqtt.sock", Protocol::Unix, "/run/mqtt.sock"),
        ] {
            let address = Address::parse("url", url).unwrap();
            assert_eq!((address.protocol, address.endpoint.to_string().as_str()), (protocol, endpoint), "{url}");
        }
    }

    #[test]
    fn a_wrong_listen_url_is_answered_with_what_would_be_right() {
        for (url, says) in [
            ("", "begins with tcp://"),
            ("127.0.0.1:1883", "is not a scheme"),
            ("mqtt://127.0.0.1", "is not a scheme"),
            ("tcp:127.0.0.1", "needs // after"),
            ("tcp://:1883", "0.0.0.0 or [::]"),
            ("tcp://*:1883", "0.0.0.0 or [::]"),
            ("tcp://127.0.0.1:70000", "is not a port"),
            ("tcp://127.0.0.1:+1", "is not a port"),
            ("tcp://::1:1883", "in brackets: [::1:1883]"),
            ("tcp://[::1:1883", "in brackets"),
            ("tcp://[::1]1883", "is not a port"),
            ("tcp://127.0.0.1:1883/mqtt", "takes no path"),
            ("unix:run/mqtt.sock", "absolute path"),
        ] {
            let error = Address::parse("url", url).unwrap_err().to_string();
            assert!(error.contains(says), "{url}: {error}");
        }
    }
}
