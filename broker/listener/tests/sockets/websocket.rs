//! WebSocket as other people's client speaks it, and as nobody should.

use bucketmq_listener::{Accepted, Config, Refusal};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::support::{Authority, Broker, is_closed, tls_connect};

async fn upgrade<S>(stream: S, path: &str, subprotocol: &str, origin: &str) -> Result<WebSocketStream<S>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = format!("ws://broker.example{path}").into_client_request()?;
    for (name, value) in [("sec-websocket-protocol", subprotocol), ("origin", origin)] {
        if !value.is_empty() {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
    }
    let (stream, response) = client_async(request, stream).await?;
    let chosen = response.headers().get("sec-websocket-protocol").map(|value| value.to_str().unwrap());
    // [MQTT-6.0.0-4]
    assert_eq!(chosen.unwrap_or(""), subprotocol);
    Ok(stream)
}

async fn connect(broker: &mut Broker) -> (Accepted, WebSocketStream<TcpStream>) {
    let client = upgrade(broker.connect().await, "/mqtt", "mqtt", "").await.unwrap();
    (broker.next().await, client)
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(server: &mut Accepted, client: &mut WebSocketStream<S>) {
    let big: Vec<u8> = (0..=255).cycle().take(200_000).collect();
    let send = async {
        client.send(Message::binary(b"small".to_vec())).await.unwrap();
        client.send(Message::binary(big.clone())).await.unwrap();
        let mut got = Vec::new();
        while got.len() < 200_005 {
            got.extend(client.next().await.unwrap().unwrap().into_data());
        }
        got
    };
    let echo = async {
        let mut got = vec![0; 200_005];
        server.transport.read_exact(&mut got).await.unwrap();
        server.transport.write_all(&got).await.unwrap();
        server.transport.flush().await.unwrap();
    };
    let (got, ()) = tokio::join!(send, echo);
    assert_eq!(got, [b"small", &big[..]].concat());
}

#[tokio::test]
async fn bytes_go_both_ways_over_ws_and_wss() {
    let mut broker = Broker::from_url("ws://127.0.0.1:0?name=web").await;
    let (mut server, mut client) = connect(&mut broker).await;
    assert_eq!(server.remote_addr, Some(client.get_ref().local_addr().unwrap()));
    assert_eq!(server.transport.local_addr(), Some(broker.addr()));
    exchange(&mut server, &mut client).await;
    assert_eq!(broker.handle().counters.web_socket_handshakes(), 1);

    let authority = Authority::new();
    authority.issue_server("server", "broker.example");
    let config = Config { tls: Some(authority.tls(&["server"])), ..Config::new("wss://127.0.0.1:0/chat") };
    let mut broker = Broker::start(&[config]).await;
    let stream = tls_connect(broker.addr(), authority.client(None), "broker.example").await.unwrap();
    let mut client = upgrade(stream, "/chat", "mqtt", "").await.unwrap();
    let mut server = broker.next().await;
    assert_eq!(server.tls.as_ref().unwrap().server_name.as_deref(), Some("broker.example"));
    exchange(&mut server, &mut client).await;
}

#[tokio::test]
async fn one_write_is_one_message_for_the_client() {
    let mut broker = Broker::from_url("ws://127.0.0.1:0").await;
    let (mut server, mut client) = connect(&mut broker).await;
    for length in [1, 125, 126, 65_535, 65_536] {
        server.transport.write_all(&vec![7; length]).await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Message::binary(vec![7; length]));
    }
}

