//! Names that lead nowhere, rules that make no sense.

use serde_json::json;

use super::{About, problems, wrong_rule};
use crate::broker_controller::fixtures::{broker, role};

#[test]
fn a_role_that_is_not_there_is_named_with_where_it_is_wanted() {
    let broker = broker(json!({
        "persistence": { "level": "Memory" },
        "listeners": [{ "name": "mqtt", "anonymousRole": "guest" }],
        "authentication": { "certificateRoles": ["device"] },
    }));
    let guest = role("guest", json!({ "rules": [{ "operations": ["Connect"] }] }));
    let found = problems(&broker, &[]);
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].message, "listener mqtt, anonymousRole: there is no MqttRole guest whose brokerRef is fleet");
    let found = problems(&broker, &[&guest]);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].about, found[0].reason, found[0].is_blocking), (About::Config, "RoleNotFound", true));
    assert!(found[0].message.starts_with("authentication.certificateRoles: there is no MqttRole device"));
}

#[test]
fn what_the_broker_would_refuse_of_a_role_is_told_in_its_words() {
    let bad = role("bad", json!({ "rules": [{ "operations": ["Publish"], "topics": ["a/%x"] }] }));
    let problem = wrong_rule(&bad).expect("%x stands for nothing");
    assert!(problem.message.contains("MqttRole bad") && problem.message.contains("%x"), "{}", problem.message);
    let good = role("good", json!({ "rules": [{ "operations": ["Publish"], "topics": ["a/%c"] }] }));
    assert_eq!(wrong_rule(&good), None);
}

#[test]
fn an_amount_of_memory_that_is_none_is_found_before_the_api_server_does() {
    let broker = broker(json!({ "persistence": { "level": "Memory" }, "workload": { "resources": { "limits": { "memory": "1 GB" } } } }));
    let found = problems(&broker, &[]);
    assert_eq!(found[0].reason, "InvalidQuantity");
    assert!(found[0].message.starts_with("workload.resources memory: \"1 GB\" is no quantity"), "{}", found[0].message);
}
