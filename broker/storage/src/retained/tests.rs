//! Retained messages against a sorted map and a level by level matcher.

use std::collections::BTreeMap;

use bucketmq_packet::QoS;
use proptest::prelude::*;

use super::*;

fn message(topic: &str, payload: &str) -> Arc<Message> {
    Message::new(topic, payload.as_bytes(), b"", QoS::AtMostOnce, true, None)
}

fn retained(topics: &[&str]) -> Retained {
    let mut retained = Retained::new();
    for topic in topics {
        retained.insert(message(topic, "x"));
    }
    retained
}

fn matching(retained: &Retained, filter: &str) -> Vec<String> {
    let mut topics = Vec::new();
    retained.for_each_match(filter, |message| topics.push(message.topic().to_owned()));
    topics
}

/// 5.0 4.7 word by word.
fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let (mut filter, mut topic) = (filter.split('/'), topic.split('/'));
    loop {
        match (filter.next(), topic.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
}

#[test]
fn a_message_is_replaced_by_the_next_one_of_its_topic() {
    let mut retained = Retained::new();
    assert!(retained.insert(message("a", "1")).is_none());
    assert_eq!(retained.insert(message("a", "22")).unwrap().payload(), b"1");
    assert_eq!(retained.get("a").unwrap().payload(), b"22");
    assert_eq!((retained.len(), retained.bytes()), (1, 3));
    assert_eq!(retained.remove("a").unwrap().payload(), b"22");
    assert!(retained.remove("a").is_none());
    assert!(retained.is_empty() && retained.bytes() == 0 && retained.get("a").is_none());
}

#[test]
fn a_leading_wildcard_does_not_find_what_begins_with_a_dollar_sign() {
    let retained = retained(&["#x", "$SYS/a", "$", "%", "/a", "a", "a/a"]);
    assert_eq!(matching(&retained, "#"), ["/a", "#x", "%", "a", "a/a"]);
    assert_eq!(matching(&retained, "+/a"), ["/a", "a/a"]);
    assert_eq!(matching(&retained, "$SYS/#"), ["$SYS/a"]);
    assert_eq!(matching(&retained, "$SYS/+"), ["$SYS/a"]);
}

#[test]
fn the_parent_belongs_to_what_the_multi_level_wildcard_finds() {
    let retained = retained(&["a", "a!", "a/", "a/b", "a/b/c", "ab"]);
    assert_eq!(matching(&retained, "a/#"), ["a", "a/", "a/b", "a/b/c"]);
    assert_eq!(matching(&retained, "a/+"), ["a/", "a/b"]);
    assert_eq!(matching(&retained, "+/+/#"), ["a/", "a/b", "a/b/c"]);
    assert_eq!(matching(&retained, "a/b"), ["a/b"]);
}

#[test]
fn a_topic_of_65_535_levels_is_only_long() {
    let deep = "/".repeat(65_534);
    let filter = format!("{}#", "+/".repeat(65_534));
    let retained = retained(&[&deep]);
    assert_eq!(matching(&retained, &filter).len(), 1);
    assert_eq!(matching(&retained, "+/+").len(), 0);
}

#[test]
fn pieces_split_and_join_and_lose_nothing() {
    let mut retained = Retained::new();
    let topic = |number: u32| format!("t/{:05}", number * 7_919 % 10_007);
    for number in 0..10_007 {
        retained.insert(message(&topic(number), "x"));
    }
    assert!(retained.pieces.iter().all(|piece| (1..=PIECE_MAX).contains(&piece.len())));
    let all = matching(&retained, "#");
    assert_eq!(all.len(), 10_007);
    assert!(all.is_sorted());
    for number in 0..10_000 {
        assert!(retained.remove(&topic(number)).is_some());
    }
    assert_eq!(retained.len(), 7);
    assert!(retained.pieces.len() <= 7, "{} pieces for 7 messages", retained.pieces.len());
    assert_eq!(matching(&retained, "t/+").len(), 7);
}

#[test]
fn topics_that_come_in_order_fill_their_pieces() {
    let mut retained = Retained::new();
    for number in 0..10 * PIECE_MAX {
        retained.insert(message(&format!("{number:05}"), "x"));
    }
    assert_eq!(retained.pieces.len(), 10);
}

#[test]
fn a_page_ends_when_its_bytes_are_spent_but_has_at_least_one_message() {
    let retained = retained(&["a", "b", "c", "d"]);
    let mut out = Vec::new();
    let after = retained.page("#", None, &mut Budget::new(9, 0), &mut out);
    assert_eq!((out.len(), after.as_deref()), (1, Some("a")));
    let after = retained.page("#", after.as_deref(), &mut Budget::new(9, 3), &mut out);
    assert_eq!((out.len(), after.as_deref()), (3, Some("c")));
    assert_eq!(retained.page("#", after.as_deref(), &mut Budget::new(9, 1_000), &mut out), None);
    assert_eq!(out.len(), 4);
}

#[test]
fn a_page_that_finds_nothing_ends_too() {
    let mut retained = Retained::new();
    for number in 0..LOOKED_AT_MAX + 10 {
        retained.insert(message(&format!("{number:05}/x"), "x"));
    }
    let mut out = Vec::new();
    let after = retained.page("+/y", None, &mut Budget::new(1, 1), &mut out);
    assert!(after.is_some() && out.is_empty());
    assert_eq!(retained.page("+/y", after.as_deref(), &mut Budget::new(1, 1), &mut out), None);
}

fn topic() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[$ab]?(/?[ab!\u{1}]?){0,4}")
        .expect("a valid expression")
        .prop_filter("not empty", |topic| !topic.is_empty())
}

