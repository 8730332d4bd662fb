//! The environment over the file: `BUCKETMQ_LIMITS__MAX_QOS=1` is `limits.max_qos = 1`, `BUCKETMQ_LISTENERS__0__URL` the `url` of the first listener.
//!
//! The place decides how a value is read: text where text belongs (`BUCKETMQ_LISTENERS__0__NAME=1883` needs no quotes), else a TOML value such as `7`,
//! `true` or `["a", "b"]`. Names are lower case, so keys that people choose, such as those of roles, are reached only if they are.

use super::error::{ConfigError, Origin, nearest};
use super::schema;
use super::tree::{KeyPath, Node, Step, Value};

/// What every variable of ours begins with.
pub const PREFIX: &str = "BUCKETMQ_";

/// Read by `pub` and `sub`, and no part of the broker's configuration.
const OTHERS: [&str; 2] = ["BUCKETMQ_USERNAME", "BUCKETMQ_PASSWORD"];

/// Lays all variables over `tree`; what is wrong with them.
pub fn lay_over(tree: &mut Node, variables: &[(String, String)]) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    let mut entries = Vec::new();
    for (variable, text) in variables {
        let Some(name) = variable.strip_prefix(PREFIX) else { continue };
        if OTHERS.contains(&variable.as_str()) || is_service_link(name) {
            continue;
        }
        let steps = name.to_ascii_lowercase().split("__").map(step).collect();
        entries.push((KeyPath(steps), variable, text));
    }
    // Wholes before their parts, and elements in the order of their numbers.
    entries.sort();
    for (path, variable, text) in entries {
        let origin = Origin::Environment(variable.as_str().into());
        let error = |problem| ConfigError { origin: origin.clone(), key: path.to_string(), problem };
        let Some(place) = schema::at(&path.0) else {
            errors.push(error(unknown(&path)));
            continue;
        };
        if text.is_empty() && schema::is_optional(place) {
            tree.remove(&path.0);
            continue;
        }
        if let Err(problem) = read(text, place, &origin).and_then(|node| tree.set(&path.0, node)) {
            errors.push(error(problem));
        }
    }
    errors
}

fn step(part: &str) -> Step {
    match part.parse() {
        Ok(index) if part.bytes().all(|byte| byte.is_ascii_digit()) => Step::Index(index),
        _ => Step::Key(part.to_owned()),
    }
}

/// A value by the type of its place.
fn read(text: &str, place: &'static serde_json::Value, origin: &Origin) -> Result<Node, String> {
    let composed = text.starts_with('{') && schema::takes(place, "object");
    if schema::takes(place, "string") && !composed {
        return Ok(Node { origin: origin.clone(), value: Value::String(text.to_owned()) });
    }
    let node = Node::from_toml_value(text.trim(), origin);
    if schema::takes(place, "array") || schema::takes(place, "object") {
        let example = if schema::takes(place, "array") { "an array such as [\"a\", \"b\"]" } else { "a table such as { key = 1 }" };
        return node.map_err(|problem| format!("expected {example}, found {text:?}, which is not TOML: {problem}"));
    }
    // What is no TOML is text, and the type of the place will say what it expected instead.
    Ok(node.unwrap_or_else(|_| Node { origin: origin.clone(), value: Value::String(text.to_owned()) }))
}

fn unknown(path: &KeyPath) -> String {
    // The longest known beginning has the keys that were meant.
    let known = (0..path.0.len()).rev().find_map(|length| Some((length, schema::at(&path.0[..length])?)));
    let (length, schema) = known.unwrap_or((0, schema::root()));
    let properties = schema::resolve(schema).get("properties").and_then(serde_json::Value::as_object);
    let mut keys: Vec<&str> = properties.into_iter().flatten().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    let before = path.0[..length].iter().map(|step| match step {
        Step::Key(key) => key.to_uppercase(),
        Step::Index(index) => index.to_string(),
    });
    let variable = |key: &str| format!("{PREFIX}{}", before.clone().chain([key.to_uppercase()]).collect::<Vec<_>>().join("__"));
    let Some(Step::Key(key)) = path.0.get(length) else {
        return "there is nothing with a number at this place".to_owned();
    };
    // A single underscore where two belong.
    let section = keys.iter().find_map(|section| Some((section, key.strip_prefix(*section)?.strip_prefix('_')?)));
    if let Some((section, rest)) = section {
        return format!("unknown key, did you mean `{}__{}`?", variable(section), rest.to_uppercase());
    }
    match nearest(key, keys.iter().copied()) {
        Some(meant) => format!("unknown key, did you mean `{}`?", variable(meant)),
        None if keys.is_empty() => "unknown key, there is nothing below this place".to_owned(),
        None => format!("unknown key, expected `{}` followed by one of {}", variable(""), keys.join(", ").to_uppercase()),
    }
}

/// Whether Kubernetes made this variable: it gives every container the address of each Service of its namespace, and with one called `bucketmq` or
/// `bucketmq-admin` the names begin like ours. No key of ours looks like them.
fn is_service_link(name: &str) -> bool {
    let port = |rest: &str| {
        let mut parts = rest.split('_');
        let number = parts.next().is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()));
        number && parts.next().is_some_and(|protocol| matches!(protocol, "TCP" | "UDP" | "SCTP"))
    };
    let name = format!("_{name}");
    !name.contains("__")
        && (name.ends_with("_SERVICE_HOST")
            || name.contains("_SERVICE_PORT_")
            || name.ends_with("_PORT")
            || name.rsplit_once("_PORT_").is_some_and(|(_, rest)| port(rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_kubernetes_makes_for_services_are_not_ours() {
        for name in [
            "SERVICE_HOST",
            "SERVICE_PORT",
            "SERVICE_PORT_MQTT",
            "PORT",
            "PORT_1883_TCP",
            "PORT_1883_TCP_ADDR",
            "ADMIN_SERVICE_HOST",
            "ADMIN_PORT_9090_TCP_PROTO",
        ] {
            assert!(is_service_link(name), "{name}");
        }
        for name in ["LOG__LEVEL", "LIMITS_MAX_QOS", "PORTAL", "LISTENERS__0__PORT", "X_PORT_A_TCP"] {
            assert!(!is_service_link(name), "{name}");
        }
    }
}
