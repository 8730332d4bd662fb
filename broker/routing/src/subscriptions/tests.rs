//! Subscriptions against a plain list and the rules of 5.0 4.7.

use std::collections::BTreeMap;

use bucketmq_packet::QoS;
use proptest::prelude::*;

use super::*;

const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

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

fn subscribers(subscriptions: &Subscriptions<u32>, topic: &str) -> Vec<u32> {
    let mut out = Matches::new();
    subscriptions.matches(topic, &mut out);
    let mut subscribers: Vec<u32> = out.plain.iter().map(|matched| matched.subscriber).collect();
    subscribers.sort();
    subscribers
}

fn with(filters: &[&str]) -> Subscriptions<u32> {
    let mut subscriptions = Subscriptions::new();
    for (subscriber, filter) in filters.iter().enumerate() {
        assert!(subscriptions.subscribe(filter, subscriber as u32, Options::new(QoS::AtMostOnce)));
    }
    subscriptions
}

#[test]
fn a_leading_wildcard_does_not_match_a_topic_that_begins_with_a_dollar_sign() {
    let subscriptions = with(&["#", "+/a", "$SYS/#", "$SYS/+", "+/+", "$SYS/a"]);
    assert_eq!(subscribers(&subscriptions, "$SYS/a"), [2, 3, 5]);
    assert_eq!(subscribers(&subscriptions, "x/a"), [0, 1, 4]);
}

#[test]
fn empty_levels_are_levels() {
    let subscriptions = with(&["/", "+/", "/+", "+/+", "+", "/#", "a//b", "a/+/b"]);
    assert_eq!(subscribers(&subscriptions, "/"), [0, 1, 2, 3, 5]);
    assert_eq!(subscribers(&subscriptions, "a//b"), [6, 7]);
    assert_eq!(subscribers(&subscriptions, "a/"), [1, 3]);
}

#[test]
fn the_multi_level_wildcard_matches_the_parent() {
    let subscriptions = with(&["a/#", "a/+/#", "#", "a"]);
    assert_eq!(subscribers(&subscriptions, "a"), [0, 2, 3]);
    assert_eq!(subscribers(&subscriptions, "a/b"), [0, 1, 2]);
    assert_eq!(subscribers(&subscriptions, "a/b/c"), [0, 1, 2]);
}

#[test]
fn overlapping_subscriptions_of_one_subscriber_become_one_delivery() {
    let mut subscriptions = Subscriptions::new();
    let options = |qos, no_local, retain_as_published, identifier| Options {
        qos,
        no_local,
        retain_as_published,
        subscription_identifier: identifier,
    };
    subscriptions.subscribe("a/b", 1, options(QoS::AtMostOnce, true, false, Some(5)));
    subscriptions.subscribe("a/+", 1, options(QoS::ExactlyOnce, true, true, Some(5)));
    subscriptions.subscribe("#", 1, options(QoS::AtLeastOnce, true, false, None));
    let mut out = Matches::new();
    subscriptions.matches("a/b", &mut out);
    let [matched] = out.plain.as_slice() else { panic!("{:?}", out.plain) };
    assert_eq!((matched.qos, matched.no_local, matched.retain_as_published), (QoS::ExactlyOnce, true, true));
    assert_eq!(matched.identifiers.as_slice(), [5, 5]);

    // One Subscription without No Local is enough for the message to come back.
    subscriptions.subscribe("a/#", 1, options(QoS::AtMostOnce, false, false, Some(9)));
    subscriptions.matches("a/b", &mut out);
    assert!(!out.plain[0].no_local);
    let mut identifiers = out.plain[0].identifiers.as_slice().to_vec();
    identifiers.sort();
    assert_eq!(identifiers, [5, 5, 9]);
}

#[test]
fn a_second_subscription_to_the_same_filter_replaces_the_first() {
    let mut subscriptions = Subscriptions::new();
    assert!(subscriptions.subscribe("a", 1, Options::new(QoS::AtMostOnce)));
    assert!(!subscriptions.subscribe("a", 1, Options::new(QoS::AtLeastOnce)));
    let mut out = Matches::new();
    subscriptions.matches("a", &mut out);
    assert_eq!((out.plain.len(), out.plain[0].qos, subscriptions.len()), (1, QoS::AtLeastOnce, 1));
}

