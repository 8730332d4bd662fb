//! The PROXY protocol in front of everything.

use std::time::Duration;

use bucketmq_listener::config::TlsVersion;
use bucketmq_listener::{Config, Refusal};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use crate::support::{Authority, Broker, is_closed, talk};

const TRUSTED: &str = "tcp://127.0.0.1:0?proxy_protocol=10.0.0.0/8,127.0.0.0/8";
const V1: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.2 12345 1883\r\n";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    [SIGNATURE, &[command, family], &(body.len() as u16).to_be_bytes(), body].concat()
}

const V4_BODY: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0x30, 0x39, 0x07, 0x5b];

#[tokio::test]
async fn a_trusted_proxy_tells_who_connected_in_either_version() {
    let mut broker = Broker::from_url(TRUSTED).await;
    for header in [V1.to_vec(), v2(0x21, 0x11, &[&V4_BODY[..], b"\x04\x00\x03abc"].concat())] {
        let mut client = broker.connect().await;
        client.write_all(&header).await.unwrap();
        let mut server = broker.next().await;
        assert_eq!(server.remote_addr, Some("192.0.2.1:12345".parse().unwrap()));
        assert_eq!(server.tls, None);
        talk(&mut server, &mut client).await;
    }
}

#[tokio::test]
async fn a_header_may_come_in_pieces_and_together_with_what_follows() {
    let mut broker = Broker::from_url(TRUSTED).await;
    for header in [V1.to_vec(), v2(0x21, 0x11, &V4_BODY)] {
        for pieces in [1, 5, 1000] {
            let mut client = broker.connect().await;
            client.set_nodelay(true).unwrap();
            for piece in [&header[..], b"\x10first"].concat().chunks(pieces) {
                client.write_all(piece).await.unwrap();
                if pieces < 1000 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            let mut server = broker.next().await;
            assert_eq!(server.remote_addr, Some("192.0.2.1:12345".parse().unwrap()));
            let mut first = [0; 6];
            server.transport.read_exact(&mut first).await.unwrap();
            assert_eq!(&first, b"\x10first");
        }
    }
}

#[tokio::test]
async fn when_the_proxy_speaks_for_itself_its_own_address_counts() {
    let mut broker = Broker::from_url(TRUSTED).await;
    for header in [v2(0x20, 0, &[]), v2(0x21, 0, &[]), b"PROXY UNKNOWN\r\n".to_vec()] {
        let mut client = broker.connect().await;
        client.write_all(&header).await.unwrap();
        assert_eq!(broker.next().await.remote_addr, Some(client.local_addr().unwrap()));
    }
}

#[tokio::test]
async fn a_trusted_peer_without_a_header_is_refused() {
    for beginning in [&b"\x10\x0e\x00\x04MQTT"[..], b"PROXY TCP5 \r\n", b"\r\n\r\n\0\r\nQUIT\n\x31"] {
        let mut broker = Broker::from_url(TRUSTED).await;
        let mut client = broker.connect().await;
        client.write_all(beginning).await.unwrap();
        client.write_all(b"    ").await.unwrap();
        assert!(is_closed(&mut client).await);
        broker.refused(Refusal::Proxy).await;
        assert!(broker.nothing().await);
    }
}

#[tokio::test]
async fn a_header_of_somebody_else_is_no_header() {
    // On plain TCP the broker sees it, as the beginning of what is no CONNECT.
    let mut broker = Broker::from_url("tcp://127.0.0.1:0?proxy_protocol=10.0.0.0/8").await;
    let mut client = broker.connect().await;
    client.write_all(V1).await.unwrap();
    let mut server = broker.next().await;
    assert_eq!(server.remote_addr, Some(client.local_addr().unwrap()));
    let mut first = [0; 6];
    server.transport.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"PROXY ");

    let authority = Authority::new();
    authority.issue_server("server", "broker.example");
    let tls = authority.listener(authority.tls(&["server"]));
    for (config, reason) in [(tls, Refusal::Tls), (Config::new("ws://127.0.0.1:0"), Refusal::WebSocket)] {
        for header in [V1.to_vec(), v2(0x21, 0x11, &V4_BODY)] {
            let mut broker = Broker::start(std::slice::from_ref(&config)).await;
            let mut client = broker.connect().await;
            client.write_all(&header).await.unwrap();
            assert!(is_closed(&mut client).await);
            broker.refused(reason).await;
            assert!(broker.nothing().await);
        }
    }
}

#[tokio::test]
async fn tls_follows_the_header() {
    let authority = Authority::new();
    authority.issue_server("server", "broker.example");
    let config = Config { proxy_protocol: vec!["127.0.0.1".parse().unwrap()], ..authority.listener(authority.tls(&["server"])) };
    let mut broker = Broker::start(&[config]).await;
    let mut client = broker.connect().await;
    client.write_all(V1).await.unwrap();
    let connector = TlsConnector::from(std::sync::Arc::new(authority.client(None)));
    let mut client = connector.connect(ServerName::try_from("broker.example").unwrap(), client).await.unwrap();
    let mut server = broker.next().await;
    assert_eq!(server.remote_addr, Some("192.0.2.1:12345".parse().unwrap()));
    talk(&mut server, &mut client).await;
}

#[tokio::test]
async fn an_identity_that_the_proxy_verified_counts_only_where_the_listener_says_so() {
    // Over TLS, with a certificate, verified; version and common name.
    let ssl = b"\x20\x00\x1d\x03\x00\x00\x00\x00\x21\x00\x07TLSv1.3\x22\x00\x0bdevice-7-cn".to_vec();
    let header = v2(0x21, 0x11, &[&V4_BODY[..], &ssl, b"\x02\x00\x01b"].concat());
    let mut broker = Broker::from_url(&format!("{TRUSTED}&proxy_identity=true")).await;
    let mut client = broker.connect().await;
    client.write_all(&header).await.unwrap();
    let info = broker.next().await.tls.unwrap();
    assert_eq!((info.version, info.identity.as_deref()), (Some(TlsVersion::Tls13), Some("device-7-cn")));
    assert_eq!(info.server_name.as_deref(), Some("b"));

    let mut broker = Broker::from_url(TRUSTED).await;
    let mut client = broker.connect().await;
    client.write_all(&header).await.unwrap();
    assert_eq!(broker.next().await.tls, None);
}
