//! Tells `/readyz` and the log when the bucket does not take what is written or does not say who owns it, and when it does again.

use std::sync::Arc;
use std::time::Duration;

use bucketmq_admin::Health;
use bucketmq_cluster::Confirmation;
use tracing::{info, warn};

use super::open::State;

/// How often the shards are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// A write that takes this long means that the bucket does not answer as it should: a healthy one needs a tenth of a second.
const SLOW: Duration = Duration::from_secs(2);

/// Runs as long as the broker.
pub async fn run(state: Arc<State>, confirmation: Arc<Confirmation>, health: Arc<Health>) {
    let mut unready = None;
    // The first read that says who owns the bucket comes a moment after the start.
    let mut confirmed = false;
    loop {
        tokio::time::sleep(LOOK).await;
        let slow = state.slowest_write().filter(|(_, since)| *since > SLOW);
        let holds = confirmation.holds();
        confirmed |= holds;
        match (slow, confirmed && !holds, &unready) {
            (Some((shard, since)), _, None) => {
                warn!(shard = %shard, seconds = since.as_secs(), "the bucket does not take what is written: acknowledgements wait");
                unready = Some(health.awaiting("bucket"));
            }
            (None, true, None) => {
                warn!("the bucket does not say who owns it: acknowledgements of QoS 1 and 2 wait");
                unready = Some(health.awaiting("bucket"));
            }
            (None, false, Some(_)) => {
                info!("the bucket answers again");
                unready = None;
            }
            _ => {}
        }
    }
}
