//! Keys that are rotated in their file while the broker runs.

use std::path::{Path, PathBuf};

use bucketmq_servers::{Server, Versitygw};

/// What a broker has at first, and what it gets.
const FIRST: &str = "the-first-key";
const SECOND: &str = "the-second-key";
/// The secret of both.
const SECRET: &str = "what nobody else knows";

/// Two accounts of a server of which one may be there, and the file the broker reads.
pub(super) struct Keys<'a> {
    server: &'a Server,
    file: PathBuf,
}

impl<'a> Keys<'a> {
    /// The first ones, in a file in `folder`.
    pub(super) fn new(server: &'a Server, folder: &Path) -> anyhow::Result<Self> {
        let keys = Self { server, file: folder.join("credentials") };
        // They may be there from the case before.
        Versitygw::remove_account(server, SECOND).ok();
        Versitygw::remove_account(server, FIRST).ok();
        Versitygw::add_account(server, FIRST, SECRET)?;
        keys.write(FIRST)?;
        Ok(keys)
    }

    /// Where the broker finds them.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// The first ones are refused from now on.
    pub(super) fn withdraw(&self) -> anyhow::Result<()> {
        Versitygw::remove_account(self.server, FIRST)
    }

    /// The second ones are good, and in the file.
    pub(super) fn give(&self) -> anyhow::Result<()> {
        Versitygw::add_account(self.server, SECOND, SECRET)?;
        self.write(SECOND)
    }

    /// All at once, as a Secret that is mounted changes.
    fn write(&self, access_key: &str) -> anyhow::Result<()> {
        let next = self.file.with_extension("next");
        std::fs::write(&next, format!("[default]\naws_access_key_id = {access_key}\naws_secret_access_key = {SECRET}\n"))?;
        Ok(std::fs::rename(next, &self.file)?)
    }
}
