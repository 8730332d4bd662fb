//! QoS 2 and Wills on their way from the publisher's shard to the others: what PUBREC promises. And messages of Shared Subscriptions on their way from
//! the shard of a member that leaves.
//!
//! A row is written with whatever it replaces (the publisher's Packet Identifier, the Will's record, the entry of the member's queue) in one batch of
//! the shard it comes from. When that is durable, one task for each shard applies its rows in the order of their numbers: a target shard stores what
//! its Sessions get and the row's number in one batch, so that after a crash, when all rows are offered again, nobody gets a message twice. A row is
//! deleted when every target has it durably. To a Shared Subscription a row goes without such a mark, because the member chosen after the crash may be
//! another one: twice is better than never.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bucketmq_packet::message::Message;
use bucketmq_session::Orphan;
use bucketmq_storage::record::outbox::{OutboxNumber, Row, Target};
use bucketmq_storage::{Batch, Position, SessionNumber, ShardId};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tracing::warn;

use super::waits::Waits;
use crate::broker::Broker;
use crate::client::ClientRef;
use crate::deliver::Wakes;
use crate::publish::{Single, publish_single};

/// A message for the outbox.
#[derive(Debug)]
pub struct Letter {
    message: Arc<Message>,
    /// The Shared Subscription whose members it is for; none: it is for whoever subscribes.
    group: Option<Arc<str>>,
}

impl From<Arc<Message>> for Letter {
    fn from(message: Arc<Message>) -> Self {
        Self { message, group: None }
    }
}

impl From<Orphan> for Letter {
    fn from(Orphan { filter, message }: Orphan) -> Self {
        Self { message, group: Some(filter) }
    }
}

impl From<Row> for Letter {
    fn from(Row { target, message, .. }: Row) -> Self {
        let group = match target {
            Target::Shards(_) => None,
            Target::Group { filter } => Some(filter.into()),
        };
        Self { message, group }
    }
}

impl Letter {
    fn row(&self, publisher: SessionNumber) -> Row {
        let target = match &self.group {
            None => Target::Shards(Vec::new()),
            Some(filter) => Target::Group { filter: filter.to_string() },
        };
        Row { target, publisher, message: self.message.clone() }
    }
}

/// A row that has not been applied.
#[derive(Debug)]
struct Waiting {
    number: OutboxNumber,
    /// Durable from here on.
    position: Position,
    letter: Letter,
    publisher: SessionNumber,
    /// Whose count of rows under way it is in.
    from: Option<ClientRef>,
}

#[derive(Debug, Default)]
struct Rows {
    next: OutboxNumber,
    waiting: VecDeque<Waiting>,
}

/// The rows of one publisher shard.
#[derive(Debug, Default)]
pub struct Outbox {
    rows: Mutex<Rows>,
    wake: Notify,
    /// Rows there were since the start, those that were found included, and how many of them have been applied.
    made: AtomicU64,
    done: AtomicU64,
    /// The last number each target shard has applied.
    applied: Mutex<Vec<OutboxNumber>>,
}

impl Outbox {
    /// An outbox whose rows are numbered in `epoch`, with the rows that were found, oldest first, and what each target has applied of them.
    pub fn new(epoch: u64, found: Vec<(OutboxNumber, Row)>, applied: Vec<OutboxNumber>) -> Self {
        let waiting = found.into_iter().map(|(number, row)| Waiting {
            number,
            position: Position(0),
            publisher: row.publisher,
            letter: row.into(),
            from: None,
        });
        let rows = Rows { next: OutboxNumber { epoch, counter: 0 }, waiting: waiting.collect() };
        let made = AtomicU64::new(rows.waiting.len() as u64);
        Self { rows: Mutex::new(rows), wake: Notify::new(), made, done: AtomicU64::new(0), applied: Mutex::new(applied) }
    }

    /// Rows there were so far: see [`Self::has_applied`].
    pub fn made(&self) -> u64 {
        self.made.load(Ordering::Acquire)
    }

    /// True when the first `count` rows have been applied.
    #[inline]
    pub fn has_applied(&self, count: u64) -> bool {
        self.done.load(Ordering::Acquire) >= count
    }

