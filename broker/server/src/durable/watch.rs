//! Tells `/readyz`, the log and the Clients concerned what is wrong with the bucket: it does not take what is written, it does not say who owns it, a
//! shard of it cannot be read; and when all is well again.

use std::sync::Arc;
use std::time::Duration;

use bucketmq_admin::{Health, ReadinessToken};
use bucketmq_packet::ReasonCode;
use bucketmq_storage::ShardId;
use tracing::{error, info, warn};

use super::open::State;
use crate::broker::Broker;

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// A write that takes this long means that the bucket does not answer as it should: a healthy one needs a tenth of a second.
const SLOW: Duration = Duration::from_secs(2);

/// Runs as long as the broker.
pub async fn run(state: Arc<State>, broker: Arc<Broker>, health: Arc<Health>) {
    let (mut answers, mut refusals) = (Answers::default(), Refusals::default());
    loop {
        refusals.look(&state, &broker, &health);
        tokio::time::sleep(LOOK).await;
        answers.look(&state, &broker, &health);
    }
}

/// Whether the bucket answers.
#[derive(Default)]
struct Answers {
    /// The first read that says who owns the bucket comes a moment after the start.
    confirmed: bool,
    unready: Option<ReadinessToken>,
}

impl Answers {
    fn look(&mut self, state: &State, broker: &Broker, health: &Arc<Health>) {
        let slow = state.slowest_write().filter(|(_, since)| *since > SLOW);
        let holds = broker.confirmation.holds();
        self.confirmed |= holds;
        match (slow, self.confirmed && !holds, &self.unready) {
            (Some((shard, since)), _, None) => {
                warn!(shard = %shard, seconds = since.as_secs(), "the bucket does not take what is written: acknowledgements wait");
                self.unready = Some(health.awaiting("bucket"));
            }
            (None, true, None) => {
                warn!("the bucket does not say who owns it: acknowledgements of QoS 1 and 2 wait");
                self.unready = Some(health.awaiting("bucket"));
            }
            (None, false, Some(_)) => {
                info!("the bucket answers again");
                self.unready = None;
            }
            _ => {}
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
