//! One Client's protocol state, pure: no I/O, no clock, no async.
//!
//! A [`Session`] is what MQTT calls a Session (5.0 4.1) together with the output side of the Network Connection that serves it. The caller
//! passes the time, feeds acknowledgements and deliveries in and takes encoded bytes out with [`Session::take_output`]; where messages wait
//! that do not fit the bounded window is the caller's [`Backlog`].

mod aliases;
mod backlog;
mod incoming;
mod link;
mod outgoing;
mod publish_out;
mod session;
mod stored;
mod will;

#[cfg(test)]
mod tests;

pub use aliases::{AliasError, AliasesIn};
pub use backlog::{Backlog, BacklogMeter, VecBacklog};
pub use incoming::Incoming;
pub use link::{Link, LinkParameters};
pub use outgoing::{Acknowledged, Overflow, QueueLimits};
pub use publish_out::{Delivery, encode_publish, publish_length};
pub use session::{Delivered, DropReason, Found, Orphan, Session, Subscription, put_ack, put_ack_with_reason};
pub use stored::{BehindWindow, Gate, PageWanted};
pub use will::Will;
