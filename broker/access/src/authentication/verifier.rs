//! Computes slow hashes beside the runtime, few at a time.
//!
//! Promise: no more than `lanes` hashes at once, no more than `queue_max` Clients waiting, none of them longer than the deadline;
//! and a Client that leaves while its hash is computed does not free its place before the CPU is free.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bucketmq_packet::ReasonCode;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::credential::{Credential, MemoryKey, Work};
use super::password::wrong;
use super::{AuthenticationMethod, Refusal};

/// How long a Client waits for its turn: half of the 10 s after which many Clients give up, since the other half is the network's.
const DEADLINE: Duration = Duration::from_secs(5);
/// Who can be served in time: 5 s / 35 ms = 142 on each core.
const QUEUE_PER_CORE: usize = 142;

/// A hash to compute.
#[derive(Debug)]
pub(crate) enum Job {
    /// Is this the password?
    Verify(Arc<Credential>),
    /// It is not, but that must take as long.
    Waste(Work),
}

impl Job {
    pub(crate) fn verify(credential: Arc<Credential>) -> Arc<Self> {
        Arc::new(Self::Verify(credential))
    }
}

pub(crate) struct Verifier {
    key: Arc<MemoryKey>,
    lanes: Arc<Semaphore>,
    waiting: AtomicUsize,
    queue_max: usize,
    deadline: Duration,
}

impl Verifier {
    pub(crate) fn new() -> Result<Self, getrandom::Error> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self::with_bounds(cores, cores * QUEUE_PER_CORE, DEADLINE)
    }

    pub(crate) fn with_bounds(lanes: usize, queue_max: usize, deadline: Duration) -> Result<Self, getrandom::Error> {
        let key = Arc::new(MemoryKey::random()?);
        Ok(Self { key, lanes: Arc::new(Semaphore::new(lanes)), waiting: AtomicUsize::new(0), queue_max, deadline })
    }

    pub(crate) fn key(&self) -> &MemoryKey {
        &self.key
    }

    /// Computes the hash. `Ok`: the password is right and from now on remembered.
    pub(crate) async fn run(&self, job: Arc<Job>, password: &[u8]) -> Result<(), Refusal> {
        let password = Zeroizing::new(password.to_vec());
        let permit = {
            let _place = Place::take(self).ok_or_else(|| busy("too many passwords wait to be hashed"))?;
            let permit = tokio::time::timeout(self.deadline, self.lanes.clone().acquire_owned()).await;
            permit.map_err(|_| busy("the password waited too long to be hashed"))?.map_err(|_| failed())?
        };
        let key = self.key.clone();
        let right = tokio::task::spawn_blocking(move || {
            // Held by the thread, not by the Client: a Client that goes away must not make room for another hash.
            let _permit = permit;
            match &*job {
                // The same Client may have waited twice.
                Job::Verify(credential) => credential.remembers(&key, &password) || credential.verify(&key, &password),
                Job::Waste(work) => {
                    work.waste(&password);
                    false
                }
            }
        });
        if right.await.map_err(|_| failed())? { Ok(()) } else { Err(wrong()) }
    }
}

#[cfg(test)]
impl Verifier {
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(crate) fn add_lane(&self) {
        self.lanes.add_permits(1);
    }
}

/// A place in the queue, given back on drop.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(verifier: &'a Verifier) -> Option<Self> {
        let before = verifier.waiting.fetch_add(1, Ordering::Relaxed);
        let place = Self(&verifier.waiting);
        (before < verifier.queue_max).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn busy(detail: &'static str) -> Refusal {
    Refusal::new(ReasonCode::ServerBusy, AuthenticationMethod::Password, detail)
}

/// The runtime is going down, or a hash could not be computed.
fn failed() -> Refusal {
    Refusal::new(ReasonCode::ServerUnavailable, AuthenticationMethod::Password, "the password could not be hashed")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc";

    fn job() -> Arc<Job> {
        Job::verify(Arc::new(Credential::parse(HASH).unwrap().unwrap()))
    }

    #[tokio::test]
    async fn right_is_right_and_wrong_is_wrong() {
        let verifier = Verifier::with_bounds(1, 1, DEADLINE).unwrap();
        assert_eq!(verifier.run(job(), b"password").await, Ok(()));
        assert_eq!(verifier.run(job(), b"wrong").await, Err(wrong()));
        let Job::Verify(credential) = &*job() else { unreachable!() };
        assert_eq!(verifier.run(Arc::new(Job::Waste(credential.work().unwrap())), b"password").await, Err(wrong()));
    }

    #[tokio::test]
    async fn who_finds_the_queue_full_is_told_so_at_once() {
        let verifier = Arc::new(Verifier::with_bounds(1, 1, DEADLINE).unwrap());
        let lane = verifier.lanes.clone().acquire_owned().await.unwrap();
        let waiting = tokio::spawn({
            let verifier = verifier.clone();
            async move { verifier.run(job(), b"password").await }
        });
        while verifier.waiting.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        let refusal = verifier.run(job(), b"password").await.unwrap_err();
        assert_eq!(refusal.reason_code, ReasonCode::ServerBusy);
        drop(lane);
        assert_eq!(waiting.await.unwrap(), Ok(()));
        assert_eq!(verifier.waiting.load(Ordering::Relaxed), 0);
        assert_eq!(verifier.run(job(), b"password").await, Ok(()));
    }

    #[tokio::test]
    async fn who_waits_too_long_is_told_so() {
        let verifier = Verifier::with_bounds(1, 5, Duration::from_millis(1)).unwrap();
        let _lane = verifier.lanes.clone().acquire_owned().await.unwrap();
        assert_eq!(verifier.run(job(), b"password").await.unwrap_err().reason_code, ReasonCode::ServerBusy);
        assert_eq!(verifier.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_client_that_leaves_gives_its_place_in_the_queue_back() {
        let verifier = Verifier::with_bounds(1, 1, DEADLINE).unwrap();
        let lane = verifier.lanes.clone().acquire_owned().await.unwrap();
        let left = tokio::time::timeout(Duration::from_millis(1), verifier.run(job(), b"password")).await;
        assert!(left.is_err());
        drop(lane);
        assert_eq!(verifier.run(job(), b"password").await, Ok(()));
    }
}
