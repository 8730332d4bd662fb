//! What all Clients of a run share: where the brokers are, what hour it is, and the history.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use bucketmq_packet::QoS;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::history::{ClientNumber, Kind, Recorder, What};
use crate::link::{CONNACK, Gone, Identity, Link, Testament};

/// Between two attempts to connect.
const RETRY: Duration = Duration::from_millis(20);

/// What Clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Hour {
    /// All that makes load.
    Load = 0,
    /// Publishers finish what is under way and end; nobody is away any more.
    Finish = 1,
    /// Everybody ends.
    End = 2,
}

/// Shared by all Clients of a run.
#[derive(Debug, Clone)]
pub struct Scene {
    /// Where brokers listen; whoever is not served by one tries the next.
    pub addresses: Arc<[SocketAddr]>,
    /// What happened.
    pub recorder: Recorder,
    /// Every second Client leaves a broker that says nothing for so long; the others stay, also with one that is frozen.
    pub silence: Option<Duration>,
    /// Handshakes of subscribers that have begun and not ended.
    pub open_handshakes: Arc<AtomicUsize>,
    hour: Arc<AtomicU8>,
    seed: u64,
}

impl Scene {
    /// At the hour of load.
    pub fn new(addresses: &[SocketAddr], seed: u64) -> Self {
        let (recorder, open_handshakes, hour) = Default::default();
        Self { addresses: addresses.into(), recorder, silence: None, open_handshakes, hour, seed }
    }

    /// What hour it is.
    pub fn hour(&self) -> Hour {
        match self.hour.load(Ordering::Relaxed) {
            0 => Hour::Load,
            1 => Hour::Finish,
            _ => Hour::End,
        }
    }

    /// It is `hour` from now on.
    pub fn strike(&self, hour: Hour) {
        self.hour.store(hour as u8, Ordering::Relaxed);
    }

    /// Random numbers of one Client's own, the same for the same seed.
    pub fn random(&self, client: ClientNumber) -> StdRng {
        StdRng::seed_from_u64(self.seed ^ u64::from(client) << 32)
    }

    /// A Client of this run.
    pub fn client(&self, identity: Identity) -> Client {
        let number = self.recorder.client(&identity.client_id);
        Client { scene: self.clone(), identity, number, turn: usize::from(number), owed: false }
    }
}

/// A Client between its connections.
pub struct Client {
    /// Where it is.
    pub scene: Scene,
    /// Who it is.
    pub identity: Identity,
    /// Its place in the history.
    pub number: ClientNumber,
    /// Whose turn it is of the brokers.
    turn: usize,
    /// Something was acknowledged, so its Session has to be there.
    pub owed: bool,
}

impl Client {
    /// Connects to one of the brokers; None: not this time, and a pause was made. Also says whether the Session was there.
    pub fn connect(&mut self, will: Option<&Testament>) -> Option<(Link, bool)> {
        let address = self.scene.addresses[self.turn % self.scene.addresses.len()];
        match Link::open(address, &self.identity, will, self.scene.silence.unwrap_or(CONNACK)) {
            Ok((link, present)) => {
                if self.identity.lasts {
                    self.record(What::Connected { present, owed: self.owed });
                    self.owed &= present;
                }
                Some((link, present))
            }
            Err(_) => {
                self.turn += 1;
                std::thread::sleep(RETRY);
                None
            }
        }
    }

    /// An error when the broker has said nothing for so long that this Client leaves it.
    pub fn listens(&self, link: &Link) -> Result<(), Gone> {
        let leaves = self.number.is_multiple_of(2) && self.scene.hour() == Hour::Load;
        match self.scene.silence {
            Some(silence) if leaves && link.silent_for() > silence => Err(Gone("silence".to_owned())),
            _ => Ok(()),
        }
    }

    /// The connection is over.
    pub fn gone(&mut self, why: &Gone) {
        if self.identity.lasts {
            self.record(What::Gone(why.0.as_str().into()));
        }
        self.turn += 1;
    }

    /// This happened.
    pub fn record(&self, what: What) {
        self.scene.recorder.record(self.number, what);
    }

    /// A stream of its own.
    pub fn stream(&self, topic: &str, qos: QoS, kind: Kind) -> Outlet {
        Outlet::new(&self.scene.recorder, self.number, topic, qos, kind)
    }
}

/// A stream as its publisher sees it.
#[derive(Debug, Clone)]
pub struct Outlet {
    /// Its place in the history.
    pub stream: u32,
    /// Topic Name.
    pub topic: Arc<str>,
    /// QoS.
    pub qos: QoS,
    /// What for.
    pub kind: Kind,
    /// Number of the next message.
    pub next: u32,
}

impl Outlet {
    /// A new stream of `publisher`.
    pub fn new(recorder: &Recorder, publisher: ClientNumber, topic: &str, qos: QoS, kind: Kind) -> Self {
        let stream = recorder.stream(publisher, topic, qos as u8, kind);
        Self { stream, topic: topic.into(), qos, kind, next: 0 }
    }
}
