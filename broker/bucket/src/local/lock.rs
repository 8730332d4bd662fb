//! Locks between writers of one directory, in this process and in others. The system lets go of them when a process dies, however it dies.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path as FilePath, PathBuf};

use object_store::path::Path;
use xxhash_rust::xxh3::xxh3_64;

/// Lock files. Objects share them by hash: enough that writers of different objects seldom meet, few enough to be there from the start.
const LOCKS: u64 = 64;

/// The folder of lock files.
#[derive(Debug)]
pub(super) struct Locks(PathBuf);

/// Held until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _files: Vec<File>,
}

impl Locks {
    pub(super) fn new(folder: PathBuf) -> Locks {
        Locks(folder)
    }

    /// Waits for the sole right to write `locations`.
    pub(super) fn take(&self, locations: &[&Path]) -> io::Result<Lock> {
        let mut numbers: Vec<u64> = locations.iter().map(|location| xxh3_64(location.as_ref().as_bytes()) % LOCKS).collect();
        // Always in the same order, so that two copies in opposite directions do not wait for each other; a file is never waited for twice.
        numbers.sort_unstable();
        numbers.dedup();
        let files: io::Result<Vec<File>> = numbers.into_iter().map(|number| self.lock(number)).collect();
        Ok(Lock { _files: files? })
    }

    fn lock(&self, number: u64) -> io::Result<File> {
        let file = open(&self.0.join(format!("{number:02}")))?;
        loop {
            match file.lock() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result.map(|()| file),
            }
        }
    }

    /// Whether the file system keeps locks at all: some network file systems only say so.
    pub(super) fn work(&self) -> io::Result<bool> {
        let path = self.0.join("check");
        let (first, second) = (open(&path)?, open(&path)?);
        // Another broker may be at the same place right now.
        first.lock()?;
        match second.try_lock() {
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
            Ok(()) => Ok(false),
        }
    }
}

/// A new handle each time: the lock belongs to the handle, so two threads with one would both hold it.
fn open(path: &FilePath) -> io::Result<File> {
    File::options().create(true).truncate(false).write(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_by_one_and_two_objects_may_share_it() {
        let dir = tempfile::tempdir().unwrap();
        let locks = Locks::new(dir.path().to_owned());
        assert!(locks.work().unwrap());
        let (a, b) = (Path::from("a"), Path::from("b"));
        let held = locks.take(&[&a, &b, &a]).unwrap();
        let number = xxh3_64(b"a") % LOCKS;
        assert!(open(&dir.path().join(format!("{number:02}"))).unwrap().try_lock().is_err());
        drop(held);
        locks.take(&[&a]).unwrap();
    }
}
