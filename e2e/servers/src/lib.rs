//! Real object-store servers for tests and load: started on a free port, with data in a temporary directory, and gone when their handle is.
//!
//! ```no_run
//! use bucketmq_servers::{Options, Versitygw};
//!
//! let server = Versitygw::start(Options::default())?;
//! for (name, value) in server.access().environment() {
//!     println!("export {name}={value}");
//! }
//! # anyhow::Ok(())
//! ```
//!
//! [`Versitygw`] and [`Moto`] speak S3, [`Azurite`] Azure Blob Storage, [`FakeGcs`] Google Cloud Storage. `e2e/servers/install` puts them where they
//! are looked for. A [`FaultProxy`] before one of them makes it slow, broken or unreachable, and counts what passes.

mod access;
mod azurite;
mod fake_gcs;
mod http;
mod installed;
mod moto;
mod process;
mod proxy;
mod server;
mod sign;
mod versitygw;

pub use access::{Access, Credentials};
pub use azurite::Azurite;
pub use fake_gcs::FakeGcs;
pub use moto::Moto;
pub use process::Usage;
pub use proxy::{Counts, Fault, FaultProxy, Latency, Operation, ProxyOptions, Rule, RuleId, When};
pub use server::{Kind, Options, Server};
pub use versitygw::{Versitygw, create_bucket_at};
