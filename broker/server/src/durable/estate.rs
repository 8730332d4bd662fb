//! The queue of a stored Session that is over: what is in it of Shared Subscriptions goes to their other members.
//!
//! The queue is not in memory, so that takes a while, and a crash may come in between. Until all is done a record says so ([`Estate`]), written in
//! the batch that ends the Session; a page leaves the queue and enters the outbox in one batch.

use std::sync::Arc;

use bucketmq_packet::QoS;
use bucketmq_session::Orphan;
use bucketmq_storage::record::estate::Estate;
use bucketmq_storage::{Batch, QueueEntry, Sequence, SessionNumber};
use tracing::warn;

use crate::broker::Broker;
use crate::deliver::PAGE_BYTES;
use crate::publish::BROKER_ITSELF;

/// Entries moved together.
const PAGE_ENTRIES: usize = 256;

impl Broker {
    /// Gives what `estate` says to other members, page by page, each when the one before it is durable; then the queue goes.
    pub(crate) async fn distribute(&self, number: SessionNumber, estate: Estate) {
        let shares: Vec<(u32, Arc<str>)> = estate.shares.iter().map(|(share, filter)| (*share, filter.as_str().into())).collect();
        let orphan = |(sequence, entry): (Sequence, QueueEntry)| {
            // [MQTT-4.8.2-5] QoS 2 that its Client may have got goes to nobody else.
            let stays = entry.qos == QoS::ExactlyOnce && sequence < estate.begun;
            let (_, filter) = shares.iter().find(|(share, _)| *share == entry.share && !stays)?;
            self.groups.has_another(filter, false).then(|| Orphan { filter: filter.clone(), message: entry.message })
        };
        let mut from = estate.from;
        loop {
            let page = match self.store.page(number, from, PAGE_ENTRIES, PAGE_BYTES).await {
                Ok(page) => page,
                Err(error) => {
                    warn!(shard = %number.shard(), error = %error, "messages of a Shared Subscription stay where they are");
                    return;
                }
            };
            let Some((last, _)) = page.last() else { break };
            from = Sequence(last.0 + 1);
            let mut batch = Batch::default();
            batch.remove_through(number, *last);
            let position = self.send_through_outbox(number.shard(), batch, page.into_iter().filter_map(orphan), BROKER_ITSELF, None);
            if self.store.wait_durable(number.shard(), position).await.is_err() {
                // The broker ends for the same reason; whoever opens the shard next goes on.
                return;
            }
        }
        let mut batch = Batch::default();
        batch.delete::<Estate>(&number).remove_session(number);
        self.store.write(number.shard(), batch);
    }
}

#[cfg(test)]
mod tests;