#[test]
fn many_subscribers_to_one_filter_are_each_found_and_removed() {
    let mut subscriptions = Subscriptions::new();
    for subscriber in 0..1_000 {
        subscriptions.subscribe("a/b", subscriber, Options::new(QoS::AtMostOnce));
        subscriptions.subscribe("a/+", subscriber * 2, Options::new(QoS::AtLeastOnce));
    }
    let mut out = Matches::new();
    subscriptions.matches("a/b", &mut out);
    assert_eq!(out.plain.len(), 1_500);
    for matched in &out.plain {
        assert_eq!(matched.qos == QoS::AtLeastOnce, matched.subscriber % 2 == 0, "{}", matched.subscriber);
    }
    for subscriber in (0..1_000).rev() {
        assert!(!subscriptions.subscribe("a/b", subscriber, Options::new(QoS::ExactlyOnce)));
        assert!(subscriptions.unsubscribe("a/b", &subscriber));
        assert!(!subscriptions.unsubscribe("a/b", &subscriber));
        assert!(subscriptions.unsubscribe("a/+", &(subscriber * 2)));
    }
    assert!(subscriptions.is_empty());
    assert_eq!(subscriptions.filters.iter().count(), 0);
}

#[test]
fn a_shared_subscription_is_its_share_name_and_its_filter() {
    let mut subscriptions = Subscriptions::new();
    let options = Options::new(QoS::AtLeastOnce);
    for (share, filter) in [("s", "a/+"), ("s", "a/b"), ("t", "a/b"), ("s", "x")] {
        for subscriber in 0..3 {
            assert!(subscriptions.subscribe_shared(share, filter, subscriber, options));
            assert!(!subscriptions.subscribe_shared(share, filter, subscriber, options));
        }
    }
    subscriptions.subscribe("a/b", 0, options);
    assert_eq!((subscriptions.len(), subscriptions.shared_len()), (1, 12));
    let mut out = Matches::new();
    subscriptions.matches("a/b", &mut out);
    let mut names: Vec<&str> = out.shared.iter().map(|group| group.name()).collect();
    names.sort();
    assert_eq!(names, ["$share/s/a/+", "$share/s/a/b", "$share/t/a/b"]);
    assert!(out.shared.iter().all(|group| group.members().len() == 3));
    assert_eq!(out.plain.len(), 1);
    let group = subscriptions.group("t", "a/b").unwrap();
    assert_eq!((group.share(), group.filter()), ("t", "a/b"));

    for subscriber in 0..3 {
        assert!(subscriptions.unsubscribe_shared("t", "a/b", &subscriber));
        assert!(!subscriptions.unsubscribe_shared("t", "a/b", &subscriber));
    }
    assert!(subscriptions.group("t", "a/b").is_none());
    // Who remembered the group still has it as it was.
    assert_eq!(out.shared.iter().filter(|group| group.share() == "t").map(|group| group.members().len()).sum::<usize>(), 3);
}

#[test]
fn the_generation_changes_with_every_change_and_with_nothing_else() {
    let mut subscriptions = Subscriptions::new();
    let watch = subscriptions.watch();
    let mut before = watch.get();
    let mut changed = |subscriptions: &Subscriptions<u32>| {
        let is_new = watch.get() != before;
        before = watch.get();
        assert_eq!(before, subscriptions.generation());
        is_new
    };
    let options = Options::new(QoS::AtMostOnce);
    subscriptions.subscribe("a", 1, options);
    assert!(changed(&subscriptions));
    subscriptions.subscribe("a", 1, options);
    assert!(!changed(&subscriptions));
    subscriptions.subscribe("a", 1, Options { no_local: true, ..options });
    assert!(changed(&subscriptions));
    subscriptions.subscribe_shared("s", "a", 1, options);
    assert!(changed(&subscriptions));
    subscriptions.subscribe_shared("s", "a", 1, options);
    assert!(!changed(&subscriptions));
    subscriptions.unsubscribe("b", &1);
    subscriptions.unsubscribe("a", &2);
    subscriptions.unsubscribe_shared("t", "a", &1);
    assert!(!changed(&subscriptions));
    subscriptions.unsubscribe_shared("s", "a", &1);
    assert!(changed(&subscriptions));
    subscriptions.unsubscribe("a", &1);
    assert!(changed(&subscriptions));
}

