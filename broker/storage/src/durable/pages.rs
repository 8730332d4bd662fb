//! Pages of queues, read for whoever wants one, in the order in which they lie in the database.
//!
//! When a broker has started again, thousands of Clients come back at once, and each wants its queue. A scan for each would ask the bucket several
//! times for each; one scan that goes from queue to queue reads what lies side by side once, and hands every Client its page on the way. Who comes
//! while it goes waits for the next one.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use bucketmq_packet::message::QueueEntry;
use slatedb::DbIterator;
use slatedb::config::ScanOptions;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::shard::Shard;
use crate::record::Record;
use crate::record::queue::Chunk;
use crate::store::{ReadError, Sequence, SessionNumber};

/// Scans of one shard at one time. Each has a read of [`READ_AHEAD_BYTES`] under way in up to as many tables as the queues lie in, so that with
/// 16 shards and 20 tables these are 40 MiB at most, however many Clients come back at once.
const SCANS_MAX: usize = 2;
/// Pages one scan hands out: who waits behind it waits for these.
const PAGES_PER_SCAN: usize = 64;
/// Bytes asked for at once: with single blocks of 4 KiB a page of 1,000 messages takes a hundred requests one after the other.
const READ_AHEAD_BYTES: usize = 64 * 1024;

type Page = Vec<(Sequence, QueueEntry)>;

/// A page that is wanted.
#[derive(Debug, Clone, Copy)]
struct Wish {
    from: Sequence,
    max_entries: usize,
    max_bytes: usize,
}

/// And by whom.
#[derive(Debug)]
struct Wished {
    wish: Wish,
    page: oneshot::Sender<Result<Page, ReadError>>,
}

/// A queue, and a number of its own for each wish.
type Place = (SessionNumber, u64);

/// Those who wait for a page of one shard.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    waiting: BTreeMap<Place, Wished>,
    next: u64,
    scans: usize,
    /// The last queue a scan has taken: the next one goes on behind it, so that nobody waits for ever, also not for a queue that is wanted page
    /// after page.
    reached: Option<SessionNumber>,
}

impl Wishes {
    /// The next wishes in the order of their places.
    fn take(&mut self) -> Vec<(SessionNumber, Wished)> {
        let begin = self.reached.map_or(Bound::Unbounded, |queue| Bound::Excluded((queue, u64::MAX)));
        let places =
            |range: (Bound<Place>, Bound<Place>)| self.waiting.range(range).take(PAGES_PER_SCAN).map(|(place, _)| *place).collect();
        let mut places_next: Vec<Place> = places((begin, Bound::Unbounded));
        if places_next.is_empty() {
            places_next = places((Bound::Unbounded, Bound::Unbounded));
        }
        self.reached = places_next.last().map(|(queue, _)| *queue);
        places_next.into_iter().filter_map(|place| Some((place.0, self.waiting.remove(&place)?))).collect()
    }

    fn put(&mut self, session: SessionNumber, wished: Wished) {
        self.waiting.insert((session, self.next), wished);
        self.next += 1;
    }
}

impl Shard {
    /// Entries of a queue from `from` on, once everything done so far can be read.
    pub(crate) async fn page(
        self: &Arc<Self>,
        session: SessionNumber,
        from: Sequence,
        max_entries: usize,
        max_bytes: usize,
    ) -> Result<Page, ReadError> {
        self.settle().await?;
        let wish = Wish { from, max_entries, max_bytes };
        match self.turn(session, wish) {
            Ok(_turn) => self.read_page(&mut None, session, wish, (session, Sequence(u64::MAX))).await.map_err(|error| self.judge(error)),
            Err(wished) => wished.await.unwrap_or_else(|_| Err(self.unreadable(Abandoned))),
        }
    }

    /// A turn at once, when nobody waits for one; otherwise the page will come.
    fn turn(self: &Arc<Self>, session: SessionNumber, wish: Wish) -> Result<Turn, oneshot::Receiver<Result<Page, ReadError>>> {
        let mut wishes = self.wishes.lock();
        if wishes.scans < SCANS_MAX && wishes.waiting.is_empty() {
            wishes.scans += 1;
            return Ok(Turn(self.clone()));
        }
        let (page, wished) = oneshot::channel();
        wishes.put(session, Wished { wish, page });
        Err(wished)
    }