    /// Rows that have not been applied.
    pub fn len(&self) -> usize {
        self.rows.lock().waiting.len()
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Broker {
    /// Puts a row for each of `letters` into the outbox of `shard`, with all of `batch`; the position that has to be durable comes back.
    pub fn send_through_outbox(
        &self,
        shard: ShardId,
        mut batch: Batch,
        letters: impl Iterator<Item = impl Into<Letter>>,
        publisher: SessionNumber,
        from: Option<&ClientRef>,
    ) -> Position {
        let outbox = &self.outboxes[shard.index()];
        let mut rows = outbox.rows.lock();
        let first = rows.waiting.len();
        for letter in letters {
            let letter = letter.into();
            let number = rows.next;
            rows.next.counter += 1;
            batch.send(number, letter.row(publisher));
            rows.waiting.push_back(Waiting { number, position: Position(0), letter, publisher, from: from.cloned() });
        }
        outbox.made.fetch_add((rows.waiting.len() - first) as u64, Ordering::Release);
        if let Some(from) = from {
            from.rows.fetch_add((rows.waiting.len() - first) as u32, Ordering::Relaxed);
        }
        let position = self.store.write(shard, batch);
        for row in rows.waiting.iter_mut().skip(first) {
            row.position = position;
        }
        drop(rows);
        outbox.wake.notify_one();
        position
    }

    /// Starts the tasks that apply what is in the outboxes, and those that go on with the queues of Sessions that are over.
    pub fn start_outboxes(self: &Arc<Self>, tasks: &mut JoinSet<()>) {
        for shard in self.shards.all().take(self.outboxes.len()) {
            let (finished, finish) = mpsc::unbounded_channel();
            tasks.spawn(apply_all(self.clone(), shard, finished));
            tasks.spawn(delete_finished(self.clone(), shard, finish));
        }
        for (number, estate) in self.estates.lock().drain(..) {
            let broker = self.clone();
            tasks.spawn(async move { broker.distribute(number, estate).await });
        }
    }

    /// Stores the message of a row for every Session that matches now, and gives what has to be durable before the row may go.
    fn apply(&self, shard: ShardId, row: &Waiting) -> Waits {
        let mut wakes = Wakes::since(self.moment());
        if let Some(filter) = &row.letter.group {
            self.hand_to_group(filter, &row.letter.message, &self.limits.load(), &mut wakes);
            let waits = wakes.waits.take();
            wakes.wake_all();
            return waits;
        }
        let single = Single::new(&row.letter.message, self.wall_ms());
        publish_single(self, &single, row.publisher, &mut wakes, &mut |target, work| {
            let outbox = &self.outboxes[shard.index()];
            if outbox.applied.lock()[target.index()] >= row.number {
                return None;
            }
            let mut position = Position::default();
            self.store.together(target, &mut || {
                work();
                let mut batch = Batch::default();
                batch.applied(shard, row.number);
                position = self.store.write(target, batch);
            });
            outbox.applied.lock()[target.index()] = row.number;
            Some(position)
        });
        let waits = wakes.waits.take();
        wakes.wake_all();
        waits
    }
}

async fn apply_all(broker: Arc<Broker>, shard: ShardId, finished: mpsc::UnboundedSender<(OutboxNumber, Waits)>) {
    let outbox = &broker.outboxes[shard.index()];
    if broker.confirmation.is_withheld() {
        // A shard could not be read, so who gets a row is not known: they stay until a broker has read all of them.
        return;
    }
    loop {
        let Some(position) = outbox.rows.lock().waiting.front().map(|row| row.position) else {
            outbox.wake.notified().await;
            continue;
        };
        if let Err(error) = broker.store.wait_durable(shard, position).await {
            // The broker ends for the same reason; whoever opens the shard next finds the rows.
            warn!(shard = %shard, error = %error, "rows of the outbox stay");
            return;
        }
        let mut budget = ROWS_AT_A_TIME;
        while budget > 0 {
            let row = {
                let mut rows = outbox.rows.lock();
                // Only the front is looked at: they became durable in their order.
                match rows.waiting.front() {
                    Some(row) if row.position <= position => rows.waiting.pop_front(),
                    _ => None,
                }
            };
            let Some(row) = row else { break };
            let waits = broker.apply(shard, &row);
            outbox.done.fetch_add(1, Ordering::Release);
            if let Some(from) = &row.from {
                from.rows.fetch_sub(1, Ordering::Release);
            }
            let _ = finished.send((row.number, waits));
            budget -= 1;
        }
        tokio::task::yield_now().await;
    }
}

/// Rows applied before others have their turn.
const ROWS_AT_A_TIME: usize = 256;

async fn delete_finished(broker: Arc<Broker>, shard: ShardId, mut finish: mpsc::UnboundedReceiver<(OutboxNumber, Waits)>) {
    let mut rows = Vec::new();
    while finish.recv_many(&mut rows, ROWS_AT_A_TIME).await > 0 {
        let mut waits = Waits::default();
        let mut batch = Batch::default();
        for (number, of_row) in rows.drain(..) {
            if of_row.is_in_vain(&*broker.store) {
                // It stays for the broker that can read that shard again.
                continue;
            }
            waits.merge(&of_row);
            batch.done(number);
        }
        loop {
            match tokio::time::timeout(LOOK_AGAIN, waits.clone().wait(&*broker.store)).await {
                Ok(Ok(())) => {
                    broker.store.write(shard, std::mem::take(&mut batch));
                    break;
                }
                Ok(Err(_)) => return,
                // These few rows are offered again after the next start; their targets know that they have them.
                Err(_) if waits.is_in_vain(&*broker.store) => break,
                Err(_) => {}
            }
        }
    }
}

/// How often a wait for a shard that may have been refused meanwhile is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
