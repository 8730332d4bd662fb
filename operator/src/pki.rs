//! Certificates: those a user brings are looked at, those of the broker's own CA are made.

use std::collections::BTreeMap;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    SanType,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::names::sha256;

/// The CA of a broker; a new one comes when a third of that is left, and the old one is trusted until it ends.
const AUTHORITY_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Clocks of Clients may be that wrong.
const BACKDATED: Duration = Duration::from_secs(3600);

/// Why a certificate cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// No PEM, or none of the right kind.
    #[error("{0} holds no certificate in PEM")]
    NoCertificate(&'static str),
    /// No key.
    #[error("{0} holds no private key in PEM (PKCS #8, PKCS #1 or SEC1, not encrypted)")]
    NoKey(&'static str),
    /// No list.
    #[error("{0} holds no revocation list in PEM")]
    NoList(&'static str),
    /// It cannot be parsed, or the key is of another certificate.
    #[error("the certificate and the key cannot be used together: {0}")]
    Mismatch(String),
    /// It has ended.
    #[error("the certificate ended at {0}")]
    Ended(String),
}

/// What is told of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// When it begins, in seconds since 1970.
    pub not_before: i64,
    /// When it ends, in seconds since 1970.
    pub not_after: i64,
    /// SHA-256 in hexadecimal.
    pub fingerprint: String,
}

/// Looks at a chain.
pub fn facts(chain: &[u8], what: &'static str) -> Result<Facts, CertificateError> {
    let first = CertificateDer::pem_slice_iter(chain).next().and_then(Result::ok).ok_or(CertificateError::NoCertificate(what))?;
    let (_, parsed) = X509Certificate::from_der(&first).map_err(|error| CertificateError::Mismatch(error.to_string()))?;
    let validity = parsed.validity();
    Ok(Facts { not_before: validity.not_before.timestamp(), not_after: validity.not_after.timestamp(), fingerprint: sha256(&first) })
}

/// Checks that a chain and a key are a pair that a server can present at `now`.
pub fn check_pair(chain: &[u8], key: &[u8], now: i64) -> Result<Facts, CertificateError> {
    let facts = facts(chain, "tls.crt")?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(chain).filter_map(Result::ok).collect();
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| CertificateError::NoKey("tls.key"))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let signer = provider.key_provider.load_private_key(key).map_err(|error| CertificateError::Mismatch(error.to_string()))?;
    rustls::sign::CertifiedKey::new(certificates, signer).keys_match().map_err(|error| CertificateError::Mismatch(error.to_string()))?;
    if facts.not_after <= now {
        return Err(CertificateError::Ended(rfc_3339(facts.not_after)));
    }
    Ok(facts)
}

/// Checks a bundle of CAs.
pub fn check_bundle(pem: &[u8]) -> Result<(), CertificateError> {
    facts(pem, "ca.crt").map(|_| ())
}

/// Checks revocation lists.
pub fn check_lists(pem: &[u8]) -> Result<(), CertificateError> {
    let list = CertificateRevocationListDer::pem_slice_iter(pem).next();
    list.and_then(Result::ok).map(|_| ()).ok_or(CertificateError::NoList("ca.crl"))
}

/// RFC 3339 of seconds since 1970.
pub fn rfc_3339(seconds: i64) -> String {
    k8s_openapi::jiff::Timestamp::from_second(seconds).map(|time| time.to_string()).unwrap_or_default()
}

/// How long what the operator makes is valid.
#[derive(Clone, Copy, Debug)]
pub struct Lives {
    /// A listener's certificate; renewed when a third of it is left.
    pub certificate: Duration,
}

impl Default for Lives {
    fn default() -> Self {
        Self { certificate: Duration::from_secs(90 * 24 * 3600) }
    }
}

impl Lives {
    /// When what ends at `not_after` is renewed.
    pub fn renewed_at(&self, not_after: i64) -> i64 {
        not_after - i64::try_from(self.certificate.as_secs() / 3).unwrap_or(i64::MAX)
    }
}

/// A CA of one broker: keys `ca.crt` (the CA, and the one before while it is valid) and `ca.key`.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// What Clients trust.
    pub bundle: String,
    /// The data of its Secret.
    pub data: BTreeMap<String, Vec<u8>>,
}

impl Authority {
    /// The CA of `data`, or a new one when there is none or it ends soon.
    pub fn get_or_make(data: Option<&BTreeMap<String, Vec<u8>>>, broker: &str, now: i64) -> Result<Self, rcgen::Error> {
        let before = data.and_then(|data| Self::read(data).ok());
        let third = i64::try_from(AUTHORITY_LIFE.as_secs() / 3).unwrap_or(i64::MAX);
        match before {
            Some((authority, not_after)) if not_after - third > now => Ok(authority),
            before => Self::make(broker, now, before.filter(|(_, not_after)| *not_after > now).map(|(before, _)| before.bundle)),
        }
    }

    fn read(data: &BTreeMap<String, Vec<u8>>) -> Result<(Self, i64), rcgen::Error> {
        let text =
            |key: &str| data.get(key).and_then(|bytes| std::str::from_utf8(bytes).ok()).ok_or(rcgen::Error::CouldNotParseCertificate);
        let (bundle, key) = (text("ca.crt")?, text("ca.key")?);
        let not_after = facts(bundle.as_bytes(), "ca.crt").map_err(|_| rcgen::Error::CouldNotParseCertificate)?.not_after;
        let issuer = Issuer::from_ca_cert_pem(bundle, KeyPair::from_pem(key)?)?;
        Ok((Self { issuer, bundle: bundle.to_owned(), data: data.clone() }, not_after))
    }

