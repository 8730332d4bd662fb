//! A clock that is set while the broker runs.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::ensure;

/// What stands before the C library of the broker.
const LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/clock.so"));

/// The time of day of one process.
pub struct Clock {
    library: PathBuf,
    offset: PathBuf,
}

impl Clock {
    /// One that is right; its files go into `folder`.
    pub fn new(folder: &Path) -> anyhow::Result<Self> {
        ensure!(!LIBRARY.is_empty(), "clocks can be set on Linux only");
        let clock = Self { library: folder.join("clock.so"), offset: folder.join("clock-offset") };
        std::fs::write(&clock.library, LIBRARY)?;
        clock.set(0)?;
        Ok(clock)
    }

    /// What a process that goes by it is started with.
    pub fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [("LD_PRELOAD", self.library.clone()), ("CLOCK_OFFSET_FILE", self.offset.clone())]
    }

    /// From now on it is so many seconds ahead of the host's.
    pub fn set(&self, seconds: i64) -> anyhow::Result<()> {
        // The same file: whoever goes by it has mapped it.
        let mut file = std::fs::File::options().create(true).truncate(false).write(true).open(&self.offset)?;
        Ok(file.write_all(&seconds.to_ne_bytes())?)
    }
}
