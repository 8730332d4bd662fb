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
//! [`Versitygw`] and [`Moto`] speak S3, [`Azurite`] Azure Blob Storage. `e2e/servers/install` puts them where they are looked for.

mod access;
mod azurite;
mod http;
mod installed;
mod moto;
mod process;
mod server;
mod sign;
mod versitygw;

pub use access::{Access, Credentials};
pub use azurite::Azurite;
pub use moto::Moto;
pub use process::Usage;
pub use server::{Kind, Options, Server};
pub use versitygw::Versitygw;
