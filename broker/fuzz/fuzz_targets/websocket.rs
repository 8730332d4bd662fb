//! What a WebSocket client may send: frames give the same data in whatever pieces they come, and requests are read without a panic.
#![no_main]

use bucketmq_listener::websocket::frame::Decoder;
use bucketmq_listener::websocket::upgrade::{Expected, parse};
use libfuzzer_sys::fuzz_target;

fn decode(pieces: &mut [&mut [u8]]) -> (Vec<u8>, usize, bool) {
    let mut decoder = Decoder::default();
    let (mut data, mut controls, mut failed) = (Vec::new(), 0, false);
    for piece in pieces {
        let decoded = decoder.decode(piece, |control| {
            assert!(control.payload.len() <= 125);
            controls += 1;
        });
        data.extend_from_slice(&piece[..decoded.data]);
        failed |= decoded.error.is_some();
    }
    (data, controls, failed)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (cut, bytes) = input;
    let _ = parse(bytes, &Expected { path: "/mqtt", allowed_origins: &[] });
    let whole = decode(&mut [&mut bytes.to_vec()]);
    let mut parts = bytes.to_vec();
    let (first, second) = parts.split_at_mut(usize::from(cut).min(bytes.len()));
    assert_eq!(whole, decode(&mut [first, second]));
    let mut single: Vec<[u8; 1]> = bytes.iter().map(|byte| [*byte]).collect();
    let mut single: Vec<&mut [u8]> = single.iter_mut().map(|byte| &mut byte[..]).collect();
    assert_eq!(whole, decode(&mut single));
});
