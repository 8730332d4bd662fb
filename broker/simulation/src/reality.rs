//! What this process takes for real: a clock that only the simulation moves, and randomness that comes from the seed.
//!
//! The standard library and every crate ask the C library for both, with `clock_gettime` and `getrandom`. The two functions defined here stand
//! before those of the C library in this binary, and in no other. They pass everything on until [`begin`] is called; from then on hash maps,
//! identifiers, tokio's `select!` and SlateDB's jitter draw from the seed, and `Instant` and `SystemTime` say what [`set_now_ms`] said last.
//! tokio's timers ask `Instant`, so they follow without knowing.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use crate::random::mix;

/// The wall clock at the beginning of every simulation, seconds since 1970: 2026-01-01.
const WALL_SECONDS: u64 = 1_767_225_600;
/// The monotonic clock then, in seconds: far enough from 0 for whoever subtracts.
const MONOTONIC_SECONDS: u64 = 1_000_000;

static SIMULATED: AtomicBool = AtomicBool::new(false);
static NOW_MS: AtomicU64 = AtomicU64::new(0);
static WALL_SKEW_SECONDS: AtomicI64 = AtomicI64::new(0);
static RANDOM: AtomicU64 = AtomicU64::new(0);

/// From here on clock and randomness are those of `seed`. Once in a process.
pub fn begin(seed: u64) {
    RANDOM.store(mix(seed), Ordering::Relaxed);
    SIMULATED.store(true, Ordering::Relaxed);
}

/// The world has come so far.
pub fn set_now_ms(now: u64) {
    NOW_MS.store(now, Ordering::Relaxed);
}

/// The wall clock of whoever runs next is so far ahead, or behind.
pub fn set_wall_skew_seconds(seconds: i64) {
    WALL_SKEW_SECONDS.store(seconds, Ordering::Relaxed);
}

/// Simulated milliseconds since the beginning.
pub fn now_ms() -> u64 {
    NOW_MS.load(Ordering::Relaxed)
}

/// The C library's `clock_gettime`.
///
/// # Safety
/// `time` points to a `timespec` that may be written.
// SAFETY: the only definition of this symbol in our code; it has the C library's signature and does what callers of that one rely on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> libc::c_int {
    if !SIMULATED.load(Ordering::Relaxed) {
        // SAFETY: the system call takes the same arguments, and the caller vouches for them.
        return unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) } as libc::c_int;
    }
    let base = match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => WALL_SECONDS.saturating_add_signed(WALL_SKEW_SECONDS.load(Ordering::Relaxed)),
        _ => MONOTONIC_SECONDS,
    };
    let now = now_ms();
    // SAFETY: the caller vouches that `time` may be written.
    unsafe {
        (*time).tv_sec = (base + now / 1_000) as libc::time_t;
        (*time).tv_nsec = (now % 1_000 * 1_000_000) as libc::c_long;
    }
    0
}

/// The C library's `getrandom`.
///
/// # Safety
/// `length` bytes at `buffer` may be written.
// SAFETY: the only definition of this symbol in our code; it has the C library's signature and does what callers of that one rely on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut libc::c_void, length: libc::size_t, flags: libc::c_uint) -> libc::ssize_t {
    if !SIMULATED.load(Ordering::Relaxed) {
        // SAFETY: the system call takes the same arguments, and the caller vouches for them.
        return unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) } as libc::ssize_t;
    }
    // SAFETY: the caller vouches for `length` bytes at `buffer`.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
    for chunk in bytes.chunks_mut(8) {
        let random = mix(RANDOM.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed));
        chunk.copy_from_slice(&random.to_le_bytes()[..chunk.len()]);
    }
    length as libc::ssize_t
}
