//! Every change of a directory, from the lock to the disk.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path as FilePath;
use std::time::SystemTime;

use object_store::path::Path;
use object_store::{Attributes, CopyMode, Error, Extensions, PutMode, PutOptions, PutPayload, PutResult, Result};

use super::stage::{Staged, e_tag};
use super::{LocalStore, STORE, failed};

/// The object that is there before a write.
struct Old {
    e_tag: String,
    modified: Option<SystemTime>,
}

impl LocalStore {
    pub(super) fn put_file(&self, location: &Path, payload: &PutPayload, options: PutOptions) -> Result<PutResult> {
        self.file(location)?;
        let mut staged = Staged::create(&self.own.staging).map_err(|error| failed("stage", location, error))?;
        staged.append(payload.iter()).map_err(|error| failed("write", location, error))?;
        self.publish(location, &staged, &options.attributes, &options.mode)
    }

    /// Makes a staged file the object at `location`, if the condition of `mode` holds.
    pub(super) fn publish(&self, location: &Path, staged: &Staged, attributes: &Attributes, mode: &PutMode) -> Result<PutResult> {
        let target = self.file(location)?;
        // The long wait for the disk comes before the lock.
        staged.stamp(None).map_err(|error| failed("sync", location, error))?;
        let lock = self.own.locks.take(&[location]).map_err(|error| failed("lock", location, error))?;
        let old = old(&target).map_err(|error| failed("look at", location, error))?;
        check(location, mode, old.as_ref())?;
        // Another process may have had a clock that is ahead of ours.
        let behind = old.as_ref().and_then(|old| old.modified).filter(|modified| staged_time(staged).is_none_or(|time| time <= *modified));
        if behind.is_some() {
            staged.stamp(behind).map_err(|error| failed("sync", location, error))?;
        }
        let new = self.replace(location, &target, staged, attributes, old, *mode == PutMode::Create)?;
        drop(lock);
        Ok(PutResult { e_tag: Some(new), version: None, extensions: Extensions::new() })
    }

    /// Copies share their contents, which never change in place.
    pub(super) fn copy_file(&self, from: &Path, to: &Path, mode: CopyMode) -> Result<()> {
        let (source, target) = (self.file(from)?, self.file(to)?);
        // Both: a writer of `from` would remove the attributes that are to be copied.
        let lock = self.own.locks.take(&[from, to]).map_err(|error| failed("lock", to, error))?;
        let Some(there) = old(&source).map_err(|error| failed("look at", from, error))? else {
            return Err(Error::NotFound { path: from.to_string(), source: "there is no such file".into() });
        };
        let old = old(&target).map_err(|error| failed("look at", to, error))?;
        let create = mode == CopyMode::Create;
        check(to, if create { &PutMode::Create } else { &PutMode::Overwrite }, old.as_ref())?;
        let attributes = self.own.sidecars.read(from, &there.e_tag).map_err(|error| failed("read attributes of", from, error))?;
        let staged = Staged::link(&self.own.staging, &source).map_err(|error| failed("stage", to, error))?;
        self.replace(to, &target, &staged, &attributes.unwrap_or_default(), old, create)?;
        drop(lock);
        Ok(())
    }

    /// Succeeds also when there is nothing, as a bucket does.
    pub(super) fn delete_file(&self, location: &Path) -> Result<()> {
        let target = self.file(location)?;
        let _lock = self.own.locks.take(&[location]).map_err(|error| failed("lock", location, error))?;
        let Some(old) = old(&target).map_err(|error| failed("look at", location, error))? else { return Ok(()) };
        std::fs::remove_file(&target).map_err(|error| failed("delete", location, error))?;
        sync_parent(&target).map_err(|error| failed("delete", location, error))?;
        self.own.sidecars.remove(location, &old.e_tag);
        Ok(())
    }

    /// Under the lock: sidecar, object, old sidecar, in this order. The new ETag.
    fn replace(
        &self,
        location: &Path,
        target: &FilePath,
        staged: &Staged,
        attributes: &Attributes,
        old: Option<Old>,
        create: bool,
    ) -> Result<String> {
        let metadata = staged.metadata().map_err(|error| failed("look at", location, error))?;
        let new = e_tag(&metadata);
        self.own.sidecars.write(location, &new, attributes).map_err(|error| failed("write attributes of", location, error))?;
        if let Err(error) = put_in_place(staged.path(), target, create) {
            if old.is_none_or(|old| old.e_tag != new) {
                self.own.sidecars.remove(location, &new);
            }
            return Err(match error.kind() {
                ErrorKind::AlreadyExists => Error::AlreadyExists { path: location.to_string(), source: error.into() },
                ErrorKind::IsADirectory | ErrorKind::NotADirectory => {
                    let source = format!("{location}: in a directory no object and no folder may have the same name: {error}").into();
                    Error::Generic { store: STORE, source }
                }
                _ => failed("put in place", location, error),
            });
        }
        if let Some(old) = old.filter(|old| old.e_tag != new) {
            self.own.sidecars.remove(location, &old.e_tag);
        }
        Ok(new)
    }
}

fn check(location: &Path, mode: &PutMode, old: Option<&Old>) -> Result<()> {
    let path = || location.to_string();
    match (mode, old) {
        (PutMode::Overwrite, _) | (PutMode::Create, None) => Ok(()),
        (PutMode::Create, Some(old)) => {
            Err(Error::AlreadyExists { path: path(), source: format!("it is there with ETag {}", old.e_tag).into() })
        }
        (PutMode::Update(version), _) => match (&version.e_tag, old) {
            (None, _) => Err(Error::Generic { store: STORE, source: "an update needs the ETag of what it replaces".into() }),
            (Some(wanted), Some(old)) if *wanted == old.e_tag => Ok(()),
            (Some(wanted), old) => {
                let there = old.map_or("it is not there".to_owned(), |old| format!("its ETag is {}", old.e_tag));
                Err(Error::Precondition { path: path(), source: format!("{there} instead of {wanted}").into() })
            }
        },
    }
}

fn old(target: &FilePath) -> io::Result<Option<Old>> {
    match std::fs::metadata(target) {
        Ok(metadata) if metadata.is_file() => Ok(Some(Old { e_tag: e_tag(&metadata), modified: metadata.modified().ok() })),
        Ok(_) => Ok(None),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

fn staged_time(staged: &Staged) -> Option<SystemTime> {
    staged.metadata().ok()?.modified().ok()
}

/// Whoever looks sees the old object or the new one; when this returns, a power cut does too.
fn put_in_place(staged: &FilePath, target: &FilePath, create: bool) -> io::Result<()> {
    // A link fails where something is, even if a lock should not have held.
    let put = || if create { std::fs::hard_link(staged, target) } else { std::fs::rename(staged, target) };
    match put() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            create_parents(target)?;
            put()?;
        }
        result => result?,
    }
    sync_parent(target)
}

fn create_parents(target: &FilePath) -> io::Result<()> {
    let Some(parent) = target.parent() else { return Ok(()) };
    let missing: Vec<&FilePath> = parent.ancestors().take_while(|folder| !folder.exists()).collect();
    std::fs::create_dir_all(parent)?;
    // A new folder is on disk when the one above it is.
    missing.into_iter().try_for_each(sync_parent)
}

fn sync_parent(path: &FilePath) -> io::Result<()> {
    path.parent().map_or(Ok(()), sync_folder)
}

pub(super) fn sync_folder(folder: &FilePath) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
