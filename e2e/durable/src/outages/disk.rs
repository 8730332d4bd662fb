//! A disk of its own for a directory, small enough to be filled.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

/// So large that a case without trouble fits several times.
const BYTES: u64 = 256 << 20;
/// What others give back is taken as well, so often.
const EVERY: Duration = Duration::from_millis(20);

/// A file system in memory; it goes with this.
pub(super) struct Disk {
    folder: PathBuf,
    filler: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

impl Disk {
    /// Mounts it below `folder`. Err: this user may not mount.
    pub(super) fn mount(folder: &Path) -> anyhow::Result<Self> {
        let folder = folder.join("disk");
        std::fs::create_dir_all(&folder)?;
        let options = format!("size={BYTES}");
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "bucketmq"]).arg(&folder).output().context("mount")?;
        ensure!(output.status.success(), "mount: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(Self { folder, filler: None })
    }

    /// Where the bucket goes.
    pub(super) fn bucket(&self) -> PathBuf {
        self.folder.join("bucket")
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join("ballast")
    }

    /// Fills it to the last byte, and keeps it full.
    pub(super) fn fill(&mut self) -> anyhow::Result<()> {
        let mut ballast = File::create(self.ballast())?;
        fill(&mut ballast)?;
        let over = Arc::new(AtomicBool::new(false));
        let told = over.clone();
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                if fill(&mut ballast).is_err() {
                    return;
                }
                std::thread::sleep(EVERY);
            }
        });
        self.filler = Some((over, thread));
        Ok(())
    }

    /// Gives back what was filled.
    pub(super) fn empty(&mut self) -> anyhow::Result<()> {
        let Some((over, thread)) = self.filler.take() else { bail!("it is not filled") };
        over.store(true, Ordering::Relaxed);
        ensure!(thread.join().is_ok(), "the filling thread panicked");
        Ok(std::fs::remove_file(self.ballast())?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some((over, thread)) = self.filler.take() {
            over.store(true, Ordering::Relaxed);
            thread.join().ok();
        }
        // Also with files that somebody has still open.
        Command::new("umount").arg("--lazy").arg(&self.folder).status().ok();
    }
}

/// Writes until there is no room, in pieces that become smaller.
fn fill(ballast: &mut File) -> std::io::Result<()> {
    let mut piece = vec![0; 1 << 20];
    while !piece.is_empty() {
        match ballast.write_all(&piece) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => piece.truncate(piece.len() / 2),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
