//! TLS: versions, names, Clients' certificates.

use std::sync::Arc;

use bucketmq_listener::config::{ClientAuth, IdentityField, Tls, TlsVersion};
use bucketmq_listener::{Config, Listeners, Refusal, Totals};
use rcgen::SanType;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, SupportedProtocolVersion, version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Authority, Broker, certificate_in, dns, is_closed, shown, talk, tls_connect, tls_connect_shared};

fn client_of_version(authority: &Authority, version: &'static SupportedProtocolVersion) -> ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate_in(&authority.path("ca.pem")).into()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider())).with_protocol_versions(&[version]).unwrap();
    builder.with_root_certificates(roots).with_no_client_auth()
}

#[tokio::test]
async fn both_versions_are_spoken_unless_the_older_is_refused() {
    let authority = Authority::new();
    authority.issue_server("server", "broker.example");
    let mut broker = Broker::start(&[authority.listener(authority.tls(&["server"]))]).await;
    for (version, told) in [(&version::TLS12, TlsVersion::Tls12), (&version::TLS13, TlsVersion::Tls13)] {
        let mut client = tls_connect(broker.addr(), client_of_version(&authority, version), "broker.example").await.unwrap();
        let mut server = broker.next().await;
        let info = server.tls.as_ref().unwrap();
        assert_eq!((info.version, info.server_name.as_deref()), (Some(told), Some("broker.example")));
        assert_eq!((info.identity.as_ref(), info.subject.as_ref(), info.resumed), (None, None, false));
        talk(&mut server, &mut client).await;
    }
    assert_eq!(broker.handle().counters.tls_handshakes(), 2);

    let tls = Tls { min_version: TlsVersion::Tls13, ..authority.tls(&["server"]) };
    let mut broker = Broker::start(&[authority.listener(tls)]).await;
    assert!(tls_connect(broker.addr(), client_of_version(&authority, &version::TLS12), "broker.example").await.is_err());
    broker.refused(Refusal::Tls).await;
    tls_connect(broker.addr(), client_of_version(&authority, &version::TLS13), "broker.example").await.unwrap();
    broker.next().await;
}

#[tokio::test]
async fn the_certificate_is_chosen_by_the_name_asked_for() {
    let authority = Authority::new();
    authority.issue("first", 1, "first.example", vec![dns("first.example"), SanType::IpAddress("127.0.0.1".parse().unwrap())]);
    authority.issue_server("second", "second.example");
    authority.issue_server("wild", "*.third.example");
    let broker = Broker::start(&[authority.listener(authority.tls(&["first", "second", "wild"]))]).await;
    for (asked, file) in [
        ("first.example", "first.pem"),
        ("SECOND.example", "second.pem"),
        ("a.third.example", "wild.pem"),
        // An address is never asked for by name: the first one is the default.
        ("127.0.0.1", "first.pem"),
    ] {
        let client = tls_connect(broker.addr(), authority.client(None), asked).await.unwrap();
        assert_eq!(shown(&client), certificate_in(&authority.path(file)), "{asked}");
    }
    let error = tls_connect(broker.addr(), authority.client(None), "b.a.third.example").await.unwrap_err();
    assert!(error.to_string().contains("not valid for name"), "the default, which is for another name: {error}");
    let names: Vec<_> = broker.listeners.certificates().into_iter().map(|info| info.sans).collect();
    assert_eq!(names, [vec!["first.example", "127.0.0.1"], vec!["second.example"], vec!["*.third.example"]]);
}

#[tokio::test]
async fn the_identity_is_what_the_configuration_names_of_the_certificate() {
    let authority = Authority::new();
    authority.issue_server("server", "broker.example");
    let names = vec![
        dns("device-7.example"),
        SanType::URI("spiffe://example/device/7".try_into().unwrap()),
        SanType::Rfc822Name("device-7@example.org".try_into().unwrap()),
    ];
    authority.issue("device", 7, "device-7", names);
    authority.issue("plain", 8, "device-8", Vec::new());
    for (identity, told) in [
        (IdentityField::CommonName, "device-7"),
        (IdentityField::SanDns, "device-7.example"),
        (IdentityField::SanUri, "spiffe://example/device/7"),
        (IdentityField::SanEmail, "device-7@example.org"),
        (IdentityField::Fingerprint, ""),
    ] {
        let tls = Tls { client_ca: Some(authority.path("ca.pem")), identity, ..authority.tls(&["server"]) };
        let mut broker = Broker::start(&[authority.listener(tls)]).await;
        let mut client = tls_connect(broker.addr(), authority.client(Some("device")), "broker.example").await.unwrap();
        let mut server = broker.next().await;
        let info = server.tls.clone().unwrap();
        match identity {
            IdentityField::Fingerprint => assert_eq!(info.identity.unwrap().len(), 64),
            _ => assert_eq!(info.identity.as_deref(), Some(told)),
        }
        assert_eq!(info.subject.as_deref(), Some("CN=device-7"));
        talk(&mut server, &mut client).await;
        if identity == IdentityField::SanUri {
            let _client = tls_connect(broker.addr(), authority.client(Some("plain")), "broker.example").await.unwrap();
            let info = broker.next().await.tls.unwrap();
            assert_eq!((info.identity, info.subject.as_deref()), (None, Some("CN=device-8")));
        }
    }
}

