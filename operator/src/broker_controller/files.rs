//! Certificates, keys and credentials: taken from the Secrets a user names, looked at, and kept in a Secret of the operator's.
//!
//! Promise: what is wrong is told, and what was right before stays in force, also for a pod that starts later. A Secret is read only when its version has
//! changed since it was taken.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use super::build::{credentials_file, file_key};
use super::issuing::NOT_ISSUED;
use super::validate::{About, Problem};
use crate::crd::{CertificateStatus, CredentialsType, Listener, MqttBroker, Tls};
use crate::names::{self, SOURCES, annotation, sha256};
use crate::pki::{self, Authority, CertificateError, Facts, Lives};

/// A certificate that ends sooner is told; one that lives for less than ten times that, in its last tenth: short ones are renewed by a program.
const EXPIRING: i64 = 7 * 24 * 3600;

/// What goes into the Secret, and what was found on the way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Files {
    /// By file name.
    pub data: BTreeMap<String, Vec<u8>>,
    /// Secret -> the version it was taken from.
    pub sources: BTreeMap<String, String>,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// Certificates by listener.
    pub certificates: BTreeMap<String, CertificateStatus>,
    /// The data of the CA's Secret, if a listener has a certificate of it.
    pub authority: Option<BTreeMap<String, Vec<u8>>>,
    /// When the first certificate of ours is due, in seconds since 1970.
    pub renewal_at: Option<i64>,
}

impl Files {
    /// Of all contents together.
    pub fn hash(&self) -> String {
        let parts: Vec<String> = self.data.iter().map(|(key, bytes)| format!("{key}={}", sha256(bytes))).collect();
        names::short_hash(parts.join("\n"))
    }

    /// What stands in the annotation.
    pub fn sources_text(&self) -> String {
        serde_json::to_string(&self.sources).expect("texts are JSON")
    }
}

/// One Secret that is named somewhere, as it is now.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// There is none of this name.
    Missing,
    /// It has not changed since it was taken.
    Unchanged {
        /// Its version.
        version: String,
    },
    /// It is new or has changed.
    Read {
        /// Its version.
        version: String,
        /// What it holds.
        data: BTreeMap<String, ByteString>,
    },
}

/// The Secrets a broker names.
pub fn referenced(broker: &MqttBroker) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for listener in &broker.spec.listeners {
        let Some(tls) = &listener.tls else { continue };
        names.extend(pair_secret(broker, listener, tls));
        names.extend(tls.client_ca_ref.as_ref().map(|reference| reference.name.clone()));
        names.extend(tls.crl_ref.as_ref().map(|reference| reference.name.clone()));
    }
    if let Some(bucket) = &broker.spec.persistence.bucket {
        names.extend(bucket.ca_ref.as_ref().map(|reference| reference.name.clone()));
        names.extend(bucket.credentials.secret_ref.as_ref().map(|reference| reference.name.clone()));
    }
    names
}

/// Where a listener's certificate comes from; `None`: the operator makes it.
fn pair_secret(broker: &MqttBroker, listener: &Listener, tls: &Tls) -> Option<String> {
    if let Some(reference) = &tls.secret_ref {
        return Some(reference.name.clone());
    }
    tls.cert_manager.as_ref().map(|_| names::issued(&broker.name_any(), &listener.name))
}

/// The versions of Secrets that the kept Secret was made of.
pub fn known_versions(kept: Option<&Secret>) -> BTreeMap<String, String> {
    kept.and_then(|kept| annotation(kept, SOURCES)).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// Names of a listener inside the cluster.
pub fn service_dns_names(broker: &MqttBroker, listener: &Listener) -> Vec<String> {
    let namespace = broker.namespace().unwrap_or_default();
    let domain = &broker.spec.cluster_domain;
    let service = names::listener(&broker.name_any(), &listener.name);
    let headless = names::headless(&broker.name_any());
    vec![
        format!("{service}.{namespace}.svc.{domain}"),
        format!("{service}.{namespace}.svc"),
        format!("{service}.{namespace}"),
        service,
        format!("{headless}.{namespace}.svc.{domain}"),
        format!("{headless}.{namespace}.svc"),
    ]
}

/// Takes everything together. `kept` and `authority`: the operator's own Secrets as they are; `waiting`: why a Secret may not be there, by its name.
pub fn gather(
    broker: &MqttBroker,
    sources: &BTreeMap<String, Source>,
    kept: Option<&Secret>,
    authority: Option<&Secret>,
    waiting: &BTreeMap<String, String>,
    lives: &Lives,
    now: i64,
) -> Files {
    let kept = kept.and_then(|kept| kept.data.as_ref()).map(plain).unwrap_or_default();
    let mut gather = Gather { broker, sources, kept, waiting, now, files: Files::default() };
    for listener in &broker.spec.listeners {
        if let Some(tls) = &listener.tls {
            gather.listener(listener, tls);
        }
    }
    gather.internal(authority, lives);
    gather.bucket();
    gather.files
}

fn plain(data: &BTreeMap<String, ByteString>) -> BTreeMap<String, Vec<u8>> {
    data.iter().map(|(key, bytes)| (key.clone(), bytes.0.clone())).collect()
}

struct Gather<'a> {
    broker: &'a MqttBroker,
    sources: &'a BTreeMap<String, Source>,
    kept: BTreeMap<String, Vec<u8>>,
    waiting: &'a BTreeMap<String, String>,
    now: i64,
    files: Files,
}

