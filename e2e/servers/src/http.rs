//! One HTTP request, one answer, with nothing but the standard library: whether a server answers, and making its bucket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, ensure};

/// A server that is just starting may take a connection and answer late.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Sends a request and returns the status with the whole answer as text.
pub(crate) fn request(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, String)],
    body: &str,
) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut head = format!("{method} {target} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    if !headers.iter().any(|(name, _)| *name == "host") {
        head.push_str(&format!("host: {address}\r\n"));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n{body}").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok()).with_context(|| format!("not an answer: {answer:?}"))?;
    Ok((status, answer))
}

/// Sends a request that makes a bucket. One that is there already, from the last time in the same directory, is as good.
pub(crate) fn make_bucket(address: SocketAddr, method: &str, target: &str, headers: &[(&str, String)], body: &str) -> anyhow::Result<()> {
    let (status, answer) = request(address, method, target, headers, body).with_context(|| format!("{method} {target}"))?;
    ensure!((200..300).contains(&status) || status == 409, "{method} {target}: {answer}");
    Ok(())
}
