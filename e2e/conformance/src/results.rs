//! Results of a run, kept as JSON so that tables can be made without brokers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bucketmq_packet::ProtocolVersion;
use serde::{Deserialize, Serialize};

use crate::outcome::{Failure, Outcome};

/// How one test ended in one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome", content = "why")]
pub enum Verdict {
    /// The broker did what the statements say.
    Passed,
    /// It did not.
    Failed(String),
    /// It need not.
    NotApplicable(String),
}

impl From<Outcome> for Verdict {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Ok(()) => Self::Passed,
            Err(Failure::Failed(why)) => Self::Failed(why),
            Err(Failure::NotApplicable(why)) => Self::NotApplicable(why),
        }
    }
}

/// A broker's results.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Results {
    /// Name and version of the broker.
    pub broker: String,
    /// By protocol version, then by test.
    pub verdicts: BTreeMap<String, BTreeMap<String, Verdict>>,
}

/// The key of a version: 3.1, 3.1.1 or 5.0.
pub const fn version_name(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::V3_1 => "3.1",
        ProtocolVersion::V3_1_1 => "3.1.1",
        ProtocolVersion::V5 => "5.0",
    }
}

impl Results {
    /// The verdict of a test, if it ran.
    pub fn verdict(&self, version: ProtocolVersion, test: &str) -> Option<&Verdict> {
        self.verdicts.get(version_name(version))?.get(test)
    }

    /// Keeps a verdict.
    pub fn record(&mut self, version: ProtocolVersion, test: &str, verdict: Verdict) {
        self.verdicts.entry(version_name(version).into()).or_default().insert(test.into(), verdict);
    }

    /// All verdicts with version and test.
    pub fn each(&self) -> impl Iterator<Item = (&str, &str, &Verdict)> {
        self.verdicts
            .iter()
            .flat_map(|(version, tests)| tests.iter().map(move |(test, verdict)| (version.as_str(), test.as_str(), verdict)))
    }

    /// Passed, failed, not applicable.
    pub fn counts(&self) -> (usize, usize, usize) {
        self.each().fold((0, 0, 0), |(passed, failed, skipped), (_, _, verdict)| match verdict {
            Verdict::Passed => (passed + 1, failed, skipped),
            Verdict::Failed(_) => (passed, failed + 1, skipped),
            Verdict::NotApplicable(_) => (passed, failed, skipped + 1),
        })
    }

    /// Where the results of `broker` are kept.
    pub fn path(broker: &str) -> PathBuf {
        crate::folder().join("results").join(format!("{broker}.json"))
    }

    /// Reads what was kept.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} holds no results", path.display()))
    }

    /// Writes it.
    pub fn store(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, serde_json::to_string_pretty(self)? + "\n").with_context(|| format!("writing {}", path.display()))
    }
}
