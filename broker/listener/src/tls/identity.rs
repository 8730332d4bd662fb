//! What an X.509 certificate says: the identity of a Client, and the facts that an administrator wants to see of ours.

use std::fmt::Write;
use std::path::PathBuf;

use aws_lc_rs::digest;
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::config::IdentityField;

/// A certificate in force on a listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CertificateInfo {
    /// The listener's name.
    pub listener: String,
    /// The file of the chain.
    pub cert: PathBuf,
    /// The file of the key.
    pub key: PathBuf,
    /// Such as `CN=broker.example`.
    pub subject: String,
    /// The names and addresses it is for.
    pub sans: Vec<String>,
    /// SHA-256 of the certificate, 64 lower-case hex digits.
    pub fingerprint: String,
    /// From when it is valid, in seconds since 1970.
    pub not_before: i64,
    /// Until when it is valid, in seconds since 1970.
    pub not_after: i64,
}

pub(super) fn parse<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    Some(X509Certificate::from_der(der).ok()?.1)
}

/// The identity that `field` names, and the subject. Each is None when the certificate has none that is fit for a name.
pub(crate) fn of_client(der: &CertificateDer<'_>, field: IdentityField) -> (Option<Box<str>>, Option<Box<str>>) {
    let Some(certificate) = parse(der) else {
        return (None, None);
    };
    let alternative = |pick: fn(&GeneralName<'_>) -> Option<String>| {
        let names = certificate.subject_alternative_name().ok().flatten();
        names.and_then(|names| names.value.general_names.iter().find_map(pick))
    };
    let identity = match field {
        IdentityField::CommonName => {
            let name = certificate.subject().iter_common_name().next();
            name.and_then(|name| name.as_str().ok()).map(str::to_owned)
        }
        IdentityField::SanDns => alternative(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        }),
        IdentityField::SanUri => alternative(|name| match name {
            GeneralName::URI(name) => Some((*name).to_owned()),
            _ => None,
        }),
        IdentityField::SanEmail => alternative(|name| match name {
            GeneralName::RFC822Name(name) => Some((*name).to_owned()),
            _ => None,
        }),
        IdentityField::Fingerprint => Some(fingerprint(der)),
    };
    // A NUL or a line break inside of a name is there to deceive whoever reads it.
    let fit = |name: &String| !name.is_empty() && !name.contains(char::is_control);
    (identity.filter(fit).map(String::into_boxed_str), Some(certificate.subject().to_string().into_boxed_str()))
}

/// SHA-256 in lower-case hex.
pub(super) fn fingerprint(der: &[u8]) -> String {
    digest::digest(&digest::SHA256, der).as_ref().iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The DNS names and addresses of a certificate, as text.
pub(super) fn alternative_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) | GeneralName::RFC822Name(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match **bytes {
            [a, b, c, d] => Some(std::net::Ipv4Addr::new(a, b, c, d).to_string()),
            _ => Some(std::net::Ipv6Addr::from_octets((*bytes).try_into().ok()?).to_string()),
        },
        _ => None,
    };
    names.value.general_names.iter().filter_map(text).collect()
}
