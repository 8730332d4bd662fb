//! Times and sizes as people write them: `"30s"`, `"128MiB"`.
//!
//! Promise: what is written here reads back to the same value, which neither `humantime` nor `bytesize` promise of every size; the hash of the
//! configuration stands on it.

use std::time::Duration;

use bytesize::ByteSize;

const TIMES: [(u64, &str); 4] = [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")];
const SIZES: [(u64, &str); 4] = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];

/// The shortest whole number with a unit, such as `7d` or `90s`.
pub fn time_text(time: Duration) -> String {
    let seconds = time.as_secs();
    if time.subsec_nanos() != 0 {
        return humantime::format_duration(time).to_string();
    }
    let (length, unit) = TIMES.into_iter().find(|(length, _)| seconds > 0 && seconds.is_multiple_of(*length)).unwrap_or((1, "s"));
    format!("{}{unit}", seconds / length)
}

/// The shortest whole number with a unit, such as `1MiB` or `1000B`.
pub fn size_text(size: ByteSize) -> String {
    let bytes = size.as_u64();
    let (length, unit) = SIZES.into_iter().find(|(length, _)| bytes > 0 && bytes.is_multiple_of(*length)).unwrap_or((1, "B"));
    format!("{}{unit}", bytes / length)
}

/// For `#[serde(with = "units::time")]`.
pub mod time {
    use std::time::Duration;

    use serde::{Deserializer, Serializer};

    /// Writes a time that reads back the same.
    pub fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::time_text(*time))
    }

    /// Reads a time such as `30s`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        humantime_serde::deserialize(deserializer)
    }
}

/// For `#[serde(with = "units::size")]`.
pub mod size {
    use bytesize::ByteSize;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes a size that reads back the same.
    pub fn serialize<S: Serializer>(size: &ByteSize, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::size_text(*size))
    }

    /// Reads a size such as `128MiB`, or a number of bytes.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
        ByteSize::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_their_largest_whole_unit_and_read_back() {
        for (time, text) in [
            (Duration::ZERO, "0s"),
            (Duration::from_secs(1), "1s"),
            (Duration::from_secs(60), "1m"),
            (Duration::from_secs(90), "90s"),
            (Duration::from_secs(604_800), "7d"),
            (Duration::from_millis(1500), "1s 500ms"),
        ] {
            assert_eq!(time_text(time), text);
            assert_eq!(humantime::parse_duration(text).unwrap(), time);
        }
    }

    #[test]
    fn sizes_are_written_in_their_largest_whole_unit_and_read_back() {
        for (bytes, text) in [(0, "0B"), (1000, "1000B"), (1024, "1KiB"), (1 << 20, "1MiB"), ((1 << 20) + 1, "1048577B"), (3 << 30, "3GiB")]
        {
            assert_eq!(size_text(ByteSize(bytes)), text);
            assert_eq!(text.parse::<ByteSize>().unwrap().as_u64(), bytes);
        }
    }
}
