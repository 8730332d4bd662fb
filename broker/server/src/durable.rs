//! What the broker does because its state outlives it: records of Sessions, answers that wait for the bucket, QoS 2 and Wills through the outbox,
//! and everything found again at the start.

pub mod condition;
mod estate;
pub mod open;
pub mod outbox;
pub mod pledges;
pub mod records;
pub mod restore;
pub mod snapshots;
pub mod waits;
pub mod watch;
