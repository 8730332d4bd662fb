//! What only the memory store promises.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bucketmq_packet::QoS;

use super::*;

/// The futures of this store are ready at once.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the memory store made somebody wait"),
    }
}

#[test]
fn the_memory_store_passes_the_suite_with_any_number_of_shards() {
    for count in [1, 2, 16, 256] {
        let shards = Shards::new(count).unwrap();
        at_once(crate::suite::run(async || MemoryStore::new(shards)));
    }
}

#[test]
fn an_emptied_queue_costs_nothing() {
    let store = MemoryStore::new(Shards::default());
    let message = Message::new("t", b"x", b"", QoS::AtLeastOnce, false, None);
    let entry = || QueueEntry { message: message.clone(), identifiers: Box::default(), share: 0, qos: QoS::AtLeastOnce, retain: false };
    let session = SessionNumber::new(ShardId(3), 1);
    for sequence in 0..1_000 {
        store.append(session, Sequence(sequence), entry());
    }
    store.remove_through(session, Sequence(989));
    assert!(store.part(ShardId(3)).queues[&session].entries.capacity() < 100);
    store.remove_through(session, Sequence(999));
    assert!(store.part(ShardId(3)).queues.is_empty());
    assert_eq!(Arc::strong_count(&message), 1);
}

#[test]
fn a_session_is_kept_in_the_shard_its_number_names() {
    let number = SessionNumber::new(ShardId(1023), (1 << 48) - 1);
    assert_eq!(number.shard(), ShardId(1023));
    assert_ne!(number, SessionNumber::new(ShardId(1022), (1 << 48) - 1));
}
