//! Whether the users file on disk is another than the one that was read last.
//!
//! Mostly one `stat`: device, inode, size and times of the file behind all symbolic links, so that the swap of a link, as Kubernetes
//! does it, is seen too. The content is hashed only if those differ, or if the file was so young when it was read that a change
//! within the same tick of its clock could hide.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::snapshot::hash;

/// The coarsest time of change that a file system in use has (FAT), so that a file this old has not changed unseen.
const TICK: Duration = Duration::from_secs(2);
/// More than 300,000 users; a file that is larger is not a users file, or somebody has pointed us at a device.
const LEN_MAX: u64 = 64 * 1024 * 1024;

/// What was read last, whether it was any good or not: a broken file is complained about once, not every few seconds.
#[derive(Default)]
pub(crate) struct Seen {
    stamp: Option<Stamp>,
    hash: Option<Arc<str>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// `None` if there is no file, or if it is too young to be trusted.
    fn of(path: &Path, now: SystemTime) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        let youngest = metadata.mtime().max(metadata.ctime());
        let old_enough = now.checked_sub(TICK)?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        (youngest < i64::try_from(old_enough.as_secs()).ok()?).then_some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

impl Seen {
    /// Reads the file and notes what was seen.
    pub(crate) fn read(&mut self, path: Option<&Path>) -> io::Result<Option<Vec<u8>>> {
        *self = Self::default();
        let Some(path) = path else { return Ok(None) };
        // Before the content: a change between the two shows as a difference later, and costs one reading too many.
        let stamp = Stamp::of(path, SystemTime::now());
        let content = read_file(path)?;
        *self = Self { stamp, hash: Some(hash(&content)) };
        Ok(Some(content))
    }

    /// Whether the file is another than at the last [`read`](Self::read) or `differs`.
    pub(crate) fn differs(&mut self, path: Option<&Path>) -> bool {
        let Some(path) = path else { return false };
        let stamp = Stamp::of(path, SystemTime::now());
        if stamp.is_some() && stamp == self.stamp {
            return false;
        }
        let now = read_file(path).ok().map(|content| hash(&content));
        let differs = now != self.hash;
        *self = Self { stamp, hash: now };
        differs
    }
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(LEN_MAX + 1).read_to_end(&mut content)?;
    if content.len() as u64 > LEN_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "more than 64 MiB"));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        let mut seen = Seen::default();
        assert!(seen.read(Some(&path)).is_err());
        assert!(!seen.differs(Some(&path)), "still not there");
        fs::write(&path, "a").unwrap();
        assert!(seen.differs(Some(&path)) && !seen.differs(Some(&path)));
        assert_eq!(seen.read(Some(&path)).unwrap().unwrap(), b"a");
        // Same size, same inode, and maybe the same time.
        fs::write(&path, "b").unwrap();
        assert!(seen.differs(Some(&path)) && !seen.differs(Some(&path)));
        fs::remove_file(&path).unwrap();
        assert!(seen.differs(Some(&path)) && !seen.differs(Some(&path)));
        assert!(!seen.differs(None));
    }

    #[test]
    fn a_swapped_link_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for version in ["v1", "v2"] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("users"), version).unwrap();
        }
        // As Kubernetes projects Secrets: users -> ..data/users, ..data -> v1, swapped by a rename.
        std::os::unix::fs::symlink("v1", at("..data")).unwrap();
        std::os::unix::fs::symlink("..data/users", at("users")).unwrap();
        let mut seen = Seen::default();
        assert_eq!(seen.read(Some(&at("users"))).unwrap().unwrap(), b"v1");
        assert!(!seen.differs(Some(&at("users"))));
        std::os::unix::fs::symlink("v2", at("..tmp")).unwrap();
        fs::rename(at("..tmp"), at("..data")).unwrap();
        assert!(seen.differs(Some(&at("users"))));
    }

    #[test]
    fn an_old_file_is_not_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        fs::write(&path, "a").unwrap();
        let now = SystemTime::now();
        assert!(Stamp::of(&path, now).is_none(), "a change within this second could hide");
        let later = Stamp::of(&path, now + Duration::from_secs(60));
        assert!(later.is_some() && later == Stamp::of(&path, now + Duration::from_secs(90)));
    }

    #[test]
    fn what_cannot_be_a_users_file_is_not_read_to_its_end() {
        assert!(read_file(Path::new("/dev/zero")).is_err());
    }
}
