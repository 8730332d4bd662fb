//! Attributes of objects in a directory: a small file beside, named after the object and its ETag.
//!
//! It is on disk before its object is, and goes after its object went. So whoever finds a sidecar for the ETag he has read has the right one, and
//! a crash between the two leaves only a sidecar that nobody asks for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path as FilePath, PathBuf};
use std::time::Duration;

use super::lock::Locks;
use object_store::path::Path;
use object_store::{Attribute, Attributes};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

/// A sidecar without an object is left alone for this long: its object may be about to appear. The clock may have been set meanwhile.
const ORPHAN_AFTER: Duration = Duration::from_secs(24 * 3600);
/// Sidecars that one sweep looks at, about half a second's work.
const SWEEP_AT_MOST: usize = 10_000;

/// The folder of sidecars.
#[derive(Debug)]
pub(super) struct Sidecars(PathBuf);

#[derive(Serialize, Deserialize)]
struct Record {
    location: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
}

impl Sidecars {
    pub(super) fn new(folder: PathBuf) -> Sidecars {
        Sidecars(folder)
    }

    fn path(&self, location: &Path, e_tag: &str) -> PathBuf {
        self.0.join(format!("{:032x}.{}", xxh3_128(location.as_ref().as_bytes()), e_tag.trim_matches('"')))
    }

    /// Puts the attributes of an object that is about to appear on disk. Nothing for none.
    pub(super) fn write(&self, location: &Path, e_tag: &str, attributes: &Attributes) -> io::Result<()> {
        // A copy onto an object that is the same file already: the sidecar is in use and stays as it is.
        if attributes.is_empty() || self.read(location, e_tag)?.is_some_and(|there| there == *attributes) {
            return Ok(());
        }
        let record =
            Record::of(location, attributes).ok_or_else(|| io::Error::new(ErrorKind::Unsupported, "an attribute without a name here"))?;
        let write = || {
            let mut file = File::create(self.path(location, e_tag))?;
            file.write_all(&serde_json::to_vec(&record)?)?;
            file.sync_all()?;
            File::open(&self.0)?.sync_all()
        };
        // A full disk would get a torn one with every attempt.
        write().inspect_err(|_| self.remove(location, e_tag))
    }

    /// None: no sidecar.
    pub(super) fn read(&self, location: &Path, e_tag: &str) -> io::Result<Option<Attributes>> {
        match std::fs::read(self.path(location, e_tag)) {
            // What does not parse was being written when its process died, and never got its object.
            Ok(bytes) => Ok(serde_json::from_slice::<Record>(&bytes)
                .ok()
                .filter(|record| record.location == location.as_ref())
                .map(Record::attributes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// It may never have been there.
    pub(super) fn remove(&self, location: &Path, e_tag: &str) {
        let _ = std::fs::remove_file(self.path(location, e_tag));
    }

    /// Removes sidecars whose object is another one or gone, as `current` says for a location that nobody writes. How many.
    pub(super) fn sweep(&self, locks: &Locks, current: impl Fn(&Path) -> Option<String>) -> io::Result<usize> {
        let mut removed = 0;
        for entry in std::fs::read_dir(&self.0)?.take(SWEEP_AT_MOST) {
            let path = entry?.path();
            if path.metadata().and_then(|metadata| metadata.modified()).is_ok_and(|time| time.elapsed().unwrap_or_default() < ORPHAN_AFTER)
            {
                continue;
            }
            let record = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
            let location = record.and_then(|record| Path::parse(record.location).ok());
            let _lock = location.as_ref().map(|location| locks.take(&[location])).transpose()?;
            let in_use = location.and_then(|location| current(&location).map(|e_tag| self.path(&location, &e_tag)));
            if in_use.as_deref() != Some(path.as_path()) && remove(&path) {
                removed += 1;
            }
        }
        Ok(removed)
    }
}

fn remove(path: &FilePath) -> bool {
    std::fs::remove_file(path).is_ok()
}

const HEADERS: [(&str, Attribute); 6] = [
    ("cache-control", Attribute::CacheControl),
    ("content-disposition", Attribute::ContentDisposition),
    ("content-encoding", Attribute::ContentEncoding),
    ("content-language", Attribute::ContentLanguage),
    ("content-type", Attribute::ContentType),
    ("storage-class", Attribute::StorageClass),
];

impl Record {
    fn of(location: &Path, attributes: &Attributes) -> Option<Record> {
        let mut record = Record { location: location.to_string(), headers: BTreeMap::new(), metadata: BTreeMap::new() };
        for (attribute, value) in attributes {
            let value = value.as_ref().to_owned();
            match attribute {
                Attribute::Metadata(key) => record.metadata.insert(key.to_string(), value),
                other => record.headers.insert(HEADERS.iter().find(|(_, known)| known == other)?.0.to_owned(), value),
            };
        }
        Some(record)
    }

    fn attributes(self) -> Attributes {
        let header = |(name, value): (String, String)| Some((HEADERS.iter().find(|(known, _)| *known == name)?.1.clone(), value));
        let metadata = self.metadata.into_iter().map(|(key, value)| (Attribute::Metadata(key.into()), value));
        self.headers.into_iter().filter_map(header).chain(metadata).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sidecar_belongs_to_one_version_of_one_object() {
        let dir = tempfile::tempdir().unwrap();
        let sidecars = Sidecars::new(dir.path().to_owned());
        let attributes = Attributes::from_iter([(Attribute::ContentType, "a/b"), (Attribute::Metadata("k".into()), "v")]);
        let location = Path::from("a/b");
        sidecars.write(&location, "\"1\"", &attributes).unwrap();
        assert_eq!(sidecars.read(&location, "\"1\"").unwrap(), Some(attributes.clone()));
        assert_eq!(sidecars.read(&location, "\"2\"").unwrap(), None);
        assert_eq!(sidecars.read(&Path::from("a/c"), "\"1\"").unwrap(), None);
        sidecars.remove(&location, "\"1\"");
        assert_eq!(sidecars.read(&location, "\"1\"").unwrap(), None);
        sidecars.remove(&location, "\"1\"");
    }

    #[test]
    fn a_sweep_takes_old_sidecars_without_their_object() {
        let dir = tempfile::tempdir().unwrap();
        let sidecars = Sidecars::new(dir.path().to_owned());
        let attributes = Attributes::from_iter([(Attribute::Metadata("k".into()), "v")]);
        for name in ["kept", "gone", "young"] {
            sidecars.write(&Path::from(name), "\"1\"", &attributes).unwrap();
        }
        let old = std::fs::FileTimes::new().set_modified(std::time::SystemTime::now() - 2 * ORPHAN_AFTER);
        for name in ["kept", "gone"] {
            File::options().write(true).open(sidecars.path(&Path::from(name), "1")).unwrap().set_times(old).unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let locks = Locks::new(folder.path().to_owned());
        assert_eq!(sidecars.sweep(&locks, |location| (location.as_ref() == "kept").then(|| "\"1\"".to_owned())).unwrap(), 1);
        assert_eq!(sidecars.read(&Path::from("gone"), "\"1\"").unwrap(), None);
        assert!(sidecars.read(&Path::from("young"), "\"1\"").unwrap().is_some());
    }
}
