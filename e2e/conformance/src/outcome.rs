//! How a test ends: passed, failed, or not applicable to this broker.

use std::io;

/// Why a test did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The broker broke the statement.
    Failed(String),
    /// The broker does not offer what the test needs, or may refuse it.
    NotApplicable(String),
}

/// What a test and its steps return.
pub type Outcome<T = ()> = Result<T, Failure>;

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Failed(format!("socket: {error}"))
    }
}

/// A failed test, as the error of any step.
pub fn failed<T>(why: impl Into<String>) -> Outcome<T> {
    Err(Failure::Failed(why.into()))
}

/// A test that this broker need not pass.
pub fn not_applicable<T>(why: impl Into<String>) -> Outcome<T> {
    Err(Failure::NotApplicable(why.into()))
}

/// Fails the test with the sentence unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($sentence:tt)+) => {
        if !$condition {
            return $crate::outcome::failed(format!($($sentence)+));
        }
    };
}
