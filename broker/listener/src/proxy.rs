//! The PROXY protocol, versions 1 and 2: what a load balancer says about the connection it passes on.
//!
//! [`parse`] is pure and takes any bytes; reading takes exactly the header's bytes from the socket, so that what follows (TLS, HTTP or MQTT) is
//! untouched.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// How version 1 begins.
const V1_PREFIX: &[u8] = b"PROXY ";
/// The longest line of version 1 that the protocol allows, its end included.
const V1_MAX: usize = 107;
/// How version 2 begins.
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, command, family and length.
const V2_FIXED: usize = 16;
/// The longest version 2 header we take: addresses are at most 216 bytes, and what cloud balancers and a certificate's names add is some hundreds.
pub const MAX_HEADER: usize = 4096;

const TLV_AUTHORITY: u8 = 0x02;
const TLV_SSL: u8 = 0x20;
const TLV_SSL_VERSION: u8 = 0x21;
const TLV_SSL_CN: u8 = 0x22;
const CLIENT_SSL: u8 = 0x01;
const CLIENT_CERT_CONN: u8 = 0x02;
const CLIENT_CERT_SESS: u8 = 0x04;

/// What a header says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Who connected to the proxy. None: the proxy speaks for itself, or the address is neither IPv4 nor IPv6.
    pub source: Option<SocketAddr>,
    /// Where the proxy was connected to.
    pub destination: Option<SocketAddr>,
    /// The host name that the Client asked for.
    pub authority: Option<Box<str>>,
    /// TLS between the Client and the proxy.
    pub tls: Option<ProxiedTls>,
}

/// TLS between a Client and the proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxiedTls {
    /// Such as `TLSv1.3`.
    pub version: Option<Box<str>>,
    /// The common name of the Client's certificate, if it showed one and the proxy found it good.
    pub verified_common_name: Option<Box<str>>,
}

/// Why bytes are no PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// They begin with neither version's signature.
    #[error("no PROXY header")]
    Missing,
    /// Longer than any proxy makes it.
    #[error("the PROXY header is too long")]
    TooLong,
    /// A line of version 1 that does not keep to its form.
    #[error("malformed PROXY line")]
    Line,
    /// A version 2 header of an unknown version, command, family or transport.
    #[error("unknown version, command or family in the PROXY header")]
    Unknown,
    /// A length inside of a version 2 header that does not fit.
    #[error("wrong length in the PROXY header")]
    Length,
}

/// Parses the header at the front of `input`. `Ok(None)`: it is not there as a whole yet. `Ok(Some((header, length)))`: it is `length` bytes long.
pub fn parse(input: &[u8]) -> Result<Option<(Header, usize)>, ProxyError> {
    if begins_alike(input, V2_SIGNATURE) {
        return parse_v2(input);
    }
    if begins_alike(input, V1_PREFIX) {
        return parse_v1(input);
    }
    Err(ProxyError::Missing)
}

fn begins_alike(input: &[u8], signature: &[u8]) -> bool {
    let common = input.len().min(signature.len());
    input[..common] == signature[..common]
}

fn parse_v1(input: &[u8]) -> Result<Option<(Header, usize)>, ProxyError> {
    let Some(end) = input.iter().take(V1_MAX).position(|&byte| byte == b'\n') else {
        return if input.len() >= V1_MAX { Err(ProxyError::TooLong) } else { Ok(None) };
    };
    let line = input[..end].strip_suffix(b"\r").and_then(|line| std::str::from_utf8(line).ok()).ok_or(ProxyError::Line)?;
    let mut fields = line.split(' ').skip(1);
    let mut header = Header::default();
    let family = fields.next();
    match family {
        // Whatever follows UNKNOWN is to be ignored.
        Some("UNKNOWN") => return Ok(Some((header, end + 1))),
        Some("TCP4" | "TCP6") => {}
        _ => return Err(ProxyError::Line),
    }
    let mut next = || fields.next().ok_or(ProxyError::Line);
    let (source, destination, source_port, destination_port) = (next()?, next()?, next()?, next()?);
    let address = |ip: &str, port: &str| -> Option<SocketAddr> {
        let digits = port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
        let ip = match family {
            Some("TCP4") => ip.parse::<Ipv4Addr>().ok()?.into(),
            _ => ip.parse::<Ipv6Addr>().ok()?.into(),
        };
        Some(SocketAddr::new(ip, port.parse().ok().filter(|_| digits)?))
    };
    header.source = Some(address(source, source_port).ok_or(ProxyError::Line)?);
    header.destination = Some(address(destination, destination_port).ok_or(ProxyError::Line)?);
    if fields.next().is_some() {
        return Err(ProxyError::Line);
    }
    Ok(Some((header, end + 1)))
}

