//! File locks that prove that a process of this host is gone: the system lets go of them when a process dies, however it dies.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rand::Rng;

/// Where Linux tells one boot from the next.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The lock of a directory that is a bucket: whoever has it is the only broker there, on a file system that keeps locks.
#[derive(Debug)]
pub enum HostLock {
    /// The bucket is not on this host: no lock says anything.
    None,
    /// This process has it, so that no other broker lives.
    Held(File),
    /// Another broker has it, so that it lives.
    Taken,
}

/// The lock of a member's name on this host, for this boot.
#[derive(Debug)]
pub struct NameLock {
    _file: File,
    token: String,
}

impl HostLock {
    /// Tries to get the lock at `path`, whose folder is there.
    pub fn of(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Self::Held(file)),
            Err(TryLockError::WouldBlock) => Ok(Self::Taken),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl NameLock {
    /// Gets the lock of the name `file_name` in `folder`; `None` when another process has it, or when this host tells nothing of its boot.
    pub fn take(folder: &Path, file_name: &str) -> io::Result<Option<Self>> {
        let Ok(boot) = fs::read_to_string(BOOT_ID) else { return Ok(None) };
        // Not through a link that somebody has put there.
        let nofollow = rustix_nofollow();
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true).mode(0o600).custom_flags(nofollow);
        let mut file = options.open(folder.join(file_name))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // What tells this file from one of the same name elsewhere: in another container, say.
        let mut token = String::new();
        file.read_to_string(&mut token)?;
        if token.len() != 32 {
            token = format!("{:032x}", rand::rng().random::<u128>());
            file.set_len(0)?;
            io::Seek::rewind(&mut file)?;
            file.write_all(token.as_bytes())?;
        }
        Ok(Some(Self { _file: file, token: format!("{}/{token}", boot.trim()) }))
    }

    /// What stands for the lock in `own/NN`. Whoever holds the lock and reads its own token there knows that the process that wrote it is gone.
    pub fn token(&self) -> &str {
        &self.token
    }
}

fn rustix_nofollow() -> i32 {
    i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).expect("a flag of open(2)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_living_process_is_not_had_twice_and_that_of_a_dead_one_is_known_again() {
        let folder = tempfile::tempdir().unwrap();
        let first = NameLock::take(folder.path(), "a").unwrap().expect("free");
        let token = first.token().to_owned();
        assert!(NameLock::take(folder.path(), "a").unwrap().is_none());
        assert_ne!(NameLock::take(folder.path(), "b").unwrap().expect("free").token(), token);
        drop(first);
        assert_eq!(NameLock::take(folder.path(), "a").unwrap().expect("free again").token(), token);
    }

    #[test]
    fn a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), folder.path().join("a")).unwrap();
        assert!(NameLock::take(folder.path(), "a").is_err());
    }

    #[test]
    fn a_directory_has_one_broker() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("broker");
        let held = HostLock::of(&path).unwrap();
        assert!(matches!(held, HostLock::Held(_)));
        assert!(matches!(HostLock::of(&path).unwrap(), HostLock::Taken));
        drop(held);
        assert!(matches!(HostLock::of(&path).unwrap(), HostLock::Held(_)));
    }
}