fn filter() -> impl Strategy<Value = String> {
    let level = prop_oneof![3 => Just("+"), 2 => Just("a"), 2 => Just("b"), 1 => Just(""), 1 => Just("$"), 1 => Just("a!")];
    (proptest::collection::vec(level, 1..5), any::<bool>()).prop_map(|(mut levels, rest)| {
        if rest {
            levels.push("#");
        }
        if levels == [""] { "#".to_owned() } else { levels.join("/") }
    })
}

proptest! {
    #[test]
    fn it_holds_and_finds_what_a_map_and_the_rules_do(
        writes in proptest::collection::vec((topic(), any::<bool>()), 0..200),
        filters in proptest::collection::vec(filter(), 1..8),
        page in 1..5_usize,
    ) {
        let mut retained = Retained::new();
        let mut model = BTreeMap::new();
        for (topic, is_set) in &writes {
            if *is_set {
                let before = retained.insert(message(topic, topic));
                prop_assert_eq!(before.is_some(), model.insert(topic.clone(), ()).is_some());
            } else {
                prop_assert_eq!(retained.remove(topic).is_some(), model.remove(topic).is_some());
            }
        }
        prop_assert_eq!(retained.len(), model.len());
        prop_assert_eq!(retained.bytes(), model.keys().map(|topic| 2 * topic.len() as u64).sum::<u64>());
        for filter in filters {
            let mut wanted: Vec<&String> = model.keys().filter(|topic| matches(&filter, topic)).collect();
            wanted.sort_by(|a, b| compare(a, b));
            let found = matching(&retained, &filter);
            prop_assert_eq!(&found.iter().collect::<Vec<_>>(), &wanted, "{}", filter);
            let (mut paged, mut after) = (Vec::new(), None);
            loop {
                after = retained.page(&filter, after.as_deref(), &mut Budget::new(page, usize::MAX), &mut paged);
                if after.is_none() {
                    break;
                }
            }
            prop_assert_eq!(paged.iter().map(|message| message.topic()).collect::<Vec<_>>(), wanted, "{}", filter);
        }
    }

    #[test]
    fn a_walk_interrupted_by_changes_finds_everything_that_stays(
        stays in proptest::collection::btree_set(topic(), 0..40),
        comes_and_goes in proptest::collection::vec((topic(), any::<bool>()), 0..100),
        page in 1..4_usize,
    ) {
        let mut retained = Retained::new();
        for topic in &stays {
            retained.insert(message(topic, "stays"));
        }
        let mut changes = comes_and_goes.iter().filter(|(topic, _)| !stays.contains(topic));
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            after = retained.page("+/#", after.as_deref(), &mut Budget::new(page, usize::MAX), &mut found);
            if after.is_none() {
                break;
            }
            for (topic, is_set) in changes.by_ref().take(3) {
                if *is_set {
                    retained.insert(message(topic, "passes"));
                } else {
                    retained.remove(topic);
                }
            }
        }
        let found: Vec<&str> = found.iter().filter(|message| message.payload() == b"stays").map(|message| message.topic()).collect();
        let mut wanted: Vec<&str> = stays.iter().map(String::as_str).filter(|topic| matches("#", topic)).collect();
        wanted.sort_by(|a, b| compare(a, b));
        prop_assert_eq!(found, wanted);
    }
}
