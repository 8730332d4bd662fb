//! Buffers shared by the connections of a worker thread, so that an idle connection owns none.

use std::cell::RefCell;

/// Bytes one read takes at most. One system call then brings thousands of small messages.
pub const READ_BYTES: usize = 128 * 1024;
/// Small output buffers kept per thread for the next connection that has something to send.
const SMALL_BUFFERS_MAX: usize = 512;
/// What counts as small: 512 of these are 4 MiB per thread at most.
const SMALL_BYTES_MAX: usize = 8 * 1024;
/// Large buffers kept per thread.
const LARGE_BUFFERS_MAX: usize = 4;
/// A larger one goes back to the allocator: 4 of these are 4 MiB per thread at most.
const LARGE_BYTES_MAX: usize = 1024 * 1024;
/// What a fresh output buffer starts with: a few small messages.
const FRESH_BYTES: usize = 512;

#[derive(Default)]
struct Spares {
    small: Vec<Vec<u8>>,
    large: Vec<Vec<u8>>,
}

thread_local! {
    static READ: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
    static SPARES: RefCell<Spares> = RefCell::new(Spares::default());
}

/// Lends this thread's read buffer, [`READ_BYTES`] long.
pub fn with_read_buffer<T>(use_it: impl FnOnce(&mut [u8]) -> T) -> T {
    READ.with_borrow_mut(|buffer| use_it(buffer))
}

/// An empty buffer with some capacity.
pub fn spare() -> Vec<u8> {
    SPARES.with_borrow_mut(|spares| spares.small.pop()).unwrap_or_else(|| Vec::with_capacity(FRESH_BYTES))
}

/// An empty buffer for about `bytes`.
pub fn spare_for(bytes: usize) -> Vec<u8> {
    if bytes <= SMALL_BYTES_MAX {
        return spare();
    }
    SPARES.with_borrow_mut(|spares| spares.large.pop()).unwrap_or_else(|| Vec::with_capacity(bytes))
}

/// Takes a buffer nobody needs any more.
pub fn give_back(mut buffer: Vec<u8>) {
    buffer.clear();
    SPARES.with_borrow_mut(|spares| {
        let (pool, most) = match buffer.capacity() {
            0 => return,
            1..=SMALL_BYTES_MAX => (&mut spares.small, SMALL_BUFFERS_MAX),
            bytes if bytes <= LARGE_BYTES_MAX => (&mut spares.large, LARGE_BUFFERS_MAX),
            _ => return,
        };
        if pool.len() < most {
            pool.push(buffer);
        }
    });
}
