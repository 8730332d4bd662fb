//! The parameters of a bucket URL: which scheme takes which, what a value looks like, and what is a secret and therefore refused.

use std::borrow::Cow;
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::ConfigError;

/// What stands behind the `?`, taken out one by one; what is left over at the end is refused.
pub(super) struct Parameters {
    scheme: &'static str,
    left: Vec<(String, String)>,
}

/// Words that secrets are called by. A parameter that has one among its words is refused by name, and its value is never shown.
const SECRET_WORDS: [&str; 11] =
    ["access", "credential", "credentials", "key", "passwd", "password", "sas", "secret", "sig", "signature", "token"];

/// Every parameter that some scheme takes, and which do.
const KNOWN: [(&str, &[&str]); 7] = [
    ("anonymous", &["gs"]),
    ("ca", &["s3", "gs", "az"]),
    ("endpoint", &["s3", "gs", "az"]),
    ("kms_key", &["s3"]),
    ("path_style", &["s3"]),
    ("profile", &["s3"]),
    ("region", &["s3"]),
];

impl Parameters {
    pub(super) fn parse(scheme: &'static str, query: &str) -> Result<Parameters, ConfigError> {
        let mut left: Vec<(String, String)> = Vec::new();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            check_name(scheme, name)?;
            let key = format!("url.{name}");
            if left.iter().any(|(seen, _)| seen == name) {
                return Err(ConfigError::new(key, "stands there twice"));
            }
            if value.is_empty() {
                return Err(ConfigError::new(key, format!("needs a value: {name}=...")));
            }
            left.push((name.to_owned(), decode(&key, value)?));
        }
        Ok(Parameters { scheme, left })
    }

    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        debug_assert!(KNOWN.iter().any(|(known, schemes)| *known == name && schemes.contains(&self.scheme)), "{name} is in KNOWN");
        let at = self.left.iter().position(|(seen, _)| seen == name)?;
        Some(self.left.swap_remove(at).1)
    }

    pub(super) fn take_as<T: FromStr>(&mut self, name: &str, expected: &str) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        value.parse().map(Some).map_err(|_| ConfigError::new(format!("url.{name}"), format!("{value:?} is not {expected}")))
    }

    pub(super) fn take_endpoint(&mut self) -> Result<Option<String>, ConfigError> {
        let Some(value) = self.take("endpoint") else { return Ok(None) };
        let key = "url.endpoint";
        let Some(rest) = value.strip_prefix("https://").or_else(|| value.strip_prefix("http://")) else {
            return Err(ConfigError::new(key, "begins with https:// or http://, such as https://storage.example:9000"));
        };
        let host = rest.split('/').next().unwrap_or_default();
        if host.contains('@') {
            return Err(ConfigError::new(key, format!("has a user name before its host; {}", where_secrets_go(self.scheme))));
        }
        if host.is_empty() || host.starts_with(':') || rest.contains(['?', '#', ' ']) {
            return Err(ConfigError::new(key, "is scheme, host, port and path only, such as https://storage.example:9000"));
        }
        Ok(Some(value.trim_end_matches('/').to_owned()))
    }
}

/// Where credentials of this scheme belong.
pub(super) fn where_secrets_go(scheme: &str) -> &'static str {
    match scheme {
        "s3" => {
            "secrets go into the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or ~/.aws/credentials; better none at all: a role of the pod or instance"
        }
        "gs" => {
            "secrets go into a file that GOOGLE_APPLICATION_CREDENTIALS names; better none at all: the service account of the pod or instance"
        }
        "az" => {
            "secrets go into the environment (AZURE_STORAGE_ACCOUNT_KEY, AZURE_CLIENT_SECRET); better none at all: the identity of the pod or instance"
        }
        _ => "this scheme needs no secrets",
    }
}

fn check_name(scheme: &str, name: &str) -> Result<(), ConfigError> {
    let known = KNOWN.iter().find(|(known, _)| *known == name);
    if known.is_some_and(|(_, schemes)| schemes.contains(&scheme)) {
        return Ok(());
    }
    let plain = name.to_ascii_lowercase();
    if known.is_none() && plain.split(['_', '-', '.']).any(|word| SECRET_WORDS.contains(&word)) {
        return Err(ConfigError::new(format!("url.{name}"), format!("is not taken from a URL; {}", where_secrets_go(scheme))));
    }
    let takes: Vec<&str> = KNOWN.iter().filter(|(_, schemes)| schemes.contains(&scheme)).map(|(known, _)| *known).collect();
    let takes = match takes.is_empty() {
        true => format!("{scheme}:// takes none"),
        false => format!("{scheme}:// takes {}", takes.join(", ")),
    };
    let problem = match known {
        Some((_, schemes)) => format!("belongs to {}:// only; {takes}", schemes.join("://, ")),
        None => format!("is not a parameter; {takes}"),
    };
    Err(ConfigError::new(format!("url.{name}"), problem))
}

/// Undoes `%20` and the like; `+` stays what it is.
pub(super) fn decode(key: &str, text: &str) -> Result<String, ConfigError> {
    let error = || ConfigError::new(key, "has a % that is not followed by two hex digits of UTF-8");
    let is_escape = |rest: &str| rest.as_bytes().first_chunk::<2>().is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    if !text.split('%').skip(1).all(is_escape) {
        return Err(error());
    }
    percent_decode_str(text).decode_utf8().map(Cow::into_owned).map_err(|_| error())
}

/// The opposite of [`decode`] for a parameter's value or a path.
pub(super) fn encode(text: &str) -> String {
    const ESCAPED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/').remove(b':');
    utf8_percent_encode(text, &ESCAPED).to_string()
}
