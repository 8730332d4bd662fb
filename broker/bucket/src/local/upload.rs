//! Objects in parts.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures_util::FutureExt;
use object_store::path::Path;
use object_store::{Attributes, Error, MultipartUpload, PutMode, PutPayload, PutResult, Result, UploadPart};

use super::stage::Staged;
use super::{LocalStore, STORE, blocking, failed};

/// Parts lie one behind the other in one staged file.
#[derive(Debug)]
struct LocalUpload {
    store: LocalStore,
    location: Path,
    attributes: Attributes,
    /// None: finished or given up, so that a part that comes late does not write into an object.
    staged: Arc<Mutex<Option<Staged>>>,
    length: u64,
}

impl LocalStore {
    pub(super) fn upload(&self, location: Path, attributes: Attributes) -> Result<Box<dyn MultipartUpload>> {
        self.file(&location)?;
        let staged = Staged::create(&self.own.staging).map_err(|error| failed("stage", &location, error))?;
        let staged = Arc::new(Mutex::new(Some(staged)));
        Ok(Box::new(LocalUpload { store: self.clone(), location, attributes, staged, length: 0 }))
    }
}

fn over(location: &Path) -> Error {
    Error::Generic { store: STORE, source: format!("{location}: this upload is over").into() }
}

#[async_trait]
impl MultipartUpload for LocalUpload {
    fn put_part(&mut self, payload: PutPayload) -> UploadPart {
        let offset = self.length;
        self.length += payload.content_length() as u64;
        let (staged, location) = (Arc::clone(&self.staged), self.location.clone());
        blocking(move || {
            let staged = staged.lock().expect("nobody panics with this lock");
            let staged = staged.as_ref().ok_or_else(|| over(&location))?;
            staged.write_at(payload.iter(), offset).map_err(|error| failed("write", &location, error))
        })
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let (store, location, attributes) = (self.store.clone(), self.location.clone(), self.attributes.clone());
        let (staged, length) = (Arc::clone(&self.staged), self.length);
        blocking(move || {
            let staged = staged.lock().expect("nobody panics with this lock").take().ok_or_else(|| over(&location))?;
            let written = staged.metadata().map_err(|error| failed("look at", &location, error))?.len();
            if written != length {
                return Err(Error::Generic {
                    store: STORE,
                    source: format!("{location}: {written} of {length} bytes were written").into(),
                });
            }
            store.publish(&location, &staged, &attributes, &PutMode::Overwrite)
        })
        .await
    }

    async fn abort(&mut self) -> Result<()> {
        self.staged.lock().expect("nobody panics with this lock").take();
        Ok(())
    }
}
