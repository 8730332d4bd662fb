//! `-L mqtt://user:password@host:port/topic`.

/// What a URL says; what it leaves out is decided by the other options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// `mqtts` and `wss`.
    pub tls: bool,
    /// `ws` and `wss`.
    pub websocket: bool,
    /// Before `:` and `@`.
    pub username: Option<String>,
    /// Before `@`.
    pub password: Option<String>,
    /// A name or an address, an IPv6 one without brackets.
    pub host: String,
    /// After the host.
    pub port: Option<u16>,
    /// Behind the first slash.
    pub topic: Option<String>,
}

impl std::str::FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or("expected mqtt://[USER[:PASSWORD]@]HOST[:PORT]/TOPIC")?;
        let (tls, websocket) = match scheme {
            "mqtt" | "tcp" => (false, false),
            "mqtts" | "tls" => (true, false),
            "ws" => (false, true),
            "wss" => (true, true),
            other => return Err(format!("{other} is none of mqtt, mqtts, ws, wss")),
        };
        let (authority, topic) = rest.split_once('/').map_or((rest, None), |(authority, topic)| (authority, Some(topic)));
        let (user, address) = authority.rsplit_once('@').map_or((None, authority), |(user, address)| (Some(user), address));
        let (username, password) = user.map_or((None, None), |user| {
            let (name, password) = user.split_once(':').map_or((user, None), |(name, password)| (name, Some(password)));
            (Some(decoded(name)), password.map(decoded))
        });
        let (host, port) = host_and_port(address)?;
        let topic = topic.filter(|topic| !topic.is_empty()).map(decoded);
        Ok(Self { tls, websocket, username, password, host, port, topic })
    }
}

/// Without the text: where a password has a slash that is not escaped, it stands here.
const NO_PORT: &str = "what is behind the host is not a port; / and @ in a name or password are written %2F and %40";

fn host_and_port(address: &str) -> Result<(String, Option<u16>), String> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or("the bracket of the address is not closed")?;
            (host, port.strip_prefix(':'))
        }
        None => address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() {
        return Err("the host is missing".to_owned());
    }
    let port = port.map(|port| port.parse().map_err(|_| NO_PORT)).transpose()?;
    Ok((host.to_owned(), port))
}

/// Percent signs with two hex digits become their byte.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match hex {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_found() {
        let url: Url = "mqtts://me%40home:p%3Aw@broker.example:8884/a/b%23".parse().expect("right");
        assert_eq!((url.tls, url.websocket), (true, false));
        assert_eq!((url.username.as_deref(), url.password.as_deref()), (Some("me@home"), Some("p:w")));
        assert_eq!((url.host.as_str(), url.port, url.topic.as_deref()), ("broker.example", Some(8884), Some("a/b#")));
    }

    #[test]
    fn what_may_be_left_out_may_be_left_out() {
        let url: Url = "ws://[::1]".parse().expect("right");
        assert_eq!((url.websocket, url.host.as_str(), url.port, url.topic), (true, "::1", None, None));
    }

    #[test]
    fn mistakes_are_told() {
        for (text, told) in [("host/topic", "expected"), ("http://a/b", "none of"), ("mqtt:///b", "host"), ("mqtt://a:x/b", "not a port")] {
            let error = text.parse::<Url>().expect_err(text);
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
