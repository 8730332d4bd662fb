//! `file://`: a directory of this host as an object store, for a laptop or a single machine.
//!
//! Reading and listing are object_store's `LocalFileSystem`. Writing is here, because that one knows neither conditional updates nor user metadata.
//! What is promised, to threads and processes alike:
//!
//! - an object is seen whole or not at all, and is on disk, with its attributes, when the write returns;
//! - a condition is judged and the write done under one lock, which goes away with its process;
//! - an ETag never comes back with other contents.
//!
//! Everything that is no object lies in `.bucketmq` at the root and is never listed. Unlike in a bucket, an object and a folder cannot have the same
//! name, and folders stay when their last object went.

mod lock;
mod sidecar;
mod stage;
mod upload;
mod write;

use std::fmt;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, Result,
};

use lock::Locks;
use sidecar::Sidecars;

/// The name in errors.
const STORE: &str = "file";
/// The folder at the root that holds what is no object.
const OWN: &str = ".bucketmq";
/// How often a reader starts again because a writer was faster.
const READS_AT_MOST: usize = 100;
/// Deletes under way at one time: each waits for the disk.
const DELETES_AT_A_TIME: usize = 8;

/// Why a directory cannot be a bucket.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// A folder or file cannot be made or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Two writers could not be kept apart.
    #[error("{}: its file system does not keep file locks: use a local one, or a bucket", path.display())]
    Locks {
        /// The directory.
        path: PathBuf,
    },
    /// Two versions of an object could have the same ETag.
    #[error("{}: its file system does not keep file times to the microsecond: use another one, such as ext4, xfs, btrfs or apfs", path.display())]
    Times {
        /// The directory.
        path: PathBuf,
    },
}

/// A directory. Clones share it.
#[derive(Clone, Debug)]
pub struct LocalStore {
    files: LocalFileSystem,
    own: Arc<Own>,
}

/// The file whose lock tells that no other broker uses the directory.
pub(crate) fn broker_lock(root: &FilePath) -> PathBuf {
    root.join(OWN).join("broker")
}

/// What lies in `.bucketmq`.
#[derive(Debug)]
struct Own {
    root: PathBuf,
    staging: PathBuf,
    locks: Locks,
    sidecars: Sidecars,
}

impl LocalStore {
    /// Opens `root`, which is made if it is missing, and removes what processes that died there left behind.
    ///
    /// # Errors
    ///
    /// When it cannot be written, or its file system cannot keep the promises.
    pub fn open(root: &FilePath) -> Result<LocalStore, LocalError> {
        let io_error = |path: &FilePath| {
            let path = path.to_owned();
            move |source| LocalError::Io { path, source }
        };
        let own = root.join(OWN);
        let (staging, locks, sidecars) = (own.join("staging"), own.join("locks"), own.join("attributes"));
        for folder in [&staging, &locks, &sidecars] {
            // Messages of all Clients lie here.
            DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io_error(folder))?;
        }
        for folder in [&own, &root.to_owned()] {
            write::sync_folder(folder).map_err(io_error(folder))?;
        }
        let files = LocalFileSystem::new_with_prefix(root)
            .map_err(|error| LocalError::Io { path: root.to_owned(), source: io::Error::other(error) })?
            .with_fsync(true);
        let own = Own { root: root.to_owned(), staging, locks: Locks::new(locks), sidecars: Sidecars::new(sidecars) };
        if !own.locks.work().map_err(io_error(root))? {
            return Err(LocalError::Locks { path: root.to_owned() });
        }
        if !stage::times_are_fine(&own.staging).map_err(io_error(root))? {
            return Err(LocalError::Times { path: root.to_owned() });
        }
        let store = LocalStore { files, own: Arc::new(own) };
        let staged = stage::sweep(&store.own.staging, stage::ABANDONED_AFTER).map_err(io_error(root))?;
        let orphans = store.own.sidecars.sweep(&store.own.locks, |location| store.current(location)).map_err(io_error(root))?;
        if staged + orphans > 0 {
            tracing::info!(staged, orphans, "removed what unfinished writes left behind");
        }
        Ok(store)
    }

    fn file(&self, location: &Path) -> Result<PathBuf> {
        if is_own(location) {
            return Err(Error::Generic { store: STORE, source: format!("{location}: {OWN} is kept for the store itself").into() });
        }
        self.files.path_to_filesystem(location)
    }

    fn current(&self, location: &Path) -> Option<String> {
        let metadata = std::fs::metadata(self.file(location).ok()?).ok()?;
        metadata.is_file().then(|| stage::e_tag(&metadata))
    }

    /// The attributes of the version with this ETag. None: that version may be gone, so what there is to know must be read again.
    async fn attributes(&self, location: &Path, e_tag: &str) -> Result<Option<object_store::Attributes>> {
        let (store, location, e_tag) = (self.clone(), location.clone(), e_tag.to_owned());
        blocking(move || {
            match store.own.sidecars.read(&location, &e_tag).map_err(|error| failed("read attributes of", &location, error))? {
                // A version without attributes has no sidecar, and a version that was replaced has none any more.
                None => Ok((store.current(&location).as_ref() == Some(&e_tag)).then(Default::default)),
                found => Ok(found),
            }
        })
        .await
    }
}

