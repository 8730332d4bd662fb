//! How the snapshots of a broker that serves went.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counted and remembered; a snapshot is rare, so plain cells do.
#[derive(Debug, Default)]
pub struct SnapshotFigures {
    taken: AtomicU64,
    failed: AtomicU64,
    last_ms: AtomicU64,
    held_ms: AtomicU64,
}

impl SnapshotFigures {
    /// There is one that was made at `made_at_ms`, milliseconds since 1970.
    pub fn found(&self, made_at_ms: u64) {
        self.last_ms.fetch_max(made_at_ms, Ordering::Relaxed);
    }

    /// One was taken.
    pub fn taken(&self, made_at_ms: u64, held_ms: u64) {
        self.found(made_at_ms);
        self.held_ms.store(held_ms, Ordering::Relaxed);
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    /// One was not.
    pub fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn taken_total(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    pub(super) fn failed_total(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    pub(super) fn last_seconds(&self) -> f64 {
        self.last_ms.load(Ordering::Relaxed) as f64 / 1000.0
    }

    pub(super) fn held_seconds(&self) -> f64 {
        self.held_ms.load(Ordering::Relaxed) as f64 / 1000.0
    }
}
