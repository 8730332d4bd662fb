//! Topics against a table and against a model that tries every topic there is.

use proptest::prelude::*;

use super::*;

#[test]
fn filters_are_valid_or_say_why_not() {
    let plain = |filter| Ok(Filter { share_name: None, filter });
    let shared = |name, filter| Ok(Filter { share_name: Some(name), filter });
    let long = "a".repeat(LENGTH_MAX);
    let longer = "a".repeat(LENGTH_MAX + 1);
    for (text, expected) in [
        ("a", plain("a")),
        ("/", plain("/")),
        ("//", plain("//")),
        ("#", plain("#")),
        ("+", plain("+")),
        ("+/+/#", plain("+/+/#")),
        ("a/+/b", plain("a/+/b")),
        ("a b/ü", plain("a b/ü")),
        ("$SYS/#", plain("$SYS/#")),
        ("$share", plain("$share")),
        ("$shared/a", plain("$shared/a")),
        ("$SHARE/g/a", plain("$SHARE/g/a")),
        (&long, plain(&long)),
        ("$share/g/a/+", shared("g", "a/+")),
        ("$share/g//", shared("g", "/")),
        ("$share/g/#", shared("g", "#")),
        ("$share/g/$SYS/#", shared("g", "$SYS/#")),
        ("$share/g/$share/h/a", shared("g", "$share/h/a")),
        ("", Err(TopicError::Empty)),
        ("a\0", Err(TopicError::Nul)),
        (&longer, Err(TopicError::TooLong)),
        ("a/#/b", Err(TopicError::MultiLevelWildcard)),
        ("#/", Err(TopicError::MultiLevelWildcard)),
        ("a#", Err(TopicError::MultiLevelWildcard)),
        ("a/b#", Err(TopicError::MultiLevelWildcard)),
        ("##", Err(TopicError::MultiLevelWildcard)),
        ("+#", Err(TopicError::MultiLevelWildcard)),
        ("a+", Err(TopicError::SingleLevelWildcard)),
        ("a/+b/c", Err(TopicError::SingleLevelWildcard)),
        ("++", Err(TopicError::SingleLevelWildcard)),
        ("$share/", Err(TopicError::ShareNameEmpty)),
        ("$share//a", Err(TopicError::ShareNameEmpty)),
        ("$share/g", Err(TopicError::ShareWithoutFilter)),
        ("$share/g/", Err(TopicError::ShareWithoutFilter)),
        ("$share/+/a", Err(TopicError::ShareNameWildcard)),
        ("$share/g#/a", Err(TopicError::ShareNameWildcard)),
        ("$share/#", Err(TopicError::ShareNameWildcard)),
        ("$share/g/a#", Err(TopicError::MultiLevelWildcard)),
    ] {
        assert_eq!(check_filter(text), expected, "{text:.40}");
    }
}

#[test]
fn names_have_no_wildcards() {
    for (text, expected) in [
        ("a", Ok(())),
        ("/", Ok(())),
        ("$SYS/a", Ok(())),
        ("$share/g/a", Ok(())),
        ("", Err(TopicError::Empty)),
        ("a/+", Err(TopicError::WildcardInName)),
        ("a#b", Err(TopicError::WildcardInName)),
        ("\0", Err(TopicError::Nul)),
        (&"a".repeat(LENGTH_MAX + 1), Err(TopicError::TooLong)),
    ] {
        assert_eq!(check_name(text), expected, "{text:.40}");
    }
}

#[test]
fn an_error_carries_its_clause_and_the_reason_code_of_what_was_asked_for() {
    assert_eq!(TopicError::WildcardInName.in_name().reason_code, ReasonCode::TopicNameInvalid);
    assert_eq!(TopicError::ShareNameEmpty.in_filter().reason_code, ReasonCode::TopicFilterInvalid);
    assert_eq!(TopicError::ShareNameEmpty.in_filter().clause, "MQTT-4.8.2-1");
    assert_eq!(TopicError::Empty.in_filter().detail, TopicError::Empty.to_string());
}

#[test]
fn the_examples_of_the_specification_match() {
    for (filter, topic, expected) in [
        ("sport/tennis/player1/#", "sport/tennis/player1", true),
        ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
        ("sport/#", "sport", true),
        ("sport/tennis/+", "sport/tennis/player1", true),
        ("sport/tennis/+", "sport/tennis/player1/ranking", false),
        ("sport/+", "sport", false),
        ("sport/+", "sport/", true),
        ("+/+", "/finance", true),
        ("/+", "/finance", true),
        ("+", "/finance", false),
        ("#", "$SYS/monitor", false),
        ("+/monitor/Clients", "$SYS/monitor/Clients", false),
        ("$SYS/#", "$SYS/monitor", true),
        ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
        ("Accounts", "ACCOUNTS", false),
    ] {
        assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
    }
}

