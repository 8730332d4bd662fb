//! What a machine has to have.

use rustix::process::geteuid;

use crate::options::Stage;

/// A machine cannot run what it was asked to: nothing is broken, and nothing was started.
#[derive(Debug, thiserror::Error)]
#[error("stage {} is not available on this machine: {}", match .stage { Stage::A => "A", Stage::B => "B" }, .missing.join("; "))]
pub struct Unavailable {
    /// What was asked for.
    pub stage: Stage,
    /// What is not there, each a sentence.
    pub missing: Vec<String>,
}

/// Whether `stage` can run here at all. What `e2e/cluster/install` can install does not count.
pub fn check(stage: Stage) -> Result<(), Unavailable> {
    let missing = match stage {
        Stage::A => Vec::new(),
        Stage::B if !geteuid().is_root() => vec!["it needs root".to_owned()],
        Stage::B => Vec::new(),
    };
    if missing.is_empty() { Ok(()) } else { Err(Unavailable { stage, missing }) }
}
