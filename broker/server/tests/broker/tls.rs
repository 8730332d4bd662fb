//! `tls://` of the real binary: whom a Client's certificate names, and who is not let in.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use bucketmq_packet::{QoS, ReasonCode};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SanType, SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::client::{Broker, Came, Client, connect, tcp, until};

/// A TLS connection to the broker.
pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// What every server certificate is for.
pub const HOST: &str = "broker.example";

/// A certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Writes `NAME.pem` and `NAME.key`.
    pub fn issue(&self, folder: &Path, name: &str, common_name: &str) {
        self.issue_numbered(folder, name, common_name, 1);
    }

    pub fn issue_numbered(&self, folder: &Path, name: &str, common_name: &str, serial: u64) {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.subject_alt_names = vec![SanType::DnsName(HOST.try_into().unwrap())];
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().unwrap();
        std::fs::write(folder.join(format!("{name}.pem")), params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    /// A revocation list of these serial numbers.
    pub fn revoking(&self, serials: &[u64]) -> String {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: rcgen::date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2024, 1, 1),
            next_update: rcgen::date_time_ymd(2090, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    /// Connects as somebody who trusts this authority, with the certificate `NAME.pem` of a folder. With TLS 1.3 a Client learns that its certificate
    /// is refused only when it reads.
    pub fn connect(&self, address: SocketAddr, certificate: Option<(&Path, &str)>) -> io::Result<TlsStream> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        let config = match certificate {
            None => builder.with_no_client_auth(),
            Some((folder, name)) => {
                let chain = vec![in_file(&folder.join(format!("{name}.pem")))];
                let key = PrivateKeyDer::from_pem_file(folder.join(format!("{name}.key"))).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let mut connection = ClientConnection::new(Arc::new(config), HOST.try_into().unwrap()).unwrap();
        let mut stream = tcp(address);
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        Ok(StreamOwned::new(connection, stream))
    }
}

/// The first certificate of a file.
pub fn in_file(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}

/// The certificate that the broker showed.
pub fn shown(stream: &TlsStream) -> CertificateDer<'static> {
    stream.conn.peer_certificates().unwrap()[0].clone().into_owned()
}

/// A listener that wants certificates, and the users `device-7` and `off`, who have no password.
const MUTUAL: &str = "[[listeners]]\nurl = \"tls://@ADDRESS@\"\n[listeners.tls]\nclient_ca = \"ca.pem\"\ncrl = \"crl.pem\"\n\
                      certificates = [{ cert = \"server.pem\", key = \"server.key\" }]\n\
                      [access]\nusers_file = \"users\"\n\
                      [access.roles.device]\nrules = [\"allow connect\", \"allow publish,subscribe site/%u/#\"]\n";
const USERS: &str = "device-7:!:device\ndevice-8:!:device\noff:!:device:enabled=false\n";

fn mutual(authority: &Authority) -> Broker {
    Broker::start_with(MUTUAL, |folder| {
        authority.issue(folder, "server", HOST);
        for (name, serial) in [("device-7", 7), ("device-8", 8), ("off", 9), ("stranger", 10)] {
            authority.issue_numbered(folder, name, name, serial);
        }
        std::fs::write(folder.join("ca.pem"), &authority.pem).unwrap();
        std::fs::write(folder.join("crl.pem"), authority.revoking(&[99])).unwrap();
        std::fs::write(folder.join("users"), USERS).unwrap();
    })
}

/// Connects with the certificate called so, and with a user name in CONNECT or none.
fn open(broker: &Broker, authority: &Authority, certificate: &str, username: Option<&str>) -> Result<Client<TlsStream>, Came> {
    let stream = authority.connect(broker.address, Some((broker.folder.path(), certificate))).map_err(|_| Came::Closed)?;
    let id = format!("id-{certificate}");
    Client::over(stream, &bucketmq_packet::Connect { username, ..connect(&id, true, None) })
}

#[test]
fn a_client_certificate_names_the_user_whose_rights_count() {
    let authority = Authority::new();
    let broker = mutual(&authority);
    for username in [None, Some("device-7")] {
        let mut client = open(&broker, &authority, "device-7", username).unwrap();
        assert_eq!(client.subscribe("site/device-7/#", QoS::AtLeastOnce), Came::SubAck(vec![ReasonCode::GrantedQoS1]));
        assert_eq!(client.subscribe("site/device-8/#", QoS::AtLeastOnce), Came::SubAck(vec![ReasonCode::NotAuthorized]));
        assert_eq!(client.publish_acknowledged("site/device-8/a", b""), Came::PubAck(ReasonCode::NotAuthorized));
        client.publish("site/device-7/a", b"mine", QoS::AtMostOnce);
        assert_eq!(client.next(), Came::Publish("site/device-7/a".to_owned(), b"mine".to_vec()));
    }
    assert_eq!(broker.metric("mqtt_auth_total{method=\"certificate\",result=\"accepted\"}"), 2);
    assert_eq!(broker.metric("mqtt_tls_handshake_total"), 2);
}

#[test]
fn a_certificate_of_nobody_we_know_or_for_another_name_is_answered_with_connack() {
    let authority = Authority::new();
    let broker = mutual(&authority);
    for (certificate, username, reason_code) in [
        ("stranger", None, ReasonCode::NotAuthorized),
        ("off", None, ReasonCode::NotAuthorized),
        ("device-7", Some("device-8"), ReasonCode::BadUserNameOrPassword),
    ] {
        let refused = open(&broker, &authority, certificate, username).err();
        assert_eq!(refused, Some(Came::ConnAck(reason_code, false)), "{certificate} {username:?}");
    }
}

#[test]
fn without_a_certificate_of_the_authority_the_handshake_fails() {
    let (authority, other) = (Authority::new(), Authority::new());
    let broker = mutual(&authority);
    let foreign = tempfile::tempdir().unwrap();
    other.issue(foreign.path(), "device-7", "device-7");
    for certificate in [None, Some((foreign.path(), "device-7"))] {
        let refused = authority
            .connect(broker.address, certificate)
            .map_err(|_| Came::Closed)
            .and_then(|stream| Client::over(stream, &connect("a", true, Some(("device-7", "")))));
        assert_eq!(refused.err(), Some(Came::Closed));
    }
    until(|| (broker.metric("mqtt_connections{listener=") == 0).then_some(()));
    assert_eq!(broker.metric("mqtt_connections_opened_total"), 0);
    open(&broker, &authority, "device-7", None).unwrap();
}

#[test]
fn a_certificate_that_is_revoked_while_the_broker_runs_opens_no_new_connection() {
    let authority = Authority::new();
    let broker = mutual(&authority);
    let stream = authority.connect(broker.address, Some((broker.folder.path(), "device-7"))).unwrap();
    let mut live = Client::over(stream, &connect("live", true, None)).unwrap();
    std::fs::write(broker.path("crl.pem"), authority.revoking(&[7])).unwrap();
    until(|| (open(&broker, &authority, "device-7", None).err()? == Came::Closed).then_some(()));
    open(&broker, &authority, "device-8", None).unwrap();
    // Who is connected has been verified already; taking the user away is what ends that.
    assert!(live.is_quiet());
}
