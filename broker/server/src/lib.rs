//! The broker: wires the rooms. [`publish`] is the page to read first.

pub mod broker;
pub mod buffers;
pub mod cli;
pub mod client;
pub mod config;
pub mod connect;
pub mod connection;
pub mod deliver;
pub mod durable;
mod enhanced;
pub mod gauges;
pub mod memory;
pub mod metrics;
pub mod moment;
pub mod publish;
pub mod rate;
pub mod registry;
pub mod retained;
pub mod serve;
pub mod session_end;
pub mod shared;
pub mod subscribe;
pub mod sweeper;
pub mod sys_topics;
