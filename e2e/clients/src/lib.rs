//! Real MQTT clients against the real binary.
//!
//! Every client is a process that gets one [`Job`]: to publish or to subscribe, in a version of MQTT, over a transport. It says what happens as
//! [`Event`]s, one a line. The tests in `tests/` start a [`Broker`], hand out jobs and compare what arrived with what was sent; they know nothing of
//! how a client is driven.

mod broker;
mod certificates;
mod clients;
mod job;
mod process;

pub use broker::Broker;
pub use certificates::Certificates;
pub use clients::RealClient;
pub use job::{Event, Job, Received, Role, Transport, Version, WillJob};
pub use process::Running;
