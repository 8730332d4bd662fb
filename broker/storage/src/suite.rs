//! The tests every [`Store`] passes. They use nothing but the trait; a store that must be driven (by a runtime, by a simulator) is driven by
//! whoever awaits [`run`].

use std::collections::BTreeSet;
use std::sync::Arc;

use bucketmq_packet::QoS;

use crate::batch::Batch;
use crate::shard::ShardId;
use crate::store::{Position, QueueUsage, RetainedCursor, RetainedFull, RetainedLimit, RetainedUsage, Sequence, SessionNumber, Store};
use bucketmq_packet::message::{Message, QueueEntry};

/// Runs all tests, each on a new and empty store made by `new`. Panics on the first that fails.
pub async fn run<S: Store>(new: impl AsyncFn() -> S) {
    a_queue_gives_back_what_was_appended_in_order(&new().await).await;
    a_page_is_bounded_by_entries_and_by_bytes(&new().await).await;
    a_page_begins_where_asked_even_in_a_gap(&new().await).await;
    removing_takes_the_oldest_up_to_a_sequence(&new().await).await;
    removing_one_entry_leaves_the_others(&new().await).await;
    removing_a_session_leaves_the_others(&new().await).await;
    positions_grow_and_become_durable(&new().await).await;
    a_batch_changes_queues_in_its_order(&new().await).await;
    usage_counts_what_is_there(&new().await).await;
    a_retained_message_is_replaced_by_the_next_one(&new().await).await;
    a_filter_finds_the_retained_messages_it_matches(&new().await).await;
    retained_messages_come_in_pieces_while_others_come_and_go(&new().await).await;
    a_full_store_keeps_what_it_has_and_lets_it_be_replaced(&new().await).await;
    expired_retained_messages_are_swept(&new().await).await;
}

fn session(store: &impl Store, client_id: &str, counter: u64) -> SessionNumber {
    SessionNumber::new(store.shards().of(client_id), counter)
}

fn message(topic: &str, payload: &[u8]) -> Arc<Message> {
    Message::new(topic, payload, b"\x01\x01", QoS::AtLeastOnce, false, None)
}

fn entry(payload: &[u8]) -> QueueEntry {
    QueueEntry { message: message("t", payload), identifiers: Box::new([7, 9]), share: 3, qos: QoS::ExactlyOnce, retain: true }
}

async fn sequences(store: &impl Store, session: SessionNumber, from: u64, max_entries: usize, max_bytes: usize) -> Vec<u64> {
    let page = store.page(session, Sequence(from), max_entries, max_bytes).await.expect("readable");
    if let Some(at_once) = store.try_page(session, Sequence(from), max_entries, max_bytes) {
        assert!(at_once.iter().map(|(sequence, _)| sequence).eq(page.iter().map(|(sequence, _)| sequence)));
    }
    page.into_iter().map(|(sequence, _)| sequence.0).collect()
}

/// All that match, in pieces of `max_messages`.
async fn retained(store: &impl Store, filter: &str, max_messages: usize) -> Vec<Arc<Message>> {
    let (mut found, mut cursor) = (Vec::new(), None::<RetainedCursor>);
    loop {
        let page = store.retained_page(filter, cursor.as_ref(), max_messages, usize::MAX).await.expect("readable");
        assert!(page.messages.len() <= max_messages);
        found.extend(page.messages);
        cursor = page.next;
        if cursor.is_none() {
            return found;
        }
    }
}

async fn retained_topics(store: &impl Store, filter: &str) -> BTreeSet<String> {
    retained(store, filter, 3).await.iter().map(|message| message.topic().to_owned()).collect()
}

