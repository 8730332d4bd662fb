//! Rules at work, and a brute-force model of what they mean.

use std::collections::BTreeMap;

use bucketmq_packet::topic;
use proptest::prelude::*;

use super::super::role::Roles;
use super::*;
use crate::config::{RoleConfig, RuleConfig};

/// The rules of all these roles together, for user `ann` with client id `c1`.
fn rules_of(roles: &[&[&str]]) -> Arc<Rules> {
    set_of(roles).rules(&Values { username: Some("ann"), client_id: "c1" })
}

fn set_of(roles: &[&[&str]]) -> Arc<RoleSet> {
    let role = |rules: &[&str]| RoleConfig { rules: rules.iter().map(|rule| RuleConfig::from(*rule)).collect(), acknowledge: None };
    let config: BTreeMap<String, RoleConfig> = roles.iter().enumerate().map(|(i, rules)| (format!("role{i}"), role(rules))).collect();
    let mut read = Roles::read(&config, 7).unwrap();
    read.set(config.keys().map(String::as_str)).unwrap()
}

#[test]
fn no_match_is_a_deny() {
    let rules = rules_of(&[&["allow publish a", "allow subscribe b"]]);
    assert!(rules.may_publish("a") && !rules.may_publish("b"));
    assert!(rules.may_subscribe("b") && !rules.may_subscribe("a"));
    let empty = rules_of(&[&[]]);
    assert!(!empty.may_publish("a") && !empty.may_subscribe("a"));
    assert!(!set_of(&[&[]]).may_connect(&Values { username: None, client_id: "c" }));
}

#[test]
fn deny_beats_allow_over_all_roles_and_in_any_order() {
    for roles in [&[&["allow publish a/#", "deny publish a/b"][..]][..], &[&["deny publish a/b"], &["allow publish a/#"]]] {
        let rules = rules_of(roles);
        assert!(rules.may_publish("a/c") && !rules.may_publish("a/b"));
    }
    let set = set_of(&[&["deny connect evil*"], &["allow connect"]]);
    assert!(set.may_connect(&Values { username: None, client_id: "good" }));
    assert!(!set.may_connect(&Values { username: None, client_id: "evil-1" }));
}

#[test]
fn connect_may_be_bound_to_the_user_name() {
    let set = set_of(&[&["allow connect %u-*"]]);
    assert!(set.may_connect(&Values { username: Some("ann"), client_id: "ann-1" }));
    assert!(!set.may_connect(&Values { username: Some("bob"), client_id: "ann-1" }));
    assert!(!set.may_connect(&Values { username: None, client_id: "-1" }));
}

#[test]
fn a_subscription_is_allowed_if_one_rule_covers_it() {
    let rules = rules_of(&[&["allow subscribe a/+", "allow subscribe a/b/#"]]);
    for allowed in ["a/x", "a/+", "a/b", "a/b/c", "a/b/+/#"] {
        assert!(rules.may_subscribe(allowed), "{allowed}");
    }
    for denied in ["#", "+/x", "a/#", "a/x/y", "a/+/#"] {
        assert!(!rules.may_subscribe(denied), "{denied}");
    }
}

#[test]
fn a_subscription_is_denied_if_it_could_see_anything_denied() {
    let rules = rules_of(&[&["allow subscribe #", "deny subscribe a/secret/#"]]);
    for allowed in ["a/public", "b/#", "+/public/#", "a/public/+"] {
        assert!(rules.may_subscribe(allowed), "{allowed}");
    }
    for denied in ["#", "a/#", "a/+", "+/secret", "a/secret", "a/+/x", "+/+/+"] {
        assert!(!rules.may_subscribe(denied), "{denied}");
    }
}

#[test]
fn topics_that_begin_with_a_dollar_must_be_written() {
    // [MQTT-4.7.2-1]
    let rules = rules_of(&[&["allow publish,subscribe #", "allow publish,subscribe +/x"]]);
    assert!(rules.may_publish("a/x") && !rules.may_publish("$SYS/x"));
    assert!(rules.may_subscribe("#") && !rules.may_subscribe("$SYS/#") && !rules.may_subscribe("$SYS/x"));
    let rules = rules_of(&[&["allow publish,subscribe $SYS/#"]]);
    assert!(rules.may_publish("$SYS/x") && rules.may_subscribe("$SYS/+") && !rules.may_subscribe("#"));
    let rules = rules_of(&[&["allow publish,subscribe *", "deny publish,subscribe #"]]);
    assert!(rules.may_publish("$SYS/x") && rules.may_subscribe("$SYS/#") && !rules.may_publish("a") && !rules.may_subscribe("a"));
}