    /// Fulfils wishes as long as there are some, and gives the turn back.
    async fn scan(self: Arc<Self>) {
        loop {
            let wishes = {
                let mut waiting = self.wishes.lock();
                let wishes = waiting.take();
                if wishes.is_empty() {
                    waiting.scans -= 1;
                    return;
                }
                wishes
            };
            self.fulfil(wishes).await;
        }
    }

    /// Reads the pages of `wishes`, whose queues ascend. Who comes behind one that cannot be read waits for another scan.
    async fn fulfil(&self, wishes: Vec<(SessionNumber, Wished)>) {
        let Some((last, _)) = wishes.last() else { return };
        let end = (*last, Sequence(u64::MAX));
        let mut scan = None;
        let mut wishes = wishes.into_iter();
        for (session, Wished { wish, page }) in wishes.by_ref() {
            if page.is_closed() {
                continue;
            }
            let read = self.read_page(&mut scan, session, wish, end).await.map_err(|error| self.judge(error));
            let is_read = read.is_ok();
            // Nobody is there any more when the Client has gone.
            let _ = page.send(read);
            if !is_read {
                break;
            }
        }
        let mut waiting = self.wishes.lock();
        for (session, wished) in wishes {
            waiting.put(session, wished);
        }
    }

    /// One page, from `scan` when that was begun for the queues before it and can go on to it.
    async fn read_page(
        &self,
        scan: &mut Option<Scan>,
        session: SessionNumber,
        wish: Wish,
        end: (SessionNumber, Sequence),
    ) -> Result<Page, ReadError> {
        let from = wish.from.max(self.pending.lock().head(session));
        let goes_on = match scan.as_mut() {
            Some(scan) => scan.go_to((session, from)).await,
            None => false,
        };
        let scan = match scan {
            Some(scan) if goes_on => scan,
            scan => scan.insert(Scan { rows: self.rows((session, from), end).await?, queue: session, ahead: None }),
        };
        let mut page = Vec::new();
        let mut bytes = 0;
        while page.len() < wish.max_entries
            && let Some(chunk) = scan.next_of(self, session).await?
        {
            // Also of a chunk of which only the beginning fits this page: the next page begins within it, and what follows would never be known.
            self.pending.lock().read(session, from, &chunk);
            let full = chunk.entries.iter().filter(|queued| queued.sequence >= from).try_for_each(|queued| {
                let Some(entry) = queued.entry() else { return ControlFlow::Continue(()) };
                bytes += entry.message.len();
                if page.len() >= wish.max_entries || bytes > wish.max_bytes && !page.is_empty() {
                    return ControlFlow::Break(());
                }
                page.push((queued.sequence, entry));
                ControlFlow::Continue(())
            });
            if full.is_break() {
                break;
            }
        }
        Ok(page)
    }

    /// The chunks between two places in queues, both included.
    pub(super) async fn rows(&self, from: (SessionNumber, Sequence), to: (SessionNumber, Sequence)) -> Result<DbIterator, ReadError> {
        let range = (Bound::Included(Chunk::key(&from)), Bound::Included(Chunk::key(&to)));
        let options = ScanOptions::default().with_read_ahead_bytes(READ_AHEAD_BYTES);
        self.db()?.scan_with_options(range, &options).await.map_err(|error| self.unreadable(error))
    }
}

/// The right to scan. Whoever waits when it is given back goes on with it.
struct Turn(Arc<Shard>);

impl Drop for Turn {
    fn drop(&mut self) {
        let mut wishes = self.0.wishes.lock();
        match Handle::try_current() {
            Ok(runtime) if !wishes.waiting.is_empty() => _ = runtime.spawn(self.0.clone().scan()),
            _ => wishes.scans -= 1,
        }
    }
}

/// A scan that goes from queue to queue.
struct Scan {
    rows: DbIterator,
    /// The one it is in.
    queue: SessionNumber,
    /// Read already, of a queue behind the one that was asked for.
    ahead: Option<((SessionNumber, Sequence), Chunk)>,
}

impl Scan {
    /// Goes on to `place`. False: that is not ahead. A queue that is wanted twice, by a Client that came back meanwhile, is read anew: it may have been
    /// left behind already.
    async fn go_to(&mut self, place: (SessionNumber, Sequence)) -> bool {
        if place.0 <= self.queue {
            return false;
        }
        self.queue = place.0;
        match &self.ahead {
            Some((ahead, _)) if *ahead >= place => true,
            _ => {
                self.ahead = None;
                self.rows.seek(Chunk::key(&place)).await.is_ok()
            }
        }
    }

