//! State of other brokers, brought into the store: Mosquitto's persistence file, and the retained messages that any broker sends.
//!
//! A file takes three steps, each of them usable alone: [`mosquitto::read`] says what the file holds, [`plan()`] what that is here, and [`write()`] puts it into a
//! [`DurableStore`](bucketmq_storage::DurableStore) that no broker is using. Whatever cannot be brought along is named and counted in the
//! [`Report`]; nothing is left out silently. Retained messages that come over the network go through [`RetainedImport`] one by one.
//!
//! ```no_run
//! # async fn import(place: bucketmq_storage::durable::Place, now: u64) -> Result<(), Box<dyn std::error::Error>> {
//! use bucketmq_import::{WriteOptions, mosquitto, plan, write};
//! use bucketmq_storage::DurableStore;
//!
//! let contents = mosquitto::read(&mut std::fs::File::open("mosquitto.db")?)?;
//! let plan = plan(contents, place.shards, now);
//! let store = DurableStore::open(&place).await?;
//! let report = write(&store, plan, WriteOptions { now, replace: false }).await?;
//! store.close().await?;
//! # Ok(())
//! # }
//! ```

pub mod mosquitto;
mod outstanding;
mod plan;
mod report;
mod retained;
mod write;

pub use plan::{Plan, PlannedEntry, PlannedSession, plan};
pub use report::{Count, Reason, Report};
pub use retained::{RetainedImport, Taken};
pub use write::{WriteError, WriteOptions, write};
