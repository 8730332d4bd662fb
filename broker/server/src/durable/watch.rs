//! Tells `/readyz`, the log and the Clients concerned what is wrong with the bucket: it does not take what is written, it does not say who owns it, a
//! shard of it cannot be read; and when all is well again.

use std::sync::Arc;
use std::time::Duration;

use bucketmq_admin::{BucketHealth, Health, ReadinessToken};
use bucketmq_bucket::BucketUrl;
use bucketmq_bucket::metrics::Trouble;
use bucketmq_packet::ReasonCode;
use bucketmq_storage::ShardId;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::condition;
use super::open::State;
use crate::broker::Broker;

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// A write that takes this long means that the bucket does not answer as it should: a healthy one needs a tenth of a second.
const SLOW: Duration = Duration::from_secs(2);

/// Before an outage is told so long a request may already have failed for the same reason.
const BEFORE: Duration = Duration::from_secs(5);
/// How often the log says why while it lasts.
const WHY: Duration = Duration::from_secs(30);

/// Looks at the bucket of one broker.
pub struct Watch {
    state: Arc<State>,
    broker: Arc<Broker>,
    health: Arc<Health>,
    answers: Answers,
    refusals: Refusals,
    told: Option<BucketHealth>,
}

impl Watch {
    /// Has looked once: who sees that the broker is ready sees how its bucket is, too.
    pub fn new(state: Arc<State>, broker: Arc<Broker>, health: Arc<Health>) -> Self {
        let mut watch = Self { state, broker, health, answers: Answers::default(), refusals: Refusals::default(), told: None };
        watch.look();
        watch
    }

    /// Runs as long as the broker.
    pub async fn run(mut self) {
        loop {
            tokio::time::sleep(LOOK).await;
            self.look();
        }
    }

    fn look(&mut self) {
        self.answers.look(&self.state, &self.broker, &self.health);
        self.refusals.look(&self.state, &self.broker, &self.health);
        let Some(url) = self.state.url() else { return };
        let now = self.condition(url);
        if self.told.as_ref() != Some(&now) {
            self.health.set_bucket(now.clone());
            self.told = Some(now);
        }
    }

    /// An outage first: it may be why a shard cannot be read.
    fn condition(&self, url: &BucketUrl) -> BucketHealth {
        match (&self.answers.outage, &self.refusals.known[..]) {
            (Some(outage), _) => match self.state.last_trouble().filter(|trouble| outage.includes(trouble)) {
                Some(trouble) => condition::of_diagnosis(url, &trouble.diagnosis),
                None => condition::slow(url),
            },
            (None, []) => condition::healthy(url),
            (None, shards) => condition::refused(url, shards),
        }
    }
}

/// Whether the bucket answers.
#[derive(Default)]
struct Answers {
    /// The first read that says who owns the bucket comes a moment after the start.
    confirmed: bool,
    outage: Option<Outage>,
}

/// From when it was noticed until all is well again.
struct Outage {
    began: Instant,
    /// When the log said why.
    told: Option<Instant>,
    _unready: ReadinessToken,
}

impl Answers {
    fn look(&mut self, state: &State, broker: &Broker, health: &Arc<Health>) {
        let slow = state.slowest_write().filter(|(_, since)| *since > SLOW);
        let holds = broker.confirmation.holds();
        self.confirmed |= holds;
        match (slow, self.confirmed && !holds, &self.outage) {
            (Some((shard, since)), _, None) => {
                warn!(shard = %shard, seconds = since.as_secs(), "the bucket does not take what is written: acknowledgements wait");
                self.outage = Some(Outage::new(health));
            }
            (None, true, None) => {
                warn!("the bucket does not say who owns it: acknowledgements of QoS 1 and 2 wait");
                self.outage = Some(Outage::new(health));
            }
            (None, false, Some(_)) => {
                info!("the bucket answers again");
                self.outage = None;
            }
            _ => {}
        }
        if let Some(outage) = &mut self.outage {
            outage.tell_why(state);
        }
    }
}

impl Outage {
    fn new(health: &Arc<Health>) -> Self {
        Self { began: Instant::now(), told: None, _unready: health.awaiting("bucket") }
    }

    /// Whether this may be why.
    fn includes(&self, trouble: &Trouble) -> bool {
        trouble.at + BEFORE > self.began
    }

    /// What the bucket says, or that it says nothing: as soon as it is known, and then now and then.
    fn tell_why(&mut self, state: &State) {
        let now = Instant::now();
        let since = self.told.map_or(BEFORE, |told| now - told);
        let is_due = self.told.is_none() || since > WHY;
        if let Some(trouble) = state.last_trouble().filter(|trouble| is_due && trouble.at.elapsed() < since) {
            warn!(error = trouble.text, "requests to the bucket fail and are made again");
            self.told = Some(now);
        }
    }
}

/// The shards that cannot be read.
#[derive(Default)]
struct Refusals {
    known: Vec<ShardId>,
    unready: Option<ReadinessToken>,
}

impl Refusals {
    fn look(&mut self, state: &State, broker: &Broker, health: &Arc<Health>) {
        for (shard, why) in state.refused() {
            if self.known.contains(&shard) {
                continue;
            }
            error!(
                shard = %shard,
                why,
                "a shard cannot be read and is refused: its Clients get 0x88, the others are served; bucketmq bucket verify tells more, and bucketmq \
                 bucket repair mends it or gives it up"
            );
            if broker.confirmation.is_withheld() {
                error!("who subscribes there is not known: no PUBLISH of QoS 1 or 2 is acknowledged until all shards can be read");
            }
            self.known.push(shard);
            self.unready.get_or_insert_with(|| health.awaiting("shards"));
            let mut clients = Vec::new();
            broker.registry.for_each(|client| clients.extend((client.shard == shard).then(|| client.clone())));
            clients.iter().for_each(|client| client.close(ReasonCode::ImplementationSpecificError));
        }
    }
}
