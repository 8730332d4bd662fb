//! A PROXY protocol header from anybody: parsed without a panic, and the same however much follows it.
#![no_main]

use bucketmq_listener::proxy::{MAX_HEADER, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(Some((header, length))) = parse(data) else { return };
    assert!(length <= data.len() && length <= MAX_HEADER);
    let (alone, same) = parse(&data[..length]).expect("it is whole").expect("it is whole");
    assert_eq!((alone, same), (header, length));
    for short in 0..length {
        assert!(matches!(parse(&data[..short]), Ok(None)), "a part of a good header is neither good nor bad");
    }
});
