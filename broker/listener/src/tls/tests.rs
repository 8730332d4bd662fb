//! The stream over a pipe, also one that takes and gives as little as it is told to. The client is rustls, too, by its other API.

use super::*;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream as ClientStream;

fn configs(version: &'static SupportedProtocolVersion) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["broker.example".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let server = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[version]).unwrap();
    let server = server.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
    (Arc::new(server), Arc::new(client.with_root_certificates(roots).with_no_client_auth()))
}

async fn pair(capacity: usize, version: &'static SupportedProtocolVersion) -> (TlsStream<DuplexStream>, ClientStream<DuplexStream>) {
    let (server, client) = duplex(capacity);
    handshake(server, client, version).await
}

async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    server: S,
    client: DuplexStream,
    version: &'static SupportedProtocolVersion,
) -> (TlsStream<S>, ClientStream<DuplexStream>) {
    let (server_config, client_config) = configs(version);
    let name = ServerName::try_from("broker.example").unwrap();
    let (server, client) = tokio::join!(TlsStream::accept(server, server_config), TlsConnector::from(client_config).connect(name, client));
    (server.unwrap(), client.unwrap())
}

fn message(length: usize) -> Vec<u8> {
    (0..=250).cycle().take(length).collect()
}

/// A stream that takes and gives so many bytes at most and wants to be asked twice.
struct Trickle {
    stream: DuplexStream,
    step: usize,
    rest: bool,
}

impl Trickle {
    fn rests(&mut self, cx: &Context<'_>) -> bool {
        self.rest = !self.rest;
        if self.rest {
            cx.waker().wake_by_ref();
        }
        self.rest
    }
}

impl AsyncRead for Trickle {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.rests(cx) {
            return Poll::Pending;
        }
        let mut some = buf.take(self.step);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut some))?;
        let n = some.filled().len();
        buf.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Trickle {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if self.rests(cx) {
            return Poll::Pending;
        }
        let some = data.len().min(self.step);
        Pin::new(&mut self.stream).poll_write(cx, &data[..some])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

#[tokio::test]
async fn what_is_written_on_one_side_is_read_on_the_other_however_little_the_socket_takes() {
    for version in VERSIONS {
        for step in [1, 7, 1000, 1 << 20] {
            let (server, client) = duplex(1 << 16);
            let (mut server, mut client) = handshake(Trickle { stream: server, step, rest: false }, client, version).await;
            let length = if step < 1000 { 20_000 } else { 300_000 };
            let (sent, expected) = (message(length), message(length));
            let (mut at_server, mut at_client) = (vec![0; length], vec![0; length]);
            let serve = async {
                server.write_all(&sent).await.unwrap();
                server.flush().await.unwrap();
                server.read_exact(&mut at_server).await.unwrap();
            };
            let use_it = async {
                client.read_exact(&mut at_client).await.unwrap();
                client.write_all(&sent).await.unwrap();
                client.flush().await.unwrap();
            };
            tokio::join!(serve, use_it);
            assert_eq!(at_client, expected);
            assert_eq!(at_server, expected);
        }
    }
}

#[tokio::test]
async fn buffers_of_any_size_are_filled_and_nothing_is_lost() {
    for size in [1, 2, 100, 5000, 100_000] {
        let (mut server, mut client) = pair(1 << 20, &version::TLS13).await;
        let sent = message(40_000);
        client.write_all(&sent).await.unwrap();
        client.shutdown().await.unwrap();
        let (mut read, mut buffer) = (Vec::<u8>::new(), vec![0; size]);
        loop {
            match server.read(&mut buffer).await.unwrap() {
                0 => break,
                n => read.extend(&buffer[..n]),
            }
        }
        assert_eq!(read, sent, "{size}");
    }
}

#[tokio::test]
async fn an_idle_connection_owns_no_buffer() {
    let (mut server, mut client) = pair(1 << 20, &version::TLS13).await;
    client.write_all(&message(50_000)).await.unwrap();
    server.read_exact(&mut vec![0; 50_000]).await.unwrap();
    server.write_all(&message(50_000)).await.unwrap();
    server.flush().await.unwrap();
    assert_eq!((server.incomplete.capacity(), server.plaintext.capacity(), server.outgoing.capacity()), (0, 0, 0));
}

#[tokio::test]
async fn what_the_peer_does_not_take_is_bounded_and_goes_out_while_reading() {
    let (mut server, mut client) = pair(4096, &version::TLS13).await;
    let sent = message(1 << 20);
    let mut taken = 0;
    std::future::poll_fn(|cx| {
        while let Poll::Ready(n) = Pin::new(&mut server).poll_write(cx, &sent[taken..]) {
            taken += n.unwrap();
        }
        Poll::Ready(())
    })
    .await;
    assert!(server.outgoing.len() <= WRITE + 4 * RECORD_OVERHEAD, "{}", server.outgoing.len());
    // Nobody flushes: a read does it.
    let mut at_client = vec![0; taken];
    let reading = async {
        client.read_exact(&mut at_client).await.unwrap();
        client.write_all(b"thanks").await.unwrap();
    };
    let mut thanks = [0; 6];
    let (_, read) = tokio::join!(reading, server.read_exact(&mut thanks));
    read.unwrap();
    assert_eq!(at_client, sent[..taken]);
}

#[tokio::test]
async fn a_key_update_is_followed_and_answered() {
    let (mut server, mut client) = pair(1 << 20, &version::TLS13).await;
    for _ in 0..3 {
        client.get_mut().1.refresh_traffic_keys().unwrap();
        client.write_all(b"ping").await.unwrap();
        let mut got = [0; 4];
        server.read_exact(&mut got).await.unwrap();
        server.write_all(&got).await.unwrap();
        client.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"ping");
    }
}

