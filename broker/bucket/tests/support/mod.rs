//! What the tests of stores share.

#![allow(dead_code, reason = "each test binary takes its part")]

pub mod cases;
pub mod script;
pub mod servers;
