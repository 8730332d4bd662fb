//! Where the state of a case is, and the trouble that is made there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bucketmq_servers::{Fault, FaultProxy, ProxyOptions, Server};

use super::clock::Clock;
use super::disk::Disk;
use super::keys::Keys;
use crate::broker::Place;

/// What is done to the bucket.
#[derive(Debug, Clone, Copy)]
pub(super) enum Trouble {
    /// Connections are refused.
    Refuse,
    /// Each request takes so long.
    Slow(Duration),
    /// This fault, of all requests or of writes.
    All(Fault),
    Writes(Fault),
    /// The disk of a directory is full.
    FullDisk,
    /// The keys of the broker are withdrawn; when it is over, others are in their file.
    KeysWithdrawn,
    /// Others are in the file; when it is over, the first are withdrawn.
    KeysReplaced,
    /// The clock of the broker is set so many seconds ahead; when it is over, right again. The bucket is behind an S3 server.
    Clock(i64),
    /// The same with a directory.
    ClockOfDirectory(i64),
}

impl Trouble {
    /// The bucket does what it is asked meanwhile, however slowly.
    pub(super) fn is_mild(self) -> bool {
        matches!(self, Self::Slow(_) | Self::KeysReplaced | Self::Clock(_) | Self::ClockOfDirectory(_))
    }
}

/// What stands between a broker and its state.
pub(super) enum Site<'a> {
    Proxy(FaultProxy),
    Disk(Disk),
    Keys(FaultProxy, Keys<'a>),
    /// Without a proxy: a directory.
    Clock(Option<FaultProxy>, PathBuf, Clock),
}

impl<'a> Site<'a> {
    /// One at which `trouble` can be made; files of its own go into `folder`.
    pub(super) fn new(trouble: Trouble, server: &'a Server, seed: u64, folder: &Path) -> anyhow::Result<Self> {
        let proxy = || FaultProxy::start(server, ProxyOptions { seed, ..ProxyOptions::default() });
        Ok(match trouble {
            Trouble::FullDisk => Self::Disk(Disk::mount(folder)?),
            Trouble::KeysWithdrawn | Trouble::KeysReplaced => Self::Keys(proxy()?, Keys::new(server, folder)?),
            Trouble::Clock(_) => Self::Clock(Some(proxy()?), PathBuf::new(), Clock::new(folder)?),
            Trouble::ClockOfDirectory(_) => Self::Clock(None, folder.join("bucket"), Clock::new(folder)?),
            _ => Self::Proxy(proxy()?),
        })
    }

    /// What the broker is given.
    pub(super) fn place(&self, prefix: &str) -> Place {
        match self {
            Self::Proxy(proxy) | Self::Clock(Some(proxy), ..) => Place::S3(proxy.access().clone(), prefix.to_owned()),
            Self::Disk(disk) => Place::Directory(disk.bucket()),
            Self::Clock(None, folder, _) => Place::Directory(folder.clone()),
            Self::Keys(proxy, keys) => Place::S3WithFile(proxy.access().clone(), prefix.to_owned(), keys.file().to_owned()),
        }
    }

    /// What the broker is started with besides.
    pub(super) fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        match self {
            Self::Clock(_, _, clock) => clock.environment().to_vec(),
            _ => Vec::new(),
        }
    }

    /// Begins.
    pub(super) fn begin(&mut self, trouble: Trouble) -> anyhow::Result<()> {
        match (self, trouble) {
            (Self::Disk(disk), _) => return disk.fill(),
            (Self::Clock(.., clock), Trouble::Clock(seconds) | Trouble::ClockOfDirectory(seconds)) => return clock.set(seconds),
            (Self::Keys(_, keys), Trouble::KeysReplaced) => return keys.give(),
            (Self::Keys(_, keys), _) => return keys.withdraw(),
            (Self::Proxy(proxy), Trouble::Refuse) => proxy.refuse(true),
            (Self::Proxy(proxy), Trouble::Slow(latency)) => proxy.set_latency(latency, latency),
            (Self::Proxy(proxy), Trouble::All(fault)) => _ = proxy.inject(fault.always()),
            (Self::Proxy(proxy), Trouble::Writes(fault)) => _ = proxy.inject(fault.always().on_writes()),
            // The others are made elsewhere.
            (Self::Proxy(_) | Self::Clock(..), _) => {}
        }
        Ok(())
    }

    /// Ends.
    pub(super) fn end(&mut self, trouble: Trouble) -> anyhow::Result<()> {
        match (self, trouble) {
            (Self::Disk(disk), _) => return disk.empty(),
            (Self::Clock(.., clock), _) => return clock.set(0),
            (Self::Keys(_, keys), Trouble::KeysReplaced) => return keys.withdraw(),
            (Self::Keys(_, keys), _) => return keys.give(),
            (Self::Proxy(proxy), _) => {
                proxy.refuse(false);
                proxy.set_latency(Duration::ZERO, Duration::ZERO);
                proxy.heal();
            }
        }
        Ok(())
    }
}