    fn make(broker: &str, now: i64, before: Option<String>) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut parameters = CertificateParams::new(Vec::<String>::new())?;
        parameters.distinguished_name.push(DnType::CommonName, format!("{broker} CA"));
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_life(&mut parameters, now, AUTHORITY_LIFE);
        let certificate = parameters.self_signed(&key)?;
        // The one before stays behind the new one, so that Clients who trust the bundle know both.
        let before = before.as_deref().and_then(first_certificate).unwrap_or_default();
        let bundle = format!("{}{before}", certificate.pem());
        let data = [("ca.crt".to_owned(), bundle.clone().into_bytes()), ("ca.key".to_owned(), key.serialize_pem().into_bytes())].into();
        Ok(Self { issuer: Issuer::new(parameters, key), bundle, data })
    }

    /// A certificate for a server of these names, and its key.
    pub fn issue(&self, dns_names: &[String], life: Duration, now: i64) -> Result<(String, String), rcgen::Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut parameters = CertificateParams::new(Vec::<String>::new())?;
        for name in dns_names {
            let san = match name.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.as_str().try_into()?),
            };
            parameters.subject_alt_names.push(san);
        }
        parameters
            .distinguished_name
            .push(DnType::CommonName, dns_names.first().map_or("broker", |name| name.as_str()).chars().take(64).collect::<String>());
        parameters.is_ca = IsCa::ExplicitNoCa;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        parameters.use_authority_key_identifier_extension = true;
        set_life(&mut parameters, now, life);
        let certificate = parameters.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// Whether a chain and key are of this CA, for these names, and not due.
    pub fn is_good(&self, chain: &[u8], key: &[u8], dns_names: &[String], lives: &Lives, now: i64) -> bool {
        let Ok(facts) = check_pair(chain, key, now) else { return false };
        if lives.renewed_at(facts.not_after) <= now {
            return false;
        }
        let Some(Ok(first)) = CertificateDer::pem_slice_iter(chain).next() else { return false };
        let Some(Ok(authority)) = CertificateDer::pem_slice_iter(self.bundle.as_bytes()).next() else { return false };
        let (Ok((_, parsed)), Ok((_, authority))) = (X509Certificate::from_der(&first), X509Certificate::from_der(&authority)) else {
            return false;
        };
        parsed.verify_signature(Some(authority.public_key())).is_ok() && names_of(&parsed) == *dns_names
    }
}

fn set_life(parameters: &mut CertificateParams, now: i64, life: Duration) {
    let at = |seconds: i64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    parameters.not_before = at(now - i64::try_from(BACKDATED.as_secs()).unwrap_or(0));
    parameters.not_after = at(now + i64::try_from(life.as_secs()).unwrap_or(0));
}

fn first_certificate(bundle: &str) -> Option<String> {
    let end = "-----END CERTIFICATE-----\n";
    bundle.find(end).map(|at| bundle[..at + end.len()].to_owned())
}

fn names_of(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|bytes| std::net::Ipv4Addr::from(bytes).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|bytes| std::net::Ipv6Addr::from(bytes).to_string()),
        },
        _ => None,
    };
    names.value.general_names.iter().filter_map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_500_000;

    fn names() -> Vec<String> {
        vec!["a.example".to_owned(), "10.0.0.1".to_owned()]
    }

    #[test]
    fn a_certificate_is_kept_until_a_third_of_its_life_is_left() {
        let authority = Authority::get_or_make(None, "b", NOW).unwrap();
        let lives = Lives::default();
        let (chain, key) = authority.issue(&names(), lives.certificate, NOW).unwrap();
        let good = |now, names: &[String]| authority.is_good(chain.as_bytes(), key.as_bytes(), names, &lives, now);
        assert!(good(NOW + 59 * 86_400, &names()));
        assert!(!good(NOW + 61 * 86_400, &names()));
        assert!(!good(NOW, &["b.example".to_owned()]), "another name");
    }

    #[test]
    fn the_next_ca_brings_the_one_before_along() {
        let first = Authority::get_or_make(None, "b", NOW).unwrap();
        let again = Authority::get_or_make(Some(&first.data), "b", NOW + 86_400).unwrap();
        assert_eq!(first.data, again.data);
        let later = NOW + 7 * 365 * 86_400;
        let second = Authority::get_or_make(Some(&first.data), "b", later).unwrap();
        assert_ne!(first.data["ca.key"], second.data["ca.key"]);
        assert!(second.bundle.ends_with(&first.bundle));
        let (chain, key) = first.issue(&names(), Lives::default().certificate, later).unwrap();
        assert!(!second.is_good(chain.as_bytes(), key.as_bytes(), &names(), &Lives::default(), later), "of the CA before");
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let authority = Authority::get_or_make(None, "b", NOW).unwrap();
        let (chain, key) = authority.issue(&names(), Lives::default().certificate, NOW).unwrap();
        let (_, other) = authority.issue(&names(), Lives::default().certificate, NOW).unwrap();
        assert!(check_pair(chain.as_bytes(), key.as_bytes(), NOW).is_ok());
        assert!(matches!(check_pair(chain.as_bytes(), other.as_bytes(), NOW), Err(CertificateError::Mismatch(_))));
        assert!(matches!(check_pair(chain.as_bytes(), key.as_bytes(), NOW + 91 * 86_400), Err(CertificateError::Ended(_))));
        assert_eq!(check_pair(b"", key.as_bytes(), NOW), Err(CertificateError::NoCertificate("tls.crt")));
        assert_eq!(check_pair(chain.as_bytes(), b"nothing", NOW), Err(CertificateError::NoKey("tls.key")));
    }
}