/// Runs what waits for the disk beside the workers. It goes on to its end even when nobody waits for it any more, so no write is left half done
/// with its lock given back.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await?
}

fn failed(action: &str, location: &Path, error: io::Error) -> Error {
    let source = format!("{action} {location}: {error}").into();
    match error.kind() {
        io::ErrorKind::PermissionDenied => Error::PermissionDenied { path: location.to_string(), source },
        io::ErrorKind::Unsupported => Error::NotSupported { source },
        _ => Error::Generic { store: STORE, source },
    }
}

fn is_own(location: &Path) -> bool {
    location.parts().next().is_some_and(|part| part.as_ref() == OWN)
}

impl fmt::Display for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file://{}", self.own.root.display())
    }
}

#[async_trait]
impl ObjectStore for LocalStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let (store, location) = (self.clone(), location.clone());
        blocking(move || store.put_file(&location, &payload, options)).await
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let (store, location) = (self.clone(), location.clone());
        blocking(move || store.upload(location, options.attributes)).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.file(location)?;
        for _ in 0..READS_AT_MOST {
            let mut result = self.files.get_opts(location, options.clone()).await?;
            let Some(e_tag) = result.meta.e_tag.clone() else { return Ok(result) };
            if let Some(attributes) = self.attributes(location, &e_tag).await? {
                result.attributes = attributes;
                return Ok(result);
            }
        }
        Err(Error::Generic { store: STORE, source: format!("{location} was replaced {READS_AT_MOST} times while it was read").into() })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .map(move |location| {
                let store = store.clone();
                async move {
                    let location = location?;
                    blocking(move || store.delete_file(&location).map(|()| location)).await
                }
            })
            .buffered(DELETES_AT_A_TIME)
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if prefix.is_some_and(is_own) {
            return stream::empty().boxed();
        }
        self.files.list(prefix).try_filter(|meta| std::future::ready(!is_own(&meta.location))).boxed()
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        if prefix.is_some_and(is_own) {
            return stream::empty().boxed();
        }
        self.files.list_with_offset(prefix, offset).try_filter(|meta| std::future::ready(!is_own(&meta.location))).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut result = self.files.list_with_delimiter(prefix).await?;
        result.common_prefixes.retain(|folder| !is_own(folder));
        result.objects.retain(|meta| !is_own(&meta.location));
        Ok(result)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let (store, from, to) = (self.clone(), from.clone(), to.clone());
        blocking(move || store.copy_file(&from, &to, options.mode)).await
    }
}

#[cfg(test)]
mod tests;