#[tokio::test]
async fn a_close_is_told_and_heard() {
    for version in VERSIONS {
        let (mut server, mut client) = pair(1 << 20, version).await;
        client.write_all(b"bye").await.unwrap();
        client.shutdown().await.unwrap();
        let mut read = Vec::new();
        server.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"bye");
        // One side has closed; the other may still speak.
        server.write_all(b"bye yourself").await.unwrap();
        server.shutdown().await.unwrap();
        drop(server);
        let mut read = Vec::new();
        // Without a close_notify this would be an error.
        client.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"bye yourself");
    }
}

#[tokio::test]
async fn broken_records_fail_and_are_answered_with_an_alert() {
    let (mut server, client) = pair(1 << 20, &version::TLS13).await;
    let (mut raw, mut connection) = client.into_inner();
    raw.write_all(&[0x17, 3, 3, 0, 32]).await.unwrap();
    raw.write_all(&[7; 32]).await.unwrap();
    assert_eq!(server.read(&mut [0; 100]).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert_eq!(server.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    drop(server);
    let mut alert = Vec::new();
    raw.read_to_end(&mut alert).await.unwrap();
    // What came before it is the session ticket.
    let mut rest = &alert[..];
    while !rest.is_empty() {
        connection.read_tls(&mut rest).unwrap();
        if let Err(error) = connection.process_new_packets() {
            assert_eq!(error, rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac));
            return;
        }
    }
    panic!("no alert came");
}

#[tokio::test]
async fn a_peer_that_sends_part_of_a_handshake_message_does_no_harm() {
    let (mut server, client) = pair(1 << 20, &version::TLS13).await;
    let (mut raw, mut connection) = client.into_inner();
    // A whole record, of which the server sees the beginning only while it writes.
    let mut record = Vec::new();
    connection.refresh_traffic_keys().unwrap();
    std::io::Write::write_all(&mut connection.writer(), b"later").unwrap();
    while connection.wants_write() {
        connection.write_tls(&mut record).unwrap();
    }
    for &byte in &record {
        raw.write_all(&[byte]).await.unwrap();
        let mut nothing = [0; 8];
        let read = std::future::poll_fn(|cx| {
            let mut buf = ReadBuf::new(&mut nothing);
            Poll::Ready(match Pin::new(&mut server).poll_read(cx, &mut buf) {
                Poll::Ready(result) => result.map(|()| buf.filled().len()).unwrap(),
                Poll::Pending => 0,
            })
        })
        .await;
        if read > 0 {
            assert_eq!(&nothing[..read], b"later");
            return;
        }
        server.write_all(b"meanwhile").await.unwrap();
    }
    panic!("the message did not come");
}