#[test]
fn local_may_do_everything_but_publish_to_sys() {
    let mut roles = Roles::read(&BTreeMap::new(), 1).unwrap();
    let set = roles.set(["local"]).unwrap();
    assert!(set.may_connect(&Values { username: None, client_id: "" }));
    let rules = set.rules(&Values { username: None, client_id: "c" });
    for name in ["a", "/", "a/b/c", "$other/x", "$SYSTEM"] {
        assert!(rules.may_publish(name), "{name}");
    }
    assert!(!rules.may_publish("$SYS/x") && !rules.may_publish("$SYS"));
    for filter in ["#", "+/+", "$SYS/#", "$other/+", "a"] {
        assert!(rules.may_subscribe(filter), "{filter}");
    }
}

#[test]
fn rules_without_placeholders_are_compiled_once() {
    let [ann, bob] = [Some("ann"), Some("bob")].map(|username| Values { username, client_id: "c" });
    let constant = set_of(&[&["allow connect %u-*", "allow publish a/#"]]);
    assert!(Arc::ptr_eq(&constant.rules(&ann), &constant.rules(&bob)));
    let own = set_of(&[&["allow connect", "allow publish a/%u"]]);
    assert!(own.rules(&ann).may_publish("a/ann") && !own.rules(&ann).may_publish("a/bob"));
    assert!(own.rules(&bob).may_publish("a/bob"));
    assert_eq!(own.rules(&bob).generation, 7);
}

/// Every topic of up to four levels over an alphabet with one letter that no rule and no filter below uses.
fn universe() -> Vec<String> {
    let mut all: Vec<String> = ["a", "b", "z", "", "$S"].map(str::to_owned).into();
    let mut last = all.clone();
    for _ in 1..4 {
        last = last.iter().flat_map(|front| ["a", "b", "z", ""].map(|level| format!("{front}/{level}"))).collect();
        all.extend(last.iter().cloned());
    }
    all.retain(|name| !name.is_empty());
    all
}

/// What a filter means, level by level, written without regard to speed: the model that [`topic`] is held against here.
fn sees(filter: &str, name: &str) -> bool {
    let filter: Vec<_> = filter.split('/').collect();
    let name: Vec<_> = name.split('/').collect();
    if name[0].starts_with('$') && (filter[0] == "+" || filter[0] == "#") {
        return false;
    }
    let many = filter.last() == Some(&"#");
    let fixed = if many { &filter[..filter.len() - 1] } else { &filter[..] };
    let long_enough = if many { name.len() >= fixed.len() } else { name.len() == fixed.len() };
    long_enough && fixed.iter().zip(&name).all(|(own, level)| *own == "+" || own == level)
}

fn filter() -> impl Strategy<Value = String> {
    "#|([ab]|\\+|\\$S)(/([ab]|\\+)){0,2}(/#)?"
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn may_subscribe_is_what_brute_force_says(
        allow in proptest::collection::vec(filter(), 0..4),
        deny in proptest::collection::vec(filter(), 0..2),
        wanted in filter(),
    ) {
        let lines: Vec<String> = allow.iter().map(|filter| format!("allow subscribe {filter}"))
            .chain(deny.iter().map(|filter| format!("deny subscribe {filter}"))).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let rules = rules_of(&[&lines]);
        let seen: Vec<String> = universe().into_iter().filter(|name| sees(&wanted, name)).collect();
        let expected = allow.iter().any(|rule| seen.iter().all(|name| sees(rule, name)))
            && !deny.iter().any(|rule| seen.iter().any(|name| sees(rule, name)));
        prop_assert_eq!(rules.may_subscribe(&wanted), expected, "{:?} {}", lines, wanted);
    }

    #[test]
    fn may_publish_is_what_brute_force_says(
        allow in proptest::collection::vec(filter(), 0..4),
        deny in proptest::collection::vec(filter(), 0..2),
        name in "[$]?[abz](/[abz]?){0,3}",
    ) {
        let lines: Vec<String> = allow.iter().map(|filter| format!("allow publish {filter}"))
            .chain(deny.iter().map(|filter| format!("deny publish {filter}"))).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let expected = allow.iter().any(|rule| sees(rule, &name)) && !deny.iter().any(|rule| sees(rule, &name));
        prop_assert_eq!(rules_of(&[&lines]).may_publish(&name), expected, "{:?}", lines);
    }

    #[test]
    fn what_may_be_seen_may_not_be_widened_by_the_name_of_a_user(
        username in "[ab+#/$]{0,3}",
        wanted in filter(),
    ) {
        let set = set_of(&[&["allow subscribe a/%u"]]);
        let rules = set.rules(&Values { username: Some(&username), client_id: "c" });
        prop_assert!(!rules.may_subscribe(&wanted) || topic::covers("a/+", &wanted));
    }
}
