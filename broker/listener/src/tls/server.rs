//! One listener's TLS: its files, what was made of them, and their renewal. New handshakes use what is in force; live connections keep what they have.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use parking_lot::Mutex;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs as provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ServerSessionMemoryCache, VerifierBuilderError, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, version};

use super::identity::{self, CertificateInfo};
use super::resolver::Resolver;
use crate::config::{Certificate, ClientAuth, Config, ConfigError, IdentityField, Tls, TlsVersion};

/// TLS 1.2 sessions that can be taken up by their id: for old Clients without tickets. At about 1 KiB each they stay below 256 KiB a listener.
/// Everybody else carries the session in a ticket, which costs us nothing.
const SESSION_CACHE: usize = 256;

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(provider::default_provider()));

/// Why a listener's TLS files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} {problem}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A certificate and a key that do not belong together.
    #[error("{} is not the key of {}", key.display(), cert.display())]
    KeyMismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// What rustls refuses.
    #[error("TLS: {0}")]
    Rustls(#[from] rustls::Error),
}

/// A file that cannot be used, and the key that names it.
struct Fault {
    key: String,
    error: TlsError,
}

/// Reads and parses the TLS files of `config` as its listener would do it, and tells all that is wrong with them: each with its key. Blocks.
pub fn check_tls_files(config: &Config) -> Vec<ConfigError> {
    let Some(settings) = &config.tls else { return Vec::new() };
    let faults = load(&config.name(), settings, config.client_auth()).err().unwrap_or_default();
    faults.into_iter().map(|Fault { key, error }| ConfigError::new(key, error.to_string())).collect()
}

/// One listener's TLS.
#[derive(Debug)]
pub(crate) struct TlsServer {
    listener: String,
    settings: Tls,
    client_auth: ClientAuth,
    current: ArcSwap<Loaded>,
    watched: Mutex<Watched>,
}

/// What was made of the files.
#[derive(Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    certificates: Vec<CertificateInfo>,
    hash: [u8; 32],
}

impl Loaded {
    /// A certificate that is too old or too young is served all the same: Clients that do not check go on, the others say why.
    fn warn_of_invalid(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs() as i64);
        for info in self.certificates.iter().filter(|info| !(info.not_before..=info.not_after).contains(&now)) {
            let (listener, cert) = (&info.listener, info.cert.display());
            tracing::warn!(listener, %cert, subject = info.subject, not_after = info.not_after, "the certificate is not valid today");
        }
    }
}

/// What tells without reading that a file changed: times, size and identity. It is of what a symlink points to, so that a swapped link shows.
type Stamp = Option<(u64, u64, u64, i64, i64, i64, i64)>;

#[derive(Debug, Default)]
struct Watched {
    stamps: Vec<Stamp>,
    failure: Option<String>,
}

impl TlsServer {
    /// Reads the files. Blocks; the files are small and local.
    pub(crate) fn load(listener: &str, config: &Config) -> Result<TlsServer, TlsError> {
        let settings = config.tls.clone().unwrap_or_default();
        let client_auth = config.client_auth();
        // Before reading: what changes meanwhile is then seen at the next look.
        let stamps = stamps(&settings);
        let loaded = load(listener, &settings, client_auth).map_err(first)?;
        loaded.warn_of_invalid();
        Ok(TlsServer {
            listener: listener.to_owned(),
            settings,
            client_auth,
            current: ArcSwap::from_pointee(loaded),
            watched: Mutex::new(Watched { stamps, failure: None }),
        })
    }

    /// Whether `config` asks for what this one is.
    pub(crate) fn is_for(&self, config: &Config) -> bool {
        config.tls.as_ref() == Some(&self.settings)
    }

    /// Reads the files again if they seem changed, or in any case with `force`. On an error what is in force stays.
    pub(crate) fn refresh(&self, force: bool) {
        let stamps = stamps(&self.settings);
        let mut watched = self.watched.lock();
        // After a failure every look reads again: a permission may have been repaired.
        if !force && watched.failure.is_none() && watched.stamps == stamps {
            return;
        }
        watched.stamps = stamps;
        match load(&self.listener, &self.settings, self.client_auth).map_err(first) {
            Ok(loaded) => {
                if watched.failure.take().is_some() || loaded.hash != self.current.load().hash {
                    tracing::info!(listener = self.listener, "TLS files reloaded");
                }
                if loaded.hash != self.current.load().hash {
                    loaded.warn_of_invalid();
                    self.current.store(Arc::new(loaded));
                }
            }
            Err(error) => {
                let failure = error.to_string();
                if watched.failure.as_ref() != Some(&failure) {
                    tracing::error!(listener = self.listener, error = failure, "TLS files cannot be reloaded, the old ones stay in force");
                }
                watched.failure = Some(failure);
            }
        }
    }