/// Connects, and in TLS 1.3 also waits for the answer to the Client's certificate.
async fn passes(broker: &mut Broker, config: ClientConfig) -> bool {
    let Ok(mut client) = tls_connect(broker.addr(), config, "broker.example").await else {
        return false;
    };
    let mut byte = [0];
    let through = async {
        broker.next().await.transport.write_all(b"!").await.unwrap();
    };
    tokio::select! {
        () = through => true,
        result = client.read_exact(&mut byte) => result.is_ok(),
    }
}

#[tokio::test]
async fn a_client_certificate_is_required_optional_or_not_asked_for() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    authority.issue_server("server", "broker.example");
    for (at, from) in [&authority, &stranger].into_iter().enumerate() {
        from.issue("device", 7, "device-7", Vec::new());
        if at == 1 {
            std::fs::copy(stranger.path("device.pem"), authority.path("stranger.pem")).unwrap();
            std::fs::copy(stranger.path("device.key"), authority.path("stranger.key")).unwrap();
        }
    }
    for (client_auth, without, with_good, with_bad) in
        [(Some(ClientAuth::Required), false, true, false), (None, false, true, false), (Some(ClientAuth::Optional), true, true, false)]
    {
        let tls = Tls { client_ca: Some(authority.path("ca.pem")), client_auth, ..authority.tls(&["server"]) };
        let mut broker = Broker::start(&[authority.listener(tls)]).await;
        assert_eq!(passes(&mut broker, authority.client(None)).await, without, "{client_auth:?} without");
        assert_eq!(passes(&mut broker, authority.client(Some("device"))).await, with_good, "{client_auth:?} with a good one");
        assert_eq!(passes(&mut broker, authority.client(Some("stranger"))).await, with_bad, "{client_auth:?} with a bad one");
        broker.refused(Refusal::Tls).await;
    }
    let mut broker = Broker::start(&[authority.listener(authority.tls(&["server"]))]).await;
    assert!(passes(&mut broker, authority.client(Some("stranger"))).await, "nobody asked for it");
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_also_with_a_session_from_before() {
    let authority = Authority::new();
    authority.issue_server("server", "broker.example");
    authority.issue("good", 7, "device-7", Vec::new());
    authority.issue("bad", 8, "device-8", Vec::new());
    authority.revoke(&[]);
    let (client_ca, crl) = (Some(authority.path("ca.pem")), Some(authority.path("crl.pem")));
    let tls = Tls { client_ca, crl, ..authority.tls(&["server"]) };
    let mut broker = Broker::start(&[authority.listener(tls)]).await;
    let bad = Arc::new(authority.client(Some("bad")));
    for resumed in [false, true] {
        let mut client = tls_connect_shared(broker.addr(), &bad, "broker.example").await.unwrap();
        let mut server = broker.next().await;
        talk(&mut server, &mut client).await;
        let info = server.tls.unwrap();
        assert_eq!((info.resumed, info.identity.as_deref()), (resumed, Some("device-8")), "a session taken up tells the same");
    }
    assert_eq!(broker.handle().counters.tls_resumptions(), 1);

    authority.revoke(&[8]);
    broker.listeners.reload_certificates().await;
    assert_eq!(broker.listeners.failures(), []);
    let mut client = tls_connect_shared(broker.addr(), &bad, "broker.example").await.unwrap();
    assert!(is_closed(&mut client).await);
    broker.refused(Refusal::Tls).await;
    assert!(passes(&mut broker, authority.client(Some("good"))).await);
}

#[tokio::test]
async fn what_is_not_tls_is_refused_and_counted() {
    let authority = Authority::new();
    authority.issue_server("server", "broker.example");
    let mut broker = Broker::start(&[authority.listener(authority.tls(&["server"]))]).await;
    let mut client = broker.connect().await;
    client.write_all(b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x00 and more of it").await.unwrap();
    assert!(is_closed(&mut client).await);
    broker.refused(Refusal::Tls).await;
    assert!(broker.nothing().await);
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_when_binding() {
    let authority = Authority::new();
    authority.issue_server("server", "broker.example");
    authority.issue_server("other", "other.example");
    std::fs::write(authority.path("empty.pem"), "").unwrap();
    let good = authority.tls(&["server"]);
    let with = |change: fn(&mut Tls, &Authority)| {
        let mut tls = good.clone();
        change(&mut tls, &authority);
        authority.listener(tls)
    };
    for (config, says) in [
        (with(|tls, authority| tls.certificates[0].key = authority.path("other.key")), "is not the key of"),
        (with(|tls, authority| tls.certificates[0].cert = authority.path("missing.pem")), "cannot read"),
        (with(|tls, authority| tls.certificates[0].cert = authority.path("server.key")), "holds no certificate"),
        (with(|tls, authority| tls.certificates[0].key = authority.path("server.pem")), "holds no private key"),
        (with(|tls, authority| tls.client_ca = Some(authority.path("empty.pem"))), "holds no certificate"),
        (
            with(|tls, authority| {
                tls.client_ca = Some(authority.path("ca.pem"));
                tls.crl = Some(authority.path("empty.pem"));
            }),
            "holds no revocation list",
        ),
        (Config::new("tls://127.0.0.1:0"), "is needed for tls://"),
    ] {
        let error = Listeners::bind(&[config], Totals::new(0, 0)).await.unwrap_err().to_string();
        assert!(error.contains(says) && error.contains("tls-0"), "{error}");
    }
}