    /// The next chunk, if it is of the queue `session`.
    async fn next_of(&mut self, shard: &Shard, session: SessionNumber) -> Result<Option<Chunk>, ReadError> {
        if self.ahead.is_none() {
            self.ahead = next_chunk(shard, &mut self.rows).await?;
        }
        Ok(self.ahead.take_if(|((queue, _), _)| *queue == session).map(|(_, chunk)| chunk))
    }
}

/// The scan was given up with the process.
#[derive(Debug, thiserror::Error)]
#[error("the scan that should read it was given up")]
struct Abandoned;

/// The next chunk and its place, if there is one.
pub(super) async fn next_chunk(shard: &Shard, rows: &mut DbIterator) -> Result<Option<((SessionNumber, Sequence), Chunk)>, ReadError> {
    let Some(row) = rows.next().await.map_err(|error| shard.unreadable(error))? else { return Ok(None) };
    let decoded = Chunk::decode_key(&row.key).and_then(|place| Ok((place, Chunk::decode(&row.value)?)));
    decoded.map(Some).map_err(|error| shard.unreadable(error))
}

#[cfg(test)]
mod tests {
    use bucketmq_packet::QoS;
    use bucketmq_packet::message::Message;
    use object_store::memory::InMemory;
    use object_store::path::Path;

    use super::*;
    use crate::durable::{DurableStore, Place};
    use crate::shard::{ShardId, Shards};
    use crate::store::Store;

    #[test]
    fn a_queue_that_is_wanted_again_and_again_keeps_no_other_waiting() {
        let mut wishes = Wishes::default();
        let want = |wishes: &mut Wishes, number| {
            let wish = Wish { from: Sequence(0), max_entries: 1, max_bytes: 1 };
            wishes.put(SessionNumber(number), Wished { wish, page: oneshot::channel().0 });
        };
        let taken = |wishes: &mut Wishes| wishes.take().into_iter().map(|(session, _)| session.0).collect::<Vec<_>>();
        want(&mut wishes, 9);
        assert_eq!(taken(&mut wishes), [9]);
        want(&mut wishes, 2);
        want(&mut wishes, 9);
        want(&mut wishes, 10);
        assert_eq!(taken(&mut wishes), [10], "it goes on behind 9");
        want(&mut wishes, 10);
        assert_eq!(taken(&mut wishes), [2, 9, 10]);
        assert!(taken(&mut wishes).is_empty());
    }

    #[tokio::test]
    async fn a_queue_that_is_wanted_twice_at_one_time_is_read_twice() {
        let place = Place { bucket: Arc::new(InMemory::new()), prefix: Path::default(), shards: Shards::new(1).expect("a power of two") };
        let store = DurableStore::open(&place).await.expect("it opens");
        let sessions = [1, 1, 2, 3, 3, 3].map(|number| SessionNumber::new(ShardId(0), number));
        for (at, payload) in [(0, 1), (2, 2), (3, 3)] {
            let message = Message::new("t", &[payload], b"", QoS::AtLeastOnce, false, None);
            let entry = QueueEntry { message, identifiers: Box::default(), share: 0, qos: QoS::AtLeastOnce, retain: false };
            store.append(sessions[at], Sequence(0), entry);
        }
        let shard = store.part(ShardId(0));
        shard.settle().await.expect("it is written");
        let wanted = sessions.map(|session| {
            let (page, wished) = oneshot::channel();
            let wish = Wish { from: Sequence(0), max_entries: 9, max_bytes: usize::MAX };
            shard.wishes.lock().put(session, Wished { wish, page });
            wished
        });
        shard.wishes.lock().scans += 1;
        shard.clone().scan().await;
        for (wished, payload) in wanted.into_iter().zip([1, 1, 2, 3, 3, 3]) {
            let page = wished.await.expect("it was read").expect("it is readable");
            let payloads: Vec<_> = page.iter().map(|(_, entry)| entry.message.payload()).collect();
            assert_eq!(payloads, [[payload]]);
        }
        store.close().await.expect("closes");
    }
}