fn parse_v2(input: &[u8]) -> Result<Option<(Header, usize)>, ProxyError> {
    let Some(fixed) = input.first_chunk::<V2_FIXED>() else {
        return Ok(None);
    };
    let length = V2_FIXED + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if length > MAX_HEADER {
        return Err(ProxyError::TooLong);
    }
    let proxied = match fixed[12] {
        0x20 => false,
        0x21 => true,
        _ => return Err(ProxyError::Unknown),
    };
    let Some(body) = input.get(V2_FIXED..length) else {
        return Ok(None);
    };
    if !proxied {
        // LOCAL: a health check of the proxy itself. Whatever else it says is to be ignored.
        return Ok(Some((Header::default(), length)));
    }
    let mut header = Header::default();
    let take = |n: usize| body.split_at_checked(n).ok_or(ProxyError::Length);
    let tlvs = match fixed[13] {
        0x00 => body,
        0x11 => {
            let (a, rest) = take(12)?;
            let ip = |at: usize| Ipv4Addr::new(a[at], a[at + 1], a[at + 2], a[at + 3]);
            header.source = Some(SocketAddr::new(ip(0).into(), u16::from_be_bytes([a[8], a[9]])));
            header.destination = Some(SocketAddr::new(ip(4).into(), u16::from_be_bytes([a[10], a[11]])));
            rest
        }
        0x21 => {
            let (a, rest) = take(36)?;
            let ip = |at: usize| Ipv6Addr::from_octets(a[at..at + 16].try_into().expect("16 of 36 bytes"));
            header.source = Some(SocketAddr::new(ip(0).into(), u16::from_be_bytes([a[32], a[33]])));
            header.destination = Some(SocketAddr::new(ip(16).into(), u16::from_be_bytes([a[34], a[35]])));
            rest
        }
        // Unix: two paths of 108 bytes, which are no addresses to anybody else.
        0x31 => take(216)?.1,
        _ => return Err(ProxyError::Unknown),
    };
    for_each_tlv(tlvs, |kind, value| {
        match kind {
            TLV_AUTHORITY => header.authority = text(value),
            TLV_SSL => header.tls = parse_ssl(value)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(Some((header, length)))
}

fn parse_ssl(value: &[u8]) -> Result<Option<ProxiedTls>, ProxyError> {
    let (fixed, rest) = value.split_first_chunk::<5>().ok_or(ProxyError::Length)?;
    let [client, verify @ ..] = *fixed;
    if client & CLIENT_SSL == 0 {
        return Ok(None);
    }
    // `verify` is zero also when there was no certificate, therefore the flags count too.
    let verified = verify == [0; 4] && client & (CLIENT_CERT_CONN | CLIENT_CERT_SESS) != 0;
    let mut tls = ProxiedTls::default();
    for_each_tlv(rest, |kind, value| {
        match kind {
            TLV_SSL_VERSION => tls.version = text(value),
            TLV_SSL_CN if verified => tls.verified_common_name = text(value),
            _ => {}
        }
        Ok(())
    })?;
    Ok(Some(tls))
}

fn for_each_tlv(mut input: &[u8], mut take: impl FnMut(u8, &[u8]) -> Result<(), ProxyError>) -> Result<(), ProxyError> {
    while let Some((&kind, rest)) = input.split_first() {
        let (length, rest) = rest.split_first_chunk::<2>().ok_or(ProxyError::Length)?;
        let (value, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into()).ok_or(ProxyError::Length)?;
        take(kind, value)?;
        input = rest;
    }
    Ok(())
}

fn text(value: &[u8]) -> Option<Box<str>> {
    let text = std::str::from_utf8(value).ok()?;
    (!text.is_empty() && !text.contains(char::is_control)).then(|| text.into())
}

/// Reads a header from `stream` and not a byte more. The caller limits the time.
pub(crate) async fn read_header(stream: &mut TcpStream) -> io::Result<Header> {
    let mut bytes = vec![0; 256];
    let mut filled = 0;
    loop {
        if filled == bytes.len() {
            bytes.resize(MAX_HEADER, 0);
        }
        // Looked at first and taken then: as long as there is no whole header, all that is there belongs to it.
        let there = stream.peek(&mut bytes[filled..]).await?;
        if there == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let parsed = parse(&bytes[..filled + there]).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let taken = parsed.as_ref().map_or(there, |(_, length)| length - filled);
        stream.read_exact(&mut bytes[filled..filled + taken]).await?;
        filled += taken;
        if let Some((header, _)) = parsed {
            return Ok(header);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = V2_SIGNATURE.to_vec();
        bytes.extend([command, family]);
        bytes.extend((body.len() as u16).to_be_bytes());
        bytes.extend(body);
        bytes
    }

    fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind];
        bytes.extend((value.len() as u16).to_be_bytes());
        bytes.extend(value);
        bytes
    }

    const V4_BODY: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0x30, 0x39, 0x07, 0x5b];

    fn source(bytes: &[u8]) -> Option<String> {
        let (header, length) = parse(bytes).unwrap().unwrap();
        assert_eq!(length, bytes.len());
        header.source.map(|source| source.to_string())
    }

    #[test]
    fn both_versions_tell_who_connected() {
        assert_eq!(source(b"PROXY TCP4 192.0.2.1 198.51.100.2 12345 1883\r\n").unwrap(), "192.0.2.1:12345");
        assert_eq!(source(b"PROXY TCP6 2001:db8::1 ::1 12345 1883\r\n").unwrap(), "[2001:db8::1]:12345");
        assert_eq!(source(b"PROXY UNKNOWN\r\n"), None);
        assert_eq!(source(b"PROXY UNKNOWN what ever 1 2 3\r\n"), None);
        assert_eq!(source(&v2(0x21, 0x11, &V4_BODY)).unwrap(), "192.0.2.1:12345");
        let mut v6 = [0; 36];
        v6[..2].copy_from_slice(&[0x20, 0x01]);
        v6[33] = 7;
        assert_eq!(source(&v2(0x21, 0x21, &v6)).unwrap(), "[2001::]:7");
        assert_eq!(source(&v2(0x21, 0x31, &[b'a'; 216])), None);
        assert_eq!(source(&v2(0x21, 0x00, &[])), None);
    }

    #[test]
    fn a_local_header_is_taken_whatever_it_holds() {
        assert_eq!(source(&v2(0x20, 0x11, &V4_BODY)), None);
        assert_eq!(source(&v2(0x20, 0x99, b"anything")), None);
    }

    #[test]
    fn a_header_is_complete_at_its_last_byte_and_not_before() {
        let with_tlv = [&V4_BODY[..], &tlv(TLV_AUTHORITY, b"broker.example")].concat();
        for whole in [b"PROXY TCP4 192.0.2.1 198.51.100.2 12345 1883\r\n".to_vec(), v2(0x21, 0x11, &with_tlv), v2(0x20, 0, &[])] {
            for end in 0..whole.len() {
                assert_eq!(parse(&whole[..end]), Ok(None), "{end} of {}", whole.len());
            }
            let longer = [&whole[..], b"\x10"].concat();
            assert_eq!(parse(&longer).unwrap().unwrap().1, whole.len());
        }
    }

    #[test]
    fn what_is_not_a_header_is_refused() {
        let long = format!("PROXY UNKNOWN {}", "x".repeat(100));
        for (bytes, error) in [
            (&b"\x10\x0c"[..], ProxyError::Missing),
            (b"GET / HTTP/1.1", ProxyError::Missing),
            (b"PROXY TCP4 192.0.2.1 198.51.100.2 12345 1883\n", ProxyError::Line),
            (b"PROXY TCP4 192.0.2.1 198.51.100.2 12345\r\n", ProxyError::Line),
            (b"PROXY TCP4 192.0.2.1 198.51.100.2 12345 1883 \r\n", ProxyError::Line),
            (b"PROXY TCP4  192.0.2.1 198.51.100.2 12345 1883\r\n", ProxyError::Line),
            (b"PROXY TCP4 192.0.2.1 198.51.100.2 +1 1883\r\n", ProxyError::Line),
            (b"PROXY TCP4 192.0.2.1 198.51.100.2 65536 1883\r\n", ProxyError::Line),
            (b"PROXY TCP4 ::1 ::1 1 1883\r\n", ProxyError::Line),
            (b"PROXY TCP6 192.0.2.1 198.51.100.2 1 1883\r\n", ProxyError::Line),
            (b"PROXY UDP4 192.0.2.1 198.51.100.2 1 1883\r\n", ProxyError::Line),
            (b"PROXY \xff\r\n", ProxyError::Line),
            (long.as_bytes(), ProxyError::TooLong),
            (&v2(0x31, 0x11, &V4_BODY), ProxyError::Unknown),
            (&v2(0x22, 0x11, &V4_BODY), ProxyError::Unknown),
            (&v2(0x21, 0x12, &V4_BODY), ProxyError::Unknown),
            (&v2(0x21, 0x11, &V4_BODY[..11]), ProxyError::Length),
            (&v2(0x21, 0x11, &[&V4_BODY[..], &[1, 0, 9, 0]].concat()), ProxyError::Length),
            (&v2(0x21, 0x11, &[&V4_BODY[..], &tlv(TLV_SSL, &[1])].concat()), ProxyError::Length),
            (&v2(0x21, 0x00, &[0; MAX_HEADER]), ProxyError::TooLong),
        ] {
            assert_eq!(parse(bytes), Err(error), "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_common_name_counts_only_when_the_proxy_verified_it() {
        let ssl = |client: u8, verify: u32| {
            let value = [&[client][..], &verify.to_be_bytes(), &tlv(TLV_SSL_VERSION, b"TLSv1.3"), &tlv(TLV_SSL_CN, b"device-7")].concat();
            let bytes = v2(0x21, 0x11, &[&V4_BODY[..], &tlv(0xe0, b"custom"), &tlv(TLV_SSL, &value)].concat());
            parse(&bytes).unwrap().unwrap().0.tls
        };
        let tls = ssl(CLIENT_SSL | CLIENT_CERT_CONN, 0).unwrap();
        assert_eq!(tls.version.as_deref(), Some("TLSv1.3"));
        assert_eq!(tls.verified_common_name.as_deref(), Some("device-7"));
        assert_eq!(ssl(CLIENT_SSL | CLIENT_CERT_SESS, 0).unwrap().verified_common_name.as_deref(), Some("device-7"));
        assert_eq!(ssl(CLIENT_SSL | CLIENT_CERT_CONN, 1).unwrap().verified_common_name, None);
        assert_eq!(ssl(CLIENT_SSL, 0).unwrap().verified_common_name, None);
        assert_eq!(ssl(0, 0), None);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(tail: Vec<u8>, version in 0..3) {
            let start: &[u8] = match version { 0 => b"", 1 => V1_PREFIX, _ => b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0" };
            let input = [start, &tail[..]].concat();
            if let Ok(Some((_, length))) = parse(&input) {
                proptest::prop_assert!(length <= input.len());
            }
        }
    }
}
