//! Who may connect, publish and subscribe.
//!
//! [`Access`] is asked three things: [`Access::authenticate`] once per Network Connection, which yields a [`Principal`] (or
//! [`Access::exchange`] and [`Access::proceed`], where the Client wants enhanced authentication); [`Principal::may_publish`] and
//! [`Principal::may_subscribe`] as long as it lives; and after a reload [`Access::refresh`], which tells what became of it.
//!
//! Promises: passwords never block the runtime and are hashed at most once per process while they stay the same; what is asked
//! for every PUBLISH takes no lock and allocates nothing; a reload happens whole or not at all; and when in doubt, the answer is no.
//!
//! [`authentication`] says who is let in and what the users file looks like, [`authorization`] what rules mean.

mod access;
pub mod authentication;
pub mod authorization;
mod config;
mod principal;
mod snapshot;
mod watch;

pub use access::Access;
pub use authentication::{Attempt, AuthenticationMethod, Exchange, Refusal, Step};
pub use config::{Config, OnDeny, RoleConfig, RuleConfig, RuleTable};
pub use principal::Principal;
pub use snapshot::LoadError;
