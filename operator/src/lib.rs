//! The operator: what it reconciles and how.

pub mod cli;
pub mod crd;
