//! What the tests share: a broker that hands out what it accepts, and a little certificate authority.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bucketmq_listener::config::{Certificate, Tls};
use bucketmq_listener::{Accepted, Config, ListenerHandle, Listeners, Refusal, Totals};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SanType, SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Listeners whose connections come out of `next`.
pub struct Broker {
    pub listeners: Listeners,
    accepted: mpsc::UnboundedReceiver<Accepted>,
}

impl Broker {
    pub async fn start(configs: &[Config]) -> Broker {
        Broker::start_with(configs, Totals::new(0, 0)).await
    }

    pub async fn start_with(configs: &[Config], totals: Arc<Totals>) -> Broker {
        let listeners = Listeners::bind(configs, totals).await.unwrap();
        let (sender, accepted) = mpsc::unbounded_channel();
        let serve = listeners.serve(move |accepted| {
            let sender = sender.clone();
            async move {
                // A test that ended wants no more.
                let _ = sender.send(accepted);
            }
        });
        serve.unwrap();
        Broker { listeners, accepted }
    }

    pub async fn from_url(url: &str) -> Broker {
        Broker::start(&[Config::from_url(url).unwrap()]).await
    }

    /// The next connection that got through.
    pub async fn next(&mut self) -> Accepted {
        tokio::time::timeout(Duration::from_secs(10), self.accepted.recv()).await.expect("a connection gets through").unwrap()
    }

    /// Whether nothing got through within a moment.
    pub async fn nothing(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(100), self.accepted.recv()).await.is_err()
    }

    pub fn addr(&self) -> SocketAddr {
        self.listeners.bound()[0].local_addrs[0]
    }

    pub fn handle(&self) -> Arc<ListenerHandle> {
        self.listeners.bound()[0].handle.clone()
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr()).await.unwrap()
    }

    /// Waits until `reason` was counted once.
    pub async fn refused(&self, reason: Refusal) {
        let handle = self.handle();
        eventually(|| handle.counters.refused(reason) > 0).await;
    }
}

pub async fn eventually(mut happens: impl FnMut() -> bool) {
    for _ in 0..500 {
        if happens() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it did not happen within 10 s");
}

/// Sends bytes both ways, which shows that the transport carries them.
pub async fn talk(server: &mut Accepted, client: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) {
    let mut got = [0; 5];
    client.write_all(b"hello").await.unwrap();
    client.flush().await.unwrap();
    server.transport.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"hello");
    server.transport.write_all(b"world").await.unwrap();
    server.transport.flush().await.unwrap();
    client.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"world");
}

/// Whether the peer closed: nothing more comes.
pub async fn is_closed(stream: &mut (impl AsyncReadExt + Unpin)) -> bool {
    let mut bytes = [0; 1024];
    let reading = async { while !matches!(stream.read(&mut bytes).await, Ok(0) | Err(_)) {} };
    tokio::time::timeout(Duration::from_secs(10), reading).await.is_ok()
}

/// A certificate authority and the directory its files are in.
pub struct Authority {
    pub dir: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), &pem).unwrap();
        Authority { dir, issuer: Issuer::new(params, key), pem }
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    /// Writes `NAME.pem` and `NAME.key`.
    pub fn issue(&self, name: &str, serial: u64, common_name: &str, names: Vec<SanType>) {
        self.issue_in(self.dir.path(), name, serial, common_name, names);
    }

    pub fn issue_in(&self, dir: &Path, name: &str, serial: u64, common_name: &str, names: Vec<SanType>) {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.subject_alt_names = names;
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(dir.join(format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    pub fn issue_server(&self, name: &str, host: &str) {
        self.issue(name, 1, host, vec![dns(host)]);
    }

    /// Writes `crl.pem`, which revokes `serials`.
    pub fn revoke(&self, serials: &[u64]) {
        let year = |year| rcgen::date_time_ymd(year, 1, 1);
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: year(2024),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: year(2024),
            next_update: year(2090),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        std::fs::write(self.path("crl.pem"), params.signed_by(&self.issuer).unwrap().pem().unwrap()).unwrap();
    }

    /// A `tls` table with the certificates called so.
    pub fn tls(&self, names: &[&str]) -> Tls {
        let pair = |name: &&str| Certificate { cert: self.path(&format!("{name}.pem")), key: self.path(&format!("{name}.key")) };
        Tls { certificates: names.iter().map(pair).collect(), ..Tls::default() }
    }

    /// A TLS listener on a port that the system chooses.
    pub fn listener(&self, tls: Tls) -> Config {
        Config { tls: Some(tls), ..Config::new("tls://127.0.0.1:0") }
    }

    /// A Client that trusts this authority, with the certificate called so.
    pub fn client(&self, certificate: Option<&str>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        match certificate {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let chain = CertificateDer::pem_file_iter(self.path(&format!("{name}.pem"))).unwrap().map(Result::unwrap).collect();
                let key = PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key"))).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        }
    }
}

pub fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

pub async fn tls_connect(addr: SocketAddr, config: ClientConfig, host: &str) -> std::io::Result<TlsStream<TcpStream>> {
    tls_connect_shared(addr, &Arc::new(config), host).await
}

pub async fn tls_connect_shared(addr: SocketAddr, config: &Arc<ClientConfig>, host: &str) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(addr).await?;
    TlsConnector::from(config.clone()).connect(ServerName::try_from(host.to_owned()).unwrap(), stream).await
}

/// The common name of the certificate that the broker showed.
pub fn shown(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

/// A certificate's bytes as they are in its file.
pub fn certificate_in(path: &Path) -> Vec<u8> {
    CertificateDer::from_pem_file(path).unwrap().to_vec()
}
