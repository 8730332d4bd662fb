//! A PEM file of CAs, checked before a client takes it.

use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::open::OpenError;

/// The bytes of the file, which holds at least one certificate and nothing that is none.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, OpenError> {
    let error = |problem: String| OpenError::Ca { path: path.to_owned(), problem };
    let bytes = std::fs::read(path).map_err(|source| error(source.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let certificate = certificate.map_err(|source| error(format!("is not PEM: {source}")))?;
        roots.add(certificate).map_err(|source| error(format!("holds what is no certificate: {source}")))?;
    }
    match roots.is_empty() {
        true => Err(error("holds no certificate; it begins with -----BEGIN CERTIFICATE-----".to_owned())),
        false => Ok(bytes),
    }
}