impl Gather<'_> {
    /// Takes files from a Secret. `take` says what they are, from its data; `keys`: what they are called here.
    fn take(
        &mut self,
        secret: &str,
        keys: &[&str],
        about: About,
        field: &str,
        take: impl Fn(&BTreeMap<String, ByteString>) -> Result<Vec<(String, Vec<u8>)>, (&'static str, String)>,
    ) {
        let source = self.sources.get(secret).unwrap_or(&Source::Missing);
        let problem = match source {
            Source::Missing => Some(match self.waiting.get(secret) {
                Some(why) => (NOT_ISSUED, format!("{field}: {why}")),
                None => ("SecretNotFound", format!("{field}: there is no Secret {secret} in this namespace")),
            }),
            Source::Unchanged { version } => {
                self.files.sources.insert(secret.to_owned(), version.clone());
                None
            }
            Source::Read { version, data } => match take(data) {
                Ok(files) => {
                    self.files.sources.insert(secret.to_owned(), version.clone());
                    self.files.data.extend(files);
                    return;
                }
                Err((reason, problem)) => Some((reason, format!("{field}: Secret {secret}: {problem}"))),
            },
        };
        let before: Vec<(String, Vec<u8>)> =
            keys.iter().filter_map(|key| Some(((*key).to_owned(), self.kept.get(*key)?.clone()))).collect();
        let has_all = before.len() == keys.len();
        self.files.data.extend(before);
        match problem {
            None if has_all => {}
            // Somebody took it out of our Secret; without the mark it is read again.
            None => {
                self.files.sources.remove(secret);
                self.files.problems.push(Problem::blocking(about, "SecretNotFound", format!("{field}: Secret {secret} is read again")));
            }
            Some((reason, problem)) => {
                let message = if has_all { format!("{problem}; what was there before stays in force") } else { problem };
                self.files.problems.push(Problem { about, reason, message, is_blocking: !has_all });
            }
        }
    }

    fn listener(&mut self, listener: &Listener, tls: &Tls) {
        let name = &listener.name;
        let (crt, key) = (file_key(name, "crt"), file_key(name, "key"));
        let now = self.now;
        if let Some(secret) = pair_secret(self.broker, listener, tls) {
            let field = format!("listener {name}, tls");
            self.take(&secret, &[&crt, &key], About::Certificates, &field, |data| {
                let bytes = |key: &'static str| data.get(key).map(|bytes| bytes.0.as_slice());
                let chain = bytes("tls.crt").ok_or(("KeyNotFound", "the key tls.crt is missing".to_owned()))?;
                let private = bytes("tls.key").ok_or(("KeyNotFound", "the key tls.key is missing".to_owned()))?;
                pki::check_pair(chain, private, now).map_err(|error| (reason_of(&error), error.to_string()))?;
                Ok(vec![(crt.clone(), chain.to_vec()), (key.clone(), private.to_vec())])
            });
            self.certificate(name, &crt);
        }
        let mut bundle = |secret: &str, from: &'static str, to: String, check: fn(&[u8]) -> Result<(), CertificateError>, field: String| {
            self.take(secret, &[&to], About::Certificates, &field, |data| {
                let pem = data.get(from).ok_or_else(|| ("KeyNotFound", format!("the key {from} is missing")))?;
                check(&pem.0).map_err(|error| (reason_of(&error), error.to_string()))?;
                Ok(vec![(to.clone(), pem.0.clone())])
            });
        };
        if let Some(reference) = &tls.client_ca_ref {
            let to = file_key(name, "client-ca.crt");
            bundle(&reference.name, "ca.crt", to, pki::check_bundle, format!("listener {name}, tls.clientCaRef"));
        }
        if let Some(reference) = &tls.crl_ref {
            bundle(&reference.name, "ca.crl", file_key(name, "crl.pem"), pki::check_lists, format!("listener {name}, tls.crlRef"));
        }
    }

    /// Tells what a listener presents.
    fn certificate(&mut self, listener: &str, key: &str) {
        let Some(Facts { not_before, not_after, fingerprint }) =
            self.files.data.get(key).and_then(|chain| pki::facts(chain, "tls.crt").ok())
        else {
            return;
        };
        let status = CertificateStatus { not_after: pki::rfc_3339(not_after), fingerprint };
        if not_after - EXPIRING.min((not_after - not_before) / 10) <= self.now {
            let message = format!("listener {listener}: the certificate ends at {}", status.not_after);
            self.files.problems.push(Problem { about: About::Certificates, reason: "Expiring", message, is_blocking: false });
        }
        self.files.certificates.insert(listener.to_owned(), status);
    }

    /// Certificates of the broker's own CA.
    fn internal(&mut self, authority: Option<&Secret>, lives: &Lives) {
        let broker = self.broker;
        let wanted = broker.spec.listeners.iter().filter_map(|listener| Some((listener, listener.tls.as_ref()?.internal.as_ref()?)));
        let wanted: Vec<_> = wanted.collect();
        if wanted.is_empty() {
            return;
        }
        let known = authority.and_then(|secret| secret.data.as_ref()).map(plain);
        if let Err(error) = self.issue(&wanted, known.as_ref(), lives) {
            let message = format!("the operator could not make a certificate: {error}");
            self.files.problems.push(Problem::blocking(About::Certificates, NOT_ISSUED, message));
        }
    }

    fn issue(
        &mut self,
        wanted: &[(&Listener, &crate::crd::InternalCertificate)],
        known: Option<&BTreeMap<String, Vec<u8>>>,
        lives: &Lives,
    ) -> Result<(), rcgen::Error> {
        let name = format!("{}.{}", self.broker.name_any(), self.broker.namespace().unwrap_or_default());
        let authority = Authority::get_or_make(known, &name, self.now)?;
        for (listener, internal) in wanted {
            let mut dns_names = service_dns_names(self.broker, listener);
            dns_names.extend(internal.dns_names.iter().cloned());
            let (crt, key) = (file_key(&listener.name, "crt"), file_key(&listener.name, "key"));
            let good = match (self.kept.get(&crt), self.kept.get(&key)) {
                (Some(chain), Some(private)) if authority.is_good(chain, private, &dns_names, lives, self.now) => {
                    Some((chain.clone(), private.clone()))
                }
                _ => None,
            };
            let (chain, private) = match good {
                Some(pair) => pair,
                None => {
                    let (chain, private) = authority.issue(&dns_names, lives.certificate, self.now)?;
                    (chain.into_bytes(), private.into_bytes())
                }
            };
            if let Ok(facts) = pki::facts(&chain, "tls.crt") {
                let due = lives.renewed_at(facts.not_after);
                self.files.renewal_at = Some(self.files.renewal_at.map_or(due, |other| other.min(due)));
                let status = CertificateStatus { not_after: pki::rfc_3339(facts.not_after), fingerprint: facts.fingerprint };
                self.files.certificates.insert(listener.name.clone(), status);
            }
            self.files.data.insert(crt, chain);
            self.files.data.insert(key, private);
        }
        self.files.authority = Some(authority.data);
        Ok(())
    }

    fn bucket(&mut self) {
        let Some(bucket) = &self.broker.spec.persistence.bucket else { return };
        if let Some(reference) = &bucket.ca_ref {
            self.take(&reference.name, &["bucket-ca.crt"], About::Bucket, "persistence.bucket.caRef", |data| {
                let pem = data.get("ca.crt").ok_or(("KeyNotFound", "the key ca.crt is missing".to_owned()))?;
                pki::check_bundle(&pem.0).map_err(|error| (reason_of(&error), error.to_string()))?;
                Ok(vec![("bucket-ca.crt".to_owned(), pem.0.clone())])
            });
        }
        if let (CredentialsType::SecretRef, Some(reference)) = (bucket.credentials.type_, &bucket.credentials.secret_ref) {
            let provider = bucket.provider;
            self.take(&reference.name, &["bucket-credentials"], About::Bucket, "persistence.bucket.credentials", |data| {
                let (key, file) = credentials_file(provider, data)
                    .map_err(|key| ("KeyNotFound", format!("the key {key} is missing, empty or no text")))?;
                Ok(vec![(key.to_owned(), file)])
            });
        }
    }
}

fn reason_of(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::Mismatch(_) => "KeyMismatch",
        CertificateError::Ended(_) => "Expired",
        CertificateError::NoCertificate(_) | CertificateError::NoKey(_) | CertificateError::NoList(_) => "InvalidPem",
    }
}

#[cfg(test)]
mod tests;
