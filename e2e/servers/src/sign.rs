//! Signatures of the one request that is sent here: to make a bucket. No query, no body.

use std::net::SocketAddr;
use std::time::SystemTime;

use anyhow::Context;
use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// SHA-256 of nothing.
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Headers that sign an S3 request (AWS signature version 4).
pub(crate) fn s3(
    now: SystemTime,
    address: SocketAddr,
    method: &str,
    path: &str,
    (access_key, secret_key, region): (&str, &str, &str),
) -> Vec<(&'static str, String)> {
    // 2018-02-14T00:28:07Z without its punctuation.
    let time = humantime::format_rfc3339_seconds(now).to_string().replace(['-', ':'], "");
    let day = &time[..8];
    let scope = format!("{day}/{region}/s3/aws4_request");
    let signed = "host;x-amz-content-sha256;x-amz-date";
    let canonical =
        format!("{method}\n{path}\n\nhost:{address}\nx-amz-content-sha256:{EMPTY_SHA256}\nx-amz-date:{time}\n\n{signed}\n{EMPTY_SHA256}");
    let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref()));
    let mut key = format!("AWS4{secret_key}").into_bytes();
    for part in [day, region, "s3", "aws4_request"] {
        key = hmac(&key, part);
    }
    let signature = hex(&hmac(&key, &to_sign));
    vec![
        ("host", address.to_string()),
        ("x-amz-content-sha256", EMPTY_SHA256.to_owned()),
        ("x-amz-date", time.clone()),
        ("authorization", format!("AWS4-HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={signed}, Signature={signature}")),
    ]
}

/// Headers that sign an Azure request that makes a container (Shared Key). `path` begins with the account where the server has it in its paths.
pub(crate) fn azure_container(now: SystemTime, path: &str, account: &str, key: &str) -> anyhow::Result<Vec<(&'static str, String)>> {
    const VERSION: &str = "2023-11-03";
    let date = httpdate::fmt_http_date(now);
    // Eleven standard headers, all absent or empty, stand between the method and those of Azure.
    let to_sign = format!("PUT{}x-ms-date:{date}\nx-ms-version:{VERSION}\n/{account}{path}\nrestype:container", "\n".repeat(12));
    let key = BASE64_STANDARD.decode(key).context("the account's key is base64")?;
    let signature = BASE64_STANDARD.encode(hmac(&key, &to_sign));
    Ok(vec![("x-ms-date", date), ("x-ms-version", VERSION.to_owned()), ("authorization", format!("SharedKey {account}:{signature}"))])
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
