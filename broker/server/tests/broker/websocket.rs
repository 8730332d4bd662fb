//! `ws://` and `wss://` of the real binary, with frames made by hand: where packets and frames begin and end is our choice here.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use bucketmq_packet::{Packet, PacketType, QoS, ReasonCode};

use crate::client::{Broker, Came, Client, connect, encoded, publish, subscribe, tcp, until_closed};
use crate::tls::Authority;

pub const CONTINUATION: u8 = 0x0;
pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

/// A request for `path` with further header lines.
fn request(path: &str, lines: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: broker.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
    )
}

/// Sends a request and reads the head of the answer.
fn ask(stream: &mut (impl Read + Write), request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// One masked frame, as a client has to send it. `first` is the opcode, with FIN or without.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..126 => bytes.push(MASKED | short as u8),
        medium @ 126..=0xFFFF => {
            bytes.push(MASKED | 126);
            bytes.extend((medium as u16).to_be_bytes());
        }
        long => {
            bytes.push(MASKED | 127);
            bytes.extend((long as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// A frame from the broker: its opcode and payload. It has to be whole, as the broker sends no fragments, and not masked.
fn read_frame(stream: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    stream.read_exact(&mut head)?;
    assert_eq!(head[0] & 0xF0, FIN, "one frame is one message");
    let mut length = [0; 8];
    match head[1] {
        short @ 0..126 => length[7] = short,
        126 => stream.read_exact(&mut length[6..])?,
        127 => stream.read_exact(&mut length)?,
        masked => panic!("a server does not mask: {masked:02x}"),
    }
    let mut payload = vec![0; u64::from_be_bytes(length) as usize];
    stream.read_exact(&mut payload)?;
    Ok((head[0] & 0x0F, payload))
}

/// What a [`Client`] sends and receives through: each write is one binary frame.
pub struct WebSocket<S> {
    pub stream: S,
    unread: Vec<u8>,
}

impl<S: Read + Write> WebSocket<S> {
    /// Upgrades `stream` with the subprotocol `mqtt`.
    pub fn open(mut stream: S) -> Self {
        let answer = ask(&mut stream, &request("/mqtt", "Sec-WebSocket-Protocol: mqtt\r\n"));
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert!(answer.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
        // [MQTT-6.0.0-4]
        assert!(answer.contains("Sec-WebSocket-Protocol: mqtt\r\n"), "{answer}");
        Self { stream, unread: Vec::new() }
    }
}

impl<S: Read + Write> Write for WebSocket<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write_all(&frame(FIN | BINARY, bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl<S: Read + Write> Read for WebSocket<S> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.unread.is_empty() {
            let (opcode, payload) = read_frame(&mut self.stream)?;
            match opcode {
                BINARY => self.unread = payload,
                CLOSE => return Ok(0),
                other => panic!("a frame of kind {other}"),
            }
        }
        let count = bytes.len().min(self.unread.len());
        bytes[..count].copy_from_slice(&self.unread[..count]);
        self.unread.drain(..count);
        Ok(count)
    }
}

const WS: &str = "[[listeners]]\nurl = \"ws://@ADDRESS@\"\nanonymous = \"local\"\n";

fn client(broker: &Broker, id: &str) -> Client<WebSocket<TcpStream>> {
    Client::over(WebSocket::open(tcp(broker.address)), &connect(id, true, None)).unwrap()
}

fn exchange<S: Read + Write>(client: &mut Client<S>) {
    client.subscribe("t", QoS::AtMostOnce);
    for length in [0, 1, 125, 126, 70_000, 300_000] {
        client.publish("t", &vec![7; length], QoS::AtMostOnce);
        assert_eq!(client.next(), Came::Publish("t".to_owned(), vec![7; length]));
    }
}

#[test]
fn messages_of_all_sizes_pass_over_ws_and_wss() {
    let broker = Broker::start(WS);
    exchange(&mut client(&broker, "a"));

    let authority = Authority::new();
    let wss = "[[listeners]]\nurl = \"wss://@ADDRESS@\"\nanonymous = \"local\"\n[listeners.tls]\n\
               certificates = [{ cert = \"server.pem\", key = \"server.key\" }]\n";
    let broker = Broker::start_with(wss, |folder| authority.issue(folder, "server", "broker.example"));
    let stream = authority.connect(broker.address, None).unwrap();
    let mut client = Client::over(WebSocket::open(stream), &connect("a", true, None)).unwrap();
    exchange(&mut client);
    let port = broker.address.port();
    assert_eq!(broker.metric(&format!("mqtt_connections{{listener=\"wss-{port}\",protocol=\"wss\"}}")), 1);
}

#[test]
fn packets_may_begin_and_end_anywhere_in_frames() {
    // CONNECT, SUBSCRIBE and two PUBLISHes, cut into frames of every size from a byte to all at once [MQTT-6.0.0-2].
    let broker = Broker::start(WS);
    for size in [1, 2, 3, 7, 20, usize::MAX] {
        let id = format!("cut-{size}");
        let topic = format!("t/{size}");
        let packets = [
            Packet::Connect(connect(&id, true, None)),
            Packet::Subscribe(subscribe(&topic, QoS::AtLeastOnce)),
            Packet::Publish(publish(&topic, b"first", QoS::AtMostOnce)),
            Packet::Publish(publish(&topic, &[9; 200], QoS::AtLeastOnce)),
        ];
        let bytes: Vec<u8> = packets.iter().flat_map(encoded).collect();
        let mut web = WebSocket::open(tcp(broker.address));
        for piece in bytes.chunks(size.min(bytes.len())) {
            web.stream.write_all(&frame(FIN | BINARY, piece)).unwrap();
        }
        let mut client = Client::reading(web);
        assert_eq!(client.next(), Came::ConnAck(ReasonCode::Success, false), "{size}");
        assert_eq!(client.next(), Came::SubAck(vec![ReasonCode::GrantedQoS1]), "{size}");
        let mut came = [client.next(), client.next(), client.next()].to_vec();
        // The order of an acknowledgement and a message is nobody's promise.
        came.retain(|came| *came != Came::PubAck(ReasonCode::Success));
        assert_eq!(came, [Came::Publish(topic.clone(), b"first".to_vec()), Came::Publish(topic, vec![9; 200])], "{size}");
    }
}

#[test]
fn a_message_may_come_in_fragments_with_a_ping_in_between() {
    let broker = Broker::start(WS);
    let mut client = client(&broker, "a");
    client.subscribe("t", QoS::AtMostOnce);
    let bytes = encoded(&Packet::Publish(publish("t", b"in three pieces", QoS::AtMostOnce)));
    let (first, rest) = bytes.split_at(3);
    let (second, third) = rest.split_at(5);
    let stream = &mut client.stream.stream;
    stream.write_all(&frame(BINARY, first)).unwrap();
    stream.write_all(&frame(CONTINUATION, second)).unwrap();
    stream.write_all(&frame(FIN | PING, b"still there?")).unwrap();
    assert_eq!(read_frame(stream).unwrap(), (PONG, b"still there?".to_vec()));
    stream.write_all(&frame(FIN | CONTINUATION, third)).unwrap();
    assert_eq!(client.next(), Came::Publish("t".to_owned(), b"in three pieces".to_vec()));
}

#[test]
fn text_and_what_rfc_6455_forbids_close_the_connection_with_a_code_that_says_why() {
    let broker = Broker::start(WS);
    let ping = encoded(&Packet::PingReq);
    let unmasked = [&[FIN | BINARY, ping.len() as u8], &ping[..]].concat();
    for (what, bytes, code) in [
        // [MQTT-6.0.0-1]
        ("text", frame(FIN | TEXT, &ping), 1003_u16),
        ("not masked", unmasked, 1002),
        ("a continuation of nothing", frame(FIN | CONTINUATION, &ping), 1002),
        ("a long ping", frame(FIN | PING, &[0; 126]), 1002),
    ] {
        let mut client = client(&broker, "a");
        client.stream.stream.write_all(&bytes).unwrap();
        assert_eq!(read_frame(&mut client.stream.stream).unwrap(), (CLOSE, code.to_be_bytes().to_vec()), "{what}");
        assert_eq!(until_closed(&mut client.stream.stream), b"", "{what}");
    }
    assert_eq!(broker.metric("mqtt_packets_total{direction=\"received\",type=\"PINGREQ\"}"), 0);
}

#[test]
fn a_close_is_answered_and_the_will_goes_out_because_there_was_no_disconnect() {
    let broker = Broker::start(WS);
    let mut watcher = client(&broker, "watcher");
    watcher.subscribe("will", QoS::AtMostOnce);
    let will = bucketmq_packet::Will {
        topic: "will",
        payload: b"gone",
        qos: QoS::AtMostOnce,
        retain: false,
        delay_interval: 0,
        message_expiry_interval: None,
        forward: (&[][..]).into(),
    };
    let connect = bucketmq_packet::Connect { will: Some(will), ..connect("a", true, None) };
    let mut client = Client::over(WebSocket::open(tcp(broker.address)), &connect).unwrap();
    let going_away = 1001_u16.to_be_bytes();
    client.stream.stream.write_all(&frame(FIN | CLOSE, &going_away)).unwrap();
    assert_eq!(read_frame(&mut client.stream.stream).unwrap(), (CLOSE, going_away.to_vec()));
    assert_eq!(until_closed(&mut client.stream.stream), b"");
    assert_eq!(watcher.next(), Came::Publish("will".to_owned(), b"gone".to_vec()));
}

#[test]
fn what_is_not_the_configured_path_origin_or_subprotocol_is_answered_with_http() {
    let broker = Broker::start(&format!("{WS}path = \"/broker\"\nallowed_origins = [\"https://app.example\"]\n"));
    for (request, status) in [
        (request("/broker", "Sec-WebSocket-Protocol: chat, mqtt\r\nOrigin: https://app.example\r\n"), "101 Switching Protocols"),
        (request("/broker?token=1", "Sec-WebSocket-Protocol: mqtt\r\n"), "101 Switching Protocols"),
        (request("/mqtt", "Sec-WebSocket-Protocol: mqtt\r\n"), "404 Not Found"),
        (request("/broker/", "Sec-WebSocket-Protocol: mqtt\r\n"), "404 Not Found"),
        (request("/broker", "Sec-WebSocket-Protocol: mqtt\r\nOrigin: https://evil.example\r\n"), "403 Forbidden"),
        (request("/broker", "Sec-WebSocket-Protocol: mqtt\r\nOrigin: http://app.example\r\n"), "403 Forbidden"),
        // [MQTT-6.0.0-3]
        (request("/broker", "Sec-WebSocket-Protocol: chat\r\n"), "400 Bad Request"),
        ("GET /broker HTTP/1.1\r\nHost: broker.example\r\n\r\n".to_owned(), "400 Bad Request"),
    ] {
        let mut stream = tcp(broker.address);
        let answer = ask(&mut stream, &request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request}{answer}");
        if !status.starts_with("101") {
            assert!(answer.contains("Connection: close\r\n"), "{answer}");
            until_closed(&mut stream);
        }
    }
    // MQTT without a WebSocket around it.
    let mut stream = tcp(broker.address);
    stream.write_all(&encoded(&Packet::Connect(connect("bare", true, None)))).unwrap();
    let answer = until_closed(&mut stream);
    assert!(answer.starts_with(b"HTTP/1.1 400 ") && answer[0] >> 4 != PacketType::ConnAck as u8, "{answer:?}");
}
