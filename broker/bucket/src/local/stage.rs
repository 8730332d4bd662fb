//! Files on their way to become objects: written aside, whole and on disk before anybody sees them.

use std::fs::{File, FileTimes, Metadata};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

/// A staged file that nobody has locked, and nobody has touched for this long, belongs to a process that died. Between making and locking one lie
/// microseconds, and a copy, which has no lock, takes milliseconds.
pub(super) const ABANDONED_AFTER: Duration = Duration::from_secs(60);

/// Gone when dropped, unless it was moved away. Its lock tells a sweep that somebody is still at it.
#[derive(Debug)]
pub(super) struct Staged {
    file: File,
    path: PathBuf,
}

impl Staged {
    pub(super) fn create(folder: &Path) -> io::Result<Staged> {
        let path = folder.join(format!("{:032x}", rand::random::<u128>()));
        let file = File::options().create_new(true).read(true).write(true).open(&path)?;
        file.lock()?;
        Ok(Staged { file, path })
    }

    /// Another name of the object at `from`.
    pub(super) fn link(folder: &Path, from: &Path) -> io::Result<Staged> {
        let path = folder.join(format!("{:032x}", rand::random::<u128>()));
        std::fs::hard_link(from, &path)?;
        Ok(Staged { file: File::open(&path)?, path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn append<'a>(&mut self, pieces: impl IntoIterator<Item = &'a Bytes>) -> io::Result<()> {
        pieces.into_iter().try_for_each(|piece| self.file.write_all(piece))
    }

    pub(super) fn write_at<'a>(&self, pieces: impl IntoIterator<Item = &'a Bytes>, mut offset: u64) -> io::Result<()> {
        for piece in pieces {
            self.file.write_all_at(piece, offset)?;
            offset += piece.len() as u64;
        }
        Ok(())
    }

    /// Gives it a time later than `than` and than every other time given here, and puts it on disk: ETags are made of it.
    pub(super) fn stamp(&self, than: Option<SystemTime>) -> io::Result<()> {
        self.file.set_times(FileTimes::new().set_modified(fresh_time(than)))?;
        self.file.sync_all()
    }

    pub(super) fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Usually it is an object by now.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Removes what processes that died left behind and nobody touched for `unused`. How many files.
pub(super) fn sweep(folder: &Path, unused: Duration) -> io::Result<usize> {
    let mut removed = 0;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let Ok(file) = File::open(&path) else { continue };
        // The time of the last change of any kind, which a new name is too: contents and their time may be an old object's.
        let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(file.metadata()?.ctime().try_into().unwrap_or(0));
        if changed.elapsed().unwrap_or_default() >= unused && file.try_lock().is_ok() && std::fs::remove_file(&path).is_ok() {
            removed += 1;
        }
    }
    Ok(removed)
}

/// Whether file times keep microseconds, which ETags are made of.
pub(super) fn times_are_fine(folder: &Path) -> io::Result<bool> {
    let staged = Staged::create(folder)?;
    let time = SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_457);
    staged.file.set_times(FileTimes::new().set_modified(time))?;
    Ok(staged.metadata()?.modified()? == time)
}

/// The same text as object_store's, which lists show: inode, time in microseconds, size.
pub(super) fn e_tag(metadata: &Metadata) -> String {
    let time = metadata.modified().ok().and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok()).unwrap_or_default();
    format!("\"{:x}-{:x}-{:x}\"", metadata.ino(), time.as_micros(), metadata.len())
}

/// The clock, but never the same microsecond twice: the system's own file times stand still for milliseconds, and an inode that is used again within
/// them would bring an old ETag back.
fn fresh_time(than: Option<SystemTime>) -> SystemTime {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let micros = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros() as u64;
    let wanted = micros(SystemTime::now()).max(than.map_or(0, |than| micros(than) + 1));
    let last = LAST.fetch_max(wanted, Ordering::Relaxed);
    let given = if last < wanted { wanted } else { LAST.fetch_add(1, Ordering::Relaxed) + 1 };
    SystemTime::UNIX_EPOCH + Duration::from_micros(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_never_given_twice_and_always_later() {
        let given: Vec<SystemTime> = (0..1000).map(|_| fresh_time(None)).collect();
        assert!(given.windows(2).all(|pair| pair[0] < pair[1]));
        let late = SystemTime::now() + Duration::from_secs(3600);
        assert!(fresh_time(Some(late)) > late);
    }

    #[test]
    fn a_sweep_takes_what_nobody_holds_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let held = Staged::create(dir.path()).unwrap();
        std::fs::write(dir.path().join("left"), "").unwrap();
        assert_eq!(sweep(dir.path(), ABANDONED_AFTER).unwrap(), 0);
        assert_eq!(sweep(dir.path(), Duration::ZERO).unwrap(), 1);
        assert!(held.path().exists() && !dir.path().join("left").exists());
    }
}
