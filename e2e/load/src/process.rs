//! What a process costs: processor time and resident memory, as the kernel accounts them.

use std::fs;
use std::io;
use std::mem::MaybeUninit;

/// Processor time a process has used, all its threads, also those that have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Nanoseconds altogether, from the scheduler.
    pub total_ns: u64,
    /// Clock ticks in user mode; only good for the proportion.
    pub user_ticks: u64,
    /// Clock ticks in the kernel.
    pub system_ticks: u64,
}

impl Usage {
    /// Of the process `pid`.
    pub fn of(pid: u32) -> io::Result<Usage> {
        let (user_ticks, system_ticks) = ticks(&fs::read_to_string(format!("/proc/{pid}/stat"))?)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/PID/stat is not understood"))?;
        Ok(Usage { total_ns: cpu_clock(pid)?, user_ticks, system_ticks })
    }

    /// What was used since `earlier`.
    pub fn since(self, earlier: Usage) -> Usage {
        Usage {
            total_ns: self.total_ns.saturating_sub(earlier.total_ns),
            user_ticks: self.user_ticks.saturating_sub(earlier.user_ticks),
            system_ticks: self.system_ticks.saturating_sub(earlier.system_ticks),
        }
    }

    /// Microseconds altogether.
    pub fn total_us(self) -> f64 {
        self.total_ns as f64 / 1e3
    }

    /// The part of the time spent in user mode, 0 to 1; None when too little was used to tell.
    pub fn user_share(self) -> Option<f64> {
        let ticks = self.user_ticks + self.system_ticks;
        (ticks > 0).then(|| self.user_ticks as f64 / ticks as f64)
    }
}

/// The fields utime and stime; the name before them may hold spaces and brackets.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Nanoseconds on the CPU-time clock of a process. Unlike the sum over `/proc/PID/task/*/schedstat` it counts threads that
/// have ended and the slice that is running; unlike `/proc/PID/stat` it does not count in hundredths of a second.
fn cpu_clock(pid: u32) -> io::Result<u64> {
    let mut clock = MaybeUninit::uninit();
    // SAFETY: `clock` is a place for one clock id, which the call writes when it returns 0.
    let error = unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, clock.as_mut_ptr()) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: `clock` was written by the call above; `time` is a place for one timespec, written when the call returns 0.
    let time = unsafe {
        if libc::clock_gettime(clock.assume_init(), time.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        time.assume_init()
    };
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// Resident memory of a process in bytes. `smaps_rollup` is exact; the counter in `status` lags by some pages per processor.
pub fn rss_bytes(pid: u32) -> io::Result<u64> {
    let read = |file: &str, key: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/{file}"))?;
        kibibytes(&text, key).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no resident size"))
    };
    read("smaps_rollup", "Rss:").or_else(|_| read("status", "VmRSS:"))
}

/// The most memory that was ever resident, in bytes.
pub fn peak_rss_bytes(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    kibibytes(&text, "VmHWM:").ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no peak resident size"))
}

fn kibibytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
}

/// Lets this process, and those it starts, open as many files as it may, and wake from sleeps on time.
pub fn raise_limits() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit for the call to write to.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is a valid rlimit for the call to read.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // The default slack of 50 us would be part of every latency of a paced run. Not vital, so an old kernel may refuse.
    let _ = fs::write("/proc/self/timerslack_ns", "1");
    Ok(limit.rlim_cur)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_a_name_with_brackets() {
        let stat = "77 (a) b (c) S 1 77 77 0 -1 4194560 100 0 0 0 31 12 0 0 20 0 1 0 900";
        assert_eq!(ticks(stat), Some((31, 12)));
    }

    #[test]
    fn own_usage_grows_while_working() {
        let pid = std::process::id();
        let before = Usage::of(pid).expect("this process exists");
        let start = std::time::Instant::now();
        while start.elapsed().as_millis() < 30 {}
        let used = Usage::of(pid).expect("this process exists").since(before);
        assert!(used.total_ns > 5_000_000, "{used:?}");
        assert!(rss_bytes(pid).expect("this process exists") > 100_000);
    }

    #[test]
    fn usage_of_a_missing_process_is_an_error() {
        assert!(Usage::of(u32::MAX / 2).is_err());
    }
}
