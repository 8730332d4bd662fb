//! What a WebSocket client may send: frames give the same data in whatever pieces they come, and requests are read without a panic.
#![no_main]

use bucketmq_listener::websocket::frame::Decoder;
use bucketmq_listener::websocket::upgrade::{Expected, UpgradeError, parse};
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
    let expected = Expected { path: "/mqtt", allowed_origins: &[] };
    if let Ok(Some(request)) = parse(bytes, &expected) {
        assert!(request.length <= bytes.len());
        assert_eq!(parse(&bytes[..request.length], &expected).ok().flatten().map(|alone| alone.accept), Some(request.accept));
        // As a whole or not at all; what is too long for a part is too long.
        assert!(matches!(parse(&bytes[..request.length - 1], &expected), Ok(None) | Err(UpgradeError::TooLong)));
    }
    let whole = decode(&mut [&mut bytes.to_vec()]);
    let mut parts = bytes.to_vec();
    let (first, second) = parts.split_at_mut(usize::from(cut).min(bytes.len()));
    assert_eq!(whole, decode(&mut [first, second]));
    let mut single: Vec<[u8; 1]> = bytes.iter().map(|byte| [*byte]).collect();
    let mut single: Vec<&mut [u8]> = single.iter_mut().map(|byte| &mut byte[..]).collect();
    assert_eq!(whole, decode(&mut single));
});
