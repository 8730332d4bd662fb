//! TLS towards the broker, by rustls.

use std::io;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// A TLS session over a TCP connection.
pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// The client's side of TLS, shared by all connections.
#[derive(Clone, Debug)]
pub struct Client {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Client {
    /// Trusts the certificates in `ca`, expects the server to be `name`, and shows `identity` (certificate and key) if it has one.
    pub fn new(ca: &Path, name: &str, identity: Option<(&Path, &Path)>) -> anyhow::Result<Client> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca).with_context(|| format!("cannot read {}", ca.display()))? {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?.with_root_certificates(roots);
        let mut config = match identity {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
                config.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key)?)?
            }
        };
        // Every connection is a full handshake, so that each costs the broker the same.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Client { config: Arc::new(config), name: ServerName::try_from(name.to_owned())? })
    }

    /// Begins TLS on a connection.
    pub fn stream(&self, socket: TcpStream) -> io::Result<TlsStream> {
        let connection = ClientConnection::new(self.config.clone(), self.name.clone()).map_err(io::Error::other)?;
        Ok(StreamOwned::new(connection, socket))
    }
}
