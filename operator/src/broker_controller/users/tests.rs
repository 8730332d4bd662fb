//! Hashes that stay, users that share a name, roles that find their users.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::{Password, Users, owners, render, roles_by_user, subjects, unknown_subjects};
use crate::broker_controller::fixtures::{role, user};
use crate::crd::MqttUser;

const FIRST: &str = "2026-01-01T00:00:00Z";
const LATER: &str = "2026-01-02T00:00:00Z";

fn rendered(users: &[Arc<MqttUser>], passwords: Vec<(&str, Password)>, before: &Users) -> Users {
    let passwords = passwords.into_iter().map(|(name, password)| (name.to_owned(), password)).collect();
    render(&owners(users), &BTreeMap::new(), &passwords, before).unwrap()
}

fn random(source: &str) -> Password {
    Password::Random { source: source.to_owned(), password: b"0123456789abcdef0123456789abcdef".to_vec() }
}

#[test]
fn a_hash_stays_as_long_as_its_password() {
    let users = [user("ann", FIRST, json!({}))];
    let first = rendered(&users, vec![("ann", random("v1"))], &Users::default());
    assert!(first.text.starts_with("ann:$sha256$"), "{}", first.text);
    let unchanged = rendered(&users, vec![("ann", Password::Unchanged { source: "v1".to_owned() })], &first);
    assert_eq!(unchanged, first);
    let touched = rendered(&users, vec![("ann", random("v2"))], &first);
    assert_eq!(touched.text, first.text, "the Secret changed, the password did not");
    let other = Password::Random { source: "v3".to_owned(), password: b"another secret of many random bits".to_vec() };
    assert_ne!(rendered(&users, vec![("ann", other)], &first).text, first.text);
}

#[test]
fn a_password_that_somebody_brought_is_kept_as_argon2id() {
    let brought = || Password::Brought { source: "v".to_owned(), password: b"correct horse".to_vec() };
    let users = [user("ann", FIRST, json!({}))];
    let first = rendered(&users, vec![("ann", brought())], &Users::default());
    assert!(first.text.starts_with("ann:$argon2id$"), "{}", first.text);
    assert!(!first.text.contains("correct"));
    assert_eq!(rendered(&users, vec![("ann", brought())], &first).text, first.text);
}

#[test]
fn of_two_with_one_name_the_older_has_it() {
    let users = [user("b", LATER, json!({ "username": "ann" })), user("a", FIRST, json!({ "username": "ann" }))];
    let owners = owners(&users);
    assert_eq!(owners["ann"].metadata.name.as_deref(), Some("a"));
    // The younger one takes over when the older goes, and not its password.
    let before = rendered(&users, vec![("a", random("v"))], &Users::default());
    let after = rendered(&users[..1], vec![], &before);
    assert_eq!(after.text, "");
}

#[test]
fn a_password_that_cannot_be_had_keeps_the_one_before() {
    let users = [user("ann", FIRST, json!({ "enabled": false }))];
    let missing = || Password::Problem { reason: "SecretNotFound", message: "there is no Secret x".to_owned() };
    let nobody = rendered(&users, vec![("ann", missing())], &Users::default());
    assert_eq!(nobody.text, "");
    assert_eq!(nobody.notes["ann"].problem.as_ref().unwrap().0, "SecretNotFound");
    let first = rendered(&users, vec![("ann", random("v"))], &Users::default());
    assert!(first.text.ends_with(":enabled=false\n"), "{}", first.text);
    assert_eq!(rendered(&users, vec![("ann", missing())], &first).text, first.text);
}

#[test]
fn a_user_with_a_certificate_has_no_secret() {
    let users = [user("device", FIRST, json!({ "authentication": "Certificate" }))];
    assert_eq!(rendered(&users, vec![("device", Password::None)], &Users::default()).text, "device:!:\n");
}

#[test]
fn roles_find_their_users_by_name_and_by_label() {
    let users = [user("ann", FIRST, json!({})), user("bob", FIRST, json!({})), user("eve", FIRST, json!({}))];
    let rules = json!([{ "operations": ["Connect"] }]);
    let by_name = role("named", json!({ "rules": rules, "subjects": { "users": ["ann", "nobody"] } }));
    let by_label = role(
        "labelled",
        json!({ "rules": rules, "subjects": { "userSelector": { "matchExpressions": [{ "key": "called", "operator": "In", "values": ["ann", "bob"] }] } } }),
    );
    let all = role("all", json!({ "rules": rules, "subjects": { "userSelector": {} } }));
    let none = role("none", json!({ "rules": rules }));
    let by_user = roles_by_user(&users, &[by_name.clone(), by_label, all, none.clone()]);
    assert_eq!(by_user["ann"], ["all", "labelled", "named"]);
    assert_eq!(by_user["bob"], ["all", "labelled"]);
    assert_eq!(by_user["eve"], ["all"]);
    assert_eq!(unknown_subjects(&by_name, &users), ["nobody"]);
    assert!(subjects(&none, &users).is_empty());
}
