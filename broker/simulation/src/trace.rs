//! What happened, in order: a hash of all of it, by which two runs of a seed are compared, and lines for people.

use std::fmt;
use std::hash::{DefaultHasher, Hasher};
use std::io::Write;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::reality;

/// Lines in the report of a failure.
const REPORTED_MAX: usize = 50;

#[derive(Debug)]
struct Inner {
    hasher: DefaultHasher,
    /// When, and what; a run is short.
    lines: Vec<(u64, String)>,
    echo: bool,
}

/// The trace of one run, shared by all that add to it.
#[derive(Debug, Clone)]
pub struct Trace(Arc<Mutex<Inner>>);

impl Trace {
    /// An empty trace; with `echo` every line goes to standard error as well.
    pub fn new(echo: bool) -> Self {
        // `DefaultHasher::new` has fixed keys, unlike those of hash maps.
        Self(Arc::new(Mutex::new(Inner { hasher: DefaultHasher::new(), lines: Vec::new(), echo })))
    }

    /// Adds a line.
    pub fn note(&self, line: impl fmt::Display) {
        let (now, line) = (reality::now_ms(), line.to_string());
        let mut inner = self.0.lock();
        inner.hasher.write_u64(now);
        inner.hasher.write(line.as_bytes());
        if inner.echo {
            let _ = writeln!(std::io::stderr(), "{now:>7} {line}");
        }
        inner.lines.push((now, line));
    }

    /// Hash and number of all lines.
    pub fn hash(&self) -> (String, u64) {
        let inner = self.0.lock();
        (format!("{:016x}", inner.hasher.finish()), inner.lines.len() as u64)
    }

    /// What happened last up to `until`, without the bucket's requests that were answered as they should, and the plan.
    pub fn before(&self, until: u64) -> Vec<String> {
        let inner = self.0.lock();
        let plain = |line: &str| ["ok", "not found"].iter().any(|end| line.ends_with(end)) && line.starts_with("broker ");
        let told = inner.lines.iter().filter(|(at, line)| *at <= until && !plain(line));
        let mut lines: Vec<_> = told.map(|(at, line)| format!("{at:>7} {line}")).collect();
        let first = lines.len().saturating_sub(REPORTED_MAX);
        let mut reported = lines.split_off(first);
        if first > 0 {
            reported.insert(0, lines.swap_remove(0));
        }
        reported
    }
}