#[tokio::test]
async fn path_origin_and_subprotocol_are_checked() {
    let allowed = "ws://127.0.0.1:0?allowed_origins=https://app.example";
    for (path, subprotocol, origin, status) in [
        ("/mqtt", "mqtt", "https://app.example", 101),
        ("/mqtt?token=1", "mqtt", "", 101),
        ("/mqtt", "", "", 101),
        ("/mqtt", "mqttv3.1", "", 101),
        ("/", "mqtt", "", 404),
        ("/mqtt", "mqtt", "https://evil.example", 403),
        ("/mqtt", "chat", "", 400),
    ] {
        let mut broker = Broker::from_url(allowed).await;
        match upgrade(broker.connect().await, path, subprotocol, origin).await {
            Ok(_) => {
                assert_eq!(status, 101, "{path} {subprotocol} {origin}");
                broker.next().await;
            }
            Err(Error::Http(response)) => {
                assert_eq!(response.status().as_u16(), status, "{path} {subprotocol} {origin}");
                broker.refused(Refusal::WebSocket).await;
                assert!(broker.nothing().await);
            }
            Err(error) => panic!("{path} {subprotocol} {origin}: {error}"),
        }
    }
}

#[tokio::test]
async fn a_request_that_is_no_handshake_is_answered_and_closed() {
    for (request, status) in [
        ("GET /mqtt HTTP/1.1\r\nHost: x\r\n\r\n", "400"),
        ("GET /index.html HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
        ("\x10\x0e\x00\x04MQTT\x05\x02\x00", "400"),
        (&format!("GET /mqtt HTTP/1.1\r\nCookie: {}", "x".repeat(9000)), "431"),
    ] {
        let broker = Broker::from_url("ws://127.0.0.1:0").await;
        let mut client = broker.connect().await;
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![0; 12];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), format!("HTTP/1.1 {status}"));
        broker.refused(Refusal::WebSocket).await;
    }
}

#[tokio::test]
async fn pings_are_answered_while_the_broker_only_reads() {
    let mut broker = Broker::from_url("ws://127.0.0.1:0").await;
    let (mut server, mut client) = connect(&mut broker).await;
    let reading = tokio::spawn(async move { server.transport.read(&mut [0; 10]).await });
    client.send(Message::Ping(b"are you there"[..].into())).await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), Message::Pong(b"are you there"[..].into()));
    client.close(None).await.unwrap();
    assert_eq!(reading.await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn a_close_of_either_side_is_answered() {
    let mut broker = Broker::from_url("ws://127.0.0.1:0").await;
    let (mut server, mut client) = connect(&mut broker).await;
    server.transport.write_all(b"bye").await.unwrap();
    server.transport.shutdown().await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), Message::binary(b"bye".to_vec()));
    let Message::Close(Some(frame)) = client.next().await.unwrap().unwrap() else { panic!("a close frame") };
    assert_eq!(frame.code, CloseCode::Normal);
    assert!(client.next().await.is_none());
    assert_eq!(server.transport.read(&mut [0; 10]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_text_message_closes_the_connection() {
    let mut broker = Broker::from_url("ws://127.0.0.1:0").await;
    let (mut server, mut client) = connect(&mut broker).await;
    client.send(Message::text("hello")).await.unwrap();
    assert!(server.transport.read(&mut [0; 10]).await.is_err());
    let Message::Close(Some(frame)) = client.next().await.unwrap().unwrap() else { panic!("a close frame") };
    assert_eq!(frame.code, CloseCode::Unsupported);
}

#[tokio::test]
async fn a_message_of_gigabytes_is_passed_on_as_it_comes() {
    let mut broker = Broker::from_url("ws://127.0.0.1:0").await;
    let mut client = broker.connect().await;
    let request = "GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    // The header of a frame of 2^40 bytes comes along with the request, and a little of its payload.
    let mut bytes = request.as_bytes().to_vec();
    bytes.extend([0x82, 0x80 | 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend(b"first");
    client.write_all(&bytes).await.unwrap();
    let mut server = broker.next().await;
    let mut got = [0; 100];
    assert_eq!(server.transport.read(&mut got).await.unwrap(), 5);
    client.write_all(b"second").await.unwrap();
    assert_eq!(server.transport.read(&mut got).await.unwrap(), 6);
    drop(server);
    assert!(is_closed(&mut client).await);
}