#[test]
fn levels_and_wildcards_are_counted() {
    assert_eq!((levels("a"), levels("/"), levels("a/b/")), (1, 2, 3));
    assert!(has_wildcard("a/+") && has_wildcard("#") && !has_wildcard("a/b"));
}

/// The model's alphabet. "z" stands in no filter, so it is every level a filter does not name.
const LEVELS: [&str; 5] = ["", "a", "b", "$a", "z"];
/// One level more than the longest filter, so that "#" has something to swallow.
const DEPTH: usize = 4;

fn all_topics() -> Vec<String> {
    let mut all = Vec::new();
    let mut longest = vec![String::new()];
    for depth in 0..DEPTH {
        longest = longest
            .iter()
            .flat_map(|head| LEVELS.iter().map(move |level| if depth == 0 { (*level).to_owned() } else { format!("{head}/{level}") }))
            .collect();
        all.extend(longest.iter().cloned());
    }
    all.retain(|topic| !topic.is_empty());
    all
}

/// Matching as the specification tells it, by recursion over levels.
fn model(filter: &[&str], topic: &[&str], first: bool) -> bool {
    match (filter, topic) {
        (["#"], []) => !first,
        (["#"], [level, ..]) => !(first && level.starts_with('$')),
        (["+", filter @ ..], [level, topic @ ..]) => !(first && level.starts_with('$')) && model(filter, topic, false),
        ([wanted, filter @ ..], [level, topic @ ..]) => wanted == level && model(filter, topic, false),
        ([], []) => true,
        _ => false,
    }
}

/// Every filter of up to three levels.
fn all_filters() -> Vec<String> {
    let mut all = vec!["#".to_owned()];
    let mut longest = vec![String::new()];
    for depth in 0..DEPTH - 1 {
        let mut next = Vec::new();
        for head in &longest {
            let join = |level: &str| if depth == 0 { level.to_owned() } else { format!("{head}/{level}") };
            next.extend(["", "a", "b", "$a", "+"].map(join));
            all.push(join("#"));
        }
        all.extend(next.iter().cloned());
        longest = next;
    }
    all.retain(|filter| !filter.is_empty());
    all.sort();
    all.dedup();
    all
}

#[test]
fn what_is_made_of_valid_levels_is_a_valid_filter() {
    for filter in &all_filters() {
        assert_eq!(check_filter(filter), Ok(Filter { share_name: None, filter }));
        assert_eq!(check_filter(&format!("$share/group/{filter}")), Ok(Filter { share_name: Some("group"), filter }));
    }
}

#[test]
fn every_filter_matches_what_the_model_says() {
    let topics = all_topics();
    for filter in all_filters() {
        let levels: Vec<&str> = filter.split('/').collect();
        for topic in &topics {
            assert_eq!(matches(&filter, topic), model(&levels, &topic.split('/').collect::<Vec<_>>(), true), "{filter} {topic}");
        }
    }
}

#[test]
fn covering_and_intersecting_are_what_trying_all_topics_says() {
    let topics = all_topics();
    let filters: Vec<(String, Vec<bool>)> =
        all_filters().into_iter().map(|filter| (filter.clone(), topics.iter().map(|topic| matches(&filter, topic)).collect())).collect();
    for (a, of_a) in &filters {
        for (b, of_b) in &filters {
            let covered = of_b.iter().zip(of_a).all(|(narrow, wide)| *wide || !*narrow);
            let common = of_a.iter().zip(of_b).any(|(one, other)| *one && *other);
            assert_eq!(covers(a, b), covered, "{a} covers {b}");
            assert_eq!(intersects(a, b), common, "{a} intersects {b}");
        }
    }
}

proptest! {
    #[test]
    fn any_text_is_judged_without_a_panic(text in "[a$#+/\\x00ü]{0,12}", prefix in prop::sample::select(vec!["", "$share/", "$share/g/"])) {
        let text = format!("{prefix}{text}");
        let name = check_name(&text).is_ok();
        prop_assert_eq!(name, !text.is_empty() && !text.contains(['+', '#', '\0']));
        if let Ok(Filter { share_name, filter }) = check_filter(&text) {
            prop_assert!(!filter.is_empty() && share_name.is_none_or(|share| !share.is_empty() && !share.contains(['/', '+', '#'])));
            prop_assert!(covers(filter, filter) && intersects(filter, filter));
            prop_assert!(share_name.is_some() || !name || matches(&text, &text));
        }
    }
}
