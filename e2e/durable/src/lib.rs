//! The promise of an acknowledgement, put to the test: real brokers on a real object store, killed without a warning while Clients publish at QoS 1
//! and 2, and a checker that knows what was acknowledged.
//!
//! [`crash::run`] is the whole of it; [`check::verdict`] alone decides, and has tests of its own.

pub mod broker;
pub mod check;
pub mod crash;
pub mod link;
pub mod publisher;
pub mod subscriber;
