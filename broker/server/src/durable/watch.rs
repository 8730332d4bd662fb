//! Tells `/readyz` and the log when the bucket does not take what is written, and when it does again.

use std::sync::Arc;
use std::time::Duration;

use bucketmq_admin::Health;
use tracing::{info, warn};

use super::open::State;

/// How often the shards are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// A write that takes this long means that the bucket does not answer as it should: a healthy one needs a tenth of a second.
const SLOW: Duration = Duration::from_secs(2);

/// Runs as long as the broker.
pub async fn run(state: Arc<State>, health: Arc<Health>) {
    let State::Bucket(_, store) = &*state else { return };
    let mut unready = None;
    loop {
        tokio::time::sleep(LOOK).await;
        match (store.slowest_write().filter(|(_, since)| *since > SLOW), &unready) {
            (Some((shard, since)), None) => {
                warn!(shard = %shard, seconds = since.as_secs(), "the bucket does not take what is written: acknowledgements wait");
                unready = Some(health.awaiting("bucket"));
            }
            (None, Some(_)) => {
                info!("the bucket takes what is written again");
                unready = None;
            }
            _ => {}
        }
    }
}
