//! Health and metrics over HTTP: what a person, Prometheus, a kubelet and an operator read of a running broker.
//!
//! | path | answers |
//! |---|---|
//! | `/metrics` | the registry in the Prometheus text format |
//! | `/livez` | 200, or 503 when the runtime's heartbeat has stopped |
//! | `/readyz` | 200 or 503, and JSON saying why and what is in force |
//! | `/` | these lines |
//!
//! Nothing here changes the broker, nobody is asked who he is, and everything a peer can take is bounded: connections, header
//! bytes, time. Request bodies are never read. The address is the protection, so the default is the loopback.

mod bucket_health;
mod config;
mod health;
mod problem;
mod routes;
mod server;

pub use bucket_health::{BucketHealth, BucketReason};
pub use config::{AddressError, Config};
pub use health::{Certificate, Health, ReadinessToken};
pub use server::{BindError, Server};
