//! The stream over a pipe that takes and gives as little as it is told to.

use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let (header, used) = frame::encode_header(Opcode::Binary, payload.len() as u64);
    let mut bytes = header[..used].to_vec();
    bytes[0] = first;
    bytes[1] |= 0x80;
    bytes.extend([0x11, 0x22, 0x33, 0x44]);
    bytes.extend(payload.iter().zip([0x11, 0x22, 0x33, 0x44].iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

fn pair(capacity: usize) -> (WebSocket<DuplexStream>, DuplexStream) {
    let (server, client) = duplex(capacity);
    (WebSocket::new(server, Vec::new()), client)
}

#[tokio::test]
async fn data_is_read_into_buffers_of_any_size() {
    let message: Vec<u8> = (0..=255).cycle().take(1000).collect();
    for size in [1, 2, 3, 7, 64, 5000] {
        let (mut server, mut client) = pair(10_000);
        client.write_all(&client_frame(0x02, &message[..300])).await.unwrap();
        client.write_all(&client_frame(0x80, &message[300..])).await.unwrap();
        drop(client);
        let (mut read, mut buffer) = (Vec::<u8>::new(), vec![0; size]);
        loop {
            match server.read(&mut buffer).await.unwrap() {
                0 => break,
                n => read.extend(&buffer[..n]),
            }
        }
        assert_eq!(read, message, "{size}");
    }
}

#[tokio::test]
async fn what_came_with_the_handshake_is_read_first() {
    let (server, mut client) = duplex(100);
    let whole = client_frame(0x82, b"early and late");
    let mut server = WebSocket::new(server, whole[..9].to_vec());
    client.write_all(&whole[9..]).await.unwrap();
    let mut read = [0; 14];
    server.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"early and late");
}

#[tokio::test]
async fn one_write_is_one_frame_however_slowly_it_is_taken() {
    for capacity in [1, 2, 3, 5, 100_000] {
        let (mut server, mut client) = pair(capacity);
        let message: Vec<u8> = (0..=255).cycle().take(70_000).collect();
        let written = message.clone();
        let writing = tokio::spawn(async move {
            server.write_all(&written).await.unwrap();
            server.write_all(b"next").await.unwrap();
            server.shutdown().await.unwrap();
        });
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).await.unwrap();
        writing.await.unwrap();
        assert_eq!(bytes[..10], [0x82, 127, 0, 0, 0, 0, 0, 1, 0x11, 0x70]);
        assert_eq!(bytes[10..70_010], message);
        assert_eq!(&bytes[70_010..70_016], b"\x82\x04next");
        assert_eq!(bytes[70_016..], [0x88, 2, 0x03, 0xe8]);
    }
}

#[tokio::test]
async fn a_ping_is_answered_between_frames_and_not_within_one() {
    let (mut server, mut client) = pair(8);
    // The frame's header and 6 bytes of its payload fit in the pipe.
    let n = std::future::poll_fn(|cx| Pin::new(&mut server).poll_write(cx, b"0123456789")).await.unwrap();
    assert!(n < 10);
    let ping = client_frame(0x89, b"hi");
    let mut got = Vec::new();
    let reading = async {
        client.write_all(&ping).await.unwrap();
        while got.len() < 16 {
            client.read_buf(&mut got).await.unwrap();
        }
    };
    let serving = async {
        let mut nothing = [0; 16];
        tokio::select! {
            biased;
            _ = server.read(&mut nothing) => panic!("a ping is no data"),
            () = tokio::time::sleep(std::time::Duration::from_millis(20)) => {}
        }
        server.write_all(&b"0123456789"[n..]).await.unwrap();
        server.flush().await.unwrap();
    };
    tokio::join!(reading, serving);
    assert_eq!(got, [&b"\x82\x0a0123456789"[..], b"\x8a\x02hi"].concat());
}

#[tokio::test]
async fn only_the_latest_of_many_pings_has_to_be_answered_and_memory_stays() {
    let (mut server, mut client) = pair(1 << 20);
    for at in 0..1000u32 {
        client.write_all(&client_frame(0x89, &at.to_be_bytes())).await.unwrap();
    }
    client.write_all(&client_frame(0x82, b"!")).await.unwrap();
    let mut buffer = vec![0; 1 << 20];
    assert_eq!(server.read(&mut buffer).await.unwrap(), 1);
    server.flush().await.unwrap();
    let mut pong = [0; 6];
    client.read_exact(&mut pong).await.unwrap();
    assert_eq!(pong[..2], [0x8a, 4]);
    assert_eq!(pong[2..], 999u32.to_be_bytes());
}

#[tokio::test]
async fn a_close_is_answered_and_ends_both_ways() {
    let (mut server, mut client) = pair(100);
    client.write_all(&client_frame(0x88, &[0x03, 0xe9])).await.unwrap();
    assert_eq!(server.read(&mut [0; 10]).await.unwrap(), 0);
    assert_eq!(server.write(b"late").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    server.shutdown().await.unwrap();
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes, [0x88, 2, 0x03, 0xe9]);
}

#[tokio::test]
async fn a_text_frame_closes_with_its_code_after_the_data_before_it() {
    let (mut server, mut client) = pair(100);
    client.write_all(&[client_frame(0x82, b"ok"), client_frame(0x81, b"text")].concat()).await.unwrap();
    let mut buffer = [0; 50];
    assert_eq!(server.read(&mut buffer).await.unwrap(), 2);
    assert_eq!(server.read(&mut buffer).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    drop(server);
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes, [0x88, 2, 0x03, 0xeb]);
}
