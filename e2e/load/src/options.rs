//! The command line of `load`.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, ValueEnum};

use crate::socket::Target;
use crate::tls;
use crate::wire::Version;

/// Loads an MQTT broker and prints what came of it as one line of JSON.
///
/// Messages are counted at the subscribers. Every payload carries the number of its source and a sequence number (from 8
/// bytes on), so lost, duplicated and reordered messages are known. The exit code is 0 when the run could be made, also when
/// messages were lost; soak and storm fail when memory does not stay steady.
#[derive(Clone, Debug, Parser)]
#[command(name = "load", version, args_override_self = true)]
pub struct Options {
    /// What to do.
    pub scenario: Kind,

    /// The broker: HOST:PORT.
    #[arg(long, default_value = "127.0.0.1:1883")]
    pub address: String,

    /// Protocol version of every connection: 3.1.1 or 5.
    #[arg(long, default_value = "3.1.1", value_parser = parse_version)]
    pub protocol: Version,

    /// Bytes of payload.
    #[arg(long, default_value_t = 16)]
    pub payload: usize,

    /// QoS of the publishers.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(..=2))]
    pub qos: u8,

    /// QoS of the subscriptions; as the publishers' when not given.
    #[arg(long, value_parser = clap::value_parser!(u8).range(..=2))]
    pub subscriber_qos: Option<u8>,

    /// Messages published per second altogether; as fast as possible when not given.
    #[arg(long)]
    pub rate: Option<f64>,

    /// Paced runs send what is due only every so many microseconds (0: each message when it is due).
    #[arg(long, default_value_t = 0)]
    pub pace_tick_us: u64,

    /// Messages in flight per publisher at QoS 1 and 2.
    #[arg(long)]
    pub window: Option<u32>,

    /// PUBLISH packets a publisher writes at once, at most; 64 KiB of them when not given.
    #[arg(long)]
    pub batch: Option<usize>,

    /// How long to publish; how long idle connections stay before they are measured.
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,

    /// Publishers; in `pairs` the pairs.
    #[arg(long)]
    pub publishers: Option<usize>,

    /// Subscribers; in `offline` the Sessions, in `shared` the members of the group.
    #[arg(long)]
    pub subscribers: Option<usize>,

    /// Topics altogether: fan-in, fan-out, shared (one per publisher when not given) and retained.
    #[arg(long)]
    pub topics: Option<usize>,

    /// Messages per Session in `offline`.
    #[arg(long, default_value_t = 100)]
    pub messages: usize,

    /// Connections: `connections`, `soak`; cycles altogether: `storm`.
    #[arg(long)]
    pub connections: Option<usize>,

    /// Keep Alive of idle connections in seconds, 0 for none.
    #[arg(long, default_value_t = 0)]
    pub keep_alive: u16,

    /// Connections being established at one time.
    #[arg(long, default_value_t = 64)]
    pub connecting: usize,

    /// Source addresses from 127.0.1.1 on, used in turn. 0 leaves the choice to the kernel; one address has about 28,000 ports, and
    /// finding a free one takes long from 10,000 on. When not given: one for each 1,500 connections of `connections`, else 0.
    #[arg(long)]
    pub sources: Option<u32>,

    /// Threads of the generator, 1 or 2.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    pub threads: u8,

    /// Pause so that rounds of the generator's loop take at least so many microseconds, which lets events gather; not in paced
    /// runs.
    #[arg(long, default_value_t = 100)]
    pub gather_us: u64,

    /// Publishing pauses while so many messages are under way to subscribers, in all buffers together; it bounds what has to
    /// be waited for when the time is over.
    #[arg(long, default_value_t = 500_000)]
    pub ahead: u64,

    /// Send buffer of publishers in bytes (0: the kernel's own choice).
    #[arg(long, default_value_t = 65_536)]
    pub send_buffer: usize,

    /// Time every message end to end also when the run is not paced; needs 16 bytes of payload.
    #[arg(long)]
    pub latency: bool,

    /// Leave retained messages where they are.
    #[arg(long)]
    pub keep: bool,

    /// Random connection kills per second in `soak`.
    #[arg(long, default_value_t = 20.0)]
    pub kills: f64,

    /// Process id of the broker, for its processor time and memory.
    #[arg(long)]
    pub broker_pid: Option<u32>,

    /// Connect by TLS, trusting this file of CA certificates.
    #[arg(long)]
    pub tls_ca: Option<PathBuf>,

    /// The name the broker's certificate must bear.
    #[arg(long, default_value = "localhost")]
    pub tls_name: String,

    /// Certificate to show to the broker.
    #[arg(long, requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// Its key.
    #[arg(long, requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
}

/// The scenarios.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Idle connections: memory of each, processor time to connect.
    Connections,
    /// Many publishers, one subscriber (or several, each of which gets all).
    FanIn,
    /// One publisher, many subscribers.
    FanOut,
    /// Publisher and subscriber in pairs, a topic each.
    Pairs,
    /// Publishers and a shared subscription.
    Shared,
    /// Sets retained messages, then takes all by one subscription.
    Retained,
    /// Queues messages for disconnected Sessions, then lets them drain.
    Offline,
    /// Mixed load with random connection kills; watches memory.
    Soak,
    /// Many connects and disconnects, half of them rude; memory before and after.
    Storm,
}

impl Options {
    /// QoS of the subscriptions.
    pub fn subscriber_qos(&self) -> u8 {
        self.subscriber_qos.unwrap_or(self.qos)
    }

    /// Where to connect to.
    pub fn target(&self) -> anyhow::Result<Target> {
        let address: SocketAddr = (self.address.to_socket_addrs())
            .with_context(|| format!("{} is not an address", self.address))?
            .next()
            .with_context(|| format!("{} has no address", self.address))?;
        let identity = self.tls_cert.as_deref().zip(self.tls_key.as_deref());
        let tls = self.tls_ca.as_deref().map(|ca| tls::Client::new(ca, &self.tls_name, identity)).transpose()?;
        Ok(Target { address, tls, sources: self.sources.unwrap_or(0), send_buffer: None })
    }
}

fn parse_version(text: &str) -> Result<Version, String> {
    match text {
        "3.1.1" | "4" => Ok(Version::V3_1_1),
        "5" | "5.0" => Ok(Version::V5),
        _ => Err("expected 3.1.1 or 5".into()),
    }
}