async fn a_queue_gives_back_what_was_appended_in_order(store: &impl Store) {
    let session = session(store, "client", 1);
    assert!(sequences(store, session, 0, 10, usize::MAX).await.is_empty());
    for sequence in 0..100_u64 {
        store.append(session, Sequence(sequence), entry(&sequence.to_be_bytes()));
    }
    let page = store.page(session, Sequence(0), 1_000, usize::MAX).await.expect("readable");
    assert_eq!(page.len(), 100);
    for (place, (sequence, entry)) in page.iter().enumerate() {
        assert_eq!(sequence.0, place as u64);
        assert_eq!(entry.message.payload(), sequence.0.to_be_bytes());
        assert_eq!((entry.message.topic(), entry.message.properties()), ("t", &b"\x01\x01"[..]));
        assert_eq!((entry.message.qos(), entry.message.retain()), (QoS::AtLeastOnce, false));
        assert_eq!((&*entry.identifiers, entry.share, entry.qos, entry.retain), (&[7, 9][..], 3, QoS::ExactlyOnce, true));
    }
}

async fn a_page_is_bounded_by_entries_and_by_bytes(store: &impl Store) {
    let session = session(store, "client", 1);
    for sequence in 0..10 {
        // 1 byte of topic, 2 of properties.
        store.append(session, Sequence(sequence), entry(&[0; 97]));
    }
    assert_eq!(sequences(store, session, 0, 3, usize::MAX).await, [0, 1, 2]);
    assert_eq!(sequences(store, session, 0, 100, 299).await, [0, 1]);
    assert_eq!(sequences(store, session, 0, 100, 300).await, [0, 1, 2]);
    assert_eq!(sequences(store, session, 4, 100, 0).await, [4], "the first comes in any case");
}

async fn a_page_begins_where_asked_even_in_a_gap(store: &impl Store) {
    let session = session(store, "client", 1);
    for sequence in [10, 20, 30] {
        store.append(session, Sequence(sequence), entry(b""));
    }
    assert_eq!(sequences(store, session, 0, 9, usize::MAX).await, [10, 20, 30]);
    assert_eq!(sequences(store, session, 20, 9, usize::MAX).await, [20, 30]);
    assert_eq!(sequences(store, session, 21, 9, usize::MAX).await, [30]);
    assert!(sequences(store, session, 31, 9, usize::MAX).await.is_empty());
}

async fn removing_takes_the_oldest_up_to_a_sequence(store: &impl Store) {
    let session = session(store, "client", 1);
    store.remove_through(session, Sequence(5));
    for sequence in 0..300 {
        store.append(session, Sequence(sequence), entry(b""));
    }
    store.remove_through(session, Sequence(0));
    assert_eq!(sequences(store, session, 0, 2, usize::MAX).await, [1, 2]);
    store.remove_through(session, Sequence(297));
    assert_eq!(sequences(store, session, 0, 9, usize::MAX).await, [298, 299]);
    store.remove_through(session, Sequence(1_000));
    assert!(sequences(store, session, 0, 9, usize::MAX).await.is_empty());
    store.append(session, Sequence(1_001), entry(b""));
    assert_eq!(sequences(store, session, 0, 9, usize::MAX).await, [1_001]);
}

async fn removing_one_entry_leaves_the_others(store: &impl Store) {
    let session = session(store, "client", 1);
    store.remove(session, Sequence(7));
    for sequence in 0..5 {
        store.append(session, Sequence(sequence), entry(b"12345"));
    }
    for sequence in [2, 2, 9] {
        store.remove(session, Sequence(sequence));
    }
    assert_eq!(sequences(store, session, 0, 9, usize::MAX).await, [0, 1, 3, 4]);
    assert_eq!((store.queue(session).messages, store.queue(session).bytes), (4, 4 * 8));
    for sequence in [0, 1, 3, 4] {
        store.remove(session, Sequence(sequence));
    }
    assert_eq!((store.queue(session).messages, store.queue(session).bytes), (0, 0));
}

async fn removing_a_session_leaves_the_others(store: &impl Store) {
    let shard = store.shards().of("client");
    let (one, other) = (SessionNumber::new(shard, 1), SessionNumber::new(shard, 2));
    for sequence in 0..5 {
        store.append(one, Sequence(sequence), entry(b"one"));
        store.append(other, Sequence(sequence), entry(b"other"));
    }
    store.remove_session(one);
    assert!(sequences(store, one, 0, 9, usize::MAX).await.is_empty());
    assert_eq!(store.queue(one), QueueUsage::default());
    assert_eq!(sequences(store, other, 0, 9, usize::MAX).await.len(), 5);
    store.remove_session(one);
}