    /// Why the files as they are now are not in force.
    pub(crate) fn failure(&self) -> Option<String> {
        self.watched.lock().failure.clone()
    }

    /// For the next handshake.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.current.load().config.clone()
    }

    pub(crate) fn certificates(&self) -> Vec<CertificateInfo> {
        self.current.load().certificates.clone()
    }

    pub(crate) fn identity_field(&self) -> IdentityField {
        self.settings.identity
    }
}

fn files(settings: &Tls) -> impl Iterator<Item = &Path> {
    let pairs = settings.certificates.iter().flat_map(|Certificate { cert, key }| [cert, key]);
    pairs.chain(&settings.client_ca).chain(&settings.crl).map(PathBuf::as_path)
}

fn stamps(settings: &Tls) -> Vec<Stamp> {
    let stamp = |path| {
        let m = fs::metadata(path).ok()?;
        Some((m.dev(), m.ino(), m.size(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()))
    };
    files(settings).map(stamp).collect()
}

/// Reads files and hashes all that was read, in order.
struct Reader {
    hash: digest::Context,
}

impl Reader {
    fn read(&mut self, path: &Path) -> Result<Vec<u8>, TlsError> {
        let error = |source| TlsError::Read { path: path.to_owned(), source };
        // A device or a pipe would be read without an end, or once and never again.
        if !fs::metadata(path).map_err(error)?.is_file() {
            return Err(error(io::Error::other("it is not a file")));
        }
        let bytes = fs::read(path).map_err(error)?;
        self.hash.update(&(bytes.len() as u64).to_be_bytes());
        self.hash.update(&bytes);
        Ok(bytes)
    }
}

/// One thing at a time is enough for a listener that has to go on: the next look tells the next.
fn first(faults: Vec<Fault>) -> TlsError {
    faults.into_iter().next().expect("what failed has a reason").error
}

fn load(listener: &str, settings: &Tls, client_auth: ClientAuth) -> Result<Loaded, Vec<Fault>> {
    let mut reader = Reader { hash: digest::Context::new(&digest::SHA256) };
    let mut faults = Vec::new();
    let (mut keys, mut certificates) = (Vec::new(), Vec::new());
    for (number, pair) in settings.certificates.iter().enumerate() {
        match load_pair(listener, pair, &mut reader) {
            Ok((key, info)) => {
                keys.push((Arc::new(key), info.sans.clone()));
                certificates.push(info);
            }
            Err(wrong) => {
                faults.extend(wrong.into_iter().map(|(key, error)| Fault { key: format!("tls.certificates[{number}].{key}"), error }));
            }
        }
    }
    let verifier = match (&settings.client_ca, client_auth) {
        (None, _) | (_, ClientAuth::None) => None,
        (Some(ca), _) => load_verifier(ca, settings.crl.as_deref(), client_auth, &mut reader).map(Some).unwrap_or_else(|wrong| {
            faults.extend(wrong.into_iter().map(|(key, error)| Fault { key: format!("tls.{key}"), error }));
            None
        }),
    };
    if !faults.is_empty() {
        return Err(faults);
    }
    let config = server_config(settings.min_version, verifier, keys)
        .map_err(|error| vec![Fault { key: "tls".to_owned(), error: TlsError::Rustls(error) }])?;
    let mut hash = [0; 32];
    hash.copy_from_slice(reader.hash.finish().as_ref());
    Ok(Loaded { config: Arc::new(config), certificates, hash })
}

fn server_config(
    min_version: TlsVersion,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    keys: Vec<(Arc<CertifiedKey>, Vec<String>)>,
) -> Result<ServerConfig, rustls::Error> {
    let versions: &[&SupportedProtocolVersion] = match min_version {
        TlsVersion::Tls12 => &[&version::TLS12, &version::TLS13],
        TlsVersion::Tls13 => &[&version::TLS13],
    };
    let builder = ServerConfig::builder_with_provider(PROVIDER.clone()).with_protocol_versions(versions)?;
    let builder = match verifier {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    let mut config = builder.with_cert_resolver(Arc::new(Resolver::new(keys)));
    config.session_storage = ServerSessionMemoryCache::new(SESSION_CACHE);
    // New tickets with every reload: who was verified against an old CA or revocation list is verified again.
    config.ticketer = provider::Ticketer::new()?;
    // One is what a Client uses for its next connection.
    config.send_tls13_tickets = 1;
    Ok(config)
}

/// What is wrong, by the last part of the key that names the file.
type Wrong = Vec<(&'static str, TlsError)>;

fn content(path: &Path, problem: impl Into<String>) -> TlsError {
    TlsError::Content { path: path.to_owned(), problem: problem.into() }
}

fn load_pair(listener: &str, pair: &Certificate, reader: &mut Reader) -> Result<(CertifiedKey, CertificateInfo), Wrong> {
    let (chain, key) = match (load_chain(&pair.cert, reader), load_key(&pair.key, reader)) {
        (Ok(chain), Ok(key)) => (chain, key),
        (chain, key) => {
            let wrong = [chain.err().map(|error| ("cert", error)), key.err().map(|error| ("key", error))];
            return Err(wrong.into_iter().flatten().collect());
        }
    };
    let parsed = identity::parse(&chain[0]).expect("every certificate of the chain was parsed");
    let info = CertificateInfo {
        listener: listener.to_owned(),
        cert: pair.cert.clone(),
        key: pair.key.clone(),
        subject: parsed.subject().to_string(),
        sans: identity::alternative_names(&parsed),
        fingerprint: identity::fingerprint(&chain[0]),
        not_before: parsed.validity().not_before.timestamp(),
        not_after: parsed.validity().not_after.timestamp(),
    };
    let key = CertifiedKey::from_der(chain, key, &PROVIDER).map_err(|error| {
        let error = match error {
            rustls::Error::InconsistentKeys(_) => TlsError::KeyMismatch { cert: pair.cert.clone(), key: pair.key.clone() },
            other => content(&pair.key, format!("holds a key that cannot be used: {other}")),
        };
        vec![("key", error)]
    })?;
    Ok((key, info))
}

/// A certificate and those that vouch for it. Clients would stumble over one that is none, so each is looked at.
fn load_chain(path: &Path, reader: &mut Reader) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain = load_certificates(path, reader)?;
    match chain.iter().position(|certificate| identity::parse(certificate).is_none()) {
        None => Ok(chain),
        Some(0) => Err(content(path, "does not begin with an X.509 certificate")),
        Some(place) => Err(content(path, format!("holds something else than an X.509 certificate at place {}", place + 1))),
    }
}

fn load_key(path: &Path, reader: &mut Reader) -> Result<PrivateKeyDer<'static>, TlsError> {
    let key = PrivateKeyDer::from_pem_slice(&reader.read(path)?);
    key.map_err(|error| content(path, format!("holds no private key in PEM that is not encrypted: {error}")))
}

fn load_certificates(path: &Path, reader: &mut Reader) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = reader.read(path)?;
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(&bytes).collect::<Result<_, _>>().map_err(|error| content(path, format!("is not PEM: {error}")))?;
    if chain.is_empty() { Err(content(path, "holds no certificate in PEM")) } else { Ok(chain) }
}

