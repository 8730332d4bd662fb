//! A clock that can be set, for a process that is started with this in `LD_PRELOAD`: what the C library says of the time of day is moved by the seconds
//! that stand in the file `CLOCK_OFFSET_FILE` names, eight bytes in the machine's order, and follows them at once when they change. The monotonic
//! clock is left alone, as it is when a clock is set by hand or by NTP.

#![no_std]

use core::ffi::{c_char, c_int, c_long, c_void};
use core::ptr;
use core::sync::atomic::{AtomicI64, AtomicPtr, Ordering};

const FILE: &core::ffi::CStr = c"CLOCK_OFFSET_FILE";
const SYS_CLOCK_GETTIME: c_long = if cfg!(target_arch = "aarch64") { 113 } else { 228 };
const CLOCK_REALTIME: c_int = 0;
const CLOCK_REALTIME_COARSE: c_int = 5;

#[repr(C)]
pub struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

#[repr(C)]
pub struct Timeval {
    seconds: i64,
    microseconds: i64,
}

unsafe extern "C" {
    fn getenv(name: *const c_char) -> *mut c_char;
    fn open(path: *const c_char, flags: c_int, ...) -> c_int;
    fn mmap(at: *mut c_void, length: usize, protection: c_int, flags: c_int, file: c_int, offset: i64) -> *mut c_void;
    fn syscall(number: c_long, ...) -> c_long;
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

static NONE: AtomicI64 = AtomicI64::new(0);
static OFFSET: AtomicPtr<AtomicI64> = AtomicPtr::new(ptr::null_mut());

fn offset() -> i64 {
    let mut known = OFFSET.load(Ordering::Acquire);
    if known.is_null() {
        // SAFETY: plain calls of the C library; what `mmap` gives stays for as long as the process.
        known = unsafe {
            let path = getenv(FILE.as_ptr());
            let file = if path.is_null() { -1 } else { open(path, 0) };
            // Readable, shared.
            let mapped = if file < 0 { usize::MAX as *mut c_void } else { mmap(ptr::null_mut(), 8, 1, 1, file, 0) };
            if mapped as usize == usize::MAX { &raw const NONE as *mut AtomicI64 } else { mapped.cast() }
        };
        OFFSET.store(known, Ordering::Release);
    }
    // SAFETY: eight bytes that are there for ever, aligned to a page.
    unsafe { (*known).load(Ordering::Relaxed) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: c_int, time: *mut Timespec) -> c_int {
    // SAFETY: the caller vouches for `time`.
    unsafe {
        let outcome = syscall(SYS_CLOCK_GETTIME, clock, time) as c_int;
        if outcome == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) {
            (*time).seconds += offset();
        }
        outcome
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn gettimeofday(time: *mut Timeval, _: *mut c_void) -> c_int {
    let mut now = Timespec { seconds: 0, nanoseconds: 0 };
    // SAFETY: the caller vouches for `time`.
    unsafe {
        clock_gettime(CLOCK_REALTIME, &raw mut now);
        *time = Timeval { seconds: now.seconds, microseconds: now.nanoseconds / 1_000 };
    }
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn time(into: *mut i64) -> i64 {
    let mut now = Timespec { seconds: 0, nanoseconds: 0 };
    // SAFETY: the caller vouches for `into`, which may be null.
    unsafe {
        clock_gettime(CLOCK_REALTIME, &raw mut now);
        if !into.is_null() {
            *into = now.seconds;
        }
    }
    now.seconds
}