async fn positions_grow_and_become_durable(store: &impl Store) {
    let session = session(store, "client", 1);
    let shard = session.shard();
    let before = store.durable(shard);
    let positions = [
        store.append(session, Sequence(1), entry(b"")),
        store.append(session, Sequence(2), entry(b"")),
        store.remove_through(session, Sequence(1)),
        store.remove_session(session),
    ];
    assert!(before < positions[0] && positions.is_sorted_by(|a, b| a < b), "{before:?} {positions:?}");
    store.wait_durable(shard, positions[3]).await.expect("writable");
    assert!(store.durable(shard) >= positions[3]);

    let shard = store.shards().of("topic");
    let set = store.set_retained(message("topic", b"x"), RetainedLimit::NONE).expect("room");
    let removed = store.remove_retained("topic");
    assert!(set < removed);
    store.wait_durable(shard, removed).await.expect("writable");
    assert!(store.durable(shard) >= removed);
    // Nothing was written there.
    store.wait_durable(ShardId(0), Position(0)).await.expect("writable");
}

async fn a_batch_changes_queues_in_its_order(store: &impl Store) {
    let shard = store.shards().of("one");
    let (one, other) = (SessionNumber::new(shard, 1), SessionNumber::new(shard, 2));
    store.append(other, Sequence(0), entry(b"goes"));
    let mut batch = Batch::default();
    batch.append(one, Sequence(0), entry(b"0")).append(one, Sequence(1), entry(b"1")).remove_through(one, Sequence(0));
    batch.sent(one, Sequence(9)).remove_session(other).append(one, Sequence(2), entry(b"2"));
    let position = store.write(shard, batch);
    store.wait_durable(shard, position).await.expect("writable");
    assert_eq!(sequences(store, one, 0, 9, usize::MAX).await, [1, 2]);
    assert!(sequences(store, other, 0, 9, usize::MAX).await.is_empty());
}

async fn usage_counts_what_is_there(store: &impl Store) {
    let (one, other) = (session(store, "one", 1), session(store, "other", 2));
    for sequence in 3..6 {
        store.append(one, Sequence(sequence), entry(b"12345"));
    }
    store.append(other, Sequence(0), entry(b"1"));
    assert_eq!(store.queue(one), QueueUsage { first: Some(Sequence(3)), last: Some(Sequence(5)), messages: 3, bytes: 24 });
    let usage = store.usage();
    assert_eq!((usage.queues, usage.queued_messages, usage.queued_bytes), (2, 4, 28));
    store.remove_through(one, Sequence(4));
    store.remove_session(other);
    assert_eq!(store.queue(one), QueueUsage { first: Some(Sequence(5)), last: Some(Sequence(5)), messages: 1, bytes: 8 });
    let usage = store.usage();
    assert_eq!((usage.queues, usage.queued_messages, usage.queued_bytes), (1, 1, 8));
}

async fn a_retained_message_is_replaced_by_the_next_one(store: &impl Store) {
    for payload in [&b"first"[..], b"second"] {
        store.set_retained(message("a/b", payload), RetainedLimit::NONE).expect("room");
    }
    let found = retained(store, "a/b", 1).await;
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].payload(), found[0].properties(), found[0].qos()), (&b"second"[..], &b"\x01\x01"[..], QoS::AtLeastOnce));
    assert_eq!(store.retained_usage(), RetainedUsage { messages: 1, bytes: 11 });
    store.remove_retained("a/b");
    store.remove_retained("a/b");
    assert!(retained(store, "a/b", 1).await.is_empty());
    assert_eq!(store.retained_usage(), RetainedUsage::default());
}