#[test]
fn a_filter_of_65_535_levels_is_only_long() {
    let deep = format!("+{}", "/".repeat(65_534));
    let deeper = format!("{deep}#");
    let mut subscriptions = with(&[&deep, &deeper]);
    assert_eq!(subscribers(&subscriptions, &"/".repeat(65_534)), [0, 1]);
    assert_eq!(subscribers(&subscriptions, &format!("a{}", "/".repeat(65_533))), [1]);
    assert!(subscriptions.unsubscribe(&deep, &0) && subscriptions.unsubscribe(&deeper, &1));
    assert_eq!(subscriptions.trie.len(), 0);
}

#[test]
fn many_wildcards_in_one_topic_visit_each_filter_once() {
    // Every way of replacing levels of a/a/a/... by "+".
    let mut subscriptions = Subscriptions::new();
    for bits in 0..1_u32 << 12 {
        let levels: Vec<&str> = (0..12).map(|level| if bits >> level & 1 == 1 { "+" } else { "a" }).collect();
        subscriptions.subscribe(&levels.join("/"), bits, Options::new(QoS::AtMostOnce));
    }
    assert_eq!(subscribers(&subscriptions, &["a"; 12].join("/")).len(), 1 << 12);
    assert_eq!(subscribers(&subscriptions, &["b"; 12].join("/")), [(1 << 12) - 1]);
}

#[test]
fn removing_nearly_everything_gives_its_memory_back() {
    let mut subscriptions = Subscriptions::new();
    for number in 0..20_000 {
        subscriptions.subscribe(&format!("a/{number}/#"), number, Options::new(QoS::AtMostOnce));
    }
    for number in 0..19_990 {
        assert!(subscriptions.unsubscribe(&format!("a/{number}/#"), &number));
    }
    assert!(!subscriptions.trie.is_sparse());
    assert_eq!(subscriptions.trie.len(), 11);
    for number in 19_990..20_000 {
        assert_eq!(subscribers(&subscriptions, &format!("a/{number}/b")), [number]);
    }
}

/// One Subscription in the model: subscriber, filter, share.
type Key = (u32, String, Option<String>);

#[derive(Debug, Clone)]
struct Action {
    key: Key,
    options: Option<Options>,
}

fn level(wild: bool) -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just("a"), 3 => Just("b"), 1 => Just(""), 1 => Just("$x"), if wild { 4 } else { 1 } => Just(if wild { "+" } else { "c" })]
}

fn topic() -> impl Strategy<Value = String> {
    proptest::collection::vec(level(false), 1..5).prop_map(|levels| levels.join("/")).prop_filter("not empty", |topic| !topic.is_empty())
}

fn filter() -> impl Strategy<Value = String> {
    (proptest::collection::vec(level(true), 1..5), prop::bool::weighted(0.3)).prop_map(|(mut levels, rest)| {
        if rest || levels == [""] {
            levels.push("#");
        }
        levels.join("/")
    })
}

fn action() -> impl Strategy<Value = Action> {
    let options =
        (0..3_usize, any::<bool>(), any::<bool>(), proptest::option::of(1..4_u32)).prop_map(|(qos, no_local, retain, identifier)| {
            Options { qos: QOS[qos], no_local, retain_as_published: retain, subscription_identifier: identifier }
        });
    let key = (0..60_u32, filter(), prop::option::weighted(0.3, prop_oneof![Just("s"), Just("t")].prop_map(String::from)));
    (key, prop::option::weighted(0.7, options)).prop_map(|(key, options)| Action { key, options })
}

