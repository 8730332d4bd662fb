//! MQTT over WebSocket.

use std::time::Duration;

use crate::client::Client;
use crate::ensure;
use crate::outcome::{Outcome, failed, not_applicable};
use crate::reply::Reply;
use crate::run::Run;
use crate::stream::Stream;
use crate::websocket::{WebSocket, opcode};

tests! {
    websocket_carries_mqtt_in_binary_frames v5["6.0.0-1", "6.0.0-4", "4.2.0-1"] v3["6.0.0-1", "6.0.0-4"];
    subprotocol_mqtt_is_selected_from_several v5["6.0.0-3", "6.0.0-4"] v3["6.0.0-3", "6.0.0-4"];
    packets_and_frames_need_not_line_up v5["6.0.0-2"] v3["6.0.0-2"];
    text_frame_closes v5["6.0.0-1"] v3["6.0.0-1"];
    fragmented_frame_is_understood v5["6.0.0-2"] v3["6.0.0-2"];
    websocket_ping_between_packets_is_answered v5["6.0.0-2"] v3["6.0.0-2"];
    large_message_passes_websocket v5["6.0.0-2"] v3["6.0.0-2"];
    clients_of_websocket_and_tcp_meet v5["4.2.0-1"] v3[];
}

fn url<'t>(t: &Run<'t>) -> Outcome<&'t str> {
    t.target.websocket.as_deref().map_or_else(|| not_applicable("needs --ws"), Ok)
}

/// The WebSocket of a Client made here.
fn socket(client: &mut Client) -> &mut WebSocket {
    match client.stream() {
        Stream::WebSocket(socket) => socket,
        Stream::Tcp(_) => unreachable!("the Client was connected by a ws:// URL"),
    }
}

fn connected(client: &mut Client) -> Outcome {
    match client.reply()? {
        Reply::ConnAck(accepted) if accepted.code == 0 => Ok(()),
        other => failed(format!("{} instead of CONNACK", other.name())),
    }
}

fn websocket_carries_mqtt_in_binary_frames(t: &Run<'_>) -> Outcome {
    let mut client = t.connect("a").at(url(t)?).client()?;
    client.subscribe(&t.topic("a"), 2)?;
    for quality in 0..=2 {
        client.publish(&t.message("a", "x").qos(quality))?;
        client.expect("x")?;
    }
    let socket = socket(&mut client);
    ensure!(socket.subprotocol.as_deref() == Some("mqtt"), "the Server selected {:?}", socket.subprotocol);
    ensure!(
        socket.data_opcodes.iter().all(|found| matches!(*found, opcode::BINARY | opcode::CONTINUATION)),
        "frames {:?}",
        socket.data_opcodes
    );
    client.disconnect()
}

fn subprotocol_mqtt_is_selected_from_several(t: &Run<'_>) -> Outcome {
    let socket = WebSocket::connect_offering(url(t)?, "chat, mqtt", t.target.wait)?;
    ensure!(socket.subprotocol.as_deref() == Some("mqtt"), "the Server selected {:?}", socket.subprotocol);
    Ok(())
}

fn packets_and_frames_need_not_line_up(t: &Run<'_>) -> Outcome {
    let url = url(t)?;
    let mut client = t.raw_at(url)?;
    // One byte in each frame.
    for byte in t.connect("a").encode() {
        client.send(&[byte]);
    }
    connected(&mut client)?;
    // Several packets, the last of them cut, in one frame; then the rest.
    client.subscribe(&t.topic("a"), 0)?;
    let bytes: Vec<u8> = ["one", "two", "three"].iter().flat_map(|payload| t.message("a", payload).encode(t.version)).collect();
    let (head, tail) = bytes.split_at(bytes.len() - 4);
    client.send(head);
    client.send(tail);
    for payload in ["one", "two", "three"] {
        client.expect(payload)?;
    }
    Ok(())
}

fn text_frame_closes(t: &Run<'_>) -> Outcome {
    let mut client = t.connect("a").at(url(t)?).client()?;
    socket(&mut client).send_frame(true, opcode::TEXT, &[0xC0, 0])?;
    client.closed().map(|_| ())
}

fn fragmented_frame_is_understood(t: &Run<'_>) -> Outcome {
    let mut client = t.connect("a").at(url(t)?).client()?;
    client.subscribe(&t.topic("a"), 0)?;
    let packet = t.message("a", "in three fragments").encode(t.version);
    let socket = socket(&mut client);
    socket.send_frame(false, opcode::BINARY, &packet[..3])?;
    socket.send_frame(false, opcode::CONTINUATION, &packet[3..10])?;
    socket.send_frame(true, opcode::CONTINUATION, &packet[10..])?;
    client.expect("in three fragments")?;
    Ok(())
}

fn websocket_ping_between_packets_is_answered(t: &Run<'_>) -> Outcome {
    let mut client = t.connect("a").at(url(t)?).client()?;
    let packet = t.message("a", "around a ping").encode(t.version);
    client.subscribe(&t.topic("a"), 0)?;
    let socket_of = socket(&mut client);
    socket_of.send_binary(&packet[..5])?;
    socket_of.send_frame(true, opcode::PING, b"still there?")?;
    socket_of.send_binary(&packet[5..])?;
    client.expect("around a ping")?;
    client.nothing_for(Duration::from_millis(200))?;
    ensure!(socket(&mut client).pongs.iter().any(|pong| pong == b"still there?"), "no pong came");
    Ok(())
}

fn large_message_passes_websocket(t: &Run<'_>) -> Outcome {
    let mut client = t.connect("a").at(url(t)?).client()?;
    client.subscribe(&t.topic("a"), 1)?;
    let payload = vec![7; 150_000];
    client.publish(&t.message("a", &payload).qos(1))?;
    client.expect(&payload)?;
    Ok(())
}

fn clients_of_websocket_and_tcp_meet(t: &Run<'_>) -> Outcome {
    let mut subscriber = t.subscriber("a", 1)?;
    let mut client = t.connect("a").at(url(t)?).client()?;
    client.publish(&t.message("a", "from ws").qos(1))?;
    subscriber.expect("from ws")?;
    Ok(())
}