async fn a_filter_finds_the_retained_messages_it_matches(store: &impl Store) {
    for topic in ["a", "a/b", "a/c", "a/b/c", "b", "b/b", "/b", "$SYS/b", "a!/b"] {
        store.set_retained(message(topic, b"x"), RetainedLimit::NONE).expect("room");
    }
    let cases: [(&str, &[&str]); 9] = [
        ("a", &["a"]),
        ("c", &[]),
        ("+", &["a", "b"]),
        ("a/#", &["a", "a/b", "a/b/c", "a/c"]),
        ("a/+", &["a/b", "a/c"]),
        ("+/b", &["/b", "a!/b", "a/b", "b/b"]),
        ("+/b/#", &["/b", "a!/b", "a/b", "a/b/c", "b/b"]),
        ("$SYS/#", &["$SYS/b"]),
        // [MQTT-4.7.2-1]
        ("#", &["/b", "a", "a!/b", "a/b", "a/b/c", "a/c", "b", "b/b"]),
    ];
    for (filter, topics) in cases {
        let found = retained_topics(store, filter).await;
        assert!(found.iter().map(String::as_str).eq(topics.iter().copied()), "{filter}: {found:?}");
    }
}

async fn retained_messages_come_in_pieces_while_others_come_and_go(store: &impl Store) {
    for number in 0..500 {
        store.set_retained(message(&format!("stays/{number:03}"), b"x"), RetainedLimit::NONE).expect("room");
        store.set_retained(message(&format!("goes/{number:03}"), b"x"), RetainedLimit::NONE).expect("room");
    }
    let (mut found, mut cursor, mut round) = (Vec::new(), None::<RetainedCursor>, 0);
    loop {
        let page = store.retained_page("#", cursor.as_ref(), 10, usize::MAX).await.expect("readable");
        assert!(page.messages.len() <= 10);
        found.extend(page.messages.iter().map(|message| message.topic().to_owned()).filter(|topic| topic.starts_with("stays/")));
        for number in (round * 5)..(round * 5 + 5).min(500) {
            store.remove_retained(&format!("goes/{number:03}"));
            store.set_retained(message(&format!("comes/{number:03}"), b"x"), RetainedLimit::NONE).expect("room");
        }
        round += 1;
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    let unique: BTreeSet<&String> = found.iter().collect();
    assert_eq!((found.len(), unique.len()), (500, 500), "each of those that stay is found once");
}

async fn a_full_store_keeps_what_it_has_and_lets_it_be_replaced(store: &impl Store) {
    let limit = RetainedLimit { messages: 2, bytes: 20 };
    store.set_retained(message("a", b"1"), limit).expect("room");
    store.set_retained(message("b", b"1"), limit).expect("room");
    assert_eq!(store.set_retained(message("c", b"1"), limit), Err(RetainedFull::Messages));
    store.set_retained(message("a", b"1234567890123"), limit).expect("replaces");
    assert_eq!(store.set_retained(message("b", b"12"), limit), Err(RetainedFull::Bytes));
    store.set_retained(message("b", b"2"), limit).expect("replaces");
    store.set_retained(message("a", b"1"), limit).expect("replaces");
    store.set_retained(message("b", b"12"), limit).expect("replaces");
    assert_eq!(store.retained_usage(), RetainedUsage { messages: 2, bytes: 9 });
}

async fn expired_retained_messages_are_swept(store: &impl Store) {
    for number in 0..50 {
        let topic = if number == 0 { "$SYS/a".to_owned() } else { format!("t/{number}") };
        let expires_at = (number % 2 == 0).then_some(1_000);
        store.set_retained(Message::new(&topic, b"x", b"", QoS::AtMostOnce, true, expires_at), RetainedLimit::NONE).expect("room");
    }
    let sweep = |now| {
        let mut cursor = None::<RetainedCursor>;
        let mut pieces = 0;
        loop {
            cursor = store.expire_retained(cursor.as_ref(), 7, now);
            pieces += 1;
            if cursor.is_none() {
                break;
            }
        }
        pieces
    };
    assert!(sweep(999) >= 50 / 7, "a sweep comes in pieces");
    assert_eq!(store.retained_usage().messages, 50);
    sweep(1_000);
    assert_eq!(store.retained_usage().messages, 25);
    assert_eq!(retained_topics(store, "t/+").await.len(), 25);
    assert!(retained_topics(store, "$SYS/#").await.is_empty());
}