fn apply(subscriptions: &mut Subscriptions<u32>, model: &mut BTreeMap<Key, Options>, Action { key, options }: &Action) -> (bool, bool) {
    let (subscriber, filter, share) = key;
    match (options, share) {
        (Some(options), None) => (subscriptions.subscribe(filter, *subscriber, *options), model.insert(key.clone(), *options).is_none()),
        (Some(options), Some(share)) => {
            (subscriptions.subscribe_shared(share, filter, *subscriber, *options), model.insert(key.clone(), *options).is_none())
        }
        (None, None) => (subscriptions.unsubscribe(filter, subscriber), model.remove(key).is_some()),
        (None, Some(share)) => (subscriptions.unsubscribe_shared(share, filter, subscriber), model.remove(key).is_some()),
    }
}

/// Subscriber to QoS, No Local, Retain As Published and sorted identifiers.
type Plain = BTreeMap<u32, (QoS, bool, bool, Vec<u32>)>;

fn plain_of_the_model(model: &BTreeMap<Key, Options>, topic: &str) -> Plain {
    let mut plain = Plain::new();
    for ((subscriber, filter, share), options) in model {
        if share.is_some() || !matches(filter, topic) {
            continue;
        }
        let merged = plain.entry(*subscriber).or_insert((QoS::AtMostOnce, true, false, Vec::new()));
        merged.0 = merged.0.max(options.qos);
        merged.1 &= options.no_local;
        merged.2 |= options.retain_as_published;
        merged.3.extend(options.subscription_identifier);
        merged.3.sort();
    }
    plain
}

proptest! {
    #[test]
    fn it_finds_what_a_list_and_the_rules_find(
        actions in proptest::collection::vec(action(), 0..400),
        topics in proptest::collection::vec(topic(), 1..20),
    ) {
        let (mut subscriptions, mut model) = (Subscriptions::new(), BTreeMap::new());
        for action in &actions {
            let (real, modelled) = apply(&mut subscriptions, &mut model, action);
            prop_assert_eq!(real, modelled, "{:?}", action);
        }
        prop_assert_eq!(subscriptions.len(), model.keys().filter(|key| key.2.is_none()).count());
        prop_assert_eq!(subscriptions.shared_len(), model.keys().filter(|key| key.2.is_some()).count());
        let mut out = Matches::new();
        for topic in &topics {
            subscriptions.matches(topic, &mut out);
            let found: Plain = out.plain.iter().map(|matched| {
                let mut identifiers = matched.identifiers.as_slice().to_vec();
                identifiers.sort();
                (matched.subscriber, (matched.qos, matched.no_local, matched.retain_as_published, identifiers))
            }).collect();
            prop_assert_eq!(found.len(), out.plain.len(), "each subscriber once");
            prop_assert_eq!(found, plain_of_the_model(&model, topic), "{}", topic);

            let mut groups = BTreeMap::new();
            for ((subscriber, filter, share), options) in &model {
                if let Some(share) = share && matches(filter, topic) {
                    groups.entry((share.as_str(), filter.as_str())).or_insert_with(BTreeMap::new).insert(*subscriber, *options);
                }
            }
            let found: BTreeMap<_, BTreeMap<u32, Options>> = out.shared.iter().map(|group| {
                ((group.share(), group.filter()), group.members().iter().map(|member| (member.subscriber, member.options)).collect())
            }).collect();
            prop_assert_eq!(found.len(), out.shared.len(), "each group once");
            prop_assert_eq!(found, groups, "{}", topic);
        }
        // Whatever was added, nothing is left when all of it is removed.
        for key in model.keys().cloned().collect::<Vec<_>>() {
            apply(&mut subscriptions, &mut model, &Action { key, options: None });
        }
        prop_assert!(subscriptions.is_empty());
        prop_assert_eq!((subscriptions.filters.iter().count(), subscriptions.trie.len()), (0, 0));
    }
}
