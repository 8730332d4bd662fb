//! The clock on the wall, as `strftime` writes it.

use std::ffi::CString;
use std::time::{SystemTime, UNIX_EPOCH};

/// A moment, in the time zone of this machine.
#[derive(Clone, Copy)]
pub struct LocalTime {
    /// Since 1970 in UTC.
    pub seconds: i64,
    /// Within the second.
    pub nanoseconds: u32,
    fields: libc::tm,
}

impl LocalTime {
    /// The moment of the call.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::at(i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos())
    }

    fn at(seconds: i64, nanoseconds: u32) -> Self {
        // SAFETY: `tm` is plain numbers and a pointer, for all of which zero is a value; `localtime_r` reads the first argument and writes the
        // second, both of which live here. Where it fails the fields stay zero.
        let fields = unsafe {
            let mut fields: libc::tm = std::mem::zeroed();
            libc::localtime_r(&seconds, &mut fields);
            fields
        };
        Self { seconds, nanoseconds, fields }
    }

    /// What `strftime` makes of `format`; empty where it cannot.
    pub fn format(&self, format: &str) -> String {
        let Ok(format) = CString::new(format) else { return String::new() };
        let mut buffer = [0_u8; 256];
        // SAFETY: the buffer is as long as is said, the format ends with NUL, and the fields come from `localtime_r`, whose zone name is static.
        let length = unsafe { libc::strftime(buffer.as_mut_ptr().cast(), buffer.len(), format.as_ptr(), &self.fields) };
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    /// `2016-08-10T09:47:38+0100`.
    pub fn iso_8601(&self) -> String {
        self.format("%Y-%m-%dT%H:%M:%S%z")
    }

    /// `2020-05-06T22:12:00.000000+0100`.
    pub fn iso_8601_with_fraction(&self) -> String {
        format!("{}.{:06}{}", self.format("%Y-%m-%dT%H:%M:%S"), self.nanoseconds / 1000, self.format("%z"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_as_the_format_says() {
        let moment = LocalTime::at(86_400 * 365, 7_000);
        assert_eq!(moment.format("%s"), (86_400 * 365).to_string());
        let iso = moment.iso_8601_with_fraction();
        assert!(iso.contains(".000007") && iso.contains('T'), "{iso}");
    }
}
