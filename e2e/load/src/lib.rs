//! A load generator for MQTT brokers on raw sockets.
//!
//! It shares the machine with the broker it measures, so it promises to be cheap: packets are encoded by hand into large
//! batches, received PUBLISH packets are counted where they lie in the read buffer, and one or two threads with an epoll
//! instance each serve every connection. Every message carries a source and a sequence number: what is lost, duplicated or
//! reordered is known and not guessed.

pub mod certificates;
pub mod clients;
pub mod durable;
pub mod frames;
pub mod histogram;
pub mod machine;
pub mod options;
pub mod process;
pub mod publisher;
pub mod random;
pub mod report;
pub mod scenario;
pub mod socket;
pub mod subscriber;
pub mod tls;
pub mod tracking;
pub mod wire;
pub mod worker;
