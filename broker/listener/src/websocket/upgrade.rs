//! The HTTP request that opens a WebSocket: read within bounds, checked, and answered.

use std::io;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A request is this long at most: browsers send below 2 KiB, cookies included mostly.
const MAX_REQUEST: usize = 8 * 1024;
const MAX_HEADERS: usize = 64;
/// What RFC 6455 appends to the client's key.
const KEY_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a request must ask for.
#[derive(Clone, Debug, Default)]
pub struct Expected<'a> {
    /// The path, without a query.
    pub path: &'a str,
    /// Origins that are let in; empty or `*` for any.
    pub allowed_origins: &'a [String],
}

/// A good request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The bytes up to and including the empty line.
    pub length: usize,
    /// Sent back with the subprotocol, which proves that WebSocket is understood.
    pub accept: String,
    /// The subprotocol chosen, if the client offered any.
    pub subprotocol: Option<&'static str>,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpgradeError {
    /// Not HTTP.
    #[error("not an HTTP request")]
    Malformed,
    /// Longer than we read.
    #[error("the HTTP request is too long")]
    TooLong,
    /// Not a WebSocket handshake.
    #[error("not a WebSocket handshake: {0}")]
    NotWebSocket(&'static str),
    /// A version other than 13.
    #[error("an unknown WebSocket version")]
    Version,
    /// Another path than the configured one.
    #[error("another path than the configured one")]
    Path,
    /// An origin that is not let in.
    #[error("an origin that is not allowed")]
    Origin,
    /// [MQTT-6.0.0-3] None of the subprotocols offered is MQTT.
    #[error("the subprotocol \"mqtt\" is not among those offered")]
    Subprotocol,
}

impl UpgradeError {
    fn status(self) -> &'static str {
        match self {
            UpgradeError::Malformed | UpgradeError::NotWebSocket(_) | UpgradeError::Subprotocol => "400 Bad Request",
            UpgradeError::TooLong => "431 Request Header Fields Too Large",
            UpgradeError::Version => "426 Upgrade Required",
            UpgradeError::Path => "404 Not Found",
            UpgradeError::Origin => "403 Forbidden",
        }
    }
}

/// Checks the request at the front of `input`. `Ok(None)`: it is not there as a whole yet.
pub fn parse(input: &[u8], expected: &Expected<'_>) -> Result<Option<Request>, UpgradeError> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(input) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if input.len() >= MAX_REQUEST => return Err(UpgradeError::TooLong),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(UpgradeError::TooLong),
        Err(_) => return Err(UpgradeError::Malformed),
    };
    if request.method != Some("GET") || request.version != Some(1) {
        return Err(UpgradeError::NotWebSocket("it is not a GET of HTTP/1.1"));
    }
    let values = |name: &'static str| {
        let fields = request.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        fields.filter_map(|header| std::str::from_utf8(header.value).ok()).map(str::trim)
    };
    let tokens = |name| values(name).flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty());
    if request.path.is_none_or(|path| path.split('?').next() != Some(expected.path)) {
        return Err(UpgradeError::Path);
    }
    if !tokens("connection").any(|token| token.eq_ignore_ascii_case("upgrade")) {
        return Err(UpgradeError::NotWebSocket("no `Connection: upgrade`"));
    }
    if !tokens("upgrade").any(|token| token.eq_ignore_ascii_case("websocket")) {
        return Err(UpgradeError::NotWebSocket("no `Upgrade: websocket`"));
    }
    if !values("sec-websocket-version").eq(["13"]) {
        return Err(UpgradeError::Version);
    }
    let any_origin = expected.allowed_origins.is_empty() || expected.allowed_origins.iter().any(|allowed| allowed == "*");
    let allowed = |origin: &str| expected.allowed_origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin));
    if !any_origin && !values("origin").all(allowed) {
        return Err(UpgradeError::Origin);
    }
    let mut keys = values("sec-websocket-key");
    let key = match (keys.next(), keys.next()) {
        (Some(key), None) if STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16) => key,
        _ => return Err(UpgradeError::NotWebSocket("no valid `Sec-WebSocket-Key`")),
    };
    // [MQTT-6.0.0-3] [MQTT-6.0.0-4] The Client has to offer "mqtt" and gets it. Offering nothing is let pass for simple clients, and "mqttv3.1" is what
    // libraries of 3.1 times say.
    let subprotocol = match tokens("sec-websocket-protocol").next() {
        None => None,
        Some(_) => {
            let offered = |name: &&str| tokens("sec-websocket-protocol").any(|token| token == *name);
            Some(["mqtt", "mqttv3.1"].into_iter().find(offered).ok_or(UpgradeError::Subprotocol)?)
        }
    };
    Ok(Some(Request { length, accept: accept(key), subprotocol }))
}

fn accept(key: &str) -> String {
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{KEY_SUFFIX}").as_bytes());
    STANDARD.encode(digest)
}

