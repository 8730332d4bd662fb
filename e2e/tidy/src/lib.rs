//! The house rules as tests over the tracked tree.
//!
//! A rule is a function from a [`Tree`] to the [`Violation`]s it found; all stand in [`rules::ALL`]. Rules look at text, never at the network or the
//! clock, so each is tested on a few lines made up for it.

pub mod code;
pub mod rules;
mod tree;

pub use tree::{File, Tree};

/// A place that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// Path from the root of the checkout.
    pub path: String,
    /// Counted from 1.
    pub line: usize,
    /// The rule's short name.
    pub rule: &'static str,
    /// What to do about it.
    pub remedy: String,
}

impl Violation {
    /// A violation at `path:line`.
    pub fn new(path: impl Into<String>, line: usize, rule: &'static str, remedy: impl Into<String>) -> Self {
        Self { path: path.into(), line, rule, remedy: remedy.into() }
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}: {}", self.path, self.line, self.rule, self.remedy)
    }
}