fn load_verifier(
    ca: &Path,
    crl: Option<&Path>,
    client_auth: ClientAuth,
    reader: &mut Reader,
) -> Result<Arc<dyn ClientCertVerifier>, Wrong> {
    let lists = crl.map(|crl| load_lists(crl, reader));
    let (roots, lists) = match (load_roots(ca, reader), lists.transpose()) {
        (Ok(roots), Ok(lists)) => (roots, lists),
        (roots, lists) => {
            let wrong = [roots.err().map(|error| ("client_ca", error)), lists.err().map(|error| ("crl", error))];
            return Err(wrong.into_iter().flatten().collect());
        }
    };
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), PROVIDER.clone());
    let verifier = match lists {
        Some(lists) => verifier.with_crls(lists),
        None => verifier,
    };
    let verifier = if client_auth == ClientAuth::Optional { verifier.allow_unauthenticated() } else { verifier };
    verifier.build().map_err(|error| match (error, crl) {
        (VerifierBuilderError::InvalidCrl(error), Some(crl)) => {
            vec![("crl", content(crl, format!("holds a revocation list that cannot be used: {error:?}")))]
        }
        (error, _) => vec![("client_ca", content(ca, format!("is no base for verifying Clients: {error}")))],
    })
}

fn load_roots(path: &Path, reader: &mut Reader) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in load_certificates(path, reader)? {
        roots.add(certificate).map_err(|error| content(path, format!("holds a certificate that cannot be a CA: {error}")))?;
    }
    Ok(roots)
}

fn load_lists(path: &Path, reader: &mut Reader) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let bytes = reader.read(path)?;
    let lists: Vec<_> = CertificateRevocationListDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| content(path, format!("is not PEM: {error}")))?;
    if lists.is_empty() { Err(content(path, "holds no revocation list in PEM")) } else { Ok(lists) }
}
