//! TLS as a Client: whom to trust, what to show.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion};

use super::error::ClientError;

/// Where distributions keep the CAs of the system, in one file.
const SYSTEM_CAS: [&str; 4] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"];

/// The TLS options of both commands.
#[derive(Debug, Clone, clap::Args)]
pub struct TlsOptions {
    /// Use TLS and trust the CAs in this PEM file
    #[arg(long, value_name = "FILE")]
    cafile: Option<PathBuf>,
    /// Use TLS and trust the CAs in the PEM files of this directory
    #[arg(long, value_name = "DIR")]
    capath: Option<PathBuf>,
    /// Use TLS and trust the CAs of the system, which is the default where TLS is used without --cafile and --capath
    #[arg(long)]
    tls_use_os_certs: bool,
    /// Show this certificate chain (PEM)
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Private key of --cert (PEM, not encrypted)
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Ask for this protocol (ALPN)
    #[arg(long, value_name = "PROTOCOL")]
    tls_alpn: Option<String>,
    /// Speak this version only: tlsv1.2 or tlsv1.3
    #[arg(long, value_name = "VERSION", value_parser = ["tlsv1.2", "tlsv1.3"])]
    tls_version: Option<String>,
    /// Cipher suites to offer, by the names of OpenSSL or IANA, with colons in between
    #[arg(long, value_name = "NAMES")]
    ciphers: Option<String>,
    /// Do not check that the certificate is for this host: anybody with a certificate of the CA could be the server
    #[arg(long)]
    insecure: bool,
}

impl TlsOptions {
    /// True where one of them asks for TLS.
    pub fn is_given(&self) -> bool {
        self.cafile.is_some() || self.capath.is_some() || self.tls_use_os_certs || self.cert.is_some()
    }

    /// What rustls makes of them.
    pub fn config(&self) -> Result<Arc<ClientConfig>, ClientError> {
        let provider = Arc::new(self.provider()?);
        let versions: &[&SupportedProtocolVersion] = match self.tls_version.as_deref() {
            Some("tlsv1.2") => &[&rustls::version::TLS12],
            Some(_) => &[&rustls::version::TLS13],
            None => rustls::ALL_VERSIONS,
        };
        let roots = Arc::new(self.roots()?);
        let builder = ClientConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions).map_err(tls)?;
        let builder = if self.insecure {
            let inner = WebPkiServerVerifier::builder_with_provider(roots, provider).build().map_err(tls)?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyName(inner)))
        } else {
            builder.with_root_certificates(roots)
        };
        let mut config = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                let key_der = PrivateKeyDer::from_pem_file(key).map_err(|error| in_file(key, error))?;
                builder.with_client_auth_cert(certificates(cert)?, key_der).map_err(tls)?
            }
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.tls_alpn.iter().map(|protocol| protocol.clone().into_bytes()).collect();
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore, ClientError> {
        let mut files: Vec<PathBuf> = self.cafile.iter().cloned().collect();
        if let Some(directory) = &self.capath {
            let entries = std::fs::read_dir(directory).map_err(ClientError::file(directory))?;
            files.extend(entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.is_file()));
        }
        if self.tls_use_os_certs || files.is_empty() {
            files.push(system_cas()?);
        }
        let mut roots = RootCertStore::empty();
        for file in &files {
            // A CA that rustls cannot read is one more that is not trusted: the system's bundle has some.
            roots.add_parsable_certificates(certificates(file)?);
        }
        if roots.is_empty() {
            let names: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
            return Err(ClientError::Tls(format!("no CA certificate in {}", names.join(", "))));
        }
        Ok(roots)
    }

    fn provider(&self) -> Result<CryptoProvider, ClientError> {
        let mut provider = aws_lc_rs::default_provider();
        if let Some(names) = &self.ciphers {
            let wanted: Vec<String> = names.split([':', ',']).map(canonical).collect();
            provider.cipher_suites.retain(|suite| suite.suite().as_str().is_some_and(|name| wanted.contains(&canonical(name))));
            if provider.cipher_suites.is_empty() {
                let known: Vec<_> = aws_lc_rs::ALL_CIPHER_SUITES.iter().filter_map(|suite| suite.suite().as_str()).collect();
                return Err(ClientError::Tls(format!("--ciphers {names}: none of {}", known.join(", "))));
            }
        }
        Ok(provider)
    }
}

/// One spelling for rustls' `TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256`, OpenSSL's `ECDHE-RSA-AES128-GCM-SHA256`, and TLS 1.3's `TLS_AES_128_GCM_SHA256`.
fn canonical(name: &str) -> String {
    let name = name.to_ascii_uppercase().replace(['-', '_'], "").replace("WITH", "").replace("TLS13", "").replace("TLS", "");
    match name.split_once("CHACHA20POLY1305") {
        Some((before, _)) => format!("{before}CHACHA20POLY1305"),
        None => name,
    }
}

fn system_cas() -> Result<PathBuf, ClientError> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    named
        .or_else(|| SYSTEM_CAS.iter().map(PathBuf::from).find(|path| path.is_file()))
        .ok_or_else(|| ClientError::Tls("no CAs found on this system: give a file by --cafile".to_owned()))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let found = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    found.map_err(|error| in_file(file, error))
}

fn in_file(file: &Path, error: impl std::fmt::Display) -> ClientError {
    ClientError::Tls(format!("{}: {error}", file.display()))
}

fn tls(error: impl std::fmt::Display) -> ClientError {
    ClientError::Tls(error.to_string())
}

/// Trusts whoever the CAs vouch for, whatever the name: `--insecure`.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // The name is looked at last, when the chain has been found good.
        match self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. })) => {
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cipher_suite_goes_by_several_names() {
        for (given, known) in [
            ("ECDHE-RSA-AES128-GCM-SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
            ("ECDHE-ECDSA-CHACHA20-POLY1305", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
            ("TLS_AES_256_GCM_SHA384", "TLS13_AES_256_GCM_SHA384"),
        ] {
            assert_eq!(canonical(given), canonical(known));
        }
        assert_ne!(canonical("ECDHE-RSA-AES128-GCM-SHA256"), canonical("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"));
    }
}