/// Reads the request and answers it. Returns what the client sent beyond it. The caller limits the time.
pub(crate) async fn accept_upgrade<S>(stream: &mut S, expected: &Expected<'_>) -> io::Result<Vec<u8>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut bytes = Vec::with_capacity(1024);
    let request = loop {
        // Whatever comes beyond the request is kept, so that the room left bounds that too.
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match parse(&bytes, expected) {
            Ok(Some(request)) => break request,
            Ok(None) => {}
            Err(error) => {
                refuse(stream, error).await?;
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
    };
    let mut answer =
        String::from("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ");
    answer.push_str(&request.accept);
    if let Some(subprotocol) = request.subprotocol {
        answer.push_str("\r\nSec-WebSocket-Protocol: ");
        answer.push_str(subprotocol);
    }
    answer.push_str("\r\n\r\n");
    stream.write_all(answer.as_bytes()).await?;
    stream.flush().await?;
    Ok(bytes.split_off(request.length))
}

async fn refuse<S: AsyncWrite + Unpin>(stream: &mut S, error: UpgradeError) -> io::Result<()> {
    let version = if error == UpgradeError::Version { "Sec-WebSocket-Version: 13\r\n" } else { "" };
    let body = format!("{error}\n");
    let (status, length) = (error.status(), body.len());
    let head = format!("HTTP/1.1 {status}\r\n{version}Connection: close\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "GET /mqtt?token=x HTTP/1.1\r\nHost: broker.example\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
                        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: https://app.example\r\n\
                        Sec-WebSocket-Protocol: chat, mqtt\r\n\r\n";

    fn check(request: &str, allowed_origins: &[&str]) -> Result<Option<Request>, UpgradeError> {
        let allowed_origins: Vec<String> = allowed_origins.iter().map(|origin| (*origin).to_owned()).collect();
        parse(request.as_bytes(), &Expected { path: "/mqtt", allowed_origins: &allowed_origins })
    }

    #[test]
    fn a_good_request_gets_the_answer_that_rfc_6455_gives_as_its_example() {
        let request = check(GOOD, &[]).unwrap().unwrap();
        assert_eq!(request.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(request.subprotocol, Some("mqtt"));
        assert_eq!(request.length, GOOD.len());
    }

    #[test]
    fn a_request_is_complete_at_its_last_byte_and_not_before() {
        for end in 0..GOOD.len() {
            assert_eq!(check(&GOOD[..end], &[]), Ok(None), "{end}");
        }
    }

    #[test]
    fn a_wrong_request_is_refused_for_its_reason() {
        for (from, to, error) in [
            ("/mqtt?", "/other?", UpgradeError::Path),
            ("/mqtt?token=x", "/mqtt/", UpgradeError::Path),
            ("GET", "POST", UpgradeError::NotWebSocket("it is not a GET of HTTP/1.1")),
            ("HTTP/1.1", "HTTP/1.0", UpgradeError::NotWebSocket("it is not a GET of HTTP/1.1")),
            ("HTTP/1.1", "HTTQ/1.1", UpgradeError::Malformed),
            ("WebSocket\r", "h2c\r", UpgradeError::NotWebSocket("no `Upgrade: websocket`")),
            ("keep-alive, Upgrade", "keep-alive", UpgradeError::NotWebSocket("no `Connection: upgrade`")),
            ("n: 13", "n: 8", UpgradeError::Version),
            ("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=", UpgradeError::NotWebSocket("no valid `Sec-WebSocket-Key`")),
            ("chat, mqtt", "chat", UpgradeError::Subprotocol),
            ("chat, mqtt", "MQTT", UpgradeError::Subprotocol),
        ] {
            assert_eq!(check(&GOOD.replace(from, to), &[]), Err(error), "{from} -> {to}");
        }
        let long = GOOD.replace("chat", &"x".repeat(MAX_REQUEST));
        assert_eq!(check(&long[..MAX_REQUEST], &[]), Err(UpgradeError::TooLong));
        let many = GOOD.replace("Host: broker.example\r\n", &"A: b\r\n".repeat(MAX_HEADERS));
        assert_eq!(check(&many, &[]), Err(UpgradeError::TooLong));
    }

    #[test]
    fn a_client_that_offers_no_subprotocol_or_an_old_one_is_let_in() {
        let none = GOOD.replace("Sec-WebSocket-Protocol: chat, mqtt\r\n", "");
        assert_eq!(check(&none, &[]).unwrap().unwrap().subprotocol, None);
        assert_eq!(check(&GOOD.replace("chat, mqtt", "mqttv3.1"), &[]).unwrap().unwrap().subprotocol, Some("mqttv3.1"));
        assert_eq!(check(&GOOD.replace("chat, mqtt", "mqttv3.1, mqtt"), &[]).unwrap().unwrap().subprotocol, Some("mqtt"));
    }

    #[test]
    fn only_allowed_origins_and_clients_without_one_are_let_in() {
        assert!(check(GOOD, &["https://app.example"]).is_ok());
        assert!(check(GOOD, &["https://other.example", "HTTPS://APP.example"]).is_ok());
        assert!(check(GOOD, &["*"]).is_ok());
        for allowed in ["https://other.example", "http://app.example", "https://app.example:8443", "app.example"] {
            assert_eq!(check(GOOD, &[allowed]), Err(UpgradeError::Origin), "{allowed}");
        }
        let without = GOOD.replace("Origin: https://app.example\r\n", "");
        assert!(check(&without, &["https://other.example"]).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(at in 0usize..300, bytes: Vec<u8>) {
            let mut request = GOOD.as_bytes().to_vec();
            let at = at.min(request.len());
            request.splice(at..at, bytes);
            let _ = parse(&request, &Expected { path: "/mqtt", allowed_origins: &[] });
        }
    }
}
