//! What a process that ran one seed tells the one that asked for it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a seed went.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Which.
    pub seed: u64,
    /// What went wrong; nothing when all is well.
    pub failures: Vec<String>,
    /// Hash of everything that happened.
    pub hash: String,
    /// Lines it is made of.
    pub lines: u64,
    /// Messages published.
    pub published: usize,
    /// Messages acknowledged.
    pub acknowledged: usize,
    /// Brokers started.
    pub brokers: usize,
    /// Requests to the bucket.
    pub requests: u64,
    /// Simulated milliseconds.
    pub simulated_ms: u64,
    /// The last lines, when something went wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trace: Vec<String>,
}

impl Report {
    /// The report of a seed whose process did not end as it should.
    pub fn broken(seed: u64, why: String) -> Self {
        Self {
            seed,
            failures: vec![why],
            hash: String::new(),
            lines: 0,
            published: 0,
            acknowledged: 0,
            brokers: 0,
            requests: 0,
            simulated_ms: 0,
            trace: Vec::new(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, hash, lines, published, acknowledged, brokers, requests, simulated_ms, .. } = self;
        let verdict = if self.failures.is_empty() { "clean" } else { "FAILED" };
        writeln!(
            formatter,
            "seed {seed}: {verdict}, {simulated_ms} ms, {brokers} brokers, {published} published, {acknowledged} acknowledged, {requests} requests, trace {hash} of {lines} lines"
        )?;
        for failure in &self.failures {
            writeln!(formatter, "  {failure}")?;
        }
        if !self.trace.is_empty() {
            writeln!(formatter, "  the last that happened:")?;
        }
        for line in &self.trace {
            writeln!(formatter, "  | {line}")?;
        }
        Ok(())
    }
}
