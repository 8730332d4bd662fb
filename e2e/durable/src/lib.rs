//! The promise of an acknowledgement, put to the test: real brokers on a real object store, killed without a warning, set against each other, or cut
//! off from their bucket while Clients publish at QoS 1 and 2, and a checker that knows what was acknowledged.
//!
//! Clients write a [`history`]; [`check::check`] alone judges it, is pure, and has tests of its own. [`crash::run`], [`fight::run`] and
//! [`outages::run`] make the histories.

pub mod broker;
pub mod check;
pub mod crash;
pub mod crowd;
pub mod fight;
pub mod history;
mod keeper;
pub mod link;
pub mod mortal;
pub mod outages;
pub mod publisher;
pub mod results;
pub mod run;
pub mod scene;
pub mod subscriber;
